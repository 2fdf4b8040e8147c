//! Between vnames and storage names (`spec/maildir.md` 4).

use dsync_proto::types::MailErrorClass;

use super::mutf7;
use crate::{Namespace, Result, StorageError};

/// `NAME_MAX` of all file systems that hold mail.
const MAX_FILE_NAME: usize = 255;
/// Longest vname.
const MAX_NAME: usize = 4096;

/// How a store turns the names that users see into names on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NameMapping {
    /// Namespace of the store.
    pub(crate) namespace: Namespace,
    /// Separator on disk: `.` or `/`.
    pub(crate) list_separator: char,
    /// Storage names are UTF-8, not modified UTF-7.
    pub(crate) utf8: bool,
    /// Escapes storage names that are not valid (`BROKENCHAR`).
    pub(crate) broken_char: Option<char>,
    /// Escape character of the listescape plugin.
    pub(crate) list_escape: Option<char>,
    /// Directory below the mailbox's own that is not a child (`DIRNAME`).
    pub(crate) directory_name: Option<String>,
    /// Directories of messages lie beside children: fs layout without `DIRNAME`.
    pub(crate) reserves_message_dirs: bool,
    /// The whole storage name is one file name, with a dot in front of it.
    pub(crate) flat: bool,
}

impl NameMapping {
    /// The storage name of a vname; empty for the root of the namespace.
    ///
    /// # Errors
    ///
    /// `Params` for a name that cannot exist in this store, with Dovecot's words.
    pub(crate) fn storage_name(&self, vname: &str) -> Result<Vec<u8>> {
        let name = self.without_prefix(vname)?;
        if name.is_empty() || name == "INBOX" {
            return Ok(name.into());
        }
        self.check_vname(name)?;
        let separator = self.namespace.separator;
        let mut storage = Vec::new();
        for (index, part) in name.split(separator).enumerate() {
            if index > 0 {
                push_char(&mut storage, self.list_separator);
            } else if self.namespace.inbox && part.eq_ignore_ascii_case("INBOX") {
                storage.extend_from_slice(b"INBOX");
                continue;
            }
            let encoded = self.encode_part(part);
            self.escape_part(&encoded, &mut storage);
        }
        self.check_storage_name(&storage)?;
        Ok(storage)
    }

    /// The vname under which a storage name is shown: `None` if no valid name can stand for it.
    ///
    /// The flag says whether [`NameMapping::storage_name`] gives back the same storage name. If
    /// not, the name on disk is not one that Dovecot would have made.
    pub(crate) fn vname(&self, storage: &[u8]) -> Option<(String, bool)> {
        let mut vname = String::new();
        if storage != b"INBOX" || !self.namespace.inbox {
            vname.push_str(&self.namespace.prefix);
        }
        vname.push_str(&self.join_parts(split(storage, self.list_separator)));
        let exact = match self.storage_name(&vname) {
            Ok(back) => back == storage,
            Err(_) => return None,
        };
        // Nothing but the INBOX may look like it.
        if !exact && self.storage_name(&vname).is_ok_and(|back| back == b"INBOX") {
            return None;
        }
        Some((vname, exact))
    }

    /// The vname of a name in the subscriptions file. It may lie in another namespace and need
    /// not exist, but it has to be a name.
    pub(crate) fn subscribed_vname(&self, storage: &[u8]) -> Option<String> {
        if let Some((vname, _)) = self.vname(storage) {
            return Some(vname);
        }
        // Below another namespace, which has a separator of its own on disk.
        let name = self.join_parts(split(storage, self.list_separator));
        let vname = format!("{}{name}", self.namespace.prefix);
        self.check_vname(&name).ok().map(|()| vname)
    }

    /// Joins decoded parts of a storage name with the separator of the namespace.
    fn join_parts<'a>(&self, parts: impl Iterator<Item = &'a [u8]>) -> String {
        let mut out = String::new();
        for (index, part) in parts.enumerate() {
            if index > 0 {
                out.push(self.namespace.separator);
            }
            out.push_str(&self.decode_part(&self.unescape_part(part)));
        }
        out
    }

    /// Whether a mailbox of this name may be created. Control characters, which Dovecot forbids
    /// to its clients, may be in it: a new child has them from its parent
    /// (`spec/brain-and-tree.md` 12).
    pub(crate) fn check_new_name(&self, vname: &str) -> Result<Vec<u8>> {
        let storage = self.storage_name(vname)?;
        if storage.is_empty() {
            return Err(invalid("Name is the prefix of the namespace"));
        }
        let too_long = if self.flat {
            storage.len() + 1 > MAX_FILE_NAME
        } else {
            split(&storage, self.list_separator).any(|part| part.len() > MAX_FILE_NAME)
        };
        if too_long || vname.len() > MAX_NAME {
            return Err(StorageError::new(
                MailErrorClass::Params,
                "Mailbox name too long",
            ));
        }
        Ok(storage)
    }

    fn without_prefix<'a>(&self, vname: &'a str) -> Result<&'a str> {
        if self.namespace.inbox && vname.eq_ignore_ascii_case("INBOX") {
            return Ok("INBOX");
        }
        let prefix = self.namespace.prefix.as_str();
        let name = match vname.strip_prefix(prefix) {
            Some(name) => name,
            None if vname == self.namespace.prefix_name() => "",
            None => {
                return Err(StorageError::new(
                    MailErrorClass::NotFound,
                    format!("Mailbox {vname} is not in the namespace with the prefix {prefix}"),
                ));
            }
        };
        if self.namespace.inbox && name.eq_ignore_ascii_case("INBOX") {
            return Ok("INBOX");
        }
        Ok(name)
    }

    fn check_vname(&self, name: &str) -> Result<()> {
        let separator = self.namespace.separator;
        if self.list_separator != separator
            && self.list_escape.is_none()
            && name.contains(self.list_separator)
        {
            return Err(StorageError::new(
                MailErrorClass::Params,
                format!(
                    "Character not allowed in mailbox name: '{}'",
                    self.list_separator
                ),
            ));
        }
        if name.starts_with(separator) {
            return Err(invalid("Begins with hierarchy separator"));
        }
        if name.ends_with(separator) {
            return Err(invalid("Ends with hierarchy separator"));
        }
        if name.contains(&format!("{separator}{separator}")) {
            return Err(invalid("Has adjacent hierarchy separators"));
        }
        if name.contains('\0') {
            return Err(invalid("Contains a NUL character"));
        }
        Ok(())
    }

    fn check_storage_name(&self, storage: &[u8]) -> Result<()> {
        if storage.starts_with(b"/") {
            return Err(invalid("Begins with '/'"));
        }
        if storage.starts_with(b"~") {
            return Err(invalid("Begins with '~'"));
        }
        if self.list_separator != '/' && storage.contains(&b'/') {
            return Err(invalid("Name must not have '/' characters"));
        }
        for part in storage.split(|byte| *byte == b'/') {
            match part {
                b"" => return Err(invalid("Has adjacent '/' chars")),
                b"." => return Err(invalid("Contains '.' part")),
                b".." => return Err(invalid("Contains '..' part")),
                _ if self.is_reserved(part) => return Err(invalid("Contains reserved name")),
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether a directory of this name is part of a mailbox, not a child of it.
    pub(crate) fn is_reserved(&self, part: &[u8]) -> bool {
        (self.reserves_message_dirs && matches!(part, b"cur" | b"new" | b"tmp"))
            || self
                .directory_name
                .as_ref()
                .is_some_and(|name| name.as_bytes() == part)
    }

    fn encode_part(&self, part: &str) -> Vec<u8> {
        let Some(escape) = self.broken_char else {
            return self.encode_text(part);
        };
        // The escape and two hex digits stand for one raw byte; the text between is encoded.
        let mut out = Vec::new();
        let mut text = String::new();
        let mut rest = part;
        while let Some(c) = rest.chars().next() {
            let after = &rest[c.len_utf8()..];
            if c == escape
                && let Some(byte) = after.get(..2).and_then(lower_hex)
            {
                out.append(&mut self.encode_text(&text));
                text.clear();
                out.push(byte);
                rest = &after[2..];
            } else {
                text.push(c);
                rest = after;
            }
        }
        out.append(&mut self.encode_text(&text));
        out
    }

    fn encode_text(&self, text: &str) -> Vec<u8> {
        if self.utf8 {
            text.as_bytes().to_vec()
        } else {
            mutf7::encode(text).into_bytes()
        }
    }

    fn decode_part(&self, part: &[u8]) -> String {
        if self.utf8 {
            if let Ok(text) = std::str::from_utf8(part) {
                return text.to_owned();
            }
        } else if let Some(text) = mutf7::decode(part)
            && !self.broken_char.is_some_and(|escape| text.contains(escape))
            && !text.contains(self.namespace.separator)
        {
            return text;
        }
        match self.broken_char {
            Some(escape) => self.escape_broken(part, escape),
            None => String::from_utf8_lossy(part).into_owned(),
        }
    }

    /// Shows a part so that [`NameMapping::encode_part`] finds every byte of it again.
    fn escape_broken(&self, part: &[u8], escape: char) -> String {
        let mut out = String::new();
        for (index, &byte) in part.iter().enumerate() {
            let c = char::from(byte);
            let rest = &part[index..];
            let broken_shift = byte == b'&' && !self.utf8 && mutf7::decode(rest).is_none();
            if !(0x20..0x7f).contains(&byte)
                || c == escape
                || c == self.namespace.separator
                || broken_shift
            {
                out.push_str(&format!("{escape}{byte:02x}"));
            } else {
                out.push(c);
            }
        }
        out
    }

    fn escape_part(&self, part: &[u8], out: &mut Vec<u8>) {
        let Some(escape) = self.list_escape else {
            out.extend_from_slice(part);
            return;
        };
        let special = matches!(part, b"." | b"..")
            || self
                .directory_name
                .as_ref()
                .is_some_and(|name| name.as_bytes() == part);
        for (index, &byte) in part.iter().enumerate() {
            let c = char::from(byte);
            if c == escape
                || c == '/'
                || c == self.list_separator
                || (index == 0 && (special || (c == '~' && out.is_empty())))
            {
                push_char(out, escape);
                out.extend_from_slice(format!("{byte:02x}").as_bytes());
            } else {
                out.push(byte);
            }
        }
    }

    fn unescape_part(&self, part: &[u8]) -> Vec<u8> {
        let Some(escape) = self.list_escape else {
            return part.to_vec();
        };
        let mut out = Vec::with_capacity(part.len());
        let mut rest = part;
        while let Some((&byte, after)) = rest.split_first() {
            rest = after;
            if char::from(byte) == escape
                && let Some(value) = after
                    .get(..2)
                    .and_then(|hex| std::str::from_utf8(hex).ok())
                    .and_then(any_hex)
            {
                out.push(value);
                rest = &after[2..];
            } else {
                out.push(byte);
            }
        }
        out
    }
}

/// The parts of a storage name.
pub(crate) fn split(storage: &[u8], separator: char) -> impl Iterator<Item = &[u8]> {
    storage.split(move |byte| char::from(*byte) == separator)
}

fn push_char(out: &mut Vec<u8>, c: char) {
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

fn lower_hex(text: &str) -> Option<u8> {
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    any_hex(text)
}

fn any_hex(text: &str) -> Option<u8> {
    if text.len() != 2 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    u8::from_str_radix(text, 16).ok()
}

fn invalid(why: &str) -> StorageError {
    StorageError::new(
        MailErrorClass::Params,
        format!("Invalid mailbox name: {why}"),
    )
}

#[cfg(test)]
mod tests;
