//! Ours is killed at random moments of a two-way sync, again and again.
//!
//! In each round mail is saved, copied, flagged and expunged, and mailboxes are made, renamed and
//! deleted, on one side or on both. Runs of ours are killed by SIGKILL; then one may end. After it
//! both sides have every mail exactly once, with its flags, and under the UID that it had since
//! both had it. Dovecot, which also looks at some of the stores before ours mends them, must have
//! nothing to complain about.

mod account;
mod step;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use account::{Account, seen};
use anyhow::{Context, Result, ensure};
use dsync_testkit::random::Random;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use step::Step;

use crate::{Side, Version, World, layout};

/// Runs of ours that are killed in one round, at most.
const KILLS_OF_A_ROUND: usize = 3;

/// Longest time that a server works on when its client is gone.
const SERVER_ENDS: Duration = Duration::from_secs(60);

/// What Dovecot says of a mailbox that is marked as deleted but still there.
const DELETED: &str = "Mailbox was deleted under us";

/// What is done how often.
#[derive(Clone, Debug)]
pub struct Options {
    /// Formats of both sides: `maildir`, `sdbox`, `mdbox`, `mbox`.
    pub formats: [String; 2],
    /// Runs that are killed before their end; more if less than a quarter of them had changed
    /// something.
    pub kills: u32,
    /// Decides what happens, and when.
    pub seed: u64,
    /// Client and server are two processes; else one works on both stores.
    pub server: bool,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// Runs that were killed before their end.
    pub kills: u32,
    /// Those of them that had changed a file already.
    pub changed: u32,
    /// Stores that Dovecot looked at before ours mended them.
    pub looks: u32,
    /// Rounds, each with a run that could end.
    pub rounds: u32,
    /// What was done to mails and mailboxes.
    pub changes: usize,
}

/// The whole campaign.
///
/// # Errors
///
/// What is wrong after which kill, with the seed to see it again.
pub fn run(options: &Options) -> Result<Report> {
    let mut world = World::new(Version::V23)?;
    world.set_time_limit(Duration::from_secs(120));
    let [one, other] = &options.formats;
    // Logs are rotated all the time, and an mdbox has many files.
    let settings = [
        "mail_index_log_rotate_min_size=2k",
        "mail_index_log_rotate_min_age=0",
        "mdbox_rotate_size=10k",
    ];
    let a = world
        .side_at("a", one, layout(one))?
        .with_settings(&settings);
    let b = world
        .side_at("b", other, layout(other))?
        .with_settings(&settings);
    let mut campaign = Campaign {
        options,
        sides: [&a, &b],
        random: Random::new(options.seed),
        account: Account::default(),
        usual: Duration::from_millis(100),
        report: Report::default(),
    };
    campaign.work().with_context(|| {
        format!(
            "{one} and {other}, seed {}, after {:?}",
            options.seed, campaign.report
        )
    })?;
    Ok(campaign.report)
}

struct Campaign<'a> {
    options: &'a Options,
    sides: [&'a Side<'a>; 2],
    random: Random,
    /// What must be there.
    account: Account,
    /// How long a run takes that is not killed.
    usual: Duration,
    report: Report,
}

impl Campaign<'_> {
    fn work(&mut self) -> Result<()> {
        let [a, _] = self.sides;
        a.with_store(|store| Ok(store.create_mailbox("INBOX", None, None).map(drop)?))?;
        self.complete()?;
        let Options { kills, .. } = *self.options;
        while self.report.kills < kills || self.report.changed < kills / 4 {
            ensure!(
                self.report.kills < 10 * kills,
                "hardly a run was killed while it wrote: {:?}",
                self.report
            );
            let steps = self.account.plan(&mut self.random);
            self.report.changes += steps.iter().map(Vec::len).sum::<usize>();
            if steps.iter().flatten().any(Step::is_of_tree) {
                next_second();
            }
            for (side, steps) in self.sides.into_iter().zip(&steps) {
                steps.iter().try_for_each(|step| step.make(side))?;
            }
            for _ in 0..=self.random.below(KILLS_OF_A_ROUND) {
                self.kill()?;
                self.look_first()?;
            }
            self.complete()
                .with_context(|| format!("after these changes on a and b: {steps:?}"))?;
            self.report.rounds += 1;
        }
        self.resync()
    }

    /// A run that is killed at some moment, unless it ends before.
    fn kill(&mut self) -> Result<()> {
        let before = self.state()?;
        let moment = self.random.below(1200) as u32;
        let client_only = self.options.server && self.random.one_in(3);
        let mut child = self.start()?;
        sleep(self.usual * moment / 1000);
        let is_alive = child.try_wait()?.is_none();
        let group = Pid::from_raw(child.id().try_into()?);
        match client_only {
            true => child.kill()?,
            // The group is there as long as one process of it is.
            false => drop(killpg(group, Signal::SIGKILL)),
        }
        child.wait()?;
        // The server of a killed client ends by itself.
        let start = Instant::now();
        while killpg(group, None).is_ok() {
            ensure!(start.elapsed() < SERVER_ENDS, "the server does not end");
            sleep(Duration::from_millis(5));
        }
        if is_alive {
            self.report.kills += 1;
            self.report.changed += u32::from(self.state()? != before);
        }
        Ok(())
    }

    /// Dovecot opens a store right after the kill: what both sides had is still there, under the
    /// UIDs that it had. (A half written mbox is mended by ours only.)
    fn look_first(&mut self) -> Result<()> {
        for (side, format) in self.sides.into_iter().zip(&self.options.formats) {
            if format != "mbox" && self.random.one_in(4) {
                self.report.looks += 1;
                let seen = match seen(side) {
                    // A deletion that was begun: the next run of ours ends it.
                    Err(error) if format!("{error:#}").contains(DELETED) => continue,
                    seen => seen.context("before ours mended it")?,
                };
                self.account
                    .expect_old(&seen)
                    .with_context(|| format!("on {} before ours mended it", side.name()))?;
            }
        }
        Ok(())
    }

    /// A run that ends, and everything is as it must be.
    fn complete(&mut self) -> Result<()> {
        for number in 0..3 {
            let start = Instant::now();
            let output = self.command()?.output()?;
            self.usual = start.elapsed().min(Duration::from_secs(1));
            let stderr = String::from_utf8_lossy(&output.stderr);
            let may_need_another = output.status.code() == Some(2) && number < 2;
            ensure!(
                output.status.success() || may_need_another,
                "run {number} after the kills: {}: {stderr}",
                output.status
            );
            if output.status.success() {
                break;
            }
        }
        let [a, b] = self.sides;
        let (one, other) = (seen(a)?, seen(b)?);
        self.account.expect(&one).context("on a")?;
        one.expect_equal(&other)?;
        self.account.learn(one);
        Ok(())
    }

    /// At the end Dovecot rebuilds the indexes from the message files, where it can, and finds
    /// nothing else.
    fn resync(&self) -> Result<()> {
        for (side, format) in self.sides.into_iter().zip(&self.options.formats) {
            if !format.ends_with("dbox") {
                continue;
            }
            let run = side
                .doveadm_run("force-resync", &["*"], b"")?
                .expect_code(0)?;
            let expected = ["ebuilding index", "fscking index file"];
            let is_expected = |line: &str| expected.iter().any(|text| line.contains(text));
            ensure!(run.stderr.lines().all(is_expected), "{run:?}");
            self.account
                .expect(&seen(side)?)
                .with_context(|| format!("on {} after force-resync", side.name()))?;
        }
        Ok(())
    }

    fn command(&self) -> Result<Command> {
        let [a, b] = self.sides;
        let mut words = vec!["sync".to_owned(), "-P".to_owned()];
        match self.options.server {
            true => words.extend(b.our_server()?),
            false => words.push(b.location()),
        }
        let mut command = a.dsync_command(&words)?;
        command.stdin(Stdio::null());
        Ok(command)
    }

    fn start(&self) -> Result<Child> {
        let mut command = self.command()?;
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Ok(command.process_group(0).spawn()?)
    }

    /// Changes whenever a file does.
    fn state(&self) -> Result<u64> {
        let mut state = 0_u64;
        for side in self.sides {
            add_tree(&mut state, &side.outside_mail_root())?;
        }
        Ok(state)
    }
}

/// Mailbox logs count seconds: a rename in the second in which the mailbox was made, or renamed
/// before, is not known to be the later one.
fn next_second() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let part = now.map_or(0, |now| now.subsec_millis());
    sleep(Duration::from_millis(u64::from(1001 - part)));
}

fn add_tree(state: &mut u64, folder: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Ok(());
    };
    for entry in entries {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            add_tree(state, &entry.path())?;
        }
        let numbers = [
            metadata.ino(),
            metadata.ctime_nsec() as u64,
            metadata.ctime() as u64,
            metadata.len(),
        ];
        let mix = |sum: u64, number: &u64| (sum ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        *state = state.wrapping_add(numbers.iter().fold(0, mix));
    }
    Ok(())
}
