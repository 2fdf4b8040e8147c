//! Syntax of option values (`spec/transports-and-cli.md` 3).

use bstr::BString;
use dsync_proto::types::Guid;
use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::{Offset, TimeZone};

use crate::UsageError;

/// What a date may look like, for messages.
const DATE_HINT: &str =
    "use a day (2026-11-24 or 24-Nov-2026), seconds since 1970, or an age such as 3days or 2 weeks";

/// `-t` and `-e`: a day in local time, an IMAP date, Unix time, or an age before now.
pub fn date(option: &str, text: &str, now: Timestamp) -> Result<i64, UsageError> {
    let local = TimeZone::system();
    iso_day(text)
        .or_else(|| imap_day(text))
        .and_then(|day| standard_midnight(day, &local))
        .or_else(|| unsigned(text).and_then(|seconds| i64::try_from(seconds).ok()))
        .or_else(|| now.as_second().checked_sub(interval(text)?))
        .ok_or_else(|| {
            UsageError::value(format!("Invalid {option} parameter: {text} ({DATE_HINT})"))
        })
}

/// Midnight of the day, always in standard time as Dovecot computes it.
fn standard_midnight(day: Date, zone: &TimeZone) -> Option<i64> {
    let midnight = DateTime::from_parts(day, jiff::civil::Time::midnight());
    let ambiguous = zone.to_ambiguous_timestamp(midnight);
    let instant = ambiguous.compatible().ok()?;
    let info = zone.to_offset_info(instant);
    let daylight = if info.dst().is_dst() { 3600 } else { 0 };
    let standard = Offset::from_seconds(info.offset().seconds() - daylight).ok()?;
    Some(standard.to_timestamp(midnight).ok()?.as_second())
}

fn unsigned(text: &str) -> Option<u64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        text.parse().ok()
    } else {
        None
    }
}

/// `YYYY-MM-DD`
fn iso_day(text: &str) -> Option<Date> {
    let mut parts = text.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || year.len() != 4 || month.len() != 2 || day.len() != 2 {
        return None;
    }
    civil(year, i8::try_from(unsigned(month)?).ok()?, day)
}

/// `d-Mon-yyyy`
fn imap_day(text: &str) -> Option<Date> {
    const MONTHS: [&str; 12] = [
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
    ];
    let mut parts = text.split('-');
    let (day, month, year) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || year.len() != 4 || day.is_empty() || day.len() > 2 {
        return None;
    }
    let month = month.to_ascii_lowercase();
    let month = MONTHS.iter().position(|name| *name == month)?;
    civil(year, i8::try_from(month + 1).ok()?, day)
}

fn civil(year: &str, month: i8, day: &str) -> Option<Date> {
    let year = i16::try_from(unsigned(year)?).ok()?;
    Date::new(year, month, i8::try_from(unsigned(day)?).ok()?).ok()
}

/// An age in seconds: a number and a unit that may be shortened.
fn interval(text: &str) -> Option<i64> {
    const UNITS: [(&str, i64); 7] = [
        ("secs", 1),
        ("seconds", 1),
        ("mins", 60),
        ("minutes", 60),
        ("hours", 60 * 60),
        ("days", 24 * 60 * 60),
        ("weeks", 7 * 24 * 60 * 60),
    ];
    let (number, unit) = number_and_unit(text)?;
    let unit = unit.to_ascii_lowercase();
    if unit.is_empty() {
        return None;
    }
    let (_, seconds) = UNITS.iter().find(|(name, _)| name.starts_with(&unit))?;
    i64::try_from(number).ok()?.checked_mul(*seconds)
}

/// `-I`: octets with an optional unit `B`, `K`, `M`, `G`, `T` (powers of 1024).
pub fn size(option: &str, text: &str) -> Result<u64, UsageError> {
    let parse = || {
        let (number, unit) = number_and_unit(text)?;
        let unit = unit.to_ascii_uppercase();
        let shift = match unit.as_str() {
            "" | "B" => 0,
            "K" | "KB" | "KI" | "KIB" => 10,
            "M" | "MB" | "MI" | "MIB" => 20,
            "G" | "GB" | "GI" | "GIB" => 30,
            "T" | "TB" | "TI" | "TIB" => 40,
            _ => return None,
        };
        number.checked_mul(1 << shift)
    };
    parse().ok_or_else(|| {
        UsageError::value(format!(
            "Invalid {option} parameter '{text}': Invalid size: {text} \
             (use a number of bytes, or one with a unit such as 500K or 20M)"
        ))
    })
}

fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit.trim_start_matches(' ')))
}

/// `-O`: one system flag or keyword, with a leading `-` for messages that do not have it.
pub fn flag(option: &str, text: &str) -> Result<BString, UsageError> {
    const SYSTEM: [&str; 6] = [
        "\\Answered",
        "\\Flagged",
        "\\Deleted",
        "\\Seen",
        "\\Draft",
        "\\Recent",
    ];
    if text.contains(' ') {
        return Err(UsageError::value(format!(
            "{option} parameter doesn't support multiple flags currently (give one, such as -O '\\Flagged')"
        )));
    }
    let name = text.strip_prefix('-').unwrap_or(text);
    if name.is_empty() {
        return Err(UsageError::value(format!(
            "{option} needs a flag such as '\\Flagged' or a keyword"
        )));
    }
    if name.starts_with('\\') && !SYSTEM.iter().any(|flag| flag.eq_ignore_ascii_case(name)) {
        return Err(UsageError::value(format!(
            "Invalid system flag given for {option} parameter: '{name}' (known are {})",
            SYSTEM.join(" ")
        )));
    }
    Ok(text.into())
}

/// `-g`: a mailbox GUID of 32 hexadecimal digits, not zero; `None` for the empty string.
pub fn guid(option: &str, text: &str) -> Result<Option<Guid>, UsageError> {
    if text.is_empty() {
        return Ok(None);
    }
    match Guid::from_hex(text.as_bytes()) {
        Some(guid) if !guid.is_zero() => Ok(Some(guid)),
        _ => Err(UsageError::value(format!(
            "Invalid {option} parameter: {text} (a mailbox GUID has 32 hexadecimal digits)"
        ))),
    }
}

/// `-l` and `-T`: whole seconds.
pub fn seconds(option: &str, text: &str) -> Result<u32, UsageError> {
    text.parse::<u32>().map_err(|_| {
        let reason = if text.starts_with('-') && text.len() > 1 {
            "Cannot be negative"
        } else {
            "Invalid number"
        };
        UsageError::new(format!("Invalid {option} parameter: {reason}: {text}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * 60 * 60;

    fn now() -> Timestamp {
        Timestamp::from_second(1_700_000_000).unwrap()
    }

    fn seconds_of(text: &str) -> i64 {
        date("-t", text, now()).unwrap()
    }

    #[test]
    fn ages() {
        for (text, age) in [
            ("1s", 1),
            ("2 min", 120),
            ("3H", 3 * 60 * 60),
            ("4days", 4 * DAY),
            ("5   WEEK", 35 * DAY),
            ("6m", 360),
            ("7 seco", 7),
        ] {
            assert_eq!(seconds_of(text), 1_700_000_000 - age, "{text}");
        }
    }

    #[test]
    fn unix_time() {
        assert_eq!(seconds_of("1234567890"), 1_234_567_890);
        assert_eq!(seconds_of("0"), 0);
    }

    #[test]
    fn days_mean_local_midnight() {
        assert_eq!(seconds_of("2023-02-01"), seconds_of("1-Feb-2023"));
        assert_eq!(seconds_of("2023-02-01"), seconds_of("01-fEB-2023"));
        let january = TimeZone::get("Europe/Berlin");
        let zone = january.unwrap_or(TimeZone::UTC);
        let day = |month| Date::new(2023, month, 1).unwrap();
        let between =
            standard_midnight(day(7), &zone).unwrap() - standard_midnight(day(1), &zone).unwrap();
        assert_eq!(between % DAY, 0, "summer time must not shift midnight");
        assert_eq!(
            standard_midnight(day(1), &TimeZone::UTC),
            Some(1_672_531_200)
        );
    }

    #[test]
    fn no_dates() {
        for text in [
            "",
            "foo",
            "2023-13-01",
            "2023-02-30",
            "23-02-01",
            "32-Jan-2023",
            "1-Foo-2023",
            "2023-1-1",
            "-5",
            "5 parsecs",
            "5",
            "days",
            "99999999999999999999s",
            "1.5h",
        ] {
            let result = date("-t", text, now());
            if text == "5" {
                assert_eq!(result, Ok(5));
                continue;
            }
            let error = result.unwrap_err();
            assert_eq!(error.exit_code, 75);
            assert!(
                error
                    .message
                    .starts_with(&format!("Invalid -t parameter: {text} ("))
            );
        }
    }

    #[test]
    fn sizes() {
        for (text, octets) in [
            ("0", 0),
            ("17", 17),
            ("17B", 17),
            ("1K", 1024),
            ("1 kB", 1024),
            ("2MiB", 2 << 20),
            ("3gi", 3 << 30),
            ("4t", 4 << 40),
        ] {
            assert_eq!(size("-I", text), Ok(octets), "{text}");
        }
        for text in ["", "10X", "K", "-1", "1KiBB", "16777216T", "1 B B"] {
            let error = size("-I", text).unwrap_err();
            let start = format!("Invalid -I parameter '{text}': Invalid size: {text} ");
            assert!(error.message.starts_with(&start), "{error}");
            assert_eq!(error.exit_code, 75);
        }
    }

    #[test]
    fn flags() {
        for text in ["\\Seen", "-\\flagged", "$Junk", "-todo"] {
            assert_eq!(flag("-O", text).unwrap(), text);
        }
        for (text, expected) in [
            (
                "\\Foo",
                "Invalid system flag given for -O parameter: '\\Foo'",
            ),
            (
                "-\\Foo",
                "Invalid system flag given for -O parameter: '\\Foo'",
            ),
            (
                "a b",
                "-O parameter doesn't support multiple flags currently",
            ),
            ("", "-O needs a flag"),
            ("-", "-O needs a flag"),
        ] {
            let error = flag("-O", text).unwrap_err();
            assert!(error.message.starts_with(expected), "{error}");
            assert_eq!(error.exit_code, 75);
        }
    }

    #[test]
    fn guids() {
        let text = "0123456789abcdef0123456789abcdef";
        assert_eq!(guid("-g", text).unwrap().unwrap().to_string(), text);
        assert_eq!(guid("-g", ""), Ok(None));
        for text in ["00000000000000000000000000000000", "0123", "xyz"] {
            assert_eq!(guid("-g", text).unwrap_err().exit_code, 75);
        }
    }

    #[test]
    fn whole_seconds() {
        assert_eq!(seconds("-l", "30"), Ok(30));
        for (text, expected) in [
            ("x", "Invalid -l parameter: Invalid number: x"),
            ("-5", "Invalid -l parameter: Cannot be negative: -5"),
            (
                "99999999999",
                "Invalid -l parameter: Invalid number: 99999999999",
            ),
        ] {
            let error = seconds("-l", text).unwrap_err();
            assert_eq!((error.message.as_str(), error.exit_code), (expected, 64));
        }
    }
}
