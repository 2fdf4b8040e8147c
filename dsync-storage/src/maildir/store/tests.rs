use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use bstr::BString;
use dsync_proto::items::AttributeKind;
use dsync_proto::types::MailErrorClass;
use tempfile::TempDir;

use super::*;
use crate::folders::list;
use crate::location::Variables;
use crate::{AttributeName, MailboxLogKind, MetadataUpdate, open_store};

/// An account in a temporary directory.
struct Account {
    home: TempDir,
    options: &'static str,
}

impl Account {
    fn new(options: &'static str) -> Self {
        let home = tempfile::tempdir().unwrap();
        Self { home, options }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn settings(&self) -> StoreSettings {
        StoreSettings {
            attribute_dict: Some(self.path("attributes")),
            max_lock_timeout: Some(Duration::from_millis(50)),
            fsync: crate::settings::Fsync::Never,
            ..StoreSettings::default()
        }
    }

    fn location(&self) -> Location {
        let variables = Variables {
            home: Some(self.home.path().to_owned()),
            ..Variables::default()
        };
        Location::parse(&format!("maildir:~/mail{}", self.options), &variables).unwrap()
    }

    fn open(&self) -> MaildirStore {
        MaildirStore::open(&self.location(), Namespace::default(), &self.settings()).unwrap()
    }
}

const OPTIONS: [&str; 6] = [
    "",
    ":INDEX=~/index:CONTROL=~/control",
    ":LAYOUT=fs",
    ":LAYOUT=fs:INDEX=~/index:CONTROL=~/control:NO-NOSELECT",
    ":LAYOUT=fs:DIRNAME=.box:INDEX=MEMORY",
    ":LAYOUT=imapdir",
];

fn everywhere(check: impl Fn(&Account, &mut MaildirStore)) {
    for options in OPTIONS {
        let account = Account::new(options);
        let mut store = account.open();
        check(&account, &mut store);
    }
}

fn guid(number: u8) -> Guid {
    Guid([number; 16])
}

fn create(store: &mut MaildirStore, name: &str, number: u8) {
    let created = store.create_mailbox(name, Some(guid(number)), Some(100 + u32::from(number)));
    assert_eq!(created, Ok(Created::New), "{name}");
}

/// All mailboxes with the number of their GUID; directories have 0.
fn view(store: &mut MaildirStore) -> Vec<(String, u8)> {
    let entries = store.list().unwrap();
    entries
        .into_iter()
        .map(|entry| {
            let number = match entry.selectable {
                true => store.identity(&entry.name).unwrap().guid.0[0],
                false => 0,
            };
            (entry.name, number)
        })
        .collect()
}

fn expect(store: &mut MaildirStore, expected: &[(&str, u8)]) {
    let expected: Vec<_> = expected
        .iter()
        .map(|(name, number)| ((*name).to_owned(), *number))
        .collect();
    assert_eq!(view(store), expected);
}

fn class<T: std::fmt::Debug>(result: Result<T>) -> MailErrorClass {
    result.unwrap_err().class
}

fn kinds(store: &mut MaildirStore) -> Vec<MailboxLogKind> {
    store
        .mailbox_log()
        .unwrap()
        .iter()
        .map(|record| record.kind)
        .collect()
}

/// Everything below a directory that is no lock and no counter.
fn tree(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(next) = todo.pop() {
        for entry in fs::read_dir(&next).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                todo.push(entry.path());
            }
            let path = entry.path();
            found.push(path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned());
        }
    }
    found.sort();
    found
}

#[test]
fn a_missing_source_is_an_error_and_a_missing_destination_is_made() {
    let account = Account::new("");
    let source = StoreSettings {
        create: false,
        ..account.settings()
    };
    let Err(error) = open_store(&account.location(), Namespace::default(), &source) else {
        panic!("opened what does not exist");
    };
    let message = format!(
        "mail directory {} does not exist",
        account.path("mail").display()
    );
    assert_eq!(
        (error.class, error.message),
        (MailErrorClass::NotFound, message)
    );

    let mut store = account.open();
    expect(&mut store, &[]);
    assert_eq!(store.subscriptions().unwrap(), [""; 0]);
    assert_eq!(store.mailbox_log().unwrap(), []);
    assert!(!account.path("mail").exists(), "looking creates nothing");
    create(&mut store, "a", 1);
    assert!(open_store(&account.location(), Namespace::default(), &source).is_ok());
}

#[test]
fn other_formats_are_told_apart() {
    for driver in ["sdbox", "mdbox", "mbox"] {
        let location = Location::parse(&format!("{driver}:/x"), &Variables::default()).unwrap();
        let Err(error) = open_store(&location, Namespace::default(), &StoreSettings::default())
        else {
            continue;
        };
        assert_eq!(error.class, MailErrorClass::NotPossible);
        assert!(error.message.contains(driver), "{error}");
    }
}

#[test]
fn creates_once_with_the_given_identity() {
    everywhere(|account, store| {
        create(store, "INBOX", 1);
        create(store, "a/b", 2);
        create(store, "Ünï", 3);
        assert_eq!(
            store.create_mailbox("a/b", Some(guid(9)), None),
            Ok(Created::Existed)
        );
        assert_eq!(
            store.create_mailbox("inbox", None, None),
            Ok(Created::Existed)
        );
        for store in [store, &mut account.open()] {
            let identity = store.identity("a/b").unwrap();
            assert_eq!(
                (identity.guid, identity.uid_validity, identity.uid_next),
                (guid(2), 102, 1)
            );
            assert_eq!(store.find_guid(guid(3)).unwrap().as_deref(), Some("Ünï"));
            assert_eq!(store.find_guid(guid(9)).unwrap(), None);
        }
        assert_eq!(
            class(account.open().create_mailbox("x//y", None, None)),
            MailErrorClass::Params
        );
    });
}

#[test]
fn made_up_identities_differ_and_rise() {
    everywhere(|_, store| {
        for name in ["a", "b"] {
            store.create_mailbox(name, None, None).unwrap();
        }
        let (a, b) = (store.identity("a").unwrap(), store.identity("b").unwrap());
        assert_ne!(a.guid, b.guid);
        assert!(a.uid_validity < b.uid_validity);
    });
}

#[test]
fn deletes_by_guid_and_leaves_children() {
    everywhere(|account, store| {
        create(store, "INBOX", 1);
        create(store, "p", 2);
        create(store, "p/c", 3);
        let old = tree(&account.path(""));
        assert!(!old.is_empty());
        store.delete_mailbox(guid(2)).unwrap();
        let with_directory = [("INBOX", 1), ("p", 0), ("p/c", 3)];
        let without = [("INBOX", 1), ("p/c", 3)];
        let is_fs = store.folders.layout.is_fs();
        expect(store, if is_fs { &with_directory } else { &without });
        assert_eq!(
            class(store.delete_mailbox(guid(2))),
            MailErrorClass::NotFound
        );
        store.delete_mailbox(guid(3)).unwrap();
        if is_fs && !account.options.contains("NO-NOSELECT") {
            expect(store, &[("INBOX", 1), ("p", 0)]);
            store.delete_directory("p").unwrap();
        }
        expect(store, &[("INBOX", 1)]);
        // Nothing of them is left anywhere.
        let left: Vec<_> = tree(&account.path(""))
            .into_iter()
            .filter(|path| path.contains("/p") || path.contains(".p"))
            .collect();
        assert_eq!(left, [""; 0], "{}", account.options);
        // A new mailbox of that name is another one.
        store.create_mailbox("p", None, None).unwrap();
        assert_ne!(store.identity("p").unwrap().guid, guid(2));
    });
}

#[test]
fn an_inbox_that_becomes_another_has_a_log_from_the_start() {
    let account = Account::new("");
    let mut store = account.open();
    create(&mut store, "INBOX", 1);
    let mut inbox = store.open("INBOX", OpenMode::Write).unwrap();
    inbox.refresh().unwrap();
    let raised = MetadataUpdate {
        min_highest_modseq: Some(50),
        ..MetadataUpdate::default()
    };
    inbox.update_metadata(raised).unwrap();
    inbox.commit().unwrap();
    assert!(inbox.status().unwrap().highest_modseq >= 50);
    drop(inbox);
    store.delete_mailbox(guid(1)).unwrap();
    let mut inbox = store.open("INBOX", OpenMode::Write).unwrap();
    let status = inbox.refresh().unwrap();
    assert!(status.highest_modseq < 50, "{status:?}");
    // A state that the source of a backup gives for the new one.
    assert!(inbox.changes_since(7, 0, u32::MAX).unwrap().covered);
}

#[test]
fn deletions_are_logged_with_guid_and_name() {
    let account = Account::new("");
    let mut store = account.open();
    create(&mut store, "a/ü", 1);
    store.delete_mailbox(guid(1)).unwrap();
    let log = store.mailbox_log().unwrap();
    let ids: Vec<_> = log.iter().map(|record| record.id).collect();
    assert_eq!(ids, [guid(1), Guid::of_mailbox_name("a/ü".as_bytes())]);
    assert_eq!(
        kinds(&mut store),
        [MailboxLogKind::DeleteMailbox, MailboxLogKind::DeleteDir]
    );
}

#[test]
fn attributes_go_with_their_mailbox() {
    let account = Account::new("");
    let mut store = account.open();
    create(&mut store, "a", 1);
    let name = AttributeName {
        kind: AttributeKind::Private,
        key: BString::from("comment"),
    };
    let value = Some(BString::from("x"));
    store
        .attributes
        .set(guid(1), &[(name.clone(), value.clone())])
        .unwrap();
    store.set_guid("a", guid(2)).unwrap();
    assert_eq!(store.attributes.get(guid(2), &name).unwrap(), value);
    store.delete_mailbox(guid(2)).unwrap();
    assert_eq!(store.attributes.get(guid(2), &name).unwrap(), None);
}

#[test]
fn a_mailbox_behind_a_symlink_is_unlinked_and_its_mail_stays() {
    let account = Account::new("");
    let mut store = account.open();
    create(&mut store, "real", 1);
    let elsewhere = account.path("elsewhere");
    fs::rename(account.path("mail/.real"), &elsewhere).unwrap();
    symlink(&elsewhere, account.path("mail/.link")).unwrap();
    symlink(".link", account.path("mail/.alias")).unwrap();
    expect(&mut store, &[("link", 1)]);
    store.delete_mailbox(guid(1)).unwrap();
    expect(&mut store, &[]);
    assert!(elsewhere.join("cur").is_dir());
}

#[test]
fn what_an_earlier_killed_deletion_left_is_removed() {
    everywhere(|account, store| {
        create(store, "a", 1);
        let rubbish = store.folders.layout.trash().join("host.1.x/cur");
        fs::create_dir_all(&rubbish).unwrap();
        fs::write(rubbish.join("mail"), "x").unwrap();
        store.delete_mailbox(guid(1)).unwrap();
        assert!(!rubbish.exists(), "{}", account.options);
    });
}

#[test]
fn renames_with_children_and_uid_lists() {
    everywhere(|account, store| {
        create(store, "a", 1);
        create(store, "a/b", 2);
        create(store, "a/b/c", 3);
        create(store, "ab", 4);
        store.rename("a", "qq/y").unwrap();
        let mut expected = vec![("ab", 4), ("qq/y", 1), ("qq/y/b", 2), ("qq/y/b/c", 3)];
        if store.folders.layout.is_fs() {
            expected.insert(1, ("qq", 0));
        }
        expect(store, &expected);
        expect(&mut account.open(), &expected);
        assert_eq!(
            store.find_guid(guid(3)).unwrap().as_deref(),
            Some("qq/y/b/c")
        );
        if !account.options.contains("MEMORY") {
            assert_eq!(kinds(store), [MailboxLogKind::Rename]);
        }
        store.rename("qq/y", "a").unwrap();
        expect(store, &[("a", 1), ("a/b", 2), ("a/b/c", 3), ("ab", 4)]);
        for root in ["control", "index"] {
            let left = tree(&account.path(root));
            assert!(!left.iter().any(|path| path.contains("qq")), "{left:?}");
        }
    });
}

#[test]
fn impossible_renames_change_nothing() {
    everywhere(|_, store| {
        create(store, "INBOX", 1);
        create(store, "a", 2);
        create(store, "b", 3);
        let before = view(store);
        assert_eq!(class(store.rename("a", "b")), MailErrorClass::Exists);
        assert_eq!(class(store.rename("a", "a")), MailErrorClass::Exists);
        assert_eq!(class(store.rename("no", "c")), MailErrorClass::NotFound);
        assert_eq!(
            class(store.rename("INBOX", "c")),
            MailErrorClass::NotPossible
        );
        assert_eq!(class(store.rename("a", "x//y")), MailErrorClass::Params);
        assert_eq!(view(store), before);
        assert_eq!(kinds(store), []);
    });
}

#[test]
fn maildir_plus_plus_can_rename_below_itself() {
    let account = Account::new("");
    let mut store = account.open();
    create(&mut store, "a", 1);
    create(&mut store, "a/c", 2);
    store.rename("a", "a/b").unwrap();
    expect(&mut store, &[("a/b", 1), ("a/b/c", 2)]);
}

#[test]
fn a_mailbox_never_takes_the_place_of_an_inbox_that_is_missing() {
    everywhere(|_, store| {
        create(store, "a", 1);
        assert_eq!(class(store.rename("a", "INBOX")), MailErrorClass::Exists);
        expect(store, &[("a", 1)]);
    });
}

#[test]
fn a_mailbox_never_takes_the_place_of_a_file_of_the_store() {
    let account = Account::new(":LAYOUT=fs");
    let mut store = account.open();
    create(&mut store, "a", 1);
    for name in [
        "subscriptions",
        "dovecot.index.log",
        "a/dovecot-uidlist",
        "..DOVECOT-TRASHED",
    ] {
        assert_eq!(
            class(store.check_new_name(name)),
            MailErrorClass::Params,
            "{name}"
        );
        assert_eq!(
            class(store.create_mailbox(name, None, None)),
            MailErrorClass::Params
        );
        assert_eq!(class(store.create_directory(name)), MailErrorClass::Params);
        assert_eq!(class(store.rename("a", name)), MailErrorClass::Params);
    }
    create(&mut store, "a/subscriptions", 2);
    let mut flat = Account::new("").open();
    assert_eq!(
        flat.create_mailbox("subscriptions", None, None),
        Ok(Created::New)
    );
}

#[test]
fn directories() {
    let account = Account::new(":LAYOUT=fs");
    let mut store = account.open();
    assert_eq!(store.create_directory("d"), Ok(Created::New));
    assert_eq!(store.create_directory("d"), Ok(Created::Existed));
    create(&mut store, "d/m", 1);
    assert_eq!(class(store.delete_directory("d")), MailErrorClass::Exists);
    assert_eq!(class(store.delete_directory("d/m")), MailErrorClass::Exists);
    assert_eq!(
        class(store.delete_directory("no")),
        MailErrorClass::NotFound
    );
    assert_eq!(class(store.identity("d")), MailErrorClass::NotFound);
    // A directory becomes a mailbox where it is.
    create(&mut store, "d", 2);
    expect(&mut store, &[("d", 2), ("d/m", 1)]);

    let flat = Account::new("");
    assert_eq!(flat.open().create_directory("d"), Ok(Created::New));
    assert!(flat.open().list().unwrap()[0].selectable);
}

#[test]
fn creation_completes_what_was_killed_halfway() {
    for options in OPTIONS {
        let account = Account::new(options);
        let mut store = account.open();
        create(&mut store, "other", 9);
        let paths = store.folders.layout.paths(b"a", "a");
        fs::create_dir_all(&paths.control_dir).unwrap();
        fs::write(paths.uidlist(), "torn").unwrap();
        if store.folders.layout.is_maildir_plus_plus() {
            // Only an empty directory is no mailbox there.
            let _ = fs::remove_file(paths.box_dir.join("dovecot-uidlist"));
            fs::create_dir_all(&paths.box_dir).unwrap();
        } else if store.folders.layout.is_fs() {
            fs::create_dir_all(paths.box_dir.join("new")).unwrap();
        } else {
            continue;
        }
        create(&mut store, "a", 1);
        expect(&mut store, &[("a", 1), ("other", 9)]);
    }
}

#[test]
fn garbage_on_disk_is_left_alone_and_what_has_a_name_can_be_opened() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let account = Account::new("");
    let mut store = account.open();
    create(&mut store, "good", 1);
    let mail = account.path("mail");
    for name in [
        "..x",
        ".x.",
        ".a..b",
        "..DOVECOT-TRASHED",
        ".é",
        ".&AOk-",
        ".inbox",
        "temp.1",
    ] {
        fs::create_dir_all(mail.join(name).join("cur")).unwrap();
    }
    fs::write(mail.join(".file"), "").unwrap();
    let raw = mail.join(OsStr::from_bytes(b".raw\xff"));
    fs::create_dir_all(raw.join("cur")).unwrap();
    fs::copy(
        mail.join(".good/dovecot-uidlist"),
        raw.join("dovecot-uidlist"),
    )
    .unwrap();
    let before = tree_bytes(&mail);

    let names: Vec<_> = store
        .list()
        .unwrap()
        .into_iter()
        .map(|entry| entry.name)
        .collect();
    assert_eq!(names, ["good", "raw\u{fffd}", "é"]);
    assert_eq!(
        account.open().identity("raw\u{fffd}").unwrap().guid,
        guid(1)
    );
    assert_eq!(tree_bytes(&mail), before, "listing renames nothing");
    store.rename("raw\u{fffd}", "mended").unwrap();
    assert!(mail.join(".mended").is_dir() && !raw.exists());
}

fn tree_bytes(dir: &Path) -> Vec<std::ffi::OsString> {
    list::entries(dir).unwrap()
}

#[test]
fn names_that_do_not_exist() {
    everywhere(|_, store| {
        assert_eq!(class(store.identity("no")), MailErrorClass::NotFound);
        assert_eq!(store.find_guid(guid(1)).unwrap(), None);
        assert_eq!(
            class(store.delete_mailbox(guid(1))),
            MailErrorClass::NotFound
        );
        assert_eq!(
            class(store.set_guid("no", guid(1))),
            MailErrorClass::NotFound
        );
        assert_eq!(class(store.identity("")), MailErrorClass::NotFound);
    });
}

#[test]
fn another_guid_keeps_records_and_rises_next_uid() {
    let account = Account::new(":CONTROL=~/control");
    let mut store = account.open();
    create(&mut store, "a", 1);
    let path = account.path("control/.a/dovecot-uidlist");
    let text = format!("3 V5 N3 G{} Px\n7 Gg :base\n", guid(1));
    fs::write(&path, text).unwrap();
    store.set_guid("a", guid(2)).unwrap();
    let expected = format!("3 V5 N8 G{} Px\n7 Gg :base\n", guid(2));
    assert_eq!(fs::read_to_string(&path).unwrap(), expected);
    assert_eq!(store.find_guid(guid(2)).unwrap().as_deref(), Some("a"));
    assert_eq!(store.find_guid(guid(1)).unwrap(), None);
    assert_eq!(
        class(store.set_guid("a", Guid::ZERO)),
        MailErrorClass::Params
    );
}

#[test]
fn waits_for_the_locks_of_others_and_says_so() {
    everywhere(|account, store| {
        create(store, "a", 1);
        let other = account.open();
        let lock = other.folders.lock_list().unwrap();
        let error = store.create_mailbox("b", None, None).unwrap_err();
        assert!(error.message.contains("mailboxes.lock"), "{error}");
        assert!(store.delete_mailbox(guid(1)).is_err());
        assert!(store.rename("a", "c").is_err());
        drop(lock);
        store.rename("a", "c").unwrap();
        let left = tree(&account.path(""));
        assert!(!left.iter().any(|path| path.contains(".lock")), "{left:?}");
    });
}

#[test]
fn subscriptions_are_logged_when_they_change() {
    everywhere(|account, store| {
        assert_eq!(store.set_subscribed("a/b", true), Ok(true));
        assert_eq!(store.set_subscribed("a/b", true), Ok(false));
        assert_eq!(store.set_subscribed("inbox", true), Ok(true));
        assert_eq!(store.set_subscribed("a/b", false), Ok(true));
        assert_eq!(store.subscriptions().unwrap(), ["INBOX"]);
        if account.options.contains("MEMORY") {
            assert_eq!(store.mailbox_log().unwrap(), []);
            return;
        }
        let ids: Vec<_> = store
            .mailbox_log()
            .unwrap()
            .iter()
            .map(|record| record.id)
            .collect();
        let hash = |name: &str| Guid::of_mailbox_name(name.as_bytes());
        assert_eq!(ids, [hash("a/b"), hash("INBOX"), hash("a/b")]);
    });
}
