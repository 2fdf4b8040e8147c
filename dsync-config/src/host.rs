//! The name of this host.

use std::fs;

use crate::{HOSTNAME, Settings};

/// The name that Dovecot would use: `DOVECOT_HOSTDOMAIN` if the program found it in its
/// environment, else the setting `hostname`, else the canonical name of this host, as far as
/// `/etc/hosts` knows it (`spec/brain-and-tree.md` 4.1).
pub fn host_domain(from_environment: Option<String>, settings: &Settings) -> String {
    from_environment
        .into_iter()
        .chain([settings.text(&HOSTNAME).to_owned()])
        .find(|name| !name.is_empty())
        .unwrap_or_else(|| {
            let name = host_name();
            let hosts = fs::read_to_string("/etc/hosts").unwrap_or_default();
            canonical(&name, &hosts).unwrap_or(&name).to_owned()
        })
}

/// The name of this host without its domain, or whatever the administrator made of it.
pub fn host_name() -> String {
    nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "localhost".to_owned())
}

/// The first name of the line that has this name.
fn canonical<'a>(name: &str, hosts: &'a str) -> Option<&'a str> {
    hosts.lines().find_map(|line| {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace().skip(1);
        let first = words.next()?;
        (first == name || words.any(|word| word == name)).then_some(first)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_names() {
        let hosts = "127.0.0.1 localhost # mail\n\n10.0.0.2\tmail.example.org mail # m\n10.0.0.3\n";
        for (name, expected) in [
            ("mail", Some("mail.example.org")),
            ("mail.example.org", Some("mail.example.org")),
            ("localhost", Some("localhost")),
            ("other", None),
            ("m", None),
        ] {
            assert_eq!(canonical(name, hosts), expected, "{name}");
        }
    }

    #[test]
    fn the_environment_wins() {
        let mut settings = Settings::default();
        let own = host_domain(None, &settings);
        assert!(!own.is_empty());
        assert_eq!(host_domain(Some(String::new()), &settings), own);
        let origin = crate::Origin::Argument("-o");
        settings.assign("hostname=b.example", &origin).unwrap();
        assert_eq!(host_domain(None, &settings), "b.example");
        assert_eq!(
            host_domain(Some("a.example".into()), &settings),
            "a.example"
        );
    }
}
