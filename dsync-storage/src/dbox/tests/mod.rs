//! What stays behind when a writer is killed, and stores that are damaged.

mod multi;
mod single;

use std::path::{Path, PathBuf};

use dsync_proto::types::{Flags, Uid};
use tempfile::TempDir;

use super::identity::open_index;
use crate::index::Index;
use crate::location::{Location, Variables};
use crate::{Mailbox, Namespace, OpenMode, SaveMessage, Store, StoreSettings, open_store};

struct Account {
    home: TempDir,
    format: &'static str,
    options: &'static str,
}

impl Account {
    fn new(format: &'static str, options: &'static str) -> Self {
        let home = tempfile::tempdir().unwrap();
        Self {
            home,
            format,
            options,
        }
    }

    fn settings() -> StoreSettings {
        StoreSettings {
            fsync: crate::settings::Fsync::Never,
            ..StoreSettings::default()
        }
    }

    fn open(&self) -> Box<dyn Store> {
        let variables = Variables {
            home: Some(self.home.path().to_owned()),
            ..Variables::default()
        };
        let text = format!("{}:~/mail{}", self.format, self.options);
        let location = Location::parse(&text, &variables).unwrap();
        open_store(&location, Namespace::default(), &Self::settings()).unwrap()
    }

    fn mailbox(&self) -> Box<dyn Mailbox> {
        let mut store = self.open();
        store.create_mailbox("INBOX", None, None).unwrap();
        let mut mailbox = store.open("INBOX", OpenMode::Write).unwrap();
        mailbox.refresh().unwrap();
        mailbox
    }

    fn dir(&self) -> PathBuf {
        self.home.path().join("mail/mailboxes/INBOX/dbox-Mails")
    }

    fn index(&self) -> Index {
        open_index(&self.dir(), &Self::settings()).unwrap()
    }

    fn files(&self) -> Vec<String> {
        files(&self.dir())
    }
}

fn files(dir: &Path) -> Vec<String> {
    let names = crate::folders::list::entries(dir).unwrap();
    let names = names.into_iter().map(|name| name.into_string().unwrap());
    names.filter(|name| !name.starts_with("dovecot.")).collect()
}

fn message(uid: Uid) -> SaveMessage {
    SaveMessage {
        uid,
        guid: format!("guid-{uid}").as_str().into(),
        flags: Flags::RECENT,
        keywords: Vec::new(),
        min_modseq: 0,
        min_pvt_modseq: 0,
        received_date: 1_000_000_000,
        saved_date: 0,
        pop3_uidl: "".into(),
        pop3_order: 0,
    }
}

fn save(mailbox: &mut dyn Mailbox, uids: &[Uid]) -> Vec<(Uid, Uid)> {
    for uid in uids {
        mailbox.save_begin(message(*uid)).unwrap();
        mailbox.save_write(b"Subject: x\n\nbody\n").unwrap();
        mailbox.save_finish().unwrap();
    }
    mailbox.commit().unwrap().moved
}

fn uids(mailbox: &mut dyn Mailbox) -> Vec<Uid> {
    let table = mailbox.messages().unwrap();
    table.iter().map(|message| message.uid).collect()
}
