//! Generated mail: ordinary, and of every kind that ever broke a mail program.

mod account;
mod content;

pub use account::{AccountPlan, AccountSize};
pub use content::{MailKind, generate};

use dsync_proto::types::Flags;

use crate::random::Random;

/// A generated message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// The bytes.
    pub body: Vec<u8>,
    /// INTERNALDATE in seconds since the epoch.
    pub received_date: i64,
    /// User flags.
    pub flags: Flags,
    /// Keywords.
    pub keywords: Vec<&'static str>,
}

/// Keywords that generated messages have.
pub const KEYWORDS: [&str; 8] = [
    "$Forwarded",
    "$MDNSent",
    "Junk",
    "NonJunk",
    "$label1",
    "work",
    "todo",
    "Later",
];

/// An endless row of messages: mostly ordinary ones, now and then an odd one.
#[derive(Clone, Debug)]
pub struct Mails {
    random: Random,
    /// All are ordinary.
    only_ordinary: bool,
    ordinary_size: usize,
}

impl Mails {
    /// Messages for this seed.
    pub fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            only_ordinary: false,
            ordinary_size: 4000,
        }
    }

    /// Only ordinary messages with bodies of about this size in octets, for benchmarks.
    #[must_use]
    pub fn ordinary(mut self, size: usize) -> Self {
        self.ordinary_size = size;
        self.only_ordinary = true;
        self
    }

    /// The next message.
    pub fn next_mail(&mut self) -> Mail {
        let kind = if self.only_ordinary || !self.random.one_in(4) {
            MailKind::Plain
        } else {
            *self.random.pick(&MailKind::ALL)
        };
        let size = 1 + self.random.below(2 * self.ordinary_size);
        let body = generate(kind, size, &mut self.random);
        let received_date = 1_100_000_000 + self.random.below(700_000_000) as i64;
        let flags = match self.random.below(3) {
            0 => Flags::NONE,
            1 => Flags::SEEN,
            _ => Flags(self.random.below(32) as u8),
        };
        let mut keywords = Vec::new();
        while self.random.one_in(4) && keywords.len() < 4 {
            let keyword = *self.random.pick(&KEYWORDS);
            if !keywords.contains(&keyword) {
                keywords.push(keyword);
            }
        }
        Mail {
            body,
            received_date,
            flags,
            keywords,
        }
    }
}

impl Iterator for Mails {
    type Item = Mail;

    fn next(&mut self) -> Option<Mail> {
        Some(self.next_mail())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_decides_everything() {
        let some: Vec<Mail> = Mails::new(7).take(50).collect();
        assert_eq!(some, Mails::new(7).take(50).collect::<Vec<_>>());
        assert_ne!(some, Mails::new(8).take(50).collect::<Vec<_>>());
    }

    #[test]
    fn ordinary_mail_has_headers_and_about_the_size() {
        let mails: Vec<Mail> = Mails::new(1).ordinary(2000).take(200).collect();
        let total: usize = mails.iter().map(|mail| mail.body.len()).sum();
        assert!((1500..3500).contains(&(total / 200)), "{}", total / 200);
        assert!(
            mails
                .iter()
                .all(|mail| mail.body.starts_with(b"Return-Path: "))
        );
    }
}
