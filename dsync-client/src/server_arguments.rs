//! A whole command for a doveadm server (`spec/transports-and-cli.md` 13.1).

use bstr::BString;

use crate::SyncArguments;

/// The options that were given, and the destination, as the arguments of the same command there.
pub fn server_arguments(arguments: &SyncArguments, one_way: bool, user: &str) -> Vec<BString> {
    let mut words: Vec<BString> = Vec::new();
    let mut add = |option: &str, value: Option<&str>| {
        words.push(option.into());
        words.extend(value.map(BString::from));
    };
    add("-u", Some(user));
    for (option, is_given) in [
        ("-1", one_way),
        ("-f", arguments.full_sync),
        ("-R", arguments.reverse_sync),
        ("-P", arguments.purge_remote),
        ("-N", arguments.all_namespaces),
        ("-d", arguments.default_destination),
        ("-U", arguments.replicator_notify),
    ] {
        if is_given {
            add(option, None);
        }
    }
    let rawlog = arguments
        .rawlog
        .as_ref()
        .map(|path| path.display().to_string());
    for (option, value) in [
        ("-m", &arguments.mailbox),
        ("-g", &arguments.mailbox_guid),
        ("-t", &arguments.sync_since_time),
        ("-e", &arguments.sync_until_time),
        ("-O", &arguments.sync_flags),
        ("-I", &arguments.sync_max_size),
        ("-a", &arguments.all_mailbox),
        ("-l", &arguments.lock_timeout),
        ("-T", &arguments.timeout),
        ("-r", &rawlog),
        ("-s", &arguments.state),
    ] {
        if let Some(value) = value {
            add(option, Some(value));
        }
    }
    for (option, values) in [
        ("-n", &arguments.namespace),
        ("-x", &arguments.exclude_mailbox),
    ] {
        for value in values {
            add(option, Some(value));
        }
    }
    words.push("--".into());
    words.extend(
        arguments
            .destination
            .iter()
            .map(|word| word.as_str().into()),
    );
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_was_given() {
        let arguments = SyncArguments {
            lock_timeout: Some("10".into()),
            state: Some(String::new()),
            exclude_mailbox: vec!["a".into(), "b c".into()],
            full_sync: true,
            destination: vec!["maildir:~/Backup".into()],
            ..SyncArguments::default()
        };
        let words = server_arguments(&arguments, true, "u1@example.org").join(&b'|');
        let expected = "-u|u1@example.org|-1|-f|-l|10|-s||-x|a|-x|b c|--|maildir:~/Backup";
        assert_eq!(words, expected.as_bytes());
    }
}
