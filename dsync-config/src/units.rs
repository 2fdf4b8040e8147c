//! Sizes and times as Dovecot writes them: `10 M`, `5 mins`.

/// Number and unit; the unit in lower case.
fn split(value: &str) -> Option<(u32, String)> {
    let digits = value.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = value.split_at(digits);
    Some((number.parse().ok()?, unit.trim().to_ascii_lowercase()))
}

/// A size in bytes, below 4 GiB: `600`, `32k`, `10 M`, `1 GB`.
pub(crate) fn bytes(value: &str) -> Option<u32> {
    let (number, unit) = split(value)?;
    let shift = match unit.trim_end_matches("ib").trim_end_matches('b') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

/// A time in seconds: `30`, `1s`, `5 mins`, `2 hours`, `1 weeks`.
pub(crate) fn seconds(value: &str) -> Option<u32> {
    const UNITS: [(&str, u32); 5] = [
        ("seconds", 1),
        ("minutes", 60),
        ("hours", 3600),
        ("days", 86_400),
        ("weeks", 604_800),
    ];
    let (number, unit) = split(value)?;
    let unit = match &*unit {
        "secs" => "s",
        "mins" => "min",
        unit => unit,
    };
    let (_, factor) = UNITS.iter().find(|(name, _)| name.starts_with(unit))?;
    number.checked_mul(*factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_dovecots() {
        for (text, expected) in [
            ("0", Some(0)),
            ("600", Some(600)),
            ("32k", Some(32 << 10)),
            ("10 M", Some(10 << 20)),
            ("1 GB", Some(1 << 30)),
            ("2 KiB", Some(2 << 10)),
            ("4 G", None),
            ("1 T", None),
            ("M", None),
            ("", None),
            ("-1", None),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
        for (text, expected) in [
            ("0", Some(0)),
            ("30", Some(30)),
            ("1s", Some(1)),
            ("30 secs", Some(30)),
            ("5 mins", Some(300)),
            ("5m", Some(300)),
            ("2 hours", Some(7200)),
            ("1 days", Some(86_400)),
            ("1 weeks", Some(604_800)),
            ("1 year", None),
            ("secs", None),
            ("99999999 weeks", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }
}
