//! Many users in one command. As root each run becomes its user.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test helpers")]

mod common;

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{Home, Run};
use nix::unistd::{getegid, geteuid};

/// Users `ann` and `bob` with a message each, and `eve` whose mail cannot be used; all in a
/// passwd-file.
struct Users {
    home: Home,
    settings: Vec<String>,
}

/// Who owns the mail of the user with this number.
fn owner(number: u32) -> (u32, u32) {
    if geteuid().is_root() {
        (5000 + number, 5100 + number)
    } else {
        (geteuid().as_raw(), getegid().as_raw())
    }
}

impl Users {
    fn new() -> Self {
        let home = Home::new();
        let mut lines = String::new();
        for (number, name) in (0..).zip(["ann", "bob", "eve"]) {
            let folder = home.path(name);
            fs::create_dir(&folder).unwrap();
            if name != "eve" {
                home.maildir(&format!("{name}/Maildir"));
                home.message(&format!("{name}/Maildir"), &format!("for-{name}"));
            }
            let (uid, gid) = owner(number);
            own(&folder, uid, gid);
            let replica = match name {
                "bob" => String::new(),
                _ => "userdb_mail_replica=maildir:~/replica".to_owned(),
            };
            lines += &format!("{name}:x:{uid}:{gid}::{}::{replica}\n", folder.display());
        }
        fs::write(home.path("users"), lines).unwrap();
        // Its owner's alone, as a file with passwords is.
        fs::set_permissions(home.root(), PermissionsExt::from_mode(0o711)).unwrap();
        let settings = [
            format!("userdb=passwd-file:{}", home.path("users").display()),
            "mail_location=maildir:~/Maildir".to_owned(),
            "first_valid_uid=1".to_owned(),
        ];
        let settings = settings
            .into_iter()
            .flat_map(|setting| ["-o".into(), setting]);
        Self {
            home,
            settings: settings.collect(),
        }
    }

    fn dsync(&self, arguments: &[&str]) -> Run {
        let mut words: Vec<&str> = self.settings.iter().map(String::as_str).collect();
        words.extend(arguments);
        self.home.dsync(&words)
    }

    /// Everything in the copy belongs to the user.
    fn expect_owner(&self, copy: &str, number: u32) {
        let (uid, _) = owner(number);
        let mut folders = vec![self.home.path(copy)];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                let metadata = path.symlink_metadata().unwrap();
                assert_eq!(metadata.uid(), uid, "{}", path.display());
                if metadata.is_dir() {
                    folders.push(path);
                }
            }
        }
    }
}

fn own(path: &Path, uid: u32, gid: u32) {
    lchown(path, Some(uid), Some(gid)).unwrap();
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            own(&entry.unwrap().path(), uid, gid);
        }
    }
}

#[test]
fn one_user_of_the_userdb() {
    let users = Users::new();
    let run = users.dsync(&["sync", "-u", "bob", "maildir:~/copy"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.only_line().contains("1 message sent"), "{}", run.stderr);
    assert_eq!(users.home.messages("bob/copy"), ["for-bob"]);
    users.expect_owner("bob", 1);
    users
        .dsync(&["sync", "-u", "joe", "maildir:~/copy"])
        .fails_with(67, "user joe is unknown to passwd-file:");
}

#[test]
fn the_failure_of_one_is_not_that_of_others() {
    let users = Users::new();
    let run = users.dsync(&["sync", "-A", "maildir:~/copy"]);
    assert_eq!(run.code, 68, "{}", run.stderr);
    assert_eq!(users.home.messages("ann/copy"), ["for-ann"]);
    assert_eq!(users.home.messages("bob/copy"), ["for-bob"]);
    users.expect_owner("ann", 0);
    users.expect_owner("bob", 1);
    let lines: Vec<&str> = run.stderr.lines().collect();
    let of_ann = lines.iter().any(|line| line.starts_with("dsync: ann: "));
    assert!(of_ann, "{lines:?}");
    assert!(
        lines.contains(&"dsync: 3 users: 2 in sync, 1 not"),
        "{lines:?}"
    );
    let last = lines.last().unwrap();
    assert!(last.starts_with("dsync: error: eve (68): "), "{last}");
    assert!(last.contains("Maildir"), "{last}");
}

#[test]
fn masks_and_files() {
    let users = Users::new();
    let run = users.dsync(&["sync", "-u", "?N*", "maildir:~/copy"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(
        run.stderr.contains("1 users: 1 in sync, 0 not"),
        "{}",
        run.stderr
    );
    assert!(!users.home.path("bob/copy").exists());
    users
        .dsync(&["sync", "-u", "x*", "maildir:~/copy"])
        .fails_with(67, "no user of userdb passwd-file:");

    fs::write(users.home.path("list"), "nobody-here\nbob\n").unwrap();
    let run = users.dsync(&["backup", "-F", "list", "maildir:~/copy"]);
    assert_eq!(run.code, 67, "{}", run.stderr);
    assert_eq!(users.home.messages("bob/copy"), ["for-bob"]);
    assert!(
        run.stderr
            .contains("error: nobody-here (67): user nobody-here is unknown"),
        "{}",
        run.stderr
    );
    users
        .dsync(&["sync", "-F", "none", "maildir:~/copy"])
        .fails_with(64, "-F none: cannot read the users");
}

#[test]
fn destinations_of_users() {
    let users = Users::new();
    let run = users.dsync(&["sync", "-u", "ann", "-d"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(users.home.messages("ann/replica"), ["for-ann"]);
    users
        .dsync(&["sync", "-u", "bob", "-d"])
        .fails_with(68, "User has no mail_replica in userdb");
    users
        .dsync(&["sync", "-u", "bob", "-d", "maildir:x"])
        .fails_with(64, "-d takes the destination");
}

#[test]
fn states_and_objects_name_their_users() {
    let users = Users::new();
    let run = users.dsync(&["sync", "-u", "[ab]*", "maildir:~/copy"]);
    assert_eq!(run.code, 67, "brackets are no mask: {}", run.stderr);
    let run = users.dsync(&["sync", "-u", "*b*", "-s", "", "maildir:~/copy"]);
    let (name, state) = run.stdout.trim_end().split_once(' ').unwrap();
    assert_eq!(name, "bob");
    let again = users.dsync(&["sync", "-u", "bob", "-s", state, "maildir:~/copy"]);
    assert_eq!(again.code, 0, "{}", again.stderr);
    assert!(
        again.only_line().contains("nothing to do"),
        "{}",
        again.stderr
    );

    let run = users.dsync(&["--json", "sync", "-A", "maildir:~/copy"]);
    let objects: Vec<serde_json::Value> = run
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let codes: Vec<_> = objects
        .iter()
        .map(|object| {
            (
                object["user"].as_str().unwrap(),
                object["exit_code"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(codes, [("ann", 0), ("bob", 0), ("eve", 68)]);
}

/// Each of the commands ends only when all three of them run.
#[test]
fn several_users_at_one_time() {
    let users = Users::new();
    let folder = users.home.path("running");
    fs::create_dir(&folder).unwrap();
    let script = format!(
        "mkdir {0}/$$; until [ $(ls {0} | wc -l) -ge 3 ]; do sleep 0.05; done; exit 65",
        folder.display()
    );
    let run = users.dsync(&["sync", "-A", "--jobs", "3", "sh", "-c", &script]);
    assert!([65, 68].contains(&run.code), "{}", run.stderr);
    let end = "dsync: 3 users: 0 in sync, 3 not\n";
    assert!(run.stderr.contains(end), "{}", run.stderr);
}

/// One that does not let anybody in is not tried again for each user.
#[test]
fn a_server_that_is_out_of_order() {
    let users = Users::new();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = format!("tcp:{}", server.local_addr().unwrap());
    let visits = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&visits);
    std::thread::spawn(move || {
        for stream in server.incoming() {
            count.fetch_add(1, Ordering::SeqCst);
            // What was sent and not read would make the end a hard one.
            let _ = stream.unwrap().read(&mut [0; 100]);
        }
    });
    let run = users.dsync(&["sync", "-A", "--jobs", "1", &target]);
    assert_eq!(run.code, 75, "{}", run.stderr);
    assert_eq!(run.stderr.matches("waiting for its greeting").count(), 6);
    assert_eq!(visits.load(Ordering::SeqCst), 1);
}

/// The command runs as whoever started the program, and the mail is touched by its owner only.
#[test]
fn a_command_as_the_other_side() {
    let users = Users::new();
    let server = Path::new(env!("CARGO_BIN_EXE_dsync")).with_file_name("dsync-server");
    assert!(server.exists(), "run `cargo build --workspace` first");
    let copy = users.home.path("copy");
    let script = format!(
        "id -u >&2; exec {} -c /dev/null -o mail_location=maildir:{}",
        server.display(),
        copy.display()
    );
    let run = users.dsync(&["sync", "-u", "ann", "sh", "-c", &script]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let uid = run.stderr.lines().next().unwrap();
    assert_eq!(uid, geteuid().to_string());
    users.expect_owner("ann", 0);
    assert_eq!(users.home.messages("copy"), ["for-ann"]);
    // The reason of the other side decides the exit code here too.
    let run = users.dsync(&["sync", "-u", "ann", "sh", "-c", "exit 67"]);
    assert_eq!(run.code, 67, "{}", run.stderr);
}

#[test]
fn users_that_are_not_replicated() {
    let users = Users::new();
    let line = format!(
        "ann:x:{0}:{1}::{2}::userdb_noreplicate=yes\n",
        owner(0).0,
        owner(0).1,
        users.home.path("ann").display()
    );
    fs::write(users.home.path("users"), line).unwrap();
    let run = users.dsync(&["sync", "-U", "-u", "ann", "maildir:~/copy"]);
    assert_eq!(
        (run.code, run.only_line()),
        (0, "not replicated: the userdb has noreplicate")
    );
    assert!(!users.home.path("ann/copy").exists());
}

#[test]
fn root_keeps_out_of_other_peoples_mail() {
    if !geteuid().is_root() {
        return;
    }
    let users = Users::new();
    let location = format!("maildir:{}", users.home.path("ann/Maildir").display());
    let run = users
        .home
        .dsync(&["sync", "--source", &location, "maildir:copy"]);
    run.fails_with(
        77,
        &format!(
            "{} belongs to uid 5000",
            users.home.path("ann/Maildir").display()
        ),
    );
}

/// The signal reaches whoever has the mail.
#[test]
fn signals_end_the_run_of_a_user() {
    let users = Users::new();
    let script = "kill -TERM $PPID; exec cat >/dev/null";
    let run = users.dsync(&["sync", "-u", "ann", "sh", "-c", script]);
    assert_eq!(run.code, 75, "{}", run.stderr);
    assert!(
        run.stderr.contains("error: stopped by SIGTERM"),
        "{}",
        run.stderr
    );
    // The rest is not tried.
    let run = users.dsync(&["sync", "-A", "--jobs", "1", "sh", "-c", script]);
    assert_eq!(run.code, 75, "{}", run.stderr);
    assert!(
        run.stderr
            .contains("3 users: 0 in sync, 1 not, 2 not tried"),
        "{}",
        run.stderr
    );
}
