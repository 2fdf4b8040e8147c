//! The bytes of generated messages.

use std::fmt::Write;

use crate::random::Random;

/// What is special about a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MailKind {
    /// Headers and text, CRLF.
    Plain,
    /// No byte at all.
    Empty,
    /// Headers, and no empty line after them.
    HeadersOnly,
    /// Text without headers.
    NoHeaders,
    /// Nested MIME parts with attachments.
    Multipart,
    /// NUL in header and body.
    Nul,
    /// CR without LF.
    BareCr,
    /// LF without CR.
    BareLf,
    /// Bytes above 127 everywhere, not always UTF-8.
    EightBit,
    /// Lines of dots, and a dot at the very start.
    Dots,
    /// Lines of many kilobytes.
    LongLines,
    /// One of few Message-IDs, shared with others of this kind.
    DuplicateMessageId,
    /// `From ` at starts of lines.
    FromLines,
    /// No line end at the end.
    NoFinalLineEnd,
    /// Headers folded over many lines, and repeated.
    FoldedHeaders,
}

impl MailKind {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::Plain,
        Self::Empty,
        Self::HeadersOnly,
        Self::NoHeaders,
        Self::Multipart,
        Self::Nul,
        Self::BareCr,
        Self::BareLf,
        Self::EightBit,
        Self::Dots,
        Self::LongLines,
        Self::DuplicateMessageId,
        Self::FromLines,
        Self::NoFinalLineEnd,
        Self::FoldedHeaders,
    ];
}

const NAMES: [&str; 6] = ["Anna", "Böb", "Chloé", "Dmitri", "Émile", "Fuyuko"];
const WORDS: [&str; 16] = [
    "meeting", "invoice", "the", "tomorrow", "report", "please", "find", "attached", "and",
    "regards", "Größe", "naïve", "holiday", "server", "with", "日本",
];

fn words(random: &mut Random, count: usize) -> String {
    let words: Vec<&str> = (0..count).map(|_| *random.pick(&WORDS)).collect();
    words.join(" ")
}

fn headers(random: &mut Random, message_id: u64, extra: &str) -> String {
    let (from, to) = (*random.pick(&NAMES), *random.pick(&NAMES));
    let day = 1 + random.below(28);
    let mut out = format!(
        "Return-Path: <{message_id:x}@example.org>\r\n\
         Received: from mail.example.org (mail.example.org [192.0.2.{day}])\r\n\
         \tby mx.example.com with ESMTPS id {message_id:016x};\r\n\
         \t{day} Jan 2024 10:00:00 +0000\r\n\
         Date: {day} Jan 2024 10:00:00 +0000\r\n\
         From: \"{from}\" <{from}@example.org>\r\n\
         To: \"{to}\" <{to}@example.com>\r\n\
         Message-ID: <{message_id:x}@example.org>\r\n"
    );
    let subject = words(random, 4);
    let _ = write!(out, "Subject: {subject}\r\n{extra}\r\n");
    out
}

/// At least `size` octets of text in lines.
fn text(random: &mut Random, size: usize, line_end: &str) -> String {
    let mut out = String::with_capacity(size + 80);
    while out.len() < size {
        let count = 1 + random.below(12);
        out.push_str(&words(random, count));
        out.push_str(line_end);
    }
    out
}

fn multipart(random: &mut Random, size: usize, depth: usize) -> String {
    let boundary = format!("=_{:016x}", random.next_u64());
    let mut out = format!("Content-Type: multipart/mixed; boundary=\"{boundary}\"\r\n\r\nMIME\r\n");
    for part in 0..3 {
        let _ = write!(out, "--{boundary}\r\n");
        match part {
            0 => {
                out.push_str("Content-Type: text/plain; charset=utf-8\r\n\r\n");
                out.push_str(&text(random, size / 4, "\r\n"));
            }
            1 if depth > 0 => out.push_str(&multipart(random, size / 2, depth - 1)),
            _ => {
                out.push_str(
                    "Content-Type: application/octet-stream; name=x.bin\r\n\
                     Content-Transfer-Encoding: base64\r\n\r\n",
                );
                for _ in 0..=size / 312 {
                    let line: [String; 4] =
                        std::array::from_fn(|_| format!("{:016x}", random.next_u64()));
                    let _ = write!(out, "{}\r\n", line.concat());
                }
            }
        }
    }
    let _ = write!(out, "--{boundary}--\r\n");
    out
}

/// A message of this kind with roughly `size` octets of body, where the kind has one.
pub fn generate(kind: MailKind, size: usize, random: &mut Random) -> Vec<u8> {
    let id = random.next_u64();
    let plain = |random: &mut Random| {
        let mut out = headers(random, id, "");
        out.push_str(&text(random, size, "\r\n"));
        out
    };
    let out = match kind {
        MailKind::Plain => plain(random),
        MailKind::Empty => String::new(),
        MailKind::HeadersOnly => headers(random, id, "").trim_end().to_owned() + "\r\n",
        MailKind::NoHeaders => format!("\r\n{}", text(random, size, "\r\n")),
        MailKind::Multipart => {
            let part = multipart(random, size, 3);
            let (type_header, rest) = part.split_once("\r\n").unwrap_or((&part, ""));
            let extra = format!("MIME-Version: 1.0\r\n{type_header}\r\n");
            headers(random, id, &extra) + rest
        }
        MailKind::Nul => plain(random)
            .replace("Subject: ", "Subject: \0")
            .replace("the", "\0\0"),
        MailKind::BareCr => plain(random).replace(" and ", "\r") + "\r\r\n\r",
        MailKind::BareLf => plain(random).replace("\r\n", "\n"),
        MailKind::EightBit => {
            let mut bytes = plain(random).into_bytes();
            bytes.extend((0..size).map(|_| 128 + random.below(128) as u8));
            bytes.extend_from_slice(b"\r\n");
            return bytes;
        }
        MailKind::Dots => format!(".\r\n{}\r\n.\r\n..\r\n...\r\n.x\n.\n", plain(random)),
        MailKind::LongLines => plain(random) + &"x".repeat(size.max(9000) * 4) + "\r\n",
        MailKind::DuplicateMessageId => headers(random, id % 3, "") + &text(random, size, "\r\n"),
        MailKind::FromLines => format!(
            "{}From me\r\n>From you\r\nFrom a@b.c  Mon Jan  1 10:00:00 2024\r\n",
            plain(random)
        ),
        MailKind::NoFinalLineEnd => plain(random).trim_end().to_owned(),
        MailKind::FoldedHeaders => {
            let mut extra = String::from("X-Folded: a");
            for _ in 0..40 {
                let _ = write!(extra, "\r\n {}", words(random, 3));
            }
            extra.push_str("\r\nX-Same: 1\r\nX-Same: 1\r\nx-same: 2\r\n");
            headers(random, id, &extra) + &text(random, size, "\r\n")
        }
    };
    out.into_bytes()
}

#[cfg(test)]
mod tests {
    use bstr::ByteSlice;

    use super::*;

    fn make(kind: MailKind) -> Vec<u8> {
        generate(kind, 5000, &mut Random::new(3))
    }

    #[test]
    fn kinds_are_what_they_say() {
        assert!(make(MailKind::Empty).is_empty());
        assert!(!make(MailKind::HeadersOnly).contains_str("\r\n\r\n"));
        assert!(make(MailKind::NoHeaders).starts_with(b"\r\n"));
        assert!(make(MailKind::Nul).contains(&0));
        assert!(!make(MailKind::BareLf).contains(&b'\r'));
        assert!(make(MailKind::EightBit).to_str().is_err());
        assert!(make(MailKind::Dots).starts_with(b".\r\n"));
        assert!(!make(MailKind::NoFinalLineEnd).ends_with(b"\n"));
        let multipart = make(MailKind::Multipart);
        assert!(multipart.find_iter("multipart/mixed").count() >= 4);
        assert!(multipart.find_iter("\r\n\r\n").count() > 8);
        let stripped = make(MailKind::BareCr).replace("\r\n", "");
        assert!(stripped.contains(&b'\r'));
    }

    #[test]
    fn size_is_about_right() {
        let mail = generate(MailKind::Plain, 2_000_000, &mut Random::new(1));
        assert!((2_000_000..2_010_000).contains(&mail.len()));
    }
}
