//! Mailbox attributes.

use dsync_proto::items::AttributeKind;
use dsync_proto::types::{MailErrorClass, Uid};
use dsync_storage::{AttributeData, AttributeName};

use super::StoreFactory;
use super::support::{new_mailbox, open};

fn name(kind: AttributeKind, key: &str) -> AttributeName {
    AttributeName {
        kind,
        key: key.into(),
    }
}

fn value(text: &str) -> AttributeData {
    AttributeData {
        value: text.into(),
        stream: false,
        last_change: 0,
    }
}

/// Set, replaced, removed; private and shared apart; or `NotPossible` without a place for them.
pub fn keeps_attributes(factory: &dyn StoreFactory) {
    let account = factory.create();
    let mut store = account.open();
    let mut mailbox = new_mailbox(store.as_mut());
    let private = name(AttributeKind::Private, "comment");
    let shared = name(AttributeKind::Shared, "comment");
    let odd = name(AttributeKind::Private, "vendor/vendor.x/ä b\tc");
    if !factory.features().attributes {
        assert!(mailbox.attributes().unwrap().is_empty());
        let set = mailbox.set_attribute(&private, Some(value("x")));
        let error = set.and_then(|()| mailbox.commit().map(drop)).unwrap_err();
        assert_eq!(error.class, MailErrorClass::NotPossible);
        return;
    }
    assert_eq!(mailbox.attribute(&private), Ok(None));
    for (name, text) in [
        (&private, "old"),
        (&shared, "multi\nline\ttab \\ \u{1}x"),
        (&odd, ""),
    ] {
        mailbox.set_attribute(name, Some(value(text))).unwrap();
    }
    mailbox.commit().unwrap();
    mailbox.set_attribute(&private, Some(value("new"))).unwrap();
    mailbox.commit().unwrap();
    for mut mailbox in [mailbox, open(account.open().as_mut(), "box")] {
        let text = |data: Option<AttributeData>| data.map(|data| data.value.to_string());
        let found = mailbox.attribute(&private).unwrap();
        assert_eq!(text(found), Some("new".into()));
        let found = mailbox.attribute(&shared).unwrap();
        assert_eq!(text(found), Some("multi\nline\ttab \\ \u{1}x".into()));
        let mut names = mailbox.attributes().unwrap();
        assert!(
            names.is_sorted_by_key(|name| name.kind),
            "private ones first"
        );
        names.sort();
        let mut expected = vec![private.clone(), odd.clone(), shared.clone()];
        expected.sort();
        assert_eq!(names, expected);
    }
    let mut mailbox = open(store.as_mut(), "box");
    mailbox.set_attribute(&private, None).unwrap();
    mailbox.commit().unwrap();
    assert_eq!(
        open(account.open().as_mut(), "box").attribute(&private),
        Ok(None)
    );
}

/// What a sync sets is no change.
pub fn logs_no_attribute_of_its_own(factory: &dyn StoreFactory) {
    if !factory.features().attributes {
        return;
    }
    let mut store = factory.create().open();
    let mut mailbox = new_mailbox(store.as_mut());
    let comment = name(AttributeKind::Private, "comment");
    mailbox.set_attribute(&comment, Some(value("x"))).unwrap();
    mailbox.commit().unwrap();
    let log = mailbox.changes_since(0, 0, Uid::MAX).unwrap();
    assert!(log.attributes.is_empty(), "{:?}", log.attributes);
}
