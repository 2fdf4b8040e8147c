//! The table of settings: name, kind of value, default, meaning.

use crate::{UserDb, units};

/// What values a setting takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any text; `%` variables are filled in when it is used.
    Text,
    /// Any text; never shown.
    Secret,
    /// A source of users, as [`crate::UserDb`] describes it.
    Userdb,
    /// `yes` or `no`.
    Boolean,
    /// A whole number of at least this size.
    Number(u32),
    /// A size in bytes, with or without a unit: `10 M`.
    Size,
    /// A time in seconds, with or without a unit: `5 mins`.
    Time,
    /// Exactly one ASCII character.
    Character,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Words separated by spaces or commas, at least one.
    Words,
    /// Any of these words, separated by spaces or commas.
    Flags(&'static [&'static str]),
}

/// One setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Dovecot's name for it.
    pub name: &'static str,
    /// What values it takes.
    pub kind: Kind,
    /// The value if nothing is given.
    pub default: &'static str,
    /// Meaning, one sentence.
    pub doc: &'static str,
}

macro_rules! settings {
    ($($id:ident = $name:literal, $kind:expr, $default:literal, $doc:literal;)*) => {
        $(#[doc = concat!("`", $name, "`: ", $doc)]
        pub const $id: Setting =
            Setting { name: $name, kind: $kind, default: $default, doc: $doc };)*
        /// All settings, in the order of the manual page.
        pub const SETTINGS: &[Setting] = &[$($id),*];
    };
}

settings! {
    MAIL_LOCATION = "mail_location", Kind::Text, "",
        "Where the user's own mail is, such as maildir:~/Maildir or mdbox:/srv/mail/%u.";
    MAIL_HOME = "mail_home", Kind::Text, "",
        "Home directory of users whose userdb tells none; %u, %n and %d may be used.";
    MAIL_UID = "mail_uid", Kind::Text, "",
        "Owner of the mail of users whose userdb tells none: number or name.";
    MAIL_GID = "mail_gid", Kind::Text, "",
        "Group of it.";
    MAIL_REPLICA = "mail_replica", Kind::Text, "",
        "Destination of -d for users whose userdb tells none. Taken literally: no variables.";
    USERDB = "userdb", Kind::Userdb, "",
        "Who knows the users of -u, -A and -F: auth, auth:SOCKET, passwd, passwd-file:FILE, or static:FIELDS such as static:uid=vmail gid=vmail home=/srv/%d/%n. Default: auth if Dovecot's socket is there, else static if mail_home is set, else passwd.";
    BASE_DIR = "base_dir", Kind::Text, "/run/dovecot",
        "Where Dovecot's sockets are.";
    FIRST_VALID_UID = "first_valid_uid", Kind::Number(0), "500",
        "Smallest uid whose mail may be touched by a program that root started; 0 never is.";
    LAST_VALID_UID = "last_valid_uid", Kind::Number(0), "0",
        "Largest one; 0 for no limit.";
    FIRST_VALID_GID = "first_valid_gid", Kind::Number(0), "1",
        "Smallest gid.";
    LAST_VALID_GID = "last_valid_gid", Kind::Number(0), "0",
        "Largest one; 0 for no limit.";
    MAIL_ACCESS_GROUPS = "mail_access_groups", Kind::Text, "",
        "Groups that a program which root started keeps besides the user's own, separated by commas: for shared mail.";
    MAIL_ATTRIBUTE_DICT = "mail_attribute_dict", Kind::Text, "",
        "file:PATH of the dictionary with mailbox attributes. Empty: attributes are not kept.";
    MAIL_FSYNC = "mail_fsync", Kind::Choice(&["optimized", "always", "never"]), "optimized",
        "When files are forced to disk: optimized (wherever mail could get lost), always, never.";
    MAIL_MAX_LOCK_TIMEOUT = "mail_max_lock_timeout", Kind::Time, "0",
        "Longest wait for any lock; 0 for each lock's own limit.";
    MAIL_MAX_KEYWORD_LENGTH = "mail_max_keyword_length", Kind::Number(1), "50",
        "Longest keyword name, in bytes.";
    MAIL_INDEX_LOG_ROTATE_MIN_SIZE = "mail_index_log_rotate_min_size", Kind::Size, "32k",
        "Index logs of this size are rotated if they are old enough.";
    MAIL_INDEX_LOG_ROTATE_MIN_AGE = "mail_index_log_rotate_min_age", Kind::Time, "5 mins",
        "How old.";
    MAIL_INDEX_LOG_ROTATE_MAX_SIZE = "mail_index_log_rotate_max_size", Kind::Size, "1 M",
        "Index logs that are larger are rotated, however old.";
    MDBOX_ROTATE_SIZE = "mdbox_rotate_size", Kind::Size, "10 M",
        "Files of an mdbox that have reached this size get no more messages.";
    MAILBOX_LIST_INDEX = "mailbox_list_index", Kind::Boolean, "yes",
        "Keep dovecot.list.index up to date.";
    LOCK_METHOD = "lock_method", Kind::Choice(&["fcntl", "flock"]), "fcntl",
        "How index files are locked; has to be what Dovecot on this host uses.";
    DOTLOCK_USE_EXCL = "dotlock_use_excl", Kind::Boolean, "yes",
        "Create lock files with O_EXCL; no for old NFS servers.";
    HOSTNAME = "hostname", Kind::Text, "",
        "Name of this host: decides which side takes the user lock, and is part of file names.";
    DSYNC_REMOTE_CMD = "dsync_remote_cmd", Kind::Text, "",
        "Command for a host as destination, with %u, %{login} and %{host}, split at spaces. Default: ssh, and there dsync-server, or doveadm dsync-server where that is missing.";
    DSYNC_ALT_CHAR = "dsync_alt_char", Kind::Character, "_",
        "Replaces characters that a mailbox name cannot have on the other side.";
    DSYNC_HASHED_HEADERS = "dsync_hashed_headers", Kind::Words, "Date Message-ID",
        "Header fields by which messages without GUIDs are recognised.";
    DSYNC_COMMIT_MSGS_INTERVAL = "dsync_commit_msgs_interval", Kind::Number(1), "100",
        "Messages that are saved and made visible together.";
    DSYNC_FEATURES = "dsync_features",
        Kind::Flags(&["empty-header-workaround", "no-header-hashes"]), "",
        "Special cases: empty-header-workaround takes messages without any hashed header as equal.";
    DOVEADM_PASSWORD = "doveadm_password", Kind::Secret, "",
        "What both sides of tcp: and tcps: have to know. Empty: no login.";
    DOVEADM_USERNAME = "doveadm_username", Kind::Text, "doveadm",
        "User name that a client sends with doveadm_password; Dovecot takes no other.";
    DOVEADM_PORT = "doveadm_port", Kind::Number(0), "0",
        "Port of tcp: and tcps: destinations that have none.";
    DOVEADM_SSL = "doveadm_ssl", Kind::Choice(&["no", "ssl", "starttls"]), "no",
        "TLS for -S HOST:PORT: from the first byte, or after the greeting.";
    SSL_CLIENT_CA_FILE = "ssl_client_ca_file", Kind::Text, "",
        "PEM file with the authorities that may have signed a server's certificate. Default: the system's.";
    SSL_CLIENT_CA_DIR = "ssl_client_ca_dir", Kind::Text, "",
        "Directory with such certificates, under hashed names.";
    SSL_CLIENT_REQUIRE_VALID_CERT = "ssl_client_require_valid_cert", Kind::Boolean, "yes",
        "no: a server's certificate and name are not checked.";
    SSL_CLIENT_CERT_FILE = "ssl_client_cert_file", Kind::Text, "",
        "PEM file with the certificate that a client shows.";
    SSL_CLIENT_KEY_FILE = "ssl_client_key_file", Kind::Text, "",
        "PEM file with its key.";
    SSL_SERVER_CERT_FILE = "ssl_server_cert_file", Kind::Text, "",
        "PEM file with the certificate of dsync-server listen, followed by those it depends on.";
    SSL_SERVER_KEY_FILE = "ssl_server_key_file", Kind::Text, "",
        "PEM file with its key.";
    SSL_SERVER_CA_FILE = "ssl_server_ca_file", Kind::Text, "",
        "PEM file with the authorities of clients, for auth_ssl_require_client_cert.";
    AUTH_SSL_REQUIRE_CLIENT_CERT = "auth_ssl_require_client_cert", Kind::Boolean, "no",
        "yes: clients of dsync-server listen need a certificate, besides the password.";
    SSL_MIN_PROTOCOL = "ssl_min_protocol",
        Kind::Choice(&["TLSv1.2", "TLSv1.3", "LATEST", "TLSv1.1", "TLSv1", "ANY"]), "TLSv1.2",
        "Oldest version of TLS. LATEST is 1.3; older ones than 1.2 are never used.";
}

/// Other spellings, of Dovecot 2.3, and what they mean here.
const ALIASES: [(&str, &Setting); 6] = [
    ("doveadm_proxy_port", &DOVEADM_PORT),
    ("ssl_ca", &SSL_SERVER_CA_FILE),
    ("ssl_cert", &SSL_SERVER_CERT_FILE),
    ("ssl_key", &SSL_SERVER_KEY_FILE),
    ("ssl_client_cert", &SSL_CLIENT_CERT_FILE),
    ("ssl_client_key", &SSL_CLIENT_KEY_FILE),
];

impl Setting {
    /// The setting of this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        let alias = ALIASES.iter().find(|(alias, _)| *alias == name);
        match alias {
            Some((_, setting)) => Some(setting),
            None => SETTINGS.iter().find(|setting| setting.name == name),
        }
    }

    /// Whether the value fits; `Err` completes the sentence that begins with the value.
    pub(crate) fn check(&self, value: &str) -> Result<(), String> {
        match self.kind {
            Kind::Text | Kind::Secret => Ok(()),
            Kind::Userdb if UserDb::is_valid(value) => Ok(()),
            Kind::Userdb => Err(
                "is none of auth, auth:SOCKET, passwd, passwd-file:FILE, static:FIELDS".to_owned(),
            ),
            Kind::Boolean => boolean(value)
                .map(drop)
                .ok_or_else(|| "is neither yes nor no".to_owned()),
            Kind::Number(min) => match value.parse::<u32>() {
                Ok(number) if number >= min => Ok(()),
                _ => Err(format!("is not a whole number of at least {min}")),
            },
            Kind::Size => units::bytes(value)
                .map(drop)
                .ok_or_else(|| "is no size below 4 GiB, such as 10 M".to_owned()),
            Kind::Time => units::seconds(value)
                .map(drop)
                .ok_or_else(|| "is no time, such as 30 secs".to_owned()),
            Kind::Character => match value.as_bytes() {
                [byte] if byte.is_ascii_graphic() => Ok(()),
                _ => Err("is not exactly one ASCII character".to_owned()),
            },
            Kind::Choice(choices) if choices.contains(&value) => Ok(()),
            Kind::Choice(choices) => Err(format!("is none of: {}", choices.join(", "))),
            Kind::Words if words(value).next().is_some() => Ok(()),
            Kind::Words => Err("must not be empty".to_owned()),
            Kind::Flags(known) => match words(value).find(|word| !known.contains(word)) {
                None => Ok(()),
                Some(word) => Err(format!(
                    "has the unknown word {word}; known are: {}",
                    known.join(", ")
                )),
            },
        }
    }
}

/// `yes`, `no` and the other spellings that Dovecot takes.
pub(crate) fn boolean(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "yes" | "y" | "true" | "1" => Some(true),
        "no" | "n" | "false" | "0" => Some(false),
        _ => None,
    }
}

/// The words of a list.
pub(crate) fn words(value: &str) -> impl Iterator<Item = &str> {
    value
        .split([' ', ',', '\t'])
        .filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_fit_their_own_settings() {
        for setting in SETTINGS {
            assert_eq!(setting.check(setting.default), Ok(()), "{}", setting.name);
            assert!(setting.doc.ends_with('.'), "{}", setting.name);
        }
    }

    #[test]
    fn wrong_values_are_refused() {
        for (setting, value) in [
            (MAIL_FSYNC, "sometimes"),
            (MAIL_MAX_LOCK_TIMEOUT, "-1"),
            (DSYNC_COMMIT_MSGS_INTERVAL, "0"),
            (DSYNC_ALT_CHAR, ""),
            (DSYNC_ALT_CHAR, "ab"),
            (DSYNC_ALT_CHAR, "ä"),
            (DSYNC_HASHED_HEADERS, " ,"),
            (DSYNC_FEATURES, "empty-header-workaround,fast"),
            (MAILBOX_LIST_INDEX, "maybe"),
        ] {
            assert!(setting.check(value).is_err(), "{} = {value}", setting.name);
        }
    }
}
