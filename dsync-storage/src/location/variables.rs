//! `%` variables of Dovecot's settings (`spec/maildir.md` 2).

use std::path::PathBuf;

use dsync_proto::types::MailErrorClass;
use md5::{Digest, Md5};

use crate::{Result, StorageError};

/// No expansion is longer; protects against a huge width.
const MAX_WIDTH: usize = 4096;

/// What `%` variables stand for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Variables {
    /// `%u`: the whole user name. `%n` and `%d` are its parts before and after the `@`.
    pub user: String,
    /// `%h`
    pub home: Option<PathBuf>,
    /// `%s`
    pub service: String,
    /// `%i`, `%{uid}`
    pub uid: Option<u32>,
    /// `%{gid}`
    pub gid: Option<u32>,
    /// `%{hostname}`
    pub hostname: String,
}

impl Variables {
    /// Replaces all variables in a setting.
    ///
    /// # Errors
    ///
    /// `Params` for a variable or a modifier that is not known.
    pub fn expand(&self, text: &str) -> Result<String> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(index) = rest.find('%') {
            out.push_str(&rest[..index]);
            rest = &rest[index + 1..];
            let (form, after) = Form::parse(rest)?;
            if form.name == "%" {
                out.push('%');
            } else {
                out.push_str(&form.apply(self.value(form.name)?)?);
            }
            rest = after;
        }
        out.push_str(rest);
        Ok(out)
    }

    fn value(&self, name: &str) -> Result<String> {
        let local = || {
            self.user
                .split_once('@')
                .map_or(self.user.as_str(), |(local, _)| local)
        };
        let domain = || self.user.split_once('@').map_or("", |(_, domain)| domain);
        let number = |value: Option<u32>| {
            value
                .map(|number| number.to_string())
                .ok_or_else(|| unknown(name))
        };
        match name {
            "u" | "user" | "auth_user" => Ok(self.user.clone()),
            "n" | "username" | "auth_username" => Ok(local().to_owned()),
            "d" | "domain" | "auth_domain" => Ok(domain().to_owned()),
            "h" | "home" => {
                let home = self.home.as_ref().and_then(|home| home.to_str());
                home.map(str::to_owned).ok_or_else(|| {
                    StorageError::new(
                        MailErrorClass::Params,
                        "Home directory not set for user. Can't expand %h",
                    )
                })
            }
            "s" | "service" => Ok(self.service.clone()),
            "p" | "pid" => Ok(std::process::id().to_string()),
            "i" | "uid" => number(self.uid),
            "gid" => number(self.gid),
            "hostname" => Ok(self.hostname.clone()),
            _ => Err(unknown(name)),
        }
    }
}

/// One use of a variable: `%[[-]offset.][0][-]width[modifiers]X`.
struct Form<'a> {
    offset: i64,
    width: Option<i64>,
    zero_pad: bool,
    modifiers: &'a str,
    name: &'a str,
}

impl<'a> Form<'a> {
    /// Reads what stands behind the `%`, and returns the text behind that.
    fn parse(text: &'a str) -> Result<(Self, &'a str)> {
        let (first, rest) = signed_number(text);
        let (offset, zero_pad, width, rest) = match rest.strip_prefix('.') {
            Some(rest) => {
                let zero_pad = rest.starts_with('0');
                let (width, rest) = signed_number(rest);
                (first.unwrap_or(0), zero_pad, width, rest)
            }
            None => (0, text.starts_with('0'), first, rest),
        };
        let name_start = rest
            .find(|c| !"LURXMNEHTD".contains(c))
            .ok_or_else(|| unknown(rest))?;
        let (modifiers, rest) = rest.split_at(name_start);
        let (name, after) = if let Some(long) = rest.strip_prefix('{') {
            long.split_once('}').ok_or_else(|| unknown(rest))?
        } else {
            let length = rest.chars().next().map_or(0, char::len_utf8);
            rest.split_at(length)
        };
        let form = Self {
            offset,
            width: width.filter(|width| *width != 0),
            zero_pad,
            modifiers,
            name,
        };
        Ok((form, after))
    }

    fn apply(&self, mut value: String) -> Result<String> {
        for modifier in self.modifiers.chars() {
            value = match modifier {
                'L' => value.to_lowercase(),
                'U' => value.to_uppercase(),
                'R' => value.chars().rev().collect(),
                'X' => format!("{:x}", value.parse::<u64>().unwrap_or(0)),
                'M' => hex(&Md5::digest(value.as_bytes())),
                'T' => value.trim().to_owned(),
                'E' => value
                    .replace('\\', "\\\\")
                    .replace('"', "\\\"")
                    .replace('\'', "\\'"),
                // The hash uses up offset and width.
                'N' => return Ok(self.new_hash(&value)),
                other => {
                    return Err(StorageError::new(
                        MailErrorClass::Params,
                        format!("modifier {other} of %{other}{} is not supported", self.name),
                    ));
                }
            };
        }
        Ok(self.cut(&value))
    }

    fn cut(&self, value: &str) -> String {
        let chars: Vec<char> = value.chars().collect();
        let length = i64::try_from(chars.len()).unwrap_or(i64::MAX);
        let start = if self.offset < 0 {
            (length + self.offset).max(0)
        } else {
            self.offset.min(length)
        };
        let available = length - start;
        let width = match self.width {
            None => available,
            Some(width) if width < 0 => (available + width).max(0),
            Some(width) => width,
        };
        let part: String = chars
            .iter()
            .skip(usize::try_from(start).unwrap_or(0))
            .take(usize::try_from(width).unwrap_or(0))
            .collect();
        if self.zero_pad && width > available {
            let width = usize::try_from(width).unwrap_or(0).min(MAX_WIDTH);
            return format!("{part:0>width$}");
        }
        part
    }

    fn new_hash(&self, value: &str) -> String {
        let digest = Md5::digest(value.as_bytes());
        let mut first = [0; 8];
        first.copy_from_slice(&digest[..8]);
        let mut hash = u64::from_be_bytes(first);
        if let Some(width) = self.width.and_then(|width| u64::try_from(width).ok()) {
            hash %= width;
        }
        let pad = usize::try_from(self.offset).unwrap_or(0).min(MAX_WIDTH);
        format!("{:0>pad$x}", hash as u32)
    }
}

/// A number with an optional minus, `None` if there is no digit.
fn signed_number(text: &str) -> (Option<i64>, &str) {
    let digits_start = usize::from(text.starts_with('-'));
    let length = text[digits_start..]
        .bytes()
        .take_while(u8::is_ascii_digit)
        .count();
    let (number, rest) = text.split_at(digits_start + length);
    match number.parse::<i64>() {
        Ok(value) => (Some(value), rest),
        Err(_) => (None, text),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unknown(name: &str) -> StorageError {
    StorageError::new(
        MailErrorClass::Params,
        format!(
            "cannot expand variable %{name}: it is not known here. \
             Write a value, or %% for a percent sign"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(text: &str) -> String {
        let variables = Variables {
            user: "Testuser@Example.com".into(),
            home: Some("/home/t".into()),
            uid: Some(1000),
            ..Variables::default()
        };
        variables.expand(text).unwrap()
    }

    #[test]
    fn forms() {
        for (text, expanded) in [
            ("%u", "Testuser@Example.com"),
            ("%n/%d", "Testuser/Example.com"),
            ("%h/x%%", "/home/t/x%"),
            ("%Ln", "testuser"),
            ("%{username}", "Testuser"),
            ("%L{domain}", "example.com"),
            ("%1n", "T"),
            ("%2.3n", "stu"),
            ("%-3.2n", "se"),
            ("%0.-2n", "Testus"),
            ("%012n", "0000Testuser"),
            ("%2Ru", "mo"),
            ("%Xi", "3e8"),
            // printf Testuser | md5sum
            ("%Mn", "fa9cafb1322b5438a98f68ca936959b3"),
        ] {
            assert_eq!(expand(text), expanded, "{text}");
        }
    }

    #[test]
    fn new_hash_is_like_dovecots() {
        // md5("Testuser") begins with these eight bytes.
        let digest = Md5::digest(b"Testuser");
        let low = u32::from_be_bytes([digest[4], digest[5], digest[6], digest[7]]);
        assert_eq!(expand("%Nn"), format!("{low:x}"));
        assert_eq!(expand("%4.256Nn").len(), 4);
    }

    #[test]
    fn unknown_ones_are_errors() {
        for text in ["%", "%q", "%{nosuch}", "%{open", "%Hu", "%5"] {
            assert!(Variables::default().expand(text).is_err(), "{text}");
        }
    }
}
