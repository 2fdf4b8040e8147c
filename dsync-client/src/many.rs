//! The runs of many users, several at one time. Nobody's failure is another one's.

use std::sync::Arc;
use std::thread::available_parallelism;

use dsync_client::OutputOptions;
use tokio::task::JoinSet;

use crate::console::Console;
use crate::ended::Ended;
use crate::failure::Failure;
use crate::run::{Inputs, Stop, run_user};
use crate::users::Summary;

/// Users at one time, if nobody says how many: an sshd takes ten sessions on one connection.
const MOST_BY_DEFAULT: usize = 8;

/// How many users at one time: what was given, else one for each processor.
pub(crate) fn jobs(given: Option<u16>) -> usize {
    let processors = || available_parallelism().map_or(1, usize::from);
    given.map_or_else(|| processors().min(MOST_BY_DEFAULT), usize::from)
}

/// Does all of them. Results are shown in the order of the names.
pub(crate) async fn run(
    inputs: &Arc<Inputs>,
    names: &[String],
    jobs: usize,
    stop: Stop,
    output: OutputOptions,
    console: &Console,
) -> Summary {
    // One bar cannot show several runs.
    let console = if jobs > 1 {
        &console.without_bar()
    } else {
        console
    };
    let mut results = Results {
        ended: vec![None; names.len()],
        shown: 0,
    };
    let mut waiting = names.iter().enumerate();
    let mut running = JoinSet::new();
    let mut started = 0;
    loop {
        while running.len() < jobs && !stop.is_there() {
            let Some((index, name)) = waiting.next() else {
                break;
            };
            started = index + 1;
            let (inputs, name, stop) = (Arc::clone(inputs), name.clone(), stop.clone());
            let about = console.about(&name);
            running.spawn(async move {
                let ended = run_user(&inputs, Some(&name), stop, &about).await;
                (index, ended)
            });
        }
        match running.join_next().await {
            None => break,
            Some(Ok((index, ended))) => results.take(index, ended),
            // Without a result it is counted as failed below.
            Some(Err(_)) => {}
        }
        results.show(names, output, console);
    }
    let mut summary = Summary::default();
    for (name, ended) in names.iter().zip(&mut results.ended).take(started) {
        let ended = ended.get_or_insert_with(|| {
            let failure = Failure::new(1, "a fault of this program (please report it)");
            Ended::failed(Some(name), &failure)
        });
        summary.add(name, ended);
    }
    results.show(names, output, console);
    summary.leave(names.len() - started);
    summary
}

/// What has come so far, by the place of the user.
struct Results {
    ended: Vec<Option<Ended>>,
    /// So many were shown.
    shown: usize,
}

impl Results {
    fn take(&mut self, index: usize, ended: Ended) {
        if let Some(place) = self.ended.get_mut(index) {
            *place = Some(ended);
        }
    }

    /// Shows what is complete, from the beginning.
    fn show(&mut self, names: &[String], output: OutputOptions, console: &Console) {
        let rest = self.ended.iter().zip(names).skip(self.shown);
        for (ended, name) in rest.map_while(|(ended, name)| Some((ended.as_ref()?, name))) {
            self.shown += 1;
            match &ended.state {
                _ if output.json => console.result(&ended.json),
                Some(state) => console.result(&format!("{name} {state}")),
                None => {}
            }
        }
    }
}
