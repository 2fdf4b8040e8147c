//! Namespaces: which part of a user's mailbox names a store serves.

/// Settings of one namespace, as in Dovecot's `namespace { ... }` block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Prefix of all names, ending in the separator unless empty.
    pub prefix: String,
    /// Hierarchy separator that users see.
    pub separator: char,
    /// Serves the name `INBOX`.
    pub inbox: bool,
    /// Not shown to users.
    pub hidden: bool,
    /// Listed: `list = yes` or `children`.
    pub list: bool,
    /// Has a location of its own, so that a default run leaves it out.
    pub own_location: bool,
    /// Is an alias of another namespace and never synced by itself.
    pub alias: bool,
    /// The visible escape character, if one is configured (BROKENCHAR).
    pub escape_char: Option<char>,
}

impl Default for Namespace {
    /// The one namespace of a plain account: no prefix, separator `/`, with INBOX.
    fn default() -> Self {
        Self {
            prefix: String::new(),
            separator: '/',
            inbox: true,
            hidden: false,
            list: true,
            own_location: false,
            alias: false,
            escape_char: None,
        }
    }
}

impl Namespace {
    /// The prefix without its trailing separator; empty for the root namespace.
    pub fn prefix_name(&self) -> &str {
        self.prefix
            .strip_suffix(self.separator)
            .unwrap_or(&self.prefix)
    }
}
