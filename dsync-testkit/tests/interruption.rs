//! A run stopped anywhere, in any way, followed by complete ones: equal sides, nothing lost,
//! nothing doubled.

#![allow(clippy::print_stderr, clippy::unwrap_used, reason = "these are tests")]

mod common;

use common::{Oracle, assert_same, converge, full, pair, two_way};
use dsync_engine::{Mode, SyncOptions};
use dsync_proto::items::SyncType;
use dsync_proto::types::{Flags, MailErrorClass};
use dsync_storage::memory::{Dump, LogGuid, MemoryOptions, MemoryStore, NewMail};
use dsync_testkit::fault::{Fault, FaultStore, Faults};
use dsync_testkit::simulator::Simulator;

/// Two sides with every kind of change, and what they had in common before.
struct Case {
    a: MemoryStore,
    b: MemoryStore,
    common: Dump,
}

impl Case {
    fn new() -> Self {
        let (a, b) = pair(MemoryOptions::dbox(1), MemoryOptions::dbox(2));
        let common = a.dump();
        let mail = |subject: &str| NewMail::with_subject(subject).guid(subject);
        let user = a.user();
        user.save("INBOX", mail("a1")).unwrap();
        user.save("INBOX", mail("a2")).unwrap();
        user.add_flags("INBOX", &[1], Flags::SEEN).unwrap();
        user.expunge("INBOX", &[2], LogGuid::Known).unwrap();
        user.copy("INBOX", &[1], "INBOX").unwrap();
        user.create("New").unwrap();
        user.save("New", mail("n1")).unwrap();
        user.move_to("Work", &[2], "New").unwrap();
        user.subscribe("New");
        let user = b.user();
        user.set_clock(1_700_000_050);
        user.save("INBOX", mail("b1")).unwrap();
        user.save("INBOX", mail("b2")).unwrap();
        user.add_keywords("INBOX", &[1, 3], &["k"]).unwrap();
        user.rename("Work", "Arbeit").unwrap();
        user.save("Arbeit", mail("w3")).unwrap();
        user.set_attribute("INBOX", "/shared/comment", Some("x"))
            .unwrap();
        Self { a, b, common }
    }

    fn copy(&self) -> Self {
        Self {
            a: self.a.duplicate(11),
            b: self.b.duplicate(12),
            common: self.common.clone(),
        }
    }

    /// What must hold after the interruption, and after further runs.
    #[track_caller]
    fn check(&self, oracle: &Oracle, options: &SyncOptions) {
        converge(options, &self.a, &self.b);
        assert_same(&self.a, &self.b);
        oracle.check(&self.a);
        oracle.check(&self.b);
    }

    fn oracle(&self) -> Oracle {
        Oracle::of(&self.a, &self.b, &self.common)
    }
}

/// UIDs and GUIDs of all messages.
fn mails(store: &MemoryStore) -> Vec<(String, Vec<(u32, String)>)> {
    let dump = store.dump();
    let mails = |mailbox: &dsync_storage::memory::MailboxDump| {
        let messages = mailbox.messages.iter();
        messages
            .map(|(uid, message)| (*uid, message.guid.to_string()))
            .collect()
    };
    dump.mailboxes
        .iter()
        .map(|(name, mailbox)| (name.clone(), mails(mailbox)))
        .collect()
}

fn steps(case: &Case, options: &SyncOptions) -> u64 {
    let case = case.copy();
    Simulator::new(options.clone(), case.a, case.b).run().steps
}

fn changed() -> SyncOptions {
    SyncOptions {
        sync_type: SyncType::Changed,
        ..two_way()
    }
}

#[test]
fn killed_at_any_step() {
    let case = Case::new();
    let oracle = case.oracle();
    for options in [two_way(), changed()] {
        let steps = steps(&case, &options);
        assert!(steps > 100, "the case is too small");
        for step in 1..steps {
            let case = case.copy();
            let simulator = Simulator::new(options.clone(), case.a.clone(), case.b.clone());
            drop(simulator.run_for(step));
            case.check(&oracle, &two_way());
        }
    }
}

#[test]
fn link_cut_at_any_step() {
    let case = Case::new();
    let oracle = case.oracle();
    for step in 1..steps(&case, &two_way()) {
        let case = case.copy();
        let simulator = Simulator::new(two_way(), case.a.clone(), case.b.clone());
        if let Some(stopped) = simulator.run_for(step) {
            let report = stopped.cut_link();
            assert!(report.client.exit_code() != 0 || report.server.exit_code() != 0 || step > 50);
        }
        case.check(&oracle, &two_way());
    }
}

#[test]
fn backup_killed_at_any_step() {
    let case = Case::new();
    let source = case.a.dump();
    for step in 1..steps(&case, &full(Mode::Backup)) {
        let case = case.copy();
        let simulator = Simulator::new(full(Mode::Backup), case.a.clone(), case.b.clone());
        drop(simulator.run_for(step));
        converge(&full(Mode::Backup), &case.a, &case.b);
        assert_eq!(case.a.dump(), source, "the source was changed");
    }
}

/// Runs with a fault in each operation of one side's store.
fn with_faults(fault: impl Fn(u64) -> Fault, faulty_client: bool) {
    let case = Case::new();
    let oracle = case.oracle();
    for number in 1.. {
        let case = case.copy();
        let faults = Faults::new(fault(number));
        let (a, b) = (case.a.clone(), case.b.clone());
        let simulator = if faulty_client {
            Simulator::new(two_way(), FaultStore::new(Box::new(a), faults.clone()), b)
        } else {
            Simulator::new(two_way(), a, FaultStore::new(Box::new(b), faults.clone()))
        };
        let report = simulator.run();
        let Some(failed) = faults.failed() else {
            assert!(number > 20, "the case is too small");
            break;
        };
        let codes = (report.client.exit_code(), report.server.exit_code());
        // Conflicts are solved by the next run; everything else must be told, unless it did no
        // harm: a message may be read from another instance of it.
        if codes == (0, 0) {
            assert_eq!(failed, "open_message", "nobody noticed operation {number}");
            assert_eq!(mails(&case.a), mails(&case.b));
        }
        case.check(&oracle, &two_way());
    }
}

#[test]
fn any_operation_of_the_client_fails_once() {
    with_faults(
        |number| Fault::FailAt(number, MailErrorClass::Temporary),
        true,
    );
}

#[test]
fn any_operation_of_the_server_fails_once() {
    with_faults(
        |number| Fault::FailAt(number, MailErrorClass::Temporary),
        false,
    );
}

#[test]
fn the_client_store_dies_at_any_operation() {
    with_faults(Fault::CrashAt, true);
}

#[test]
fn the_server_store_dies_at_any_operation() {
    with_faults(Fault::CrashAt, false);
}

#[test]
fn the_disk_of_the_server_is_full_at_any_operation() {
    with_faults(|number| Fault::FailAt(number, MailErrorClass::Quota), false);
}
