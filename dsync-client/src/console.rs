//! What a person sees while a run goes on. Nothing else in this program writes to the terminal.

use std::convert::Infallible;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

use dsync_client::OutputOptions;
use dsync_engine::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tracing::Level;
use tracing_subscriber::fmt::MakeWriter;

/// Time between two looks at the counters.
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// Standard error with a progress bar at its bottom, and standard output for results.
#[derive(Clone)]
pub(crate) struct Console {
    output: OutputOptions,
    bar: Option<ProgressBar>,
    /// Whom the lines are about, if there are many users.
    user: Option<String>,
}

impl Console {
    pub(crate) fn new(output: OutputOptions, no_color: bool) -> Self {
        let bar = (output.progress && io::stderr().is_terminal()).then(|| {
            let template = if no_color {
                "{msg} [{bar:30}] {pos}/{len}"
            } else {
                "{msg} [{bar:30.cyan}] {pos}/{len}"
            };
            let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
            bar.set_style(
                ProgressStyle::with_template(template)
                    .unwrap_or_else(|_| ProgressStyle::default_bar())
                    .progress_chars("=> "),
            );
            bar
        });
        Self {
            output,
            bar,
            user: None,
        }
    }

    /// The same console for lines about this user.
    pub(crate) fn about(&self, user: &str) -> Self {
        Self {
            user: Some(user.to_owned()),
            ..self.clone()
        }
    }

    /// The same console with lines only.
    pub(crate) fn without_bar(&self) -> Self {
        Self {
            bar: None,
            ..self.clone()
        }
    }

    /// What every line begins with.
    fn prefix(&self) -> String {
        match &self.user {
            None => "dsync: ".to_owned(),
            Some(user) => format!("dsync: {user}: "),
        }
    }

    /// Messages of all parts of the program become lines here: errors always, warnings unless
    /// `-q`, what is done with `-v`, everything with `-D`.
    pub(crate) fn install_logging(&self) {
        let level = match self.output {
            OutputOptions { debug: true, .. } => Level::DEBUG,
            OutputOptions { verbose: true, .. } => Level::INFO,
            OutputOptions { quiet: true, .. } => Level::ERROR,
            _ => Level::WARN,
        };
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(level)
            .without_time()
            .with_target(false)
            .with_ansi(false)
            .with_writer(self.clone())
            .finish();
        // Fails only if there is one already.
        let _ = tracing::subscriber::set_global_default(subscriber);
    }

    /// Bytes for standard error, above the bar. Errors are ignored: there is nobody to tell.
    pub(crate) fn raw(&self, bytes: &[u8]) {
        let write = || {
            let _ = io::stderr().lock().write_all(bytes);
        };
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    /// A line for standard error, unless `-q` was given.
    pub(crate) fn line(&self, text: &str) {
        if !self.output.quiet {
            self.raw(format!("{}{text}\n", self.prefix()).as_bytes());
        }
    }

    /// A line about what went wrong.
    pub(crate) fn error(&self, text: &str) {
        self.raw(format!("{}error: {text}\n", self.prefix()).as_bytes());
    }

    /// A line for standard output: the state, or the JSON object.
    pub(crate) fn result(&self, text: &str) {
        let mut stdout = io::stdout().lock();
        if let Err(error) = writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
            self.error(&format!("cannot write the result to stdout: {error}"));
        }
    }

    /// Shows the counters; never ends by itself.
    pub(crate) async fn watch(&self, progress: Arc<Progress>) -> Infallible {
        let Some(bar) = &self.bar else {
            return std::future::pending().await;
        };
        let mut ticks = tokio::time::interval(TICK);
        loop {
            ticks.tick().await;
            show(bar, &progress);
        }
    }

    /// Removes the bar.
    pub(crate) fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Messages of the current mailbox if many are to come, else mailboxes.
fn show(bar: &ProgressBar, progress: &Progress) {
    let name = progress.current_mailbox();
    let wanted = progress.messages_wanted.get();
    let (length, position) = if wanted > 0 {
        (wanted, progress.messages_received.get().min(wanted))
    } else {
        (
            progress.mailboxes_total.get(),
            progress.mailboxes_done.get(),
        )
    };
    bar.set_length(length);
    bar.set_position(position);
    let sent = progress.messages_sent.get();
    bar.set_message(match (name.as_str(), sent) {
        ("", _) => "comparing mailboxes".to_owned(),
        (name, 0) => name.to_owned(),
        (name, sent) => format!("{name}, {sent} sent"),
    });
}

/// Collects one message, which is one line.
pub(crate) struct Line<'a> {
    console: &'a Console,
    bytes: Vec<u8>,
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        let text = String::from_utf8_lossy(&self.bytes);
        self.console
            .raw(format!("{}{}", self.console.prefix(), with_level(&text)).as_bytes());
    }
}

/// The level in the words of the program's other lines.
fn with_level(text: &str) -> String {
    let text = text.trim_start();
    match text.split_once(' ') {
        Some(("INFO", text)) => text.to_owned(),
        Some(("WARN", text)) => format!("warning: {text}"),
        Some(("ERROR", text)) => format!("error: {text}"),
        Some(("DEBUG", text)) => format!("debug: {text}"),
        _ => text.to_owned(),
    }
}

impl<'a> MakeWriter<'a> for Console {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line {
            console: self,
            bytes: Vec::new(),
        }
    }
}
