//! The syntax of what `doveconf` prints.

/// Settings and blocks between `{` and `}`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Block {
    /// What stands before the `{`, such as `namespace inbox`.
    pub(super) name: String,
    settings: Vec<(String, String)>,
    pub(super) blocks: Vec<Self>,
}

impl Block {
    /// Reads the whole output. There is always a block that is open, so anything is read as
    /// something.
    pub(super) fn parse(text: &str) -> Self {
        let mut open = vec![Self::default()];
        for line in text.lines().map(str::trim) {
            if line == "}" {
                if open.len() > 1 {
                    close_last(&mut open);
                }
            } else if let Some(name) = line.strip_suffix('{') {
                open.push(Self {
                    name: name.trim().to_owned(),
                    ..Self::default()
                });
            } else if let Some((name, value)) = line.split_once('=')
                && !line.starts_with('#')
                && let Some(block) = open.last_mut()
            {
                let value = value.trim();
                // A value that was not shown is none.
                if !value.starts_with("# hidden") {
                    block
                        .settings
                        .push((name.trim().to_owned(), unquoted(value)));
                }
            }
        }
        while open.len() > 1 {
            close_last(&mut open);
        }
        open.pop().unwrap_or_default()
    }

    /// The value of a setting of this block itself.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        let setting = self.settings.iter().find(|(known, _)| known == name);
        setting.map(|(_, value)| value.as_str())
    }

    /// The block of this name in it.
    pub(super) fn block(&self, name: &str) -> Option<&Self> {
        self.blocks.iter().find(|block| block.name == name)
    }

    /// The settings of this block, and of blocks like `ssl_client { ca_file = ... }`, which is how
    /// 2.4 prints `ssl_client_ca_file`.
    pub(super) fn flat_settings(&self) -> Vec<(String, String)> {
        let mut all = self.settings.clone();
        for block in self.blocks.iter().filter(|block| !block.name.contains(' ')) {
            let long = |(name, value): &(String, String)| {
                (format!("{}_{name}", block.name), value.clone())
            };
            all.extend(block.settings.iter().map(long));
        }
        all
    }
}

fn close_last(open: &mut Vec<Block>) {
    if let Some(block) = open.pop()
        && let Some(parent) = open.last_mut()
    {
        parent.blocks.push(block);
    }
}

/// A value without the quotes that it may have.
pub(super) fn unquoted(text: &str) -> String {
    let Some(inside) = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'))
    else {
        return text.to_owned();
    };
    let mut value = String::with_capacity(inside.len());
    let mut chars = inside.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => value.extend(chars.next()),
            c => value.push(c),
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes() {
        for (text, value) in [
            ("a", "a"),
            ("\" a\"", " a"),
            (r#""\\Sent""#, r"\Sent"),
            (r#""a\"b""#, "a\"b"),
            ("\"", "\""),
            ("a \"b", "a \"b"),
        ] {
            assert_eq!(unquoted(text), value, "{text}");
        }
    }

    #[test]
    fn anything_is_read() {
        for text in ["}", "{", "a {\nb {", "= x", "a {\n}\n}\nb = 1", "\0"] {
            Block::parse(text);
        }
        assert_eq!(Block::parse("a {\n}\n}\nb = 1").value("b"), Some("1"));
    }
}
