//! `dsync index dump`: what stands in the index files of a mailbox.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use dsync_client::{IndexAction, IndexCommand};
use dsync_config::{AccountOptions, Login, Origin, Settings, User};
use dsync_storage::index::dump;

use crate::failure::Failure;

/// The files, in the order in which they tell the story.
const FILES: [&str; 3] = ["dovecot.index", "dovecot.index.log.2", "dovecot.index.log"];
/// Larger files are not read: that of a million messages has 40 MB, logs are rotated at 1 MB.
const MAX_FILE: u64 = 256 << 20;

/// Shows them. Nothing is written, locked or created.
pub(crate) fn run(
    command: &IndexCommand,
    mut settings: Settings,
    login: &Login,
    host_domain: &str,
) -> Result<(), Failure> {
    let IndexAction::Dump {
        location, mailbox, ..
    } = &command.action;
    settings.set("mail_location", location, &Origin::Argument("LOCATION"))?;
    let user = User::find(None, login, &settings)?;
    let folder = index_folder(&settings, &user, host_domain, mailbox)?;
    let mut found = false;
    for name in FILES {
        let path = folder.join(name);
        if let Some(text) = dump_file(&path)? {
            found = true;
            show(&path, &text)?;
        }
    }
    match found {
        true => Ok(()),
        false => Err(Failure::new(
            68,
            format!(
                "mailbox {mailbox} has no index files in {}: nobody has opened it yet",
                folder.display()
            ),
        )),
    }
}

fn index_folder(
    settings: &Settings,
    user: &User,
    host_domain: &str,
    mailbox: &str,
) -> Result<PathBuf, Failure> {
    let options = AccountOptions {
        settings,
        user,
        host_domain,
        create: false,
        separator: None,
    };
    let mut account = options.open()?.account;
    let failed =
        |error: dsync_storage::StorageError| Failure::new(error.class.exit_code(), error.message);
    let Some(store) = account.store_for(mailbox) else {
        return Err(Failure::new(
            68,
            format!("no namespace has a mailbox {mailbox}"),
        ));
    };
    store.index_dir(mailbox).map_err(failed)?.ok_or_else(|| {
        Failure::new(
            65,
            format!("mailbox {mailbox} keeps no index files (INDEX=MEMORY)"),
        )
    })
}

/// The file as text; `None` if it does not exist.
fn dump_file(path: &Path) -> Result<Option<String>, Failure> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(path, &error)),
    };
    let size = file.metadata().map_err(|error| unreadable(path, &error))?;
    if size.len() > MAX_FILE {
        return Err(Failure::new(
            65,
            format!(
                "{} has {} bytes; that is no index file of a mailbox (limit {MAX_FILE})",
                path.display(),
                size.len()
            ),
        ));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE)
        .read_to_end(&mut bytes)
        .map_err(|error| unreadable(path, &error))?;
    dump(&bytes).map(Some).ok_or_else(|| {
        Failure::new(
            65,
            format!(
                "{} is damaged: it does not begin like an index file",
                path.display()
            ),
        )
    })
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    let code = match error.kind() {
        io::ErrorKind::PermissionDenied => 77,
        _ => 75,
    };
    Failure::new(code, format!("cannot read {}: {error}", path.display()))
}

fn show(path: &Path, text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let written = writeln!(out, "=== {}", path.display())
        .and_then(|()| out.write_all(text.as_bytes()))
        .and_then(|()| out.flush());
    match written {
        // Who quits a pager has seen enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::temporary(
            format!("cannot write to stdout: {error}"),
        )),
        _ => Ok(()),
    }
}
