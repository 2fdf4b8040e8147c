//! 80 scenarios with two stores that were played with real Dovecot: from each state before a run
//! two brains must come to the state after it (`spec/vectors/mailbox-sync.README.md`).

use dsync_testkit::vectors::scenarios::{self, time};

#[test]
fn scenarios_end_as_with_dovecot() {
    let mut found = Vec::new();
    let mut runs = 0;
    for scenario in scenarios::all() {
        for (_, sync) in scenario.syncs() {
            runs += 1;
            let (ending, said) = sync.simulate();
            let differences = ending.differences(&sync.expected());
            let is_other = sync.is_better() || sync.is_untold();
            match (differences.is_empty(), is_other) {
                (false, false) => found.push(format!(
                    "{} {} {} state {}: {}\n  {said}",
                    sync.id(),
                    sync.step()["command"],
                    sync.step()["options"],
                    sync.step()["state_in"],
                    differences.join("\n")
                )),
                (true, true) => found.push(format!("{} is no longer different", sync.id())),
                _ => {}
            }
        }
    }
    assert_eq!(runs, 273);
    assert!(
        found.is_empty(),
        "{} of {runs} runs end differently:\n{}",
        found.len(),
        found.join("\n")
    );
}

#[test]
fn reads_times() {
    assert_eq!(time("1970-01-01"), 0);
    assert_eq!(time("2024-01-01 10:00:00"), 1_704_103_200);
    assert_eq!(time("2024-12-31 23:59:59"), 1_735_689_599);
}
