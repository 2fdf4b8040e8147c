use super::*;

fn settings(timeout_ms: u64, use_excl: bool) -> DotlockSettings {
    DotlockSettings {
        timeout: Duration::from_millis(timeout_ms),
        use_excl,
        ..DotlockSettings::uidlist(&StoreSettings::default(), CreateModes::default())
    }
}

fn set_age(path: &Path, seconds: u64) {
    let past = SystemTime::now() - Duration::from_secs(seconds);
    let file = File::options().write(true).open(path).unwrap();
    file.set_times(FileTimes::new().set_modified(past)).unwrap();
}

/// A pid that no process has: the highest that Linux allows is 2^22.
const DEAD_PID: u32 = 4_999_999;

#[test]
fn excludes_a_second_locker() {
    for use_excl in [true, false] {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("dovecot-uidlist");
        let mut lock = Dotlock::acquire(&file, &settings(1000, use_excl)).unwrap();
        assert_eq!(
            std::fs::read_to_string(lock.path()).unwrap(),
            format!(
                "{}:{}",
                std::process::id(),
                StoreSettings::default().hostname
            )
        );
        lock.keep_alive().unwrap();
        let error = Dotlock::acquire(&file, &settings(30, use_excl)).unwrap_err();
        assert_eq!(error.class, MailErrorClass::Temporary);
        assert!(
            error.message.contains("timeout while waiting for lock"),
            "{error}"
        );
        drop(lock);
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
    }
}

#[test]
fn our_own_lock_is_not_stale_for_another_thread_however_old() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("x");
    let lock = Dotlock::acquire(&file, &settings(1000, true)).unwrap();
    set_age(lock.path(), 1000);
    assert!(Dotlock::acquire(&file, &settings(30, true)).is_err());
    lock.verify().unwrap();
}

#[test]
fn lock_of_a_dead_process_is_taken_once_it_is_two_seconds_old() {
    let host = StoreSettings::default().hostname;
    for (pid, age, taken) in [
        (DEAD_PID, 0, false),
        (DEAD_PID, 5, true),
        // An earlier process with our pid.
        (std::process::id(), 5, true),
        // Alive: pid 1 always is.
        (1, 5, false),
    ] {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("x");
        let path = root.path().join("x.lock");
        std::fs::write(&path, format!("{pid}:{host}")).unwrap();
        set_age(&path, age);
        let result = Dotlock::acquire(&file, &settings(30, true));
        assert_eq!(result.is_ok(), taken, "pid {pid} age {age}");
    }
}

#[test]
fn lock_of_an_unknown_owner_is_taken_after_the_stale_time() {
    for content in ["", "77:elsewhere.example", "garbage"] {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("x");
        let path = root.path().join("x.lock");
        std::fs::write(&path, content).unwrap();
        // ctime cannot be set back, so only the stale time can be made short.
        set_age(&path, 1000);
        assert!(Dotlock::acquire(&file, &settings(30, true)).is_err());
        let short = DotlockSettings {
            stale: Duration::from_millis(20),
            ..settings(5000, true)
        };
        Dotlock::acquire(&file, &short).unwrap();
    }
}

#[test]
fn an_overridden_lock_is_noticed_and_left_alone() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("x");
    let lock = Dotlock::acquire(&file, &settings(1000, true)).unwrap();
    let path = lock.path().to_owned();
    // Kept under another name, so that its inode is not used again.
    std::fs::rename(&path, root.path().join("old")).unwrap();
    std::fs::write(&path, "1:elsewhere").unwrap();
    assert!(lock.verify().is_err());
    drop(lock);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "1:elsewhere");
}

#[test]
fn replace_changes_the_file_in_one_step() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("subscriptions");
    std::fs::write(&file, "old").unwrap();
    let lock = ReplaceLock::acquire(&file, &settings(1000, true)).unwrap();
    assert!(ReplaceLock::acquire(&file, &settings(10, true)).is_err());
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "old");
    lock.replace(b"new", true).unwrap();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "new");
    // Given up without a replacement.
    drop(ReplaceLock::acquire(&file, &settings(1000, false)).unwrap());
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "new");
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1);
}

#[test]
fn many_threads_never_hold_it_together() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("counter");
    std::fs::write(&file, "0").unwrap();
    std::thread::scope(|scope| {
        for use_excl in [true, false, true, false] {
            let file = &file;
            scope.spawn(move || {
                for _ in 0..25 {
                    let lock = ReplaceLock::acquire(file, &settings(60_000, use_excl)).unwrap();
                    let text = std::fs::read_to_string(file).unwrap();
                    let count: u32 = text.parse().unwrap();
                    lock.replace((count + 1).to_string().as_bytes(), false)
                        .unwrap();
                }
            });
        }
    });
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "100");
}
