//! Plays a script and compares.

use std::cell::Cell;
use std::fs;

use anyhow::Result;
use dsync_testkit::random::Random;

use super::clock::set_times;
use super::edit::Edit;
use super::rules::{self, Outcome};
use super::run::{Kind, Mode, Topology, printed_state, run};
use super::script::Script;
use super::view::{View, fingerprint};
use super::{Failure, Options};
use crate::{Run, Side, World};

/// Two accounts and the state of their last run.
pub(super) struct Pair<'w> {
    world: &'w World,
    pub(super) a: Side<'w>,
    pub(super) b: Side<'w>,
    state: String,
}

thread_local! {
    static NUMBER: Cell<usize> = const { Cell::new(0) };
}

fn new_number() -> usize {
    NUMBER.set(NUMBER.get() + 1);
    NUMBER.get()
}

impl<'w> Pair<'w> {
    /// Byte-identical ones.
    fn copy(&self) -> Result<Self> {
        let number = new_number();
        Ok(Self {
            world: self.world,
            a: self.world.copy_side(&self.a, &format!("{number}-a"))?,
            b: self.world.copy_side(&self.b, &format!("{number}-b"))?,
            state: self.state.clone(),
        })
    }

    fn view(&self) -> Result<(View, View)> {
        let mut warnings = Vec::new();
        Ok((
            read_twice(&self.a, &mut warnings),
            read_twice(&self.b, &mut warnings),
        ))
    }

    /// The state before any run, without touching it.
    fn view_of_copy(&self) -> Result<(View, View)> {
        let copy = self.copy()?;
        let view = copy.view()?;
        copy.remove();
        Ok(view)
    }

    /// Runs on copies; `None` is Dovecot with itself. The state is the one that it printed.
    fn after_run(
        &self,
        topology: Option<Topology>,
        mode: Mode,
        kind: Kind,
        state: &str,
    ) -> Result<(Self, Outcome)> {
        let mut pair = self.copy()?;
        pair.state = state.to_owned();
        let outcome = pair.run(topology, mode, kind)?;
        pair.state = printed_state(&outcome.run);
        Ok((pair, outcome))
    }

    /// Runs again without a state, on copies, until there is no advice to do so: three times at
    /// the most.
    pub(super) fn settle(&self, topology: Option<Topology>, mode: Mode) -> Result<Outcome> {
        let mut pair = self.copy()?;
        pair.state = String::new();
        let mut outcome = pair.run(topology, mode, Kind::Stateful)?;
        for _ in 0..2 {
            if outcome.run.code == 0 || outcome.run.timed_out {
                break;
            }
            outcome = pair.run(topology, mode, Kind::Stateful)?;
        }
        pair.remove();
        Ok(outcome)
    }

    fn run(&self, topology: Option<Topology>, mode: Mode, kind: Kind) -> Result<Outcome> {
        let run = self.run_only(topology, mode, kind)?;
        let mut warnings = Vec::new();
        let a = read_twice(&self.a, &mut warnings);
        let b = read_twice(&self.b, &mut warnings);
        Ok(Outcome {
            run,
            a,
            b,
            warnings,
        })
    }

    /// Without a look at the accounts afterwards, which writes.
    fn run_only(&self, topology: Option<Topology>, mode: Mode, kind: Kind) -> Result<Run> {
        run(&self.a, &self.b, topology, mode, kind, &self.state)
    }

    fn set_times(&self, counts: (usize, usize), start: u32, seed: u64) -> Result<(usize, usize)> {
        Ok((
            set_times(&self.a, counts.0, start, 2 * seed)?,
            set_times(&self.b, counts.1, start, 2 * seed + 1)?,
        ))
    }

    pub(super) fn remove(self) {
        for side in [&self.a, &self.b] {
            // The world goes at the end anyway.
            let _ = fs::remove_dir_all(side.outside(""));
        }
    }
}

/// Reads an account where Dovecot may find something to repair, of which it says so once. One
/// that cannot be read at all is empty.
fn read_twice(side: &Side<'_>, warnings: &mut Vec<String>) -> View {
    for _ in 0..3 {
        match View::read(side) {
            Ok(view) => return view,
            Err(error) => warnings.push(format!("reading again after: {error:#}")),
        }
    }
    View::default()
}

/// Time of round `number`: long ago, so that what a sync writes is later.
fn time(number: usize) -> u32 {
    1_700_000_000 + 1000 * number as u32
}

fn apply(edits: &[Edit], side: &Side<'_>) -> Result<()> {
    edits.iter().try_for_each(|edit| edit.apply(side))
}

/// The edits of a round; returns the new numbers of records.
fn edit(
    script: &Script,
    pair: &Pair<'_>,
    round: usize,
    records: (usize, usize),
) -> Result<(usize, usize)> {
    let edits = &script.rounds[round];
    // Names of new messages grow with time, so either side must be the first at times.
    if script.seed.is_multiple_of(2) {
        apply(&edits.a, &pair.a)?;
        apply(&edits.b, &pair.b)?;
    } else {
        apply(&edits.b, &pair.b)?;
        apply(&edits.a, &pair.a)?;
    }
    pair.set_times(records, time(2 * round + 2), script.seed + round as u64)
}

/// Makes an account with an INBOX of a known GUID: Dovecot makes it, complains that it is there
/// already, and gives it the GUID.
fn make_inbox(side: &Side<'_>, letter: &str, seed: u64) -> Result<()> {
    let high = Random::new(seed).next_u64() ^ u64::from(letter == "b");
    let guid = format!("{high:016x}{seed:016x}");
    Edit::doveadm("mailbox create", &["-g", &guid, "INBOX"]).apply(side)
}

/// A script that is being played.
pub(super) struct Play<'w> {
    script: &'w Script,
    options: &'w Options,
    start: Pair<'w>,
    /// What the start looks like.
    start_views: (View, View),
    /// Records in the change logs that have their times already.
    records: (usize, usize),
}

impl<'w> Play<'w> {
    /// Plays until the first sync.
    pub(super) fn new(world: &'w World, script: &'w Script, options: &'w Options) -> Result<Self> {
        let number = new_number();
        let a = world.side(&format!("{number}-a"))?;
        make_inbox(&a, "a", script.seed)?;
        apply(&script.base, &a)?;
        let (b, state) = match script.copied {
            true => (
                world.copy_side(&a, &format!("{number}-b"))?,
                Self::first_state(world, &a)?,
            ),
            false => {
                let b = world.side(&format!("{number}-b"))?;
                if !script.rounds[0].b.is_empty() {
                    make_inbox(&b, "b", script.seed)?;
                }
                (b, String::new())
            }
        };
        let start = Pair { world, a, b, state };
        let records = start.set_times((0, 0), time(0), script.seed)?;
        let records = edit(script, &start, 0, records)?;
        Ok(Self {
            script,
            options,
            start_views: start.view_of_copy()?,
            start,
            records,
        })
    }

    /// What a run on the common account and its copy prints.
    fn first_state(world: &'w World, a: &Side<'w>) -> Result<String> {
        let number = new_number();
        let pair = Pair {
            world,
            a: world.copy_side(a, &format!("{number}-a"))?,
            b: world.copy_side(a, &format!("{number}-b"))?,
            state: String::new(),
        };
        let run = run(&pair.a, &pair.b, None, Mode::Sync, Kind::Stateful, "")?;
        pair.remove();
        Ok(printed_state(&run))
    }

    /// Compares every topology with Dovecot in one mode.
    pub(super) fn compare(&self, mode: Mode, kind: Kind) -> Result<Vec<Failure>> {
        let rounds = match kind {
            Kind::Stateful => self.script.rounds.len(),
            _ => 1,
        };
        let mut failures = Vec::new();
        let mut pair = self.start.copy()?;
        let mut records = self.records;
        for round in 0..rounds {
            if round > 0 {
                records = pair.set_times(records, time(2 * round + 1), 0)?;
                records = edit(self.script, &pair, round, records)?;
            }
            let views = match round {
                0 => &self.start_views,
                _ => &pair.view_of_copy()?,
            };
            let next = self.compare_round(&pair, views, mode, kind, round, &mut failures)?;
            pair.remove();
            pair = next;
            if !failures.is_empty() {
                break;
            }
        }
        pair.remove();
        Ok(failures)
    }

    /// Returns one of the results to go on with.
    fn compare_round(
        &self,
        before: &Pair<'w>,
        views: &(View, View),
        mode: Mode,
        kind: Kind,
        round: usize,
        failures: &mut Vec<Failure>,
    ) -> Result<Pair<'w>> {
        let references = References::run(before, views, mode, kind)?;
        let mut next = references.plain.0.copy()?;
        next.state = references.plain.0.state.clone();
        for (index, &topology) in self.options.topologies.iter().enumerate() {
            let (reference, expected) = references.of(topology);
            let (pair, outcome) = before.after_run(Some(topology), mode, kind, &before.state)?;
            let comparison = rules::Comparison {
                before: views,
                state: &before.state,
                reference,
                expected,
                pair: &pair,
                outcome: &outcome,
                mode,
                kind,
                topology,
            };
            let mut lines = comparison.differences()?;
            if lines.is_empty() {
                lines = second_run(&comparison)?;
            }
            if !lines.is_empty() {
                lines.extend(note("Dovecot", expected));
                lines.extend(note("this run", &outcome));
                failures.push(Failure {
                    seed: self.script.seed,
                    mode,
                    kind,
                    topology,
                    round,
                    lines,
                });
            }
            // States and stores of all of them are good for all of them.
            let leads = (self.script.seed as usize + round) % (self.options.topologies.len() + 1);
            match leads == index && outcome.run.code == 0 {
                true => std::mem::replace(&mut next, pair).remove(),
                false => pair.remove(),
            }
        }
        references.remove();
        Ok(next)
    }
}

/// What Dovecot with itself makes of the same accounts.
struct References<'w> {
    plain: (Pair<'w>, Outcome),
    /// The same with the state as our client understands it.
    client: Option<(Pair<'w>, Outcome)>,
    /// And as two of ours do.
    both: Option<(Pair<'w>, Outcome)>,
}

impl<'w> References<'w> {
    fn run(before: &Pair<'w>, views: &(View, View), mode: Mode, kind: Kind) -> Result<Self> {
        let plain = before.after_run(None, mode, kind, &before.state)?;
        // Row 7: two of ours see what Dovecot overlooks without `-f`.
        if kind == Kind::Changed && !views.0.overlooked(&views.1).is_empty() {
            let both = before.after_run(None, mode, Kind::Full, &before.state)?;
            return Ok(Self {
                plain,
                client: None,
                both: Some(both),
            });
        }
        let [client, both] = [false, true].map(|both_are_ours| {
            let state =
                rules::attentive_state(mode, both_are_ours, &before.state, (&views.0, &views.1));
            Self::amended(before, &plain.1, mode, kind, state)
        });
        Ok(Self {
            plain,
            client: client?,
            both: both?,
        })
    }

    /// With this state, less what Dovecot complains about; `None` if that is the plain run.
    fn amended(
        before: &Pair<'w>,
        plain: &Outcome,
        mode: Mode,
        kind: Kind,
        mut state: String,
    ) -> Result<Option<(Pair<'w>, Outcome)>> {
        if kind != Kind::Stateful {
            return Ok(None);
        }
        let mut amended = None;
        if state != before.state {
            amended = Some(before.after_run(None, mode, kind, &state)?);
        }
        loop {
            let last = amended.as_ref().map_or(plain, |(_, outcome)| outcome);
            let Some(fitting) = rules::fitting_state(&state, last) else {
                return Ok(amended);
            };
            let better = before.after_run(None, mode, kind, &fitting)?;
            if let Some((pair, _)) = amended.replace(better) {
                pair.remove();
            }
            state = fitting;
        }
    }

    fn of(&self, topology: Topology) -> (&Pair<'w>, &Outcome) {
        let amended = match (topology.client_is_ours(), topology.both_are_ours()) {
            (_, true) => &self.both,
            (true, false) => &self.client,
            (false, false) => &None,
        };
        let (pair, outcome) = amended.as_ref().unwrap_or(&self.plain);
        (pair, outcome)
    }

    fn remove(self) {
        let amended = [self.client, self.both].into_iter().flatten();
        for (pair, _) in std::iter::once(self.plain).chain(amended) {
            pair.remove();
        }
    }
}

fn note(who: &str, outcome: &Outcome) -> Vec<String> {
    let warnings = outcome.warnings.iter().map(String::as_str);
    let lines = outcome.run.stderr.lines().take(6).chain(warnings);
    let code = format!("{who}: exit code {}", outcome.run.code);
    std::iter::once(code)
        .chain(lines.map(|line| format!("{who}: {line}")))
        .collect()
}

/// A second run must change nothing, once no further one is asked for.
///
/// Where a second run of Dovecot does the same, such as a subscription that comes a run later
/// than its mailbox, it may.
fn second_run(comparison: &rules::Comparison<'_, '_>) -> Result<Vec<String>> {
    let rules::Comparison {
        pair, mode, kind, ..
    } = *comparison;
    let topology = Some(comparison.topology);
    // A run that prints no state asks for another one, too.
    let asks = kind == Kind::Stateful && pair.state.is_empty();
    if comparison.outcome.run.code != 0 || asks {
        return Ok(Vec::new());
    }
    let before = (fingerprint(&pair.a)?, fingerprint(&pair.b)?);
    let again = pair.run_only(topology, mode, kind)?;
    let is_same = before == (fingerprint(&pair.a)?, fingerprint(&pair.b)?);
    if is_same && again.code == 0 {
        return Ok(Vec::new());
    }
    let (a, b) = pair.view()?;
    let mut lines = Vec::new();
    for (side, before, after) in [
        ("a", &comparison.outcome.a, &a),
        ("b", &comparison.outcome.b, &b),
    ] {
        for line in before.differences(after) {
            lines.push(format!("second run, {side}: {line}"));
        }
    }
    if lines.is_empty() && again.code == 0 {
        return Ok(Vec::new());
    }
    let reference = comparison.reference.copy()?;
    let expected = reference.run(None, mode, kind)?;
    reference.remove();
    let outcome = Outcome {
        run: again.clone(),
        a,
        b,
        warnings: Vec::new(),
    };
    let after_both = rules::Comparison {
        expected: &expected,
        outcome: &outcome,
        ..*comparison
    };
    if after_both.ends().is_empty() {
        return Ok(Vec::new());
    }
    // The subscription of a renamed mailbox follows its name in the second run: Dovecot, which
    // cannot show it here, takes two as well (`rename-subscribed` in `spec/brain-and-tree.md`).
    let (first, second) = (comparison.outcome, &outcome);
    let only_subscriptions =
        [(&first.a, &second.a), (&first.b, &second.b)]
            .iter()
            .all(|(one, two)| {
                let (one, two) = (one.without_subscriptions(), two.without_subscriptions());
                one.differences(&two).is_empty()
            });
    if only_subscriptions && again.code == 0 && comparison.expected.deletes_destination() {
        return Ok(Vec::new());
    }
    if again.code != 0 {
        let code = format!("second run: exit code {}: {}", again.code, again.stderr);
        lines.insert(0, code);
    }
    Ok(lines)
}
