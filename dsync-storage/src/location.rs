//! Mail locations, such as `maildir:~/Maildir:LAYOUT=fs` (`spec/maildir.md` 2).

mod variables;

use std::path::{Path, PathBuf};

use dsync_proto::types::MailErrorClass;
use nix::unistd::User;

pub use variables::Variables;

use crate::{Result, StorageError};

/// Format of the mailboxes of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// `maildir`
    Maildir,
    /// `sdbox`, also called `dbox`
    Sdbox,
    /// `mdbox`
    Mdbox,
    /// `mbox`
    Mbox,
}

impl Driver {
    fn from_name(name: &str) -> Option<Self> {
        match name {
            "maildir" => Some(Self::Maildir),
            "sdbox" | "dbox" => Some(Self::Sdbox),
            "mdbox" => Some(Self::Mdbox),
            "mbox" => Some(Self::Mbox),
            _ => None,
        }
    }

    /// Name in a location string.
    pub fn name(self) -> &'static str {
        match self {
            Self::Maildir => "maildir",
            Self::Sdbox => "sdbox",
            Self::Mdbox => "mdbox",
            Self::Mbox => "mbox",
        }
    }
}

/// How mailbox names become directories (`LAYOUT`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayoutKind {
    /// `maildir++`: `.Par.Kid` directly below the root.
    MaildirPlusPlus,
    /// `fs`: `Par/Kid`.
    Fs,
    /// `imapdir`: `Par.Kid` directly below the root.
    ImapDir,
    /// `index`: names are in the list index only.
    Index,
    /// `none`: there is nothing but INBOX.
    None,
}

impl LayoutKind {
    fn from_name(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "maildir++" => Some(Self::MaildirPlusPlus),
            "fs" => Some(Self::Fs),
            "imapdir" => Some(Self::ImapDir),
            "index" => Some(Self::Index),
            "none" => Some(Self::None),
            _ => None,
        }
    }
}

/// Where index files are (`INDEX`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum IndexRoot {
    /// With the mailboxes.
    #[default]
    Mail,
    /// Nowhere (`INDEX=MEMORY`).
    Memory,
    /// Below this directory.
    Path(PathBuf),
}

/// A parsed location. Paths are expanded; relative ones are relative to the process.
///
/// The settings of Dovecot 2.4 that replace the location string (`mail_path`,
/// `mailbox_list_layout`, …) are its fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// Format.
    pub driver: Driver,
    /// Root directory of the mail.
    pub root: PathBuf,
    /// `LAYOUT`; `None` for the default of the format.
    pub layout: Option<LayoutKind>,
    /// INBOX lies in the root if nothing else is said. Not so for a layout that was not written
    /// exactly as `maildir++` or `fs`.
    pub inbox_in_root: bool,
    /// `INBOX`: directory of INBOX.
    pub inbox: Option<PathBuf>,
    /// `INDEX`.
    pub index: IndexRoot,
    /// `INDEXPVT`.
    pub private_index: Option<PathBuf>,
    /// `INDEXCACHE`.
    pub cache: Option<PathBuf>,
    /// `CONTROL`.
    pub control: Option<PathBuf>,
    /// `SUBSCRIPTIONS`: file name.
    pub subscriptions: String,
    /// `LISTINDEX`: file name or path.
    pub list_index: String,
    /// `VOLATILEDIR`.
    pub volatile: Option<PathBuf>,
    /// `DIRNAME` or `FULLDIRNAME`.
    pub directory_name: Option<String>,
    /// It was `FULLDIRNAME`: also in index and control directories.
    pub full_directory_name: bool,
    /// `MAILBOXDIR`.
    pub mailbox_root: Option<String>,
    /// `UTF-8`: storage names are not mUTF-7.
    pub utf8: bool,
    /// `BROKENCHAR`.
    pub broken_char: Option<char>,
    /// `ITERINDEX`.
    pub iterate_index: bool,
    /// `NO-NOSELECT`: remove empty parent directories.
    pub no_noselect: bool,
    /// `NO-FS-VALIDATION`.
    pub no_fs_validation: bool,
    /// `ALT` (dbox).
    pub alt: Option<PathBuf>,
    /// `ALTNOCHECK` was used instead.
    pub alt_unchecked: bool,
}

impl Location {
    /// A location without any options.
    pub fn new(driver: Driver, root: impl Into<PathBuf>) -> Self {
        Self {
            driver,
            root: root.into(),
            layout: None,
            inbox_in_root: driver == Driver::Maildir,
            inbox: None,
            index: IndexRoot::Mail,
            private_index: None,
            cache: None,
            control: None,
            subscriptions: match driver {
                Driver::Mbox => ".subscriptions".into(),
                Driver::Maildir | Driver::Sdbox | Driver::Mdbox => "subscriptions".into(),
            },
            list_index: "dovecot.list.index".into(),
            volatile: None,
            directory_name: None,
            full_directory_name: false,
            mailbox_root: None,
            utf8: false,
            broken_char: None,
            iterate_index: false,
            no_noselect: false,
            no_fs_validation: false,
            alt: None,
            alt_unchecked: false,
        }
    }

    /// Reads a location string for one user.
    ///
    /// # Errors
    ///
    /// `Params`, in Dovecot's words where it has any, and with what to do.
    pub fn parse(text: &str, variables: &Variables) -> Result<Self> {
        let context = |why: StorageError| {
            StorageError::new(
                why.class,
                format!("mail location '{text}': {}", why.message),
            )
        };
        let expanded = variables.expand(text).map_err(context)?;
        Self::parse_expanded(&expanded, variables.home.as_deref()).map_err(context)
    }

    fn parse_expanded(text: &str, home: Option<&Path>) -> Result<Self> {
        let (driver, rest) = split_driver(text)?;
        let mut elements = split_elements(rest).into_iter();
        let root = elements.next().unwrap_or_default();
        if root.starts_with("INBOX=") {
            return Err(params(format!("Mail root directory not given: {root}")));
        }
        let (driver, root) = match driver {
            Some(driver) if root.is_empty() => {
                return Err(params(format!(
                    "Root mail directory not given: write {}:PATH",
                    driver.name()
                )));
            }
            Some(driver) => (driver, expand_path(&root, home)?),
            None => detect(&root, home)?,
        };
        let mut location = Self::new(driver, root);
        for element in elements {
            location.set_option(&element, home)?;
        }
        location.finish()
    }

    fn set_option(&mut self, element: &str, home: Option<&Path>) -> Result<()> {
        let (key, value) = element.split_once('=').unwrap_or((element, ""));
        let path = || expand_path(value, home);
        match key {
            "LAYOUT" => {
                let kind = LayoutKind::from_name(value).ok_or_else(|| {
                    params(format!(
                        "Unknown layout: {value}; known are maildir++, fs and imapdir"
                    ))
                })?;
                self.layout = Some(kind);
                self.inbox_in_root = matches!(value, "maildir++" | "fs");
            }
            "INBOX" => self.inbox = Some(path()?),
            "INDEX" if value == "MEMORY" => self.index = IndexRoot::Memory,
            "INDEX" => self.index = IndexRoot::Path(path()?),
            "INDEXPVT" => self.private_index = Some(path()?),
            "INDEXCACHE" => self.cache = Some(path()?),
            "CONTROL" => self.control = Some(path()?),
            "SUBSCRIPTIONS" => self.subscriptions = value.into(),
            "LISTINDEX" => self.list_index = value.into(),
            "VOLATILEDIR" => self.volatile = Some(path()?),
            "DIRNAME" | "FULLDIRNAME" => {
                self.directory_name = Some(strip_slash(value).into());
                self.full_directory_name = key == "FULLDIRNAME";
            }
            "MAILBOXDIR" => self.mailbox_root = Some(strip_slash(value).into()),
            "UTF-8" => self.utf8 = true,
            "BROKENCHAR" => self.broken_char = Some(one_char(value)?),
            "ITERINDEX" => self.iterate_index = true,
            "NO-NOSELECT" => self.no_noselect = true,
            "NO-FS-VALIDATION" => self.no_fs_validation = true,
            "ALT" | "ALTNOCHECK" => {
                self.alt = Some(path()?);
                self.alt_unchecked = key == "ALTNOCHECK";
            }
            _ => {
                return Err(params(format!(
                    "Unknown setting: {key} (a ':' inside a path is written '::')"
                )));
            }
        }
        Ok(())
    }

    /// Rules between the options.
    fn finish(mut self) -> Result<Self> {
        for (name, value) in [
            ("SUBSCRIPTIONS", &self.subscriptions),
            ("LISTINDEX", &self.list_index),
        ] {
            if value.is_empty() {
                return Err(params(format!("{name} needs a file name")));
            }
        }
        for name in [&self.directory_name, &self.mailbox_root]
            .into_iter()
            .flatten()
        {
            if matches!(name.as_str(), "" | "." | "..") {
                return Err(params(format!("Not a directory name: '{name}'")));
            }
        }
        if self.directory_name.is_some() {
            if self.driver == Driver::Maildir && self.layout_kind() == LayoutKind::MaildirPlusPlus {
                return Err(params(
                    "maildir_name not supported by this driver: DIRNAME needs LAYOUT=fs",
                ));
            }
            self.inbox_in_root = false;
        }
        if self.alt.is_some() && self.driver == Driver::Maildir {
            return Err(params(
                "alt_dir not supported by this driver: ALT is for dbox only",
            ));
        }
        let root = Some(&self.root);
        // A directory that equals the root is no option.
        if self.control.as_ref() == root {
            self.control = None;
        }
        if matches!(&self.index, IndexRoot::Path(path) if Some(path) == root) {
            self.index = IndexRoot::Mail;
        }
        Ok(self)
    }

    /// The layout in effect.
    pub fn layout_kind(&self) -> LayoutKind {
        self.layout.unwrap_or(match self.driver {
            Driver::Maildir => LayoutKind::MaildirPlusPlus,
            Driver::Sdbox | Driver::Mdbox | Driver::Mbox => LayoutKind::Fs,
        })
    }
}

/// Splits off the driver name; `None` if there is none and the format must be detected.
fn split_driver(text: &str) -> Result<(Option<Driver>, &str)> {
    if let Some((name, rest)) = text.split_once(':')
        && !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    {
        let driver = Driver::from_name(name).ok_or_else(|| {
            params(format!(
                "Unknown mail storage driver {name}; known are maildir, sdbox, mdbox and mbox"
            ))
        })?;
        return Ok((Some(driver), rest));
    }
    Ok((None, text))
}

/// Finds out what a bare path is: a Maildir has a directory `cur`.
fn detect(root: &str, home: Option<&Path>) -> Result<(Driver, PathBuf)> {
    let path = expand_path(if root.is_empty() { "~/Maildir" } else { root }, home)?;
    if path.join("cur").is_dir() {
        return Ok((Driver::Maildir, path));
    }
    Err(params(format!(
        "cannot find out the mail format of {}: there is no directory 'cur' in it. \
         Write the format in front of it, such as maildir:{}",
        path.display(),
        path.display()
    )))
}

/// Splits at colons; a doubled colon is a colon.
fn split_elements(text: &str) -> Vec<String> {
    let mut elements = vec![String::new()];
    let mut rest = text;
    while let Some(index) = rest.find(':') {
        let (before, after) = rest.split_at(index);
        if let Some(last) = elements.last_mut() {
            last.push_str(before);
            if let Some(after) = after.strip_prefix("::") {
                last.push(':');
                rest = after;
                continue;
            }
        }
        rest = &after[1..];
        if !rest.is_empty() {
            elements.push(String::new());
        }
    }
    if let Some(last) = elements.last_mut() {
        last.push_str(rest);
    }
    elements
}

fn expand_path(value: &str, home: Option<&Path>) -> Result<PathBuf> {
    let value = strip_slash(value);
    let Some(rest) = value.strip_prefix('~') else {
        return Ok(value.into());
    };
    let (user, rest) = rest.split_once('/').unwrap_or((rest, ""));
    let base = if user.is_empty() {
        home.map(Path::to_owned).ok_or_else(|| {
            params(format!(
                "Home directory not set for user. Can't expand ~/ for {value}: \
                 give the user a home directory or write an absolute path"
            ))
        })?
    } else {
        User::from_name(user)
            .ok()
            .flatten()
            .map(|user| user.dir)
            .ok_or_else(|| {
                params(format!(
                    "No home directory for system user. Can't expand ~{user} for {value}"
                ))
            })?
    };
    Ok(if rest.is_empty() {
        base
    } else {
        base.join(rest)
    })
}

fn strip_slash(value: &str) -> &str {
    match value.strip_suffix('/') {
        Some(rest) if !rest.is_empty() => rest,
        _ => value,
    }
}

fn one_char(value: &str) -> Result<char> {
    let mut chars = value.chars();
    match (chars.next(), chars.next()) {
        (Some('&'), None) => Err(params("BROKENCHAR must not be &")),
        (Some(c), None) if c.is_ascii_graphic() => Ok(c),
        _ => Err(params("BROKENCHAR must be a single ASCII character")),
    }
}

fn params(message: impl Into<String>) -> StorageError {
    StorageError::new(MailErrorClass::Params, message)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn variables() -> Variables {
        Variables {
            user: "jo@example.com".into(),
            home: Some("/home/jo".into()),
            ..Variables::default()
        }
    }

    fn parse(text: &str) -> Location {
        Location::parse(text, &variables()).unwrap()
    }

    fn error(text: &str) -> String {
        Location::parse(text, &variables()).unwrap_err().message
    }

    #[test]
    fn plain_locations() {
        assert_eq!(
            parse("maildir:~/Maildir"),
            Location::new(Driver::Maildir, "/home/jo/Maildir")
        );
        assert_eq!(
            parse("maildir:/m/%d/%n/").root,
            Path::new("/m/example.com/jo")
        );
        assert_eq!(parse("maildir:/m:").root, Path::new("/m"));
        assert_eq!(parse("maildir:/a::b::::c").root, Path::new("/a:b::c"));
        assert_eq!(parse("maildir:/").root, Path::new("/"));
        assert_eq!(parse("mdbox:~").root, Path::new("/home/jo"));
        assert_eq!(parse("sdbox:/m").layout_kind(), LayoutKind::Fs);
    }

    #[test]
    fn options() {
        let location = parse(
            "maildir:/m:LAYOUT=fs:INBOX=/in:INDEX=/i/%u:CONTROL=~/c/:VOLATILEDIR=/v:UTF-8:\
             BROKENCHAR=^:SUBSCRIPTIONS=subs:LISTINDEX=list:FULLDIRNAME=.box:MAILBOXDIR=boxes",
        );
        assert_eq!(location.layout, Some(LayoutKind::Fs));
        assert_eq!(location.inbox.as_deref(), Some(Path::new("/in")));
        assert_eq!(location.index, IndexRoot::Path("/i/jo@example.com".into()));
        assert_eq!(location.control.as_deref(), Some(Path::new("/home/jo/c")));
        assert_eq!(location.volatile.as_deref(), Some(Path::new("/v")));
        assert_eq!(location.broken_char, Some('^'));
        assert_eq!(location.directory_name.as_deref(), Some(".box"));
        assert_eq!(location.mailbox_root.as_deref(), Some("boxes"));
        assert!(location.utf8 && location.full_directory_name && !location.inbox_in_root);
        assert_eq!(parse("maildir:/m:INDEX=MEMORY").index, IndexRoot::Memory);
        assert_eq!(
            parse("maildir:/m:INDEX=/m:CONTROL=/m/"),
            Location::new(Driver::Maildir, "/m")
        );
        assert!(parse("maildir:/m:LAYOUT=fs").inbox_in_root);
        assert!(!parse("maildir:/m:LAYOUT=FS").inbox_in_root);
    }

    #[test]
    fn errors_say_what_is_wrong() {
        for (text, part) in [
            ("maildir:", "Root mail directory not given"),
            (
                "maildir:INBOX=/x",
                "Mail root directory not given: INBOX=/x",
            ),
            ("maildir:/m:NOSUCH=1", "Unknown setting: NOSUCH"),
            ("maildir:/m:layout=fs", "Unknown setting: layout"),
            ("maildir:/m:LAYOUT=tree", "Unknown layout: tree"),
            (
                "maildir:/m:DIRNAME=x",
                "maildir_name not supported by this driver",
            ),
            ("maildir:/m:ALT=/x", "alt_dir not supported by this driver"),
            ("maildir:/m:BROKENCHAR=&", "must not be &"),
            ("maildir:/m:BROKENCHAR=", "single ASCII character"),
            ("imapc:", "Unknown mail storage driver imapc"),
            ("maildir:~nosuchuser/x", "No home directory for system user"),
            ("maildir:/m/%z", "%z"),
            ("/nonexistent/mail", "no directory 'cur'"),
        ] {
            let message = error(text);
            assert!(message.contains(part), "{text}: {message}");
        }
        let homeless = Location::parse("maildir:~/x", &Variables::default()).unwrap_err();
        assert!(homeless.message.contains("Home directory not set for user"));
    }

    #[test]
    fn a_bare_path_with_cur_is_a_maildir() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("cur")).unwrap();
        let text = root.path().to_str().unwrap();
        assert_eq!(parse(text), Location::new(Driver::Maildir, root.path()));
    }

    proptest! {
        #[test]
        fn any_text_is_a_location_or_an_error(text in "(maildir:)?[a-zA-Z=:~/%{}-]{0,30}") {
            let _ = Location::parse(&text, &variables());
        }

        #[test]
        fn colons_are_escaped_by_doubling(path in "/[a-z:]{0,9}[a-z]") {
            let text = format!("maildir:{}:UTF-8", path.replace(':', "::"));
            let location = parse(&text);
            prop_assert_eq!(location.root.to_str(), Some(path.as_str()));
            prop_assert!(location.utf8);
        }
    }
}
