//! What can be typed is understood as it is meant.

use super::*;

#[test]
fn the_definition_is_sound() {
    command().debug_assert();
}

fn sync(arguments: &[&str]) -> SyncCommand {
    let all = ["dsync"].iter().chain(arguments);
    match Cli::try_parse_from(all).unwrap().action {
        Action::Sync(command) => command,
        other => panic!("{other:?}"),
    }
}

#[test]
fn options_end_at_the_destination() {
    let command = sync(&[
        "sync",
        "-f",
        "ssh",
        "-v",
        "host",
        "--",
        "-R",
        "dsync-server",
    ]);
    assert!(command.common.full_sync && !command.common.reverse_sync);
    assert_eq!(
        command.common.destination,
        ["ssh", "-v", "host", "--", "-R", "dsync-server"]
    );
}

#[test]
fn the_last_value_wins_and_lists_grow() {
    let command = sync(&[
        "mirror", "-m", "a", "-f", "-f", "-m", "b", "-x", "c", "-x", "d", "-s", "", "dest",
    ]);
    assert_eq!(command.common.mailbox.as_deref(), Some("b"));
    assert_eq!(command.common.exclude_mailbox, ["c", "d"]);
    assert_eq!(command.common.state.as_deref(), Some(""));
}

#[test]
fn values_may_begin_with_a_hyphen_and_long_names_may_be_short() {
    let command = sync(&[
        "sync",
        "-O",
        "-\\Seen",
        "-l",
        "-5",
        "--full",
        "--sync-si",
        "1d",
        "x",
    ]);
    assert_eq!(command.common.sync_flags.as_deref(), Some("-\\Seen"));
    assert_eq!(command.common.lock_timeout.as_deref(), Some("-5"));
    assert_eq!(command.common.sync_since_time.as_deref(), Some("1d"));
    assert!(command.common.full_sync);
}

#[test]
fn global_options_stand_on_either_side() {
    for arguments in [
        &["dsync", "-Dv", "-o", "a=1", "-o", "b=2", "sync", "x"][..],
        &["dsync", "sync", "-Dv", "-o", "a=1", "-o", "b=2", "x"],
        &["dsync", "-D", "-o", "a=1", "sync", "-vo", "b=2", "--", "x"],
    ] {
        let cli = Cli::try_parse_from(arguments).unwrap();
        let global = cli.global_arguments();
        assert!(global.debug && global.verbose);
        assert_eq!(global.option, ["a=1", "b=2"], "{arguments:?}");
    }
}

#[test]
fn unknown_options_are_refused() {
    for arguments in [
        &["dsync", "sync", "-Z", "x"][..],
        &["dsync", "backup", "-1", "x"],
        &["dsync", "frobnicate"],
        &["dsync"],
    ] {
        assert!(Cli::try_parse_from(arguments).is_err(), "{arguments:?}");
    }
}

#[test]
fn the_server_keeps_its_arguments() {
    let cli = Cli::try_parse_from(["dsync", "server", "-u", "joe", "--help"]).unwrap();
    match cli.action {
        Action::DsyncServer { arguments } => assert_eq!(arguments, ["-u", "joe", "--help"]),
        other => panic!("{other:?}"),
    }
}
