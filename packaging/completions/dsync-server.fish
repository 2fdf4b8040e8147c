# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_dsync_server_global_optspecs
    string join \n c/config= o/option= T/timeout= v/verbose D/debug u/user= remoteprefix r/rawlog= U/replicator-notify E/legacy-dsync h/help V/version
end

function __fish_dsync_server_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_dsync_server_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_dsync_server_using_subcommand
    set -l cmd (__fish_dsync_server_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c dsync-server -n "__fish_dsync_server_needs_command" -s c -l config -d 'Read settings from this TOML file, or dovecot.conf' -r -F
complete -c dsync-server -n "__fish_dsync_server_needs_command" -s o -l option -d 'Set a setting, such as mail_location=maildir:~/Maildir; may be repeated' -r
complete -c dsync-server -n "__fish_dsync_server_needs_command" -s T -l timeout -d 'Give up when nothing was sent or received for this long (default 600)' -r
complete -c dsync-server -n "__fish_dsync_server_needs_command" -s u -l user -d 'Whose mail: fills in %u in settings and finds the home directory' -r
complete -c dsync-server -n "__fish_dsync_server_needs_command" -s r -l rawlog -d 'Append everything that is sent and received to this file' -r -F
complete -c dsync-server -n "__fish_dsync_server_needs_command" -s v -l verbose -d 'Say what is done'
complete -c dsync-server -n "__fish_dsync_server_needs_command" -s D -l debug -d 'Say everything'
complete -c dsync-server -n "__fish_dsync_server_needs_command" -l remoteprefix -d 'Read whose mail it is from the first line of standard input (destination remoteprefix:)'
complete -c dsync-server -n "__fish_dsync_server_needs_command" -s U -l replicator-notify -d 'Accepted for doveadm\'s sake: marks a run that nobody started by hand'
complete -c dsync-server -n "__fish_dsync_server_needs_command" -s E -l legacy-dsync -d 'Accepted for doveadm\'s sake'
complete -c dsync-server -n "__fish_dsync_server_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c dsync-server -n "__fish_dsync_server_needs_command" -s V -l version -d 'Print version'
complete -c dsync-server -n "__fish_dsync_server_needs_command" -a "listen" -d 'Listen for dsync and doveadm sync, with the doveadm protocol, until a signal comes'
complete -c dsync-server -n "__fish_dsync_server_using_subcommand listen" -l max-sessions -d 'Most sessions at one time' -r
complete -c dsync-server -n "__fish_dsync_server_using_subcommand listen" -l max-per-address -d 'Most connections of one address (of IPv6: one /64 network) at one time' -r
complete -c dsync-server -n "__fish_dsync_server_using_subcommand listen" -l serve -d 'Serve only users that fit this mask (*@example.org); may be repeated' -r
complete -c dsync-server -n "__fish_dsync_server_using_subcommand listen" -s c -l config -d 'Read settings from this TOML file, or dovecot.conf' -r -F
complete -c dsync-server -n "__fish_dsync_server_using_subcommand listen" -s o -l option -d 'Set a setting, such as mail_location=maildir:~/Maildir; may be repeated' -r
complete -c dsync-server -n "__fish_dsync_server_using_subcommand listen" -s T -l timeout -d 'Give up when nothing was sent or received for this long (default 600)' -r
complete -c dsync-server -n "__fish_dsync_server_using_subcommand listen" -s v -l verbose -d 'Say what is done'
complete -c dsync-server -n "__fish_dsync_server_using_subcommand listen" -s D -l debug -d 'Say everything'
complete -c dsync-server -n "__fish_dsync_server_using_subcommand listen" -s h -l help -d 'Print help'
