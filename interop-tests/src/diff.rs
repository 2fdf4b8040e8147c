//! The differential generator: random edits by Dovecot on two sides, then one sync by Dovecot
//! with itself and the same by ours, on byte-identical copies.

use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};
use dsync_testkit::mail::{MailKind, generate};
use dsync_testkit::random::Random;

use crate::{Facts, Run, Side, Version, World};

/// Command and options of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// `sync`
    Sync,
    /// `backup`
    Backup,
    /// `sync -1`
    OneWay,
    /// `backup -R`
    BackupReverse,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Sync, Self::Backup, Self::OneWay, Self::BackupReverse];

    fn words(self) -> &'static [&'static str] {
        match self {
            Self::Sync => &["sync"],
            Self::Backup => &["backup"],
            Self::OneWay => &["sync", "-1"],
            Self::BackupReverse => &["backup", "-R"],
        }
    }
}

/// How much is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// The default.
    Changed,
    /// `-f`
    Full,
    /// `-s`, over several rounds.
    Stateful,
}

impl Type {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Changed, Self::Full, Self::Stateful];
}

/// Who is at which end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topology {
    /// Both stores in our process.
    Alone,
    /// Our client, Dovecot's server.
    OursDovecot,
    /// Dovecot's client, our server.
    DovecotOurs,
    /// Ours at both ends of a pipe.
    OursOurs,
}

impl Topology {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Alone,
        Self::OursDovecot,
        Self::DovecotOurs,
        Self::OursOurs,
    ];

    fn run(self, a: &Side<'_>, b: &Side<'_>, words: &[String]) -> Result<Run> {
        let with = |server: Vec<String>| [words, &server].concat();
        match self {
            Self::Alone => a.dsync(&with(vec![b.location()])),
            Self::OursDovecot => a.dsync(&with(b.dovecot_server())),
            Self::OursOurs => a.dsync(&with(b.our_server()?)),
            Self::DovecotOurs => {
                let words = with(b.our_server()?);
                a.dovecot_dsync(&words[0], &words[1..])
            }
        }
    }

    /// Only our own ends decide what is skipped.
    fn is_ours(self) -> bool {
        matches!(self, Self::Alone | Self::OursOurs)
    }
}

/// One `doveadm` command on one side.
#[derive(Clone, Debug)]
pub struct Edit {
    on_b: bool,
    command: &'static str,
    arguments: Vec<String>,
    input: Vec<u8>,
}

impl Edit {
    fn describe(&self) -> String {
        let side = if self.on_b { "B" } else { "A" };
        let input = match self.input.len() {
            0 => String::new(),
            size => format!(" < ({size} bytes)"),
        };
        format!(
            "{side}: doveadm {} {:?}{input}",
            self.command, self.arguments
        )
    }

    /// What is not possible just fails, in the same way on every copy.
    fn apply(&self, a: &Side<'_>, b: &Side<'_>) -> Result<()> {
        let side = if self.on_b { b } else { a };
        side.doveadm_run(self.command, &self.arguments, &self.input)
            .map(drop)
    }
}

const NAMES: [&str; 7] = ["INBOX", "Work", "A", "A.B", "A.B.C", "Grüße", "X y"];
const FLAGS: [&str; 8] = [
    "\\Seen",
    "\\Flagged",
    "\\Deleted",
    "\\Answered",
    "\\Draft",
    "work",
    "$Label1",
    "Later",
];

fn message(random: &mut Random) -> Vec<u8> {
    let kind = match random.one_in(2) {
        true => MailKind::Plain,
        false => *random.pick(&MailKind::ALL),
    };
    let mut body = generate(kind, 1 + random.below(300), random);
    body.truncate(3000);
    body
}

fn edit(random: &mut Random, on_b: bool) -> Edit {
    let name = (*random.pick(&NAMES)).to_owned();
    let other = (*random.pick(&NAMES)).to_owned();
    let uids = match random.below(4) {
        0 => "*".to_owned(),
        1 => format!("{}:{}", 1 + random.below(3), 2 + random.below(5)),
        _ => (1 + random.below(7)).to_string(),
    };
    let select = |name: &str| {
        vec![
            "mailbox".to_owned(),
            name.to_owned(),
            "uid".into(),
            uids.clone(),
        ]
    };
    let flags = format!("{} {}", random.pick(&FLAGS), random.pick(&FLAGS));
    let mut input = Vec::new();
    let (command, arguments) = match random.below(24) {
        0..=6 => {
            input = message(random);
            let box_ = if random.one_in(2) {
                "INBOX".into()
            } else {
                name
            };
            ("save", vec!["-m".into(), box_])
        }
        7 | 8 => ("flags add", [vec![flags], select(&name)].concat()),
        9 => ("flags remove", [vec![flags], select(&name)].concat()),
        10 => ("flags replace", [vec![flags], select(&name)].concat()),
        11 | 12 => ("expunge", select(&name)),
        13 => ("copy", [vec![other], select(&name)].concat()),
        14 => ("move", [vec![other], select(&name)].concat()),
        15 | 16 => ("mailbox create", vec![name]),
        17 | 18 => (
            "mailbox rename",
            vec![name, format!("{other}{}", random.below(3))],
        ),
        19 => ("mailbox delete", vec![name]),
        20 => ("mailbox subscribe", vec![name]),
        21 => ("mailbox unsubscribe", vec![name]),
        22 => (
            "mailbox update",
            vec![
                "--min-next-uid".into(),
                (5 + random.below(30)).to_string(),
                name,
            ],
        ),
        _ => {
            let value = format!("v{}", random.below(5));
            (
                "mailbox metadata set",
                vec![name, "/private/comment".into(), value],
            )
        }
    };
    Edit {
        on_b,
        command,
        arguments,
        input,
    }
}

/// A whole case.
#[derive(Clone, Debug)]
pub struct Case {
    seed: u64,
    mode: Mode,
    sync_type: Type,
    base: Vec<Edit>,
    rounds: Vec<Vec<Edit>>,
}

impl Case {
    /// The case for this seed.
    pub fn new(seed: u64, mode: Mode, sync_type: Type) -> Self {
        let mut random = Random::new(seed * 31 + mode as u64 * 7 + sync_type as u64);
        let base = (0..4 + random.below(12))
            .map(|_| edit(&mut random, false))
            .collect();
        let rounds = if sync_type == Type::Stateful { 2 } else { 1 };
        let one_way = matches!(mode, Mode::Backup | Mode::BackupReverse);
        let rounds = (0..rounds)
            .map(|_| {
                let edits = (0..3 + random.below(9)).map(|_| {
                    // The destination of a backup is mostly left alone, as in life.
                    let destination = one_way && random.below(4) > 0;
                    let on_b = match destination {
                        true => mode == Mode::BackupReverse,
                        false => random.one_in(2),
                    };
                    edit(&mut random, on_b)
                });
                edits.collect()
            })
            .collect();
        Self {
            seed,
            mode,
            sync_type,
            base,
            rounds,
        }
    }

    /// All edits, as commands that a person can read.
    pub fn script(&self) -> String {
        let mut text = format!("seed {} {:?} {:?}\n", self.seed, self.mode, self.sync_type);
        for edit in &self.base {
            let _ = writeln!(text, "{}", edit.describe());
        }
        let _ = writeln!(text, "(B is a copy of A)");
        for (number, round) in self.rounds.iter().enumerate() {
            let _ = writeln!(text, "(round {number})");
            for edit in round {
                let _ = writeln!(text, "{}", edit.describe());
            }
        }
        text
    }

    fn words(&self, state: &str) -> Vec<String> {
        let mut words: Vec<String> = self.mode.words().iter().map(ToString::to_string).collect();
        match self.sync_type {
            Type::Changed => {}
            Type::Full => words.push("-f".into()),
            Type::Stateful => words.extend(["-s".into(), state.into()]),
        }
        words
    }

    /// Runs the case for each topology; the error tells the first difference.
    pub fn check(&self, topologies: &[Topology]) -> Result<()> {
        let world = World::new(Version::V23)?;
        let a = world.side("a")?;
        for edit in &self.base {
            edit.apply(&a, &a)?;
        }
        // Makes INBOX, so that both sides have the same one.
        a.doveadm_run("mailbox status", &["messages", "INBOX"], b"")?;
        let b = world.copy_side(&a, "b")?;
        let (first, later) = self.rounds.split_at(1);
        for edit in first.iter().flatten() {
            edit.apply(&a, &b)?;
        }
        for topology in topologies {
            self.check_one(&world, (&a, &b), later, *topology)
                .with_context(|| format!("{topology:?}\n{}", self.script()))?;
        }
        Ok(())
    }

    fn check_one(
        &self,
        world: &World,
        (a, b): (&Side<'_>, &Side<'_>),
        later: &[Vec<Edit>],
        topology: Topology,
    ) -> Result<()> {
        let name = format!("{topology:?}");
        let reference = (
            world.copy_side(a, &format!("{name}-ra"))?,
            world.copy_side(b, &format!("{name}-rb"))?,
        );
        let ours = (
            world.copy_side(a, &format!("{name}-a"))?,
            world.copy_side(b, &format!("{name}-b"))?,
        );
        let (mut reference_state, mut state) = (String::new(), String::new());
        for (round, edits) in std::iter::once(&Vec::new()).chain(later).enumerate() {
            for edit in edits {
                edit.apply(&reference.0, &reference.1)?;
                edit.apply(&ours.0, &ours.1)?;
            }
            let words = self.words(&reference_state);
            let expected_run = dovecot(&reference.0, &reference.1, &words)?;
            let run = topology.run(&ours.0, &ours.1, &self.words(&state))?;
            reference_state = printed_state(&expected_run);
            state = printed_state(&run);
            let expected = (reference.0.facts()?, reference.1.facts()?);
            let facts = (ours.0.facts()?, ours.1.facts()?);
            let agreed = self
                .judge(&expected_run, &expected, &run, &facts, topology)
                .with_context(|| {
                    format!("round {round}\nDovecot: {expected_run:?}\nours: {run:?}")
                })?;
            if !agreed {
                // Dovecot did not do what it should; from here on the two cannot be compared.
                return self.settle(topology, &ours.0, &ours.1);
            }
        }
        if self.sync_type == Type::Stateful {
            return Ok(());
        }
        let before = (ours.0.facts()?, ours.1.facts()?);
        let run = topology.run(&ours.0, &ours.1, &self.words(""))?;
        ensure!(run.code == 0, "second run: {run:?}");
        before
            .0
            .expect_equal(&ours.0.facts()?, "second run, side a")?;
        before
            .1
            .expect_equal(&ours.1.facts()?, "second run, side b")
    }

    /// Whether the results are equal; `false` where Dovecot's is not the one to follow (see
    /// docs/DIFFERENCES.md); an error for a difference that nothing explains.
    fn judge(
        &self,
        expected_run: &Run,
        expected: &(Facts, Facts),
        run: &Run,
        facts: &(Facts, Facts),
        topology: Topology,
    ) -> Result<bool> {
        if expected_run.code != 0 {
            // Conflicts, deleted destinations, desyncs: ours may do better at once.
            let is_dovecots = topology == Topology::DovecotOurs && run.code == expected_run.code;
            ensure!(is_dovecots || [0, 2, 75].contains(&run.code), "exit code");
            return Ok(false);
        }
        let reference_converged = expected.0.differences(&expected.1).is_empty();
        let equal = expected.0.differences(&facts.0).is_empty()
            && expected.1.differences(&facts.1).is_empty();
        if !reference_converged && !equal && self.mode != Mode::OneWay {
            // Equal counters (difference 7), changes of the server under a state (8).
            return Ok(false);
        }
        if self.mode == Mode::OneWay && topology.is_ours() && !equal {
            return Ok(false);
        }
        ensure!(run.code == 0, "exit code");
        expected
            .0
            .expect_equal(&facts.0, "side a: Dovecot with itself | this run")?;
        expected
            .1
            .expect_equal(&facts.1, "side b: Dovecot with itself | this run")?;
        Ok(true)
    }

    /// Further runs must make both sides equal, or in one-way modes come to rest.
    fn settle(&self, topology: Topology, a: &Side<'_>, b: &Side<'_>) -> Result<()> {
        let mut words: Vec<String> = self.mode.words().iter().map(ToString::to_string).collect();
        words.push("-f".into());
        let mut last = None;
        for _ in 0..4 {
            let run = topology.run(a, b, &words)?;
            let facts = (a.facts()?, b.facts()?);
            let equal = facts.0.differences(&facts.1).is_empty();
            if run.code == 0 && (equal || last.as_ref() == Some(&facts)) {
                ensure!(
                    equal || self.mode != Mode::Sync,
                    "never equal:\n{}",
                    facts.0.differences(&facts.1).join("\n")
                );
                return Ok(());
            }
            last = Some(facts);
        }
        let Some((left, right)) = last else {
            return Ok(());
        };
        left.expect_equal(&right, "after four more runs")
    }

    /// Drops edits one by one while the case still fails; returns the smaller case.
    #[must_use]
    pub fn shrink(&self, topology: Topology) -> Self {
        let mut smallest = self.clone();
        let mut index = 0;
        while let Some(smaller) = smallest.without(index) {
            if smaller.check(&[topology]).is_err() {
                smallest = smaller;
            } else {
                index += 1;
            }
        }
        smallest
    }

    fn without(&self, index: usize) -> Option<Self> {
        let mut smaller = self.clone();
        let mut index = index;
        for list in std::iter::once(&mut smaller.base).chain(&mut smaller.rounds) {
            if index < list.len() {
                list.remove(index);
                return Some(smaller);
            }
            index -= list.len();
        }
        None
    }
}

fn dovecot(a: &Side<'_>, b: &Side<'_>, words: &[String]) -> Result<Run> {
    let words = [words, &b.dovecot_server()].concat();
    a.dovecot_dsync(&words[0], &words[1..])
}

/// Dovecot prints it in the format that the harness asks for, ours as it is.
fn printed_state(run: &Run) -> String {
    let is_base64 = |c: char| c.is_ascii_alphanumeric() || "+/=".contains(c);
    let words = run.stdout.split(|c: char| !is_base64(c));
    words
        .filter(|word| word.len() > 8)
        .max_by_key(|word| word.len())
        .unwrap_or_default()
        .to_owned()
}
