//! The line that separates messages, `From SENDER DATE` (`spec/mbox.md` 2.1).

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

/// What every separator begins with.
pub(super) const FROM: &[u8] = b"From ";
/// Fewest bytes of a date.
const MIN_DATE: usize = 21;
/// Of longer lines only the beginning counts.
pub(super) const MAX_FROM_LINE: usize = 8 << 10;

const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const MONTH_NAMES: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];
const DAY_NAMES: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

/// The received date of a separator line, in seconds since the epoch; `None` if the line (with
/// its LF) is no separator. Dates without zone are local ones.
pub(super) fn parse(line: &[u8], local: &TimeZone) -> Option<i64> {
    let rest = line.strip_suffix(b"\n")?.strip_prefix(FROM)?;
    let date = skip_sender(rest)?;
    if date.len() < MIN_DATE {
        return None;
    }
    parse_date(date, local)
}

/// Skips the sender and the spaces behind it.
fn skip_sender(rest: &[u8]) -> Option<&[u8]> {
    let mut at = 0;
    if rest.first() == Some(&b'"') {
        at = 1;
        loop {
            match rest.get(at)? {
                b'"' => break,
                b'\r' => return None,
                b'\\' => at += 2,
                _ => at += 1,
            }
        }
    }
    at += rest.get(at..)?.iter().position(|byte| *byte == b' ')?;
    let spaces = rest[at..].iter().take_while(|byte| **byte == b' ').count();
    rest.get(at + spaces..)
}

/// A place in the bytes of a date.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self, wanted: u8) -> Option<()> {
        (self.take(1)? == [wanted]).then_some(())
    }

    fn digits(&mut self, count: usize) -> Option<i64> {
        number(self.take(count)?)
    }

    fn month(&mut self) -> Option<i8> {
        let name = self.take(3)?;
        if name == b"???" {
            return Some(1);
        }
        let found = MONTHS
            .iter()
            .position(|month| name.eq_ignore_ascii_case(month.as_bytes()))?;
        Some(found as i8 + 1)
    }

    /// One or two digits and a space.
    fn day(&mut self) -> Option<i64> {
        let first = self.digits(1)?;
        let next = *self.0.first()?;
        let day = if next.is_ascii_digit() {
            first * 10 + self.digits(1)?
        } else {
            first
        };
        self.byte(b' ')?;
        Some(day)
    }

    /// `HH:MM` or `HH:MM:SS`, in seconds.
    fn time(&mut self) -> Option<i64> {
        let hours = self.digits(2)?;
        self.byte(b':')?;
        let minutes = self.digits(2)?;
        let mut seconds = 0;
        if self.0.first() == Some(&b':') {
            self.byte(b':')?;
            seconds = self.digits(2)?;
        }
        Some(hours * 3600 + minutes * 60 + seconds)
    }

    /// ` +HHMM`; Dovecot takes the minutes for seconds, and so does everybody who asks it.
    fn zone(&mut self) -> Option<i64> {
        self.byte(b' ')?;
        let sign = match self.take(1)? {
            b"+" => 1,
            b"-" => -1,
            _ => return None,
        };
        let hours = self.digits(2)?;
        Some(sign * (hours * 3600 + self.digits(2)?))
    }
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |value, byte| {
        byte.is_ascii_digit()
            .then(|| value * 10 + i64::from(byte - b'0'))
    })
}

fn parse_date(date: &[u8], local: &TimeZone) -> Option<i64> {
    let mut cursor = Cursor(date);
    cursor.take(3)?;
    // The byte behind the name of the day may be anything, but for that of `Monday`.
    let mut cursor = Cursor(cursor.0.get(1..)?);
    let mut probe = Cursor(cursor.0);
    let (month, day, time, year);
    if let Some(found) = probe.month() {
        cursor = probe;
        month = found;
        cursor.byte(b' ')?;
        if cursor.0.first() == Some(&b' ') {
            cursor.byte(b' ')?;
        }
        day = cursor.day()?;
        time = cursor.time()?;
        cursor.byte(b' ')?;
        if number(cursor.0.get(..4)?).is_none() {
            // One word, such as a zone that nobody looks at.
            let word = cursor.0.iter().position(|byte| *byte == b' ')?;
            cursor.take(word + 1)?;
        }
        year = cursor.digits(4)?;
    } else {
        // `Thu, 9 Nov 2002 `: the byte skipped above was the comma.
        cursor.take(1)?;
        day = cursor.day()?;
        month = cursor.month()?;
        cursor.byte(b' ')?;
        year = cursor.digits(4)?;
        cursor.take(1)?;
        time = cursor.time()?;
    }
    let zone = Cursor(cursor.0).zone();
    seconds(year, month, day, time, zone, local)
}

/// Days and times beyond their range go on counting, as in C.
fn seconds(
    year: i64,
    month: i8,
    day: i64,
    time: i64,
    zone: Option<i64>,
    local: &TimeZone,
) -> Option<i64> {
    let first = Date::new(i16::try_from(year).ok()?, month, 1).ok()?;
    let span = Span::new()
        .try_days(day.max(1) - 1)
        .and_then(|span| span.try_seconds(time))
        .ok()?;
    let moment = first.to_datetime(jiff::civil::Time::midnight());
    let moment = moment.checked_add(span).ok()?;
    let utc = |moment| TimeZone::UTC.to_timestamp(moment).ok();
    match zone {
        Some(offset) => Some(utc(moment)?.as_second() - offset),
        None => {
            let known = local.to_timestamp(moment).ok().or_else(|| utc(moment))?;
            Some(known.as_second())
        }
    }
}

/// A separator line that everybody reads as this date, whatever the time zone.
pub(super) fn format(received: i64) -> Vec<u8> {
    // Years that have no four digits cannot be written.
    let moment = Timestamp::from_second(received.clamp(-62_135_596_800, 253_402_207_200));
    let moment = TimeZone::UTC.to_datetime(moment.unwrap_or(Timestamp::UNIX_EPOCH));
    let day = DAY_NAMES[moment.weekday().to_sunday_zero_offset() as usize % 7];
    let month = MONTH_NAMES[moment.month() as usize % 13 - 1];
    format!(
        "From MAILER-DAEMON  {day} {month} {:02} {:02}:{:02}:{:02} {:04} +0000\n",
        moment.day(),
        moment.hour(),
        moment.minute(),
        moment.second(),
        moment.year(),
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(line: &str) -> Option<String> {
        let line = format!("{line}\n");
        let seconds = parse(line.as_bytes(), &TimeZone::UTC)?;
        Some(Timestamp::from_second(seconds).unwrap().to_string())
    }

    #[test]
    fn lines_of_the_specification() {
        let ten = "2024-01-01T10:00:00Z";
        for (line, date) in [
            ("From x Mon Jan  1 10:00:00 2024", ten),
            ("From x Mon Jan 1 10:00:00 2024", ten),
            ("From x Mon Jan 01 10:00:00 2024", ten),
            ("From x Mon Jan  1 10:00 2024", ten),
            (
                "From x Mon Jan  1 10:00:00 2024 -0500",
                "2024-01-01T15:00:00Z",
            ),
            (
                "From x Mon Jan  1 10:00:00 2024 +0530",
                "2024-01-01T04:59:30Z",
            ),
            ("From x Mon Jan  1 10:00:00 +0200 2024", ten),
            ("From x Mon Jan  1 10:00:00 EST 2024", ten),
            ("From x Mon Jan  1 10:00:00 2024 EST", ten),
            ("From x Mon Jan  1 10:00:00 2024 remote from y", ten),
            ("From x Mon Jan  1 10:00:00 20245", ten),
            ("From x Mon Jan  1 10:00:00 2024xyz", ten),
            (
                "From x Mon, 1 Jan 2024 10:00:00 +0100",
                "2024-01-01T09:00:00Z",
            ),
            ("From x Mon, 11 Jan 2024 10:00", "2024-01-11T10:00:00Z"),
            ("From \"a b c\"@example.org Mon Jan  1 10:00:00 2024", ten),
            ("From x Mon Jan  1 10:00:00 2024\r", ten),
            ("From  Mon Jan  1 10:00:00 2024", ten),
            ("From x Mon ??? 99 10:00:00 2024", "2024-04-08T10:00:00Z"),
            ("From x Mon Jan  0 10:00:00 2024", ten),
            ("From x Mon Jan  1 10:00:00 1960", "1960-01-01T10:00:00Z"),
        ] {
            assert_eq!(read(line).as_deref(), Some(date), "{line}");
        }
    }

    #[test]
    fn lines_that_separate_nothing() {
        for line in [
            "From a b Mon Jan  1 10:00:00 2024",
            "From Mon Jan  1 10:00:00 2024",
            "From x Monday Jan  1 10:00:00 2024",
            "From x M Jan  1 10:00:00 2024",
            "From x\tMon Jan  1 10:00:00 2024",
            "From x Mon Jan  1 9:00:00 2024",
            "From x Mon Jan  1 10:00:00",
            "From x Mon Jan  1 10:00:00 202",
            "From x Mon Jan  1 10:00:00 EST -0500 2024",
            "from x Mon Jan  1 10:00:00 2024",
            " From x Mon Jan  1 10:00:00 2024",
            ">From x Mon Jan  1 10:00:00 2024",
            "From me",
            "From \"",
            "From \"\\",
            "",
        ] {
            assert_eq!(read(line), None, "{line}");
        }
        assert_eq!(
            parse(b"From x Mon Jan  1 10:00:00 2024", &TimeZone::UTC),
            None
        );
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(seconds in -62_135_596_800_i64..253_402_207_200) {
            let line = format(seconds);
            prop_assert_eq!(parse(&line, &TimeZone::UTC), Some(seconds));
            let berlin = TimeZone::fixed(jiff::tz::offset(2));
            prop_assert_eq!(parse(&line, &berlin), Some(seconds));
        }

        #[test]
        fn nothing_panics(line in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = parse(&[b"From ", &line[..], b"\n"].concat(), &TimeZone::UTC);
        }
    }
}
