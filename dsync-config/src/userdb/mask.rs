//! Masks of user names.

/// Whether a name fits a mask: `*` is any text, `?` one character, everything else itself,
/// without regard to case (`spec/transports-and-cli.md` 14).
pub fn matches_mask(mask: &str, name: &str) -> bool {
    let mask: Vec<char> = mask.chars().flat_map(char::to_lowercase).collect();
    let name: Vec<char> = name.chars().flat_map(char::to_lowercase).collect();
    let (mut at, mut of) = (0, 0);
    // Where the last * was, and the name's position that it reaches to.
    let mut star: Option<(usize, usize)> = None;
    while of < name.len() {
        match mask.get(at) {
            Some('*') => {
                star = Some((at, of));
                at += 1;
            }
            Some(expected) if *expected == '?' || name.get(of) == Some(expected) => {
                at += 1;
                of += 1;
            }
            _ => match &mut star {
                // The * takes one more.
                Some((back, reach)) => {
                    *reach += 1;
                    at = *back + 1;
                    of = *reach;
                }
                None => return false,
            },
        }
    }
    mask.get(at..)
        .unwrap_or_default()
        .iter()
        .all(|rest| *rest == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks() {
        for (mask, name, expected) in [
            ("*", "", true),
            ("*", "joe@example.org", true),
            ("*@example.org", "joe@EXAMPLE.org", true),
            ("*@example.org", "joe@example.com", false),
            ("u?@*", "u1@x", true),
            ("u?@*", "u12@x", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("u[12]", "u1", false),
            ("?", "", false),
            ("", "", true),
        ] {
            assert_eq!(matches_mask(mask, name), expected, "{mask} {name}");
        }
    }
}
