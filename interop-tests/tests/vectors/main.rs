//! The scenarios of `spec/vectors/mailbox-sync.json` on real stores, end to end: each history is
//! played by a real Dovecot, and before each of its syncs the accounts are copied, so that the
//! same sync is also done by ours with itself and at either end of Dovecot.

mod edit;
mod states;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use bstr::ByteSlice;
use dsync_proto::types::Flags;
use dsync_testkit::vectors::scenarios::{self, Contents, Ending, Scenario, Sync};
use dsync_testkit::vectors::{Row, attribute_name, strings};
use interop_tests::diff::{Topology, printed_state, sync};
use interop_tests::{MailboxFacts, MessageFacts, Side, Version, World};
use states::States;

/// Runs that end in one of two ways with Dovecot itself: modseqs decide, which depend on how many
/// messages it puts into one transaction.
const OF_THE_MOMENT: &str = "S06.3 S06.4 S08.2 S08.3";

/// A run for which Dovecot logged an expunge without a GUID; messages that our storage saved have
/// it in the cache, and so it is logged. Then the destination differs from its source, which
/// ours mends in the same run.
const WITH_LOGGED_GUID: &str = "S36.3";

/// Runs where one of ours with a Dovecot ends neither as two of ours do nor as two Dovecots, the
/// exit code, and the row of `docs/DIFFERENCES.md`.
const WITH_DOVECOT: &[(&str, u64, &str)] = &[
    (
        "S26.3 S57.3",
        2,
        "10: a state that fits no longer costs one more run",
    ),
    (
        "S31m.3 S31m.4 S31m.5 S32m.3 S32m.4 S33m.3 S33m.4 S33m.5 S33m.6 S34m.3 S34m.4 S34m.5 S36m.3 S36m.4 S36m.5",
        65,
        "40 and T13: the Dovecot destination fails, and its exit code is passed on",
    ),
    (
        "S65.3",
        75,
        "5: -e is sent, and the Dovecot destination takes what it leaves out for expunged",
    ),
];

/// The two accounts of a scenario.
struct Pair<'w> {
    world: &'w World,
    sides: [Side<'w>; 2],
}

impl<'w> Pair<'w> {
    fn copy(&self, name: &str) -> Result<Self> {
        let copy = |side: &Side<'w>, letter| {
            let name = format!("{name}-{letter}");
            self.world.copy_side(side, &name)
        };
        let [a, b] = &self.sides;
        Ok(Self {
            world: self.world,
            sides: [copy(a, "a")?, copy(b, "b")?],
        })
    }

    fn remove(self) -> Result<()> {
        for side in &self.sides {
            std::fs::remove_dir_all(side.outside(""))?;
        }
        Ok(())
    }

    fn sync(
        &self,
        topology: Option<Topology>,
        run: &Sync<'_>,
        state: Option<&str>,
    ) -> Result<Finished> {
        let [a, b] = &self.sides;
        let step = run.step();
        let command = step["command"].as_str().context("a command")?;
        let mut words: Vec<String> = command.split(' ').skip(1).map(str::to_owned).collect();
        words.extend(strings(&step["options"]));
        if let Some(state) = state {
            words.extend(["-s".to_owned(), state.to_owned()]);
        }
        let result = match (topology, step["transport"].as_str()) {
            (None, Some("local")) => {
                words.push(b.location());
                a.dovecot_dsync(&words[0], &words[1..])?
            }
            _ => sync(a, b, topology, words)?,
        };
        Ok(Finished {
            exit_code: result.code.try_into()?,
            state: printed_state(&result),
            said: result.stderr,
        })
    }
}

/// A run that ended.
struct Finished {
    exit_code: u64,
    state: String,
    said: String,
}

/// GUIDs that a scenario gives; Dovecot chose the others by chance.
fn given_guids(scenario: &Scenario) -> BTreeSet<&str> {
    let guids = scenario
        .steps()
        .iter()
        .flat_map(|step| step["guid"].as_str());
    guids.collect()
}

/// Puts the subject of a message where its GUID was chosen by chance.
fn with_known_guids(mut ending: Ending, scenario: &Scenario, run: &Sync<'_>) -> Ending {
    let given = given_guids(scenario);
    let mut subjects = BTreeMap::new();
    for moment in ["before", "after"] {
        for side in ["A", "B"] {
            let mailboxes = run.step()[moment][side].as_object();
            for mail in mailboxes
                .into_iter()
                .flatten()
                .flat_map(|(_, mailbox)| mailbox["mails"].as_array().into_iter().flatten())
            {
                subjects.insert(
                    mail["guid"].as_str().unwrap_or_default().to_owned(),
                    mail["subject"].as_str().unwrap_or_default().to_owned(),
                );
            }
        }
    }
    let contents = ending
        .sides
        .iter_mut()
        .flat_map(BTreeMap::values_mut)
        .flatten();
    for (_, guid, ..) in contents.flat_map(|contents| &mut contents.rows) {
        if let (false, Some(subject)) = (given.contains(guid.as_str()), subjects.get(guid)) {
            guid.clone_from(subject);
        }
    }
    ending
}

fn row(message: &MessageFacts, given: &BTreeSet<&str>) -> Row {
    let (system, mut keywords): (Vec<_>, Vec<_>) = message
        .flags
        .iter()
        .partition(|flag| flag.starts_with('\\'));
    keywords.sort();
    let flags = system
        .into_iter()
        .filter_map(|name| Flags::from_name(name))
        .fold(Flags::NONE, |all, flag| all | flag);
    let name = match given.contains(message.guid.as_str()) {
        true => message.guid.clone(),
        false => {
            let text = message.text.to_str_lossy();
            let mut lines = text.lines();
            let subject = lines.find_map(|line| line.strip_prefix("Subject: "));
            subject.unwrap_or_default().trim().to_owned()
        }
    };
    (
        message.uid,
        name,
        flags.0,
        keywords.into_iter().cloned().collect(),
    )
}

fn contents(
    mailbox: &MailboxFacts,
    wanted: &Contents,
    given: &BTreeSet<&str>,
) -> Result<Option<Contents>> {
    let Some((_, uid_validity, uid_next)) = &mailbox.identity else {
        return Ok(None);
    };
    // Dovecot lists names of its own that have no value.
    let attributes = mailbox
        .attributes
        .iter()
        .filter(|(_, value)| !value.is_empty());
    let attributes = attributes.map(|(name, value)| (attribute_name(name), value.as_str().into()));
    Ok(Some(Contents {
        uid_validity: uid_validity.parse()?,
        uid_next: uid_next.parse()?,
        rows: mailbox
            .messages
            .iter()
            .map(|message| row(message, given))
            .collect(),
        attributes: wanted.attributes.as_ref().map(|_| attributes.collect()),
    }))
}

/// What is there now, in the form of `wanted`.
fn ending(
    pair: &Pair<'_>,
    finished: &Finished,
    wanted: &Ending,
    given: &BTreeSet<&str>,
) -> Result<Ending> {
    let mut ending = wanted.clone();
    ending.exit_code = finished.exit_code;
    for (side, mailboxes) in pair.sides.iter().zip(&mut ending.sides) {
        let with_attributes = mailboxes.values().flatten().any(|c| c.attributes.is_some());
        let mut facts = side.facts()?;
        if with_attributes {
            facts = facts.with_attributes(side)?;
        }
        for (name, slot) in mailboxes {
            let none = Contents {
                uid_validity: 0,
                uid_next: 0,
                rows: Vec::new(),
                attributes: with_attributes.then(BTreeMap::new),
            };
            let found = facts.0.get(name);
            *slot = match found {
                Some(found) => contents(found, slot.as_ref().unwrap_or(&none), given)?,
                None => None,
            };
        }
    }
    Ok(ending)
}

/// Plays one scenario; returns the number of runs of ours.
fn play(scenario: &Scenario, found: &mut Vec<String>) -> Result<usize> {
    let world = World::new(Version::V23)?;
    let [format_a, format_b] = scenario.formats();
    let mut pair = Pair {
        world: &world,
        sides: [
            world.side_at("a", format_a, "")?,
            world.side_at("b", format_b, "")?,
        ],
    };
    let mut saved = None;
    let mut states = States::default();
    let mut runs = 0;
    let syncs: Vec<_> = scenario.syncs().collect();
    for (place, step) in scenario.steps().iter().enumerate() {
        if let Some((_, run)) = syncs.iter().find(|(at, _)| *at == place) {
            let comparison = Comparison {
                scenario,
                run,
                given: given_guids(scenario),
            };
            runs += comparison
                .compare(&pair, &mut states, found)
                .with_context(|| run.id())?;
            continue;
        }
        let number = usize::from(step["side"] == "B");
        let what = step["what"].as_str().unwrap_or_default();
        if what.starts_with("take a copy") {
            saved = Some(world.copy_side(&pair.sides[number], "saved")?);
        } else if what == "restore the copy" {
            let saved = saved.as_ref().context("a copy to restore")?;
            pair.sides[number] = world.copy_side(saved, "restored")?;
        } else if step["op"] != "other" {
            let next = syncs.iter().find(|(at, _)| *at > place);
            let (_, next) = next.context("an edit that no sync follows")?;
            let later = &next.step()["before"][["A", "B"][number]];
            edit::apply(scenario, step, &pair.sides[number], later)
                .with_context(|| format!("before {}: {step}", next.id()))?;
        }
    }
    Ok(runs)
}

/// A sync that is done in every way.
struct Comparison<'s> {
    scenario: &'s Scenario,
    run: &'s Sync<'s>,
    given: BTreeSet<&'s str>,
}

impl Comparison<'_> {
    /// Does it; the accounts are left as Dovecot with itself leaves them.
    fn compare(
        &self,
        pair: &Pair<'_>,
        states: &mut States,
        found: &mut Vec<String>,
    ) -> Result<usize> {
        let run = self.run;
        let state = run.step()["state_in"]["raw"].as_str();
        let state = state.map(|state| states.today(state));
        let in_vector = with_known_guids(run.expected(), self.scenario, run);
        let topologies: &[Topology] = match run.step()["transport"] == "local" {
            true => &[Topology::OursAlone],
            false => Topology::ALL,
        };
        let mut ours = Vec::new();
        for topology in topologies {
            let copy = pair.copy(&format!("{}-{topology}", run.id()))?;
            let finished = copy.sync(Some(*topology), run, state.as_deref())?;
            ours.push((
                *topology,
                ending(&copy, &finished, &in_vector, &self.given)?,
                finished,
            ));
            copy.remove()?;
        }
        let finished = pair.sync(None, run, state.as_deref())?;
        states.printed(
            run.step()["state_out"]["raw"].as_str(),
            finished.state.clone(),
        );
        // A look would fill caches.
        let copy = pair.copy(&format!("{}-dovecot", run.id()))?;
        let dovecots = ending(&copy, &finished, &in_vector, &self.given)?;
        copy.remove()?;

        let better = with_known_guids(run.simulate().0, self.scenario, run);
        for (topology, left, finished) in ours {
            let differences = self.differences(topology, &left, &better, &dovecots);
            self.note(&topology.to_string(), &differences, &finished, found);
        }
        if !run.is_one_of(OF_THE_MOMENT) && !run.is_one_of(WITH_LOGGED_GUID) {
            self.note(
                "Dovecot today",
                &dovecots.differences(&in_vector),
                &finished,
                found,
            );
        }
        Ok(topologies.len())
    }

    /// Of what ours left from what it should leave.
    fn differences(
        &self,
        topology: Topology,
        left: &Ending,
        better: &Ending,
        dovecots: &Ending,
    ) -> Vec<String> {
        let run = self.run;
        let is_better = run.is_better() || run.is_one_of(WITH_LOGGED_GUID);
        if topology == Topology::OursAlone {
            // The second store of a process has no dictionary of its own.
            let all = [left, better, dovecots].map(|one| one.clone().without_attributes());
            let [left, better, dovecots] = &all;
            return left.differences(if is_better { better } else { dovecots });
        }
        if !is_better {
            return left.differences(dovecots);
        }
        let differences = left.differences(better);
        let mut known = WITH_DOVECOT.iter();
        let exit_code = known.find_map(|(runs, code, _)| run.is_one_of(runs).then_some(*code));
        // With a Dovecot not all that is better is possible.
        let is_fine = !topology.both_are_ours()
            && (left.differences(dovecots).is_empty() || Some(left.exit_code) == exit_code);
        if is_fine { Vec::new() } else { differences }
    }

    fn note(
        &self,
        who: &str,
        differences: &[String],
        finished: &Finished,
        found: &mut Vec<String>,
    ) {
        if differences.is_empty() {
            return;
        }
        let step = self.run.step();
        found.push(format!(
            "{} {who} {} {} {}: {}\n  {}",
            self.run.id(),
            step["command"],
            step["options"],
            step["state_in"]["raw"],
            differences.join("\n"),
            finished.said
        ));
    }
}

/// Every fourth scenario from this one on, which are `runs` runs of ours.
fn quarter(first: usize, runs: usize) -> Result<()> {
    let mut found = Vec::new();
    let mut compared = 0;
    for scenario in scenarios::all().iter().skip(first).step_by(4) {
        compared += play(scenario, &mut found).with_context(|| scenario.id().to_owned())?;
    }
    ensure!(
        found.is_empty(),
        "{} of {compared} runs end differently:\n{}",
        found.len(),
        found.join("\n")
    );
    ensure!(compared == runs, "{compared} runs");
    Ok(())
}

#[test]
fn first_quarter() -> Result<()> {
    quarter(0, 276)
}

#[test]
fn second_quarter() -> Result<()> {
    quarter(1, 278)
}

#[test]
fn third_quarter() -> Result<()> {
    quarter(2, 256)
}

#[test]
fn fourth_quarter() -> Result<()> {
    quarter(3, 273)
}
