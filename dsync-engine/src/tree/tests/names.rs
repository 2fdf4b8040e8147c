//! Building, receiving and executing with names and GUIDs that do not fit.

use dsync_proto::items::{DeleteEntry, Existence, TreeNode};
use dsync_proto::types::Guid;
use dsync_storage::memory::{MemoryOptions, MemoryStore};
use dsync_storage::{MailboxLogKind, MailboxLogRecord};

use super::pair::{account, build, names, store};
use crate::tree::{
    ExecutionContext, GuidRule, RemoteTree, Selection, TreeError, TreeOperation, TreeReceiver,
    adopt, execute, to_deletes, to_items, walk,
};

fn guid(byte: u8) -> Guid {
    Guid([byte; 16])
}

fn node(levels: &[&[u8]], byte: u8) -> TreeNode {
    TreeNode {
        name: levels.iter().map(|level| (*level).into()).collect(),
        existence: Existence::Exists,
        mailbox_guid: guid(byte),
        uid_validity: 1,
        uid_next: 1,
        ..TreeNode::default()
    }
}

fn receive(store: &MemoryStore, nodes: &[TreeNode]) -> Result<RemoteTree, TreeError> {
    let mut account = account(store);
    let everything = Selection::default();
    let local = build(&mut account, &everything);
    let mut receiver = TreeReceiver::default();
    for node in nodes {
        receiver.receive(node.clone())?;
    }
    receiver.finish(&local, &mut account, &everything, b'_')
}

fn mailboxes(remote: &RemoteTree) -> Vec<(String, u8)> {
    remote
        .tree
        .paths()
        .filter(|(id, _)| remote.tree.node(*id).is_mailbox())
        .map(|(id, path)| (path, remote.tree.node(id).guid.0[0]))
        .collect()
}

#[test]
fn names_are_fitted() {
    for (levels, expected) in [
        (&[b"a.b".as_slice()][..], "a_b"),
        (&[b"a/b", b"c"], "a_b/c"),
        (&[b"50%25 off"], "50%25 off"),
        (&[b"ctl\x07x"], "ctl_x"),
        (&[b"x\xff\xfey"], "x\u{fffd}y"),
        (&[b""], "_"),
        (&["Grüße".as_bytes()], "Grüße"),
    ] {
        let remote = receive(&store("maildir", "", 1), &[node(levels, 1)]).unwrap();
        assert_eq!(mailboxes(&remote), [(expected.to_owned(), 1)]);
    }
    let long = [b'x'; 300];
    let remote = receive(&store("sdbox", "", 1), &[node(&[&long], 1)]).unwrap();
    assert_eq!(mailboxes(&remote), [("01".repeat(16), 1)]);
}

#[test]
fn no_name_is_lost_whatever_the_order() {
    let nodes = [
        node(&[b"a.b"], 1),
        node(&[b"a.b", b"child"], 2),
        node(&[b"a_b"], 3),
        node(&[b"a_b", b"child"], 4),
    ];
    let expected = [
        ("a_b".to_owned(), 3),
        ("a_b/child".to_owned(), 4),
        (format!("a_b-{}", guid(1)), 1),
        (format!("a_b-{}/child", guid(1)), 2),
    ];
    let mut expected = expected.to_vec();
    expected.sort();
    let store = store("maildir", "", 1);
    for nodes in [nodes.to_vec(), nodes.iter().rev().cloned().collect()] {
        let mut found = mailboxes(&receive(&store, &nodes).unwrap());
        found.sort();
        assert_eq!(found, expected);
    }
}

#[test]
fn peers_that_break_the_rules() {
    let store = store("sdbox", "", 1);
    let twice = [node(&[b"a"], 1), node(&[b"b"], 1)];
    assert_eq!(
        receive(&store, &twice).unwrap_err().to_string(),
        format!(
            "Remote sent duplicate mailbox GUID {} for mailboxes a and b",
            guid(1)
        )
    );
    assert_eq!(
        receive(&store, &[node(&[], 1)]).unwrap_err(),
        TreeError::EmptyName
    );
    let deep: Vec<&[u8]> = vec![b"x"; 1000];
    let error = receive(&store, &[node(&deep, 1)]).unwrap_err();
    assert_eq!(error, TreeError::TooDeep { levels: 1000 });
    let elsewhere = self::store("sdbox", "INBOX/", 1);
    let error = receive(&elsewhere, &[node(&[b"a"], 1)]).unwrap_err();
    assert!(matches!(error, TreeError::NoNamespace { .. }));
    let inside = receive(&elsewhere, &[node(&[b"INBOX", b"a"], 1)]).unwrap();
    assert_eq!(mailboxes(&inside), [("INBOX/a".to_owned(), 1)]);
}

#[test]
fn hashes_for_a_peer_with_another_separator() {
    let mine = MemoryOptions {
        storage_separator: None,
        namespace: dsync_storage::Namespace {
            separator: '.',
            ..dsync_storage::Namespace::default()
        },
        ..MemoryOptions::dbox(1)
    };
    let mine = MemoryStore::new(mine);
    mine.user().create("top.sub").unwrap();
    mine.user().delete("top.sub").unwrap();
    let remote = receive(&mine, &[node(&[b"top", b"sub"], 1)]).unwrap();
    let mut account = account(&mine);
    let local = build(&mut account, &Selection::default());
    let peer = dsync_proto::items::Deletes {
        hierarchy_sep: b'/',
        escape_char: Some(b'%'),
        mailboxes: Vec::new(),
        dirs: Vec::new(),
        unsubscribes: Vec::new(),
    };
    let sent = to_deletes(&local, Some((&remote, &peer)));
    assert_eq!(sent.hierarchy_sep, b'/');
    let hashes: Vec<Guid> = sent.dirs.iter().map(|entry| entry.guid).collect();
    assert_eq!(hashes, [Guid::of_mailbox_name(b"top/sub")]);
    assert_eq!(to_deletes(&local, None).hierarchy_sep, b'.');
}

#[test]
fn duplicate_guids_are_separated() {
    let store = store("sdbox", "", 1);
    for name in ["a", "b", "c"] {
        store.user().create(name).unwrap();
        store.user().set_guid(name, guid(1)).unwrap();
    }
    let local = build(&mut account(&store), &Selection::default());
    assert_eq!(to_items(&local).count(), 3);
    assert_eq!(
        names(&store),
        [
            format!("a {}", guid(0xe2)),
            format!("b {}", guid(0xe1)),
            format!("c {}", guid(1))
        ]
    );
}

#[test]
fn a_deletion_that_is_void_is_not_announced() {
    let store = store("sdbox", "", 1);
    store.user().create("kept").unwrap();
    store.user().set_guid("kept", guid(1)).unwrap();
    let record = |kind, id| MailboxLogRecord { kind, id, time: 5 };
    let name = |name: &str| Guid::of_mailbox_name(name.as_bytes());
    store.user().set_mailbox_log(vec![
        record(MailboxLogKind::DeleteMailbox, guid(1)),
        record(MailboxLogKind::DeleteDir, name("kept")),
        record(MailboxLogKind::DeleteMailbox, guid(2)),
        record(MailboxLogKind::DeleteDir, name("gone")),
        record(MailboxLogKind::Unsubscribe, name("gone")),
    ]);
    // Also if the mailbox does not take part in this run.
    for selection in [
        Selection::default(),
        Selection {
            exclude: vec!["kept".into()],
            ..Selection::default()
        },
    ] {
        let local = build(&mut account(&store), &selection);
        let entry = |guid| DeleteEntry { guid, time: 5 };
        assert_eq!(local.deletes.mailboxes, [entry(guid(2))]);
        assert_eq!(local.deletes.dirs, [entry(name("gone"))]);
        assert_eq!(local.deletes.unsubscribes, [entry(name("gone"))]);
    }
}

fn create(name: &str, byte: u8) -> [TreeOperation; 1] {
    [TreeOperation::CreateBox {
        name: name.to_owned(),
        guid: guid(byte),
        uid_validity: 7,
    }]
}

#[test]
fn one_name_two_guids() {
    for (rule, own, wanted, result) in [
        (GuidRule::HigherWins, 1, 2, 2),
        (GuidRule::HigherWins, 2, 1, 2),
        (GuidRule::TakeWanted, 2, 1, 1),
        (GuidRule::KeepOwn, 2, 1, 2),
        (GuidRule::KeepOwn, 1, 2, 1),
    ] {
        let store = store("sdbox", "", 1);
        store.user().create("x").unwrap();
        store.user().set_guid("x", guid(own)).unwrap();
        let mut account = account(&store);
        let local = build(&mut account, &Selection::default());
        let context = ExecutionContext {
            guid_rule: rule,
            tree_only: false,
            local: &local,
        };
        let report = execute(&mut account, &create("x", wanted), context);
        assert_eq!(report.error, None);
        assert_eq!(names(&store), [format!("x {}", guid(result))]);
        let is_open = rule == GuidRule::KeepOwn && wanted > own;
        assert_eq!(report.aliases.len(), usize::from(is_open));
        if let Some(alias) = report.aliases.first() {
            adopt(&mut account, alias).unwrap();
            assert_eq!(names(&store), [format!("x {}", guid(wanted))]);
        }
    }
}

#[test]
fn a_renamed_mailbox_is_not_created_again() {
    let store = store("sdbox", "", 1);
    store.user().create("bar").unwrap();
    store.user().set_guid("bar", guid(1)).unwrap();
    let mut account = account(&store);
    let selection = Selection {
        sync_box: Some("foo".into()),
        ..Selection::default()
    };
    let local = build(&mut account, &selection);
    let context = ExecutionContext {
        guid_rule: GuidRule::HigherWins,
        tree_only: false,
        local: &local,
    };
    let report = execute(&mut account, &create("foo", 1), context);
    assert_eq!(report.elsewhere, [("foo".to_owned(), "bar".to_owned())]);
    assert_eq!(names(&store), [format!("bar {}", guid(1))]);
}

#[test]
fn conflicts_do_not_end_the_run() {
    let store = store("sdbox", "", 1);
    store.user().create("x").unwrap();
    let mut account = account(&store);
    let local = build(&mut account, &Selection::default());
    let context = ExecutionContext {
        guid_rule: GuidRule::HigherWins,
        tree_only: false,
        local: &local,
    };
    let rename = |from: &str, to: &str| TreeOperation::Rename {
        from: from.to_owned(),
        to: to.to_owned(),
    };
    let operations = [
        rename("gone", "y"),
        rename("x", "x"),
        TreeOperation::DeleteBox {
            name: "gone".to_owned(),
            guid: guid(9),
        },
        TreeOperation::DeleteDir {
            name: "gone".to_owned(),
        },
        rename("x", "y"),
    ];
    let report = execute(&mut account, &operations, context);
    assert_eq!(report.error, None);
    assert_eq!(report.conflicts.len(), 4);
    assert_eq!(report.counts.renamed, 1);
}

#[test]
fn an_unreadable_mailbox_is_shielded() {
    let store = store("sdbox", "", 1);
    for name in ["broken", "other"] {
        store.user().create(name).unwrap();
    }
    let mut local = build(&mut account(&store), &Selection::default());
    for name in ["broken", "other"] {
        // As `build_local` leaves a mailbox whose identity cannot be read.
        let id = local.tree.lookup(name).unwrap();
        local.tree.set_guid(id, Guid::ZERO).unwrap();
        let node = local.tree.node_mut(id);
        node.existence = Existence::Nonexistent;
        node.unsynced = true;
    }
    let remote = receive(&store, &[node(&[b"broken"], 1)]).unwrap();
    assert_eq!(local.shield(&remote), ["other"]);
    let sent: Vec<TreeNode> = to_items(&local)
        .filter(|item| item.name[0] == "broken")
        .collect();
    assert_eq!(sent[0].mailbox_guid, guid(1));
    assert_eq!(sent[0].existence, Existence::Exists);
    assert_eq!(walk(&local.tree, &remote).count(), 0);
}
