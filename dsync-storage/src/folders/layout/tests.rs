use super::*;
use crate::location::Variables;

fn layout(location: &str, namespace: &Namespace) -> Layout {
    let location = Location::parse(location, &Variables::default()).unwrap();
    Layout::new(&location, namespace).unwrap()
}

#[test]
fn paths_of_the_specification() {
    // Location, then box, index and control directory of INBOX and of Par/Kid.
    let table = [
        (
            "",
            ["R", "R", "R"],
            ["R/.Par.Kid", "R/.Par.Kid", "R/.Par.Kid"],
        ),
        (
            ":INDEX=I:CONTROL=C",
            ["R", "I/.INBOX", "C/.INBOX"],
            ["R/.Par.Kid", "I/.Par.Kid", "C/.Par.Kid"],
        ),
        (
            ":LAYOUT=fs",
            ["R", "R", "R"],
            ["R/Par/Kid", "R/Par/Kid", "R/Par/Kid"],
        ),
        (
            ":LAYOUT=fs:INDEX=I:CONTROL=C",
            ["R", "I/INBOX", "C/INBOX"],
            ["R/Par/Kid", "I/Par/Kid", "C/Par/Kid"],
        ),
        (
            ":LAYOUT=fs:DIRNAME=.box",
            ["R/INBOX/.box", "R/INBOX/.box", "R/INBOX/.box"],
            ["R/Par/Kid/.box", "R/Par/Kid/.box", "R/Par/Kid/.box"],
        ),
        (
            ":LAYOUT=fs:DIRNAME=.box:MAILBOXDIR=boxes:INDEX=I",
            ["R/boxes/INBOX/.box", "I/boxes/INBOX", "R/boxes/INBOX/.box"],
            [
                "R/boxes/Par/Kid/.box",
                "I/boxes/Par/Kid",
                "R/boxes/Par/Kid/.box",
            ],
        ),
        (
            ":LAYOUT=fs:FULLDIRNAME=.box:INDEX=I:CONTROL=C",
            ["R/INBOX/.box", "I/INBOX/.box", "C/INBOX/.box"],
            ["R/Par/Kid/.box", "I/Par/Kid/.box", "C/Par/Kid/.box"],
        ),
        (
            ":INBOX=N",
            ["N", "N", "N"],
            ["R/.Par.Kid", "R/.Par.Kid", "R/.Par.Kid"],
        ),
        (
            ":LAYOUT=imapdir",
            ["R/INBOX", "R/INBOX", "R/INBOX"],
            ["R/Par.Kid", "R/Par.Kid", "R/Par.Kid"],
        ),
        (
            ":LAYOUT=FS",
            ["R/INBOX", "R/INBOX", "R/INBOX"],
            ["R/Par/Kid", "R/Par/Kid", "R/Par/Kid"],
        ),
    ];
    for (options, inbox, kid) in table {
        let layout = layout(&format!("maildir:R{options}"), &Namespace::default());
        let kid_name: &[u8] = if layout.is_fs() {
            b"Par/Kid"
        } else {
            b"Par.Kid"
        };
        for (storage, expected) in [(&b"INBOX"[..], inbox), (kid_name, kid)] {
            let paths = layout.paths(storage, "x");
            let got = [
                &paths.box_dir,
                paths.index_dir.as_ref().unwrap(),
                &paths.control_dir,
            ];
            assert_eq!(
                got.map(|path| path.to_str().unwrap()),
                expected,
                "{options}"
            );
        }
    }
}

#[test]
fn a_namespace_without_inbox_has_none_in_its_root() {
    let namespace = Namespace {
        inbox: false,
        ..Namespace::default()
    };
    let layout = layout("maildir:R:INDEX=MEMORY:VOLATILEDIR=V", &namespace);
    assert_eq!(layout.box_dir(b"INBOX"), Path::new("R/.INBOX"));
    assert_eq!(layout.paths(b"x", "x").index_dir, None);
    assert_eq!(layout.paths(b"x", "x").sync_lock, None);
    assert_eq!(
        layout.list_lock(""),
        Path::new("V/mailboxes.lockda39a3ee5e6b4b0d3255bfef95601890afd80709")
    );
}
