use proptest::prelude::*;

use super::*;

fn maildir() -> NameMapping {
    NameMapping {
        namespace: Namespace::default(),
        list_separator: '.',
        utf8: false,
        broken_char: None,
        list_escape: None,
        directory_name: None,
        reserves_message_dirs: false,
        flat: true,
    }
}

fn fs() -> NameMapping {
    NameMapping {
        list_separator: '/',
        reserves_message_dirs: true,
        flat: false,
        ..maildir()
    }
}

fn escaping() -> NameMapping {
    NameMapping {
        list_escape: Some('\\'),
        ..maildir()
    }
}

fn storage(mapping: &NameMapping, vname: &str) -> Result<String, String> {
    mapping
        .storage_name(vname)
        .map(|name| String::from_utf8(name).unwrap())
        .map_err(|error| error.message)
}

#[test]
fn create_table_of_the_specification() {
    const ERROR: Option<&str> = None;
    for (vname, plus, file, escaped) in [
        ("a.b", ERROR, Some("a.b"), Some("a\\2eb")),
        ("a/b", Some("a.b"), Some("a/b"), Some("a.b")),
        ("~x", ERROR, ERROR, Some("\\7ex")),
        ("cur", Some("cur"), ERROR, Some("cur")),
        ("new/x", Some("new.x"), ERROR, Some("new.x")),
        ("..", ERROR, ERROR, Some("\\2e\\2e")),
        (
            "INBOX/sub",
            Some("INBOX.sub"),
            Some("INBOX/sub"),
            Some("INBOX.sub"),
        ),
        (
            "inbox/sub",
            Some("INBOX.sub"),
            Some("INBOX/sub"),
            Some("INBOX.sub"),
        ),
        ("inbox", Some("INBOX"), Some("INBOX"), Some("INBOX")),
        ("/x", ERROR, ERROR, ERROR),
        ("x/", ERROR, ERROR, ERROR),
        ("x//y", ERROR, ERROR, ERROR),
        ("a/./b", ERROR, ERROR, Some("a.\\2e.b")),
        (
            "Ünï/ké",
            Some("&ANw-n&AO8-.k&AOk-"),
            Some("&ANw-n&AO8-/k&AOk-"),
            Some("&ANw-n&AO8-.k&AOk-"),
        ),
        ("100%", Some("100%"), Some("100%"), Some("100%")),
    ] {
        for (mapping, expected) in [(maildir(), plus), (fs(), file), (escaping(), escaped)] {
            assert_eq!(
                storage(&mapping, vname).ok().as_deref(),
                expected,
                "{vname}"
            );
        }
    }
    assert_eq!(
        storage(&maildir(), "a.b").unwrap_err(),
        "Character not allowed in mailbox name: '.'"
    );
}

#[test]
fn prefixes_and_inbox() {
    let with = |prefix: &str, inbox| NameMapping {
        namespace: Namespace {
            prefix: prefix.into(),
            inbox,
            ..Namespace::default()
        },
        ..maildir()
    };
    let pairs = [
        (with("INBOX/", true), "INBOX", "INBOX"),
        (with("INBOX/", true), "INBOX/foo", "foo"),
        (with("INBOX/", true), "INBOX/INBOX/foo", "INBOX.foo"),
        (with("Mail/", true), "Mail/a/b", "a.b"),
        (with("Mail/", true), "INBOX", "INBOX"),
        (with("Public/", false), "Public/INBOX", "INBOX"),
        (with("Public/", false), "Public/inbox", "inbox"),
        (with("", false), "inbox", "inbox"),
    ];
    for (mapping, vname, name) in pairs {
        assert_eq!(storage(&mapping, vname).as_deref(), Ok(name));
        assert_eq!(mapping.vname(name.as_bytes()), Some((vname.into(), true)));
    }
    assert_eq!(
        storage(&with("Mail/", true), "Mail/inbox").as_deref(),
        Ok("INBOX")
    );
    assert_eq!(
        storage(&with("Public/", false), "Public").as_deref(),
        Ok("")
    );
    let error = with("Public/", false)
        .storage_name("Private/x")
        .unwrap_err();
    assert_eq!(error.class, MailErrorClass::NotFound);
}

#[test]
fn names_on_disk_that_dovecot_would_not_have_made() {
    let shown = |name: &[u8]| maildir().vname(name);
    // Cannot be named at all.
    for name in [&b".x"[..], b"x.", b"a..b", b"~x"] {
        assert_eq!(shown(name), None);
    }
    // Would be taken for the INBOX.
    assert_eq!(shown(b"inbox"), None);
    // Shown, but stand for another storage name.
    assert_eq!(shown("é".as_bytes()), Some(("é".into(), false)));
    assert_eq!(shown(b"bad\xff"), Some(("bad\u{fffd}".into(), false)));
    assert_eq!(shown(b"&AOl-"), Some(("é".into(), false)));
    assert_eq!(shown(b"&AOk-"), Some(("é".into(), true)));
}

#[test]
fn broken_names_are_escaped_with_brokenchar() {
    let mapping = NameMapping {
        broken_char: Some('^'),
        ..maildir()
    };
    for (disk, vname) in [
        ("é".as_bytes(), "^c3^a9"),
        (b"&foo", "^26foo"),
        (b"bad\xff", "bad^ff"),
        (b"a^b", "a^5eb"),
        (b"&AOk-", "é"),
    ] {
        assert_eq!(mapping.vname(disk), Some((vname.into(), true)), "{vname}");
    }
    assert_eq!(storage(&mapping, "a^Xb").as_deref(), Ok("a^Xb"));
}

#[test]
fn long_names_cannot_be_created() {
    let name = "x".repeat(255);
    assert!(maildir().check_new_name(&name).is_err());
    assert!(maildir().check_new_name(&name[1..]).is_ok());
    assert!(fs().check_new_name(&name).is_ok());
    assert!(fs().check_new_name(&format!("a/{name}x")).is_err());
    assert!(maildir().check_new_name("").is_err());
}

fn any_mapping() -> impl Strategy<Value = NameMapping> {
    let escape = prop_oneof![Just(None), Just(Some('\\'))];
    let broken = prop_oneof![Just(None), Just(Some('^'))];
    (any::<[bool; 4]>(), escape, broken).prop_map(|(flags, list_escape, broken_char)| {
        let [is_fs, utf8, dot, prefixed] = flags;
        NameMapping {
            namespace: Namespace {
                prefix: match (prefixed, dot) {
                    (false, _) => String::new(),
                    (true, false) => "Pre/".into(),
                    (true, true) => "Pre.".into(),
                },
                separator: if dot { '.' } else { '/' },
                ..Namespace::default()
            },
            utf8,
            list_escape,
            broken_char,
            ..if is_fs { fs() } else { maildir() }
        }
    })
}

proptest! {
    #[test]
    fn a_name_that_can_be_stored_can_be_shown(mapping in any_mapping(), name in "[a-cé./\\\\^~&-]{1,8}") {
        let vname = format!("{}{name}", mapping.namespace.prefix);
        if let Ok(storage) = mapping.storage_name(&vname)
            && !storage.is_empty()
        {
            // With BROKENCHAR a user can write names that stand for others; all else is exact.
            if mapping.broken_char.is_none() {
                prop_assert_eq!(mapping.vname(&storage), Some((vname, true)));
            } else if let Some((vname, _)) = mapping.vname(&storage) {
                prop_assert!(mapping.storage_name(&vname).is_ok());
            }
        }
    }

    #[test]
    fn nothing_on_disk_does_harm(mapping in any_mapping(), disk: Vec<u8>) {
        if let Some((vname, _)) = mapping.vname(&disk) {
            prop_assert!(mapping.storage_name(&vname).is_ok());
        }
    }
}
