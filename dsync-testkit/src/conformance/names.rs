//! The list of mailboxes, their identities, and the mailbox log.

use dsync_proto::types::{Guid, MailErrorClass};
use dsync_storage::{Created, MailboxLogKind, OpenMode, Store};

use super::StoreFactory;
use super::support::{directories, mailboxes, open, save_all, uids};

const GUID: Guid = Guid([0x5a; 16]);

/// Kinds of the records about a name or GUID.
fn logged(store: &mut dyn Store, id: Guid) -> Vec<MailboxLogKind> {
    let records = store.mailbox_log().expect("mailbox_log");
    records
        .into_iter()
        .filter(|record| record.id == id)
        .inspect(|record| assert!(record.time > 0, "a record without time"))
        .map(|record| record.kind)
        .collect()
}

fn hash(name: &str) -> Guid {
    Guid::of_mailbox_name(name.as_bytes())
}

fn create(store: &mut dyn Store, name: &str) {
    assert_eq!(store.create_mailbox(name, None, None), Ok(Created::New));
}

/// A child of a mailbox; in formats where mailboxes have none, of a directory.
fn child_of(factory: &dyn StoreFactory, mailbox: &str, child: &str) -> String {
    match factory.features().mailboxes_have_children {
        true => format!("{mailbox}/{child}"),
        false => format!("{mailbox} and/{child}"),
    }
}

/// Nothing is there but perhaps INBOX.
pub fn a_new_account_is_empty(factory: &dyn StoreFactory) {
    let mut store = factory.create().open();
    assert!(mailboxes(store.as_mut()).is_empty());
    assert!(store.subscriptions().unwrap().is_empty());
    assert!(store.mailbox_log().unwrap().is_empty());
}

/// Created mailboxes are listed once; creating again changes nothing.
pub fn creates_and_lists_mailboxes(factory: &dyn StoreFactory) {
    let account = factory.create();
    let mut store = account.open();
    let child = child_of(factory, "a", "c");
    create(store.as_mut(), "b");
    create(store.as_mut(), &child);
    create(store.as_mut(), "a");
    let identity = store.identity("a").unwrap();
    let again = store.create_mailbox("a", Some(GUID), Some(7));
    assert_eq!(again, Ok(Created::Existed));
    assert_eq!(store.identity("a"), Ok(identity));
    let expected = ["a", &child, "b"];
    assert_eq!(mailboxes(store.as_mut()), expected);
    assert_eq!(mailboxes(account.open().as_mut()), expected);
    if !factory.features().mailboxes_have_children {
        let error = store.create_mailbox("a/c", None, None).unwrap_err();
        assert_eq!(error.class, MailErrorClass::NotPossible);
        assert_eq!(mailboxes(store.as_mut()), expected);
    }
    assert!(
        store.mailbox_log().unwrap().is_empty(),
        "creation is not logged"
    );
    assert!(store.create_mailbox("INBOX", None, None).is_ok());
    assert!(
        store
            .list()
            .unwrap()
            .iter()
            .any(|entry| entry.name == "INBOX")
    );
}

/// GUID and UIDVALIDITY are those asked for.
pub fn keeps_given_guid_and_uid_validity(factory: &dyn StoreFactory) {
    let account = factory.create();
    let mut store = account.open();
    store
        .create_mailbox("a", Some(GUID), Some(4_000_000_001))
        .unwrap();
    for store in [&mut store, &mut account.open()] {
        let identity = store.identity("a").unwrap();
        assert_eq!(identity.guid, GUID);
        assert_eq!(identity.uid_validity, 4_000_000_001);
        assert_eq!(identity.uid_next, 1);
    }
    let status = open(store.as_mut(), "a").status().unwrap();
    assert_eq!((status.guid, status.uid_validity), (GUID, 4_000_000_001));
}

/// Made-up identities are never zero and differ.
pub fn makes_identities_that_differ(factory: &dyn StoreFactory) {
    let account = factory.create();
    let mut store = account.open();
    create(store.as_mut(), "a");
    create(store.as_mut(), "b");
    let (a, b) = (store.identity("a").unwrap(), store.identity("b").unwrap());
    assert!(!a.guid.is_zero() && a.uid_validity != 0);
    assert_ne!(a.guid, b.guid);
    assert_eq!(account.open().identity("a"), Ok(a), "it stays");
}

/// Names of all sorts are listed as they were created.
pub fn keeps_odd_names(factory: &dyn StoreFactory) {
    let must = [
        "Grüße",
        "a b",
        "A&B",
        "日本語/テスト",
        "\u{1f4e7}",
        "[Gmail]/All Mail",
        "50%25",
        "%2f",
        "UPPER",
        "upper",
        "a\"b",
        "*",
        "x'y",
        "-",
        "&",
        "&-",
        "e\u{301}",
    ];
    let may = [
        "~x",
        "a.b",
        ".hidden",
        "cur",
        "new/x",
        "dbox-Mails",
        "^x",
        "a\\b",
        "subscriptions",
        "maildirfolder",
        "dovecot.index.log",
        "\u{7f}",
        "x\n\u{1}\ty",
        "\u{2028}",
        "inbox",
    ];
    let account = factory.create();
    let mut store = account.open();
    let mut created = Vec::new();
    for name in must.into_iter().chain(may) {
        match store.check_new_name(name) {
            Ok(()) => {
                store.create_mailbox(name, None, None).expect(name);
                assert_eq!(open(store.as_mut(), name).name(), name);
                created.push(name.to_owned());
            }
            Err(error) => {
                assert!(!must.contains(&name), "{name:?} must be possible: {error}");
                assert_eq!(error.class, MailErrorClass::Params, "{error}");
                assert!(store.create_mailbox(name, None, None).is_err(), "{name:?}");
            }
        }
    }
    created.sort();
    let mut listed = mailboxes(account.open().as_mut());
    // `INBOX` in any spelling is one mailbox for some formats.
    listed.retain(|name| name != "inbox");
    created.retain(|name| name != "inbox");
    assert_eq!(listed, created);
}

/// Impossible names are refused before anything is made.
pub fn refuses_bad_names(factory: &dyn StoreFactory) {
    let mut store = factory.create().open();
    let long = "x".repeat(300);
    let deep = vec!["level"; 1000].join("/");
    for name in [
        "", "/", "a//b", "/a", "a/", "..", "a/../b", "x\0y", &long, &deep,
    ] {
        let error = store.check_new_name(name).expect_err(name);
        assert_eq!(error.class, MailErrorClass::Params, "{name:?}: {error}");
        assert!(store.create_mailbox(name, None, None).is_err(), "{name:?}");
        assert!(store.create_directory(name).is_err(), "{name:?}");
    }
    assert!(mailboxes(store.as_mut()).is_empty());
    create(store.as_mut(), "a");
    assert!(store.rename("a", "a//b").is_err());
    assert_eq!(mailboxes(store.as_mut()), ["a"]);
}

/// Directories, or in layouts without them a mailbox.
pub fn makes_directories(factory: &dyn StoreFactory) {
    let mut store = factory.create().open();
    assert_eq!(store.create_directory("d/e"), Ok(Created::New));
    assert_eq!(store.create_directory("d/e"), Ok(Created::Existed));
    if !factory.features().directories {
        assert_eq!(mailboxes(store.as_mut()), ["d/e"]);
        return;
    }
    assert_eq!(directories(store.as_mut()), ["d", "d/e"]);
    assert!(mailboxes(store.as_mut()).is_empty());
    let error = store
        .open("d/e", OpenMode::Read)
        .err()
        .expect("not a mailbox");
    assert_eq!(error.class, MailErrorClass::NotFound);

    let error = store.delete_directory("d").unwrap_err();
    assert_eq!(error.class, MailErrorClass::Exists, "it has a child");
    if factory.features().mailboxes_have_children {
        create(store.as_mut(), "d");
        assert_eq!(mailboxes(store.as_mut()), ["d"]);
    }
    assert_eq!(store.delete_directory("d/e"), Ok(()));
    assert_eq!(
        logged(store.as_mut(), hash("d/e")),
        [MailboxLogKind::DeleteDir]
    );
    if !factory.features().mailboxes_have_children {
        assert_eq!(store.delete_directory("d"), Ok(()));
    }
    assert_eq!(directories(store.as_mut()), [""; 0]);
}

/// A deleted mailbox is gone with all messages, and logged.
pub fn deletes_mailboxes(factory: &dyn StoreFactory) {
    let account = factory.create();
    let mut store = account.open();
    store.create_mailbox("a", Some(GUID), None).unwrap();
    create(store.as_mut(), "b");
    save_all(open(store.as_mut(), "a").as_mut(), &[1, 2]);
    store.delete_mailbox(GUID).unwrap();
    assert_eq!(mailboxes(store.as_mut()), ["b"]);
    assert_eq!(store.find_guid(GUID), Ok(None));
    assert_eq!(
        logged(store.as_mut(), GUID),
        [MailboxLogKind::DeleteMailbox]
    );
    assert_eq!(
        logged(store.as_mut(), hash("a")),
        [MailboxLogKind::DeleteDir]
    );
    let error = store.delete_mailbox(GUID).unwrap_err();
    assert_eq!(error.class, MailErrorClass::NotFound);

    create(store.as_mut(), "a");
    assert_ne!(store.identity("a").unwrap().guid, GUID);
    assert!(uids(open(account.open().as_mut(), "a").as_mut()).is_empty());
}

/// Children stay when their parent is deleted.
pub fn a_parent_can_be_deleted_before_its_child(factory: &dyn StoreFactory) {
    if !factory.features().mailboxes_have_children {
        return;
    }
    let mut store = factory.create().open();
    store.create_mailbox("p", Some(GUID), None).unwrap();
    create(store.as_mut(), "p/c");
    store.delete_mailbox(GUID).unwrap();
    assert_eq!(mailboxes(store.as_mut()), ["p/c"]);
    assert_eq!(
        logged(store.as_mut(), GUID),
        [MailboxLogKind::DeleteMailbox]
    );
    if factory.features().directories {
        assert_eq!(directories(store.as_mut()), ["p"]);
        assert!(logged(store.as_mut(), hash("p")).is_empty());
    } else {
        assert_eq!(
            logged(store.as_mut(), hash("p")),
            [MailboxLogKind::DeleteDir]
        );
    }
}

/// INBOX goes, or is empty under a new identity.
pub fn deletes_or_resets_inbox(factory: &dyn StoreFactory) {
    let mut store = factory.create().open();
    store.create_mailbox("INBOX", None, None).unwrap();
    let before = store.identity("INBOX").unwrap();
    save_all(open(store.as_mut(), "INBOX").as_mut(), &[1, 2]);
    store.delete_mailbox(before.guid).unwrap();
    assert_eq!(store.find_guid(before.guid), Ok(None));
    if factory.features().inbox_deletable {
        store.create_mailbox("INBOX", None, None).unwrap();
    }
    let after = store.identity("INBOX").unwrap();
    assert_ne!(after.guid, before.guid);
    assert_ne!(after.uid_validity, before.uid_validity);
    assert!(uids(open(store.as_mut(), "INBOX").as_mut()).is_empty());
}

/// Messages and identities move along with the names.
pub fn renames_with_children(factory: &dyn StoreFactory) {
    if !factory.features().mailboxes_have_children {
        return renames_a_directory(factory);
    }
    let account = factory.create();
    let mut store = account.open();
    store.create_mailbox("old", Some(GUID), None).unwrap();
    create(store.as_mut(), "old/Grüße");
    create(store.as_mut(), "older");
    let child = store.identity("old/Grüße").unwrap();
    save_all(open(store.as_mut(), "old").as_mut(), &[4]);
    store.rename("old", "deep/er/renamed").unwrap();
    assert_eq!(
        mailboxes(store.as_mut()),
        ["deep/er/renamed", "deep/er/renamed/Grüße", "older"]
    );
    let mut other = account.open();
    assert_eq!(other.identity("deep/er/renamed").unwrap().guid, GUID);
    assert_eq!(other.identity("deep/er/renamed/Grüße"), Ok(child));
    assert_eq!(other.find_guid(GUID), Ok(Some("deep/er/renamed".into())));
    assert_eq!(uids(open(other.as_mut(), "deep/er/renamed").as_mut()), [4]);
    assert_eq!(
        logged(store.as_mut(), hash("deep/er/renamed")),
        [MailboxLogKind::Rename]
    );
    assert!(logged(store.as_mut(), hash("deep/er/renamed/Grüße")).is_empty());
    if factory.features().directories {
        assert_eq!(directories(store.as_mut()), ["deep", "deep/er"]);
        store.rename("deep/er/renamed", "top").unwrap();
        assert!(directories(store.as_mut()).is_empty(), "empty parents go");
    }
}

/// The same where only directories have children.
fn renames_a_directory(factory: &dyn StoreFactory) {
    let account = factory.create();
    let mut store = account.open();
    store.create_mailbox("old/box", Some(GUID), None).unwrap();
    create(store.as_mut(), "older");
    save_all(open(store.as_mut(), "old/box").as_mut(), &[4]);
    store.rename("old", "deep/er").unwrap();
    assert_eq!(mailboxes(store.as_mut()), ["deep/er/box", "older"]);
    store.rename("deep/er/box", "top").unwrap();
    assert_eq!(mailboxes(store.as_mut()), ["older", "top"]);
    let mut other = account.open();
    assert_eq!(other.identity("top").unwrap().guid, GUID);
    assert_eq!(other.find_guid(GUID), Ok(Some("top".into())));
    assert_eq!(uids(open(other.as_mut(), "top").as_mut()), [4]);
    assert_eq!(
        logged(store.as_mut(), hash("top")),
        [MailboxLogKind::Rename]
    );
    assert!(directories(store.as_mut()).is_empty(), "empty parents go");
}

/// Neither a missing source nor a taken target.
pub fn renames_only_what_is_there(factory: &dyn StoreFactory) {
    let mut store = factory.create().open();
    create(store.as_mut(), "a");
    create(store.as_mut(), "b");
    let error = store.rename("missing", "c").unwrap_err();
    assert_eq!(error.class, MailErrorClass::NotFound, "{error}");
    for target in ["a", "b"] {
        let error = store.rename("a", target).unwrap_err();
        assert_eq!(error.class, MailErrorClass::Exists, "{error}");
    }
    assert_eq!(mailboxes(store.as_mut()), ["a", "b"]);
    assert!(store.mailbox_log().unwrap().is_empty());
}

/// Subscriptions need no mailbox, and only changes are logged.
pub fn subscribes(factory: &dyn StoreFactory) {
    let account = factory.create();
    let mut store = account.open();
    for name in ["Grüße/a b", "INBOX", "gone"] {
        assert_eq!(store.set_subscribed(name, true), Ok(true));
        assert_eq!(store.set_subscribed(name, true), Ok(false));
    }
    assert_eq!(store.set_subscribed("gone", false), Ok(true));
    assert_eq!(store.set_subscribed("gone", false), Ok(false));
    let mut names = account.open().subscriptions().unwrap();
    names.sort();
    assert_eq!(names, ["Grüße/a b", "INBOX"]);
    let kinds = logged(store.as_mut(), hash("gone"));
    assert_eq!(
        kinds,
        [MailboxLogKind::Subscribe, MailboxLogKind::Unsubscribe]
    );
    assert_eq!(
        logged(store.as_mut(), hash("Grüße/a b")),
        [MailboxLogKind::Subscribe]
    );
    assert_eq!(
        logged(store.as_mut(), hash("INBOX")),
        [MailboxLogKind::Subscribe]
    );
    assert!(mailboxes(store.as_mut()).is_empty());
}

/// Also those that another handle made, and under a changed GUID.
pub fn finds_mailboxes_by_guid(factory: &dyn StoreFactory) {
    let account = factory.create();
    let mut store = account.open();
    let mut other = account.open();
    create(store.as_mut(), "a");
    let guid = store.identity("a").unwrap().guid;
    assert_eq!(store.find_guid(guid), Ok(Some("a".into())));
    assert_eq!(other.find_guid(guid), Ok(Some("a".into())));
    store.set_guid("a", GUID).unwrap();
    for store in [&mut store, &mut account.open()] {
        assert_eq!(store.find_guid(guid), Ok(None));
        assert_eq!(store.find_guid(GUID), Ok(Some("a".into())));
        assert_eq!(store.identity("a").unwrap().guid, GUID);
        assert_eq!(open(store.as_mut(), "a").status().unwrap().guid, GUID);
    }
}

/// Asking for a name that is not there is `NotFound`, and makes nothing.
pub fn names_that_do_not_exist(factory: &dyn StoreFactory) {
    let mut store = factory.create().open();
    let errors = [
        store.open("x", OpenMode::Write).err(),
        store.open("x", OpenMode::Read).err(),
        store.identity("x").err(),
        store.set_guid("x", GUID).err(),
        store.delete_mailbox(GUID).err(),
        store.delete_directory("x").err(),
    ];
    for error in errors {
        assert_eq!(error.expect("an error").class, MailErrorClass::NotFound);
    }
    assert_eq!(store.find_guid(GUID), Ok(None));
    assert!(mailboxes(store.as_mut()).is_empty());
    assert!(store.mailbox_log().unwrap().is_empty());
}
