//! `%` variables in settings (`spec/maildir.md` 2).

use crate::{ConfigError, User};

/// Fills in `%u` (user), `%n` (part before `@`), `%d` (domain), `%h` (home) and `%%`, each also
/// with the modifiers `L` (lower case) and `U` (upper case), and the long form `%{user}`,
/// `%{home}`. Anything else is refused: a path with a variable left in it would be a wrong path.
pub fn expand(text: &str, user: &User) -> Result<String, ConfigError> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        expanded.push_str(before);
        let (value, remaining) = variable(after, user).map_err(|reason| ConfigError::Variable {
            text: text.to_owned(),
            reason,
        })?;
        expanded.push_str(&value);
        rest = remaining;
    }
    expanded.push_str(rest);
    Ok(expanded)
}

/// The value of the variable at the start of the text, and what follows it.
fn variable<'a>(text: &'a str, user: &User) -> Result<(String, &'a str), String> {
    if let Some((name, rest)) = text.strip_prefix('{').and_then(|text| text.split_once('}')) {
        let value = match name.trim() {
            "user" => user.name.clone(),
            "home" => home(user)?,
            _ => return Err(format!("%{{{name}}} is not known here")),
        };
        return Ok((value, rest));
    }
    let modifiers = text.len() - text.trim_start_matches(['L', 'U']).len();
    let (modifiers, text) = text.split_at(modifiers);
    let mut chars = text.chars();
    let mut value = match chars.next() {
        Some('u') => user.name.clone(),
        Some('n') => user.local_part().to_owned(),
        Some('d') => user.domain().to_owned(),
        Some('h') => home(user)?,
        Some('%') => "%".to_owned(),
        Some(other) => {
            return Err(format!(
                "%{other} is not known here; write %% for a percent sign"
            ));
        }
        None => return Err("it ends with a single %; write %% for a percent sign".to_owned()),
    };
    for modifier in modifiers.chars() {
        value = match modifier {
            'L' => value.to_lowercase(),
            _ => value.to_uppercase(),
        };
    }
    Ok((value, chars.as_str()))
}

fn home(user: &User) -> Result<String, String> {
    match &user.home {
        Some(home) => Ok(home.display().to_string()),
        None => Err("the user has no home directory; give -o mail_home=DIR".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user() -> User {
        User {
            name: "Joe@Example.org".into(),
            home: Some("/home/joe".into()),
        }
    }

    #[test]
    fn all_forms() {
        for (text, expected) in [
            ("maildir:~/Maildir", "maildir:~/Maildir"),
            ("%u", "Joe@Example.org"),
            ("/v/%d/%n/m", "/v/Example.org/Joe/m"),
            ("/v/%Ld/%Un", "/v/example.org/JOE"),
            ("%h/x", "/home/joe/x"),
            ("%{user}:%{home}", "Joe@Example.org:/home/joe"),
            ("100%%", "100%"),
        ] {
            assert_eq!(expand(text, &user()).unwrap(), expected);
        }
    }

    #[test]
    fn unknown_ones_are_refused() {
        for text in ["%x", "%", "a%", "%{uid}", "%L", "%{user"] {
            assert!(expand(text, &user()).is_err(), "{text}");
        }
        let homeless = User {
            home: None,
            ..user()
        };
        let error = expand("%h/x", &homeless).unwrap_err();
        assert!(error.to_string().contains("mail_home"), "{error}");
    }

    #[test]
    fn a_user_without_domain() {
        let user = User {
            name: "joe".into(),
            home: None,
        };
        assert_eq!(expand("[%n][%d]", &user).unwrap(), "[joe][]");
    }
}
