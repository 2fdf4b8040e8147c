//! Command lines (`spec/transports-and-cli.md` 9.6).

use bstr::BString;
use bytes::BufMut;

use super::MINOR_EXTRA_FIELDS;
use super::error::DoveadmError;
use crate::limits;
use crate::wire::{escape_into, unescape};

/// What a client sends after `+`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientLine {
    /// `OPTION` (from minor 3): no reply; unknown ones must be ignored.
    Option(Vec<BString>),
    /// A command.
    Command(Command),
}

/// One command for one user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Command {
    /// Flag `D`: debug output.
    pub debug: bool,
    /// Flag `v`: verbose output.
    pub verbose: bool,
    /// Flag `x` (from minor 3) with its `key=value` fields, such as `proxy-ttl=1`.
    pub extra: Option<Vec<BString>>,
    /// The user; counts more than a `-u` among the arguments.
    pub username: BString,
    /// Name of the command; may contain blanks.
    pub name: BString,
    /// Arguments, as on a command line.
    pub arguments: Vec<BString>,
}

impl Command {
    /// The command that starts a dsync session for this user, as Dovecot 2.3 sends it.
    pub fn dsync_server(username: impl Into<BString>) -> Self {
        let username = username.into();
        let user_argument = [b"-u", username.as_slice()].concat();
        Self {
            username,
            name: "dsync-server".into(),
            arguments: vec![user_argument.into()],
            ..Self::default()
        }
    }
}

impl ClientLine {
    /// For a server that announced this minor version to a client that announced this one or a
    /// later one: reads the line.
    ///
    /// # Errors
    ///
    /// An unknown flag, or no command: close without a reply.
    pub fn parse(line: &[u8], minor: u32) -> Result<Self, DoveadmError> {
        let mut fields = split_fields(line);
        let mut command = Command::default();
        for flag in fields.next().unwrap_or_default().iter() {
            match flag {
                b'D' => command.debug = true,
                b'v' => command.verbose = true,
                b'x' if minor >= MINOR_EXTRA_FIELDS => command.extra = Some(Vec::new()),
                other => return Err(DoveadmError::UnknownFlag(*other)),
            }
        }
        if let Some(extra) = &mut command.extra {
            let text = fields.next().ok_or(DoveadmError::NoCommand)?;
            *extra = collect(split_fields(&text))?;
        }
        command.username = fields.next().ok_or(DoveadmError::NoCommand)?;
        command.name = fields.next().ok_or(DoveadmError::NoCommand)?;
        command.arguments = collect(fields)?;
        if command.name == "OPTION" && minor >= MINOR_EXTRA_FIELDS {
            return Ok(Self::Option(command.arguments));
        }
        Ok(Self::Command(command))
    }

    /// For a client: appends the line.
    pub fn write(&self, out: &mut impl BufMut) {
        match self {
            Self::Option(options) => {
                out.put_slice(b"\t\tOPTION");
                write_fields(options, out);
            }
            Self::Command(command) => command.write(out),
        }
        out.put_u8(b'\n');
    }
}

impl Command {
    fn write(&self, out: &mut impl BufMut) {
        for (flag, is_set) in [
            (b'D', self.debug),
            (b'v', self.verbose),
            (b'x', self.extra.is_some()),
        ] {
            if is_set {
                out.put_u8(flag);
            }
        }
        if let Some(extra) = &self.extra {
            let mut text = Vec::new();
            for (index, field) in extra.iter().enumerate() {
                if index > 0 {
                    text.push(b'\t');
                }
                escape_into(field, &mut text);
            }
            write_fields(&[text], out);
        }
        write_fields(&[&self.username, &self.name], out);
        write_fields(&self.arguments, out);
    }
}

fn write_fields(fields: &[impl AsRef<[u8]>], out: &mut impl BufMut) {
    for field in fields {
        out.put_u8(b'\t');
        escape_into(field.as_ref(), out);
    }
}

fn split_fields(line: &[u8]) -> impl Iterator<Item = BString> {
    line.split(|byte| *byte == b'\t')
        .map(|field| unescape(field).into_owned().into())
}

fn collect(fields: impl Iterator<Item = BString>) -> Result<Vec<BString>, DoveadmError> {
    let mut collected = Vec::new();
    for field in fields {
        if collected.len() == limits::LIST {
            return Err(DoveadmError::LimitExceeded {
                what: "the number of fields",
                limit: limits::LIST,
            });
        }
        collected.push(field);
    }
    Ok(collected)
}
