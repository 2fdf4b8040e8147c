# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_dsync_global_optspecs
    string join \n c/config= o/option= v/verbose D/debug q/quiet json no-progress worker= worker-of-many h/help V/version
end

function __fish_dsync_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_dsync_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_dsync_using_subcommand
    set -l cmd (__fish_dsync_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c dsync -n "__fish_dsync_needs_command" -s c -l config -d 'Read settings from this TOML file, or dovecot.conf' -r -F
complete -c dsync -n "__fish_dsync_needs_command" -s o -l option -d 'Set a setting, such as mail_location=maildir:~/Maildir; may be repeated' -r
complete -c dsync -n "__fish_dsync_needs_command" -l worker -d 'This program was started by itself, to become this user: its standard input is the way to the other side' -r
complete -c dsync -n "__fish_dsync_needs_command" -s v -l verbose -d 'Say what is done: one line for each mailbox'
complete -c dsync -n "__fish_dsync_needs_command" -s D -l debug -d 'Say everything, on both sides'
complete -c dsync -n "__fish_dsync_needs_command" -s q -l quiet -d 'Say nothing but errors'
complete -c dsync -n "__fish_dsync_needs_command" -l json -d 'Print the result as one JSON object on stdout'
complete -c dsync -n "__fish_dsync_needs_command" -l no-progress -d 'No progress bar, also on a terminal'
complete -c dsync -n "__fish_dsync_needs_command" -l worker-of-many -d 'The same for one of many users, who are named in messages'
complete -c dsync -n "__fish_dsync_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c dsync -n "__fish_dsync_needs_command" -s V -l version -d 'Print version'
complete -c dsync -n "__fish_dsync_needs_command" -f -a "sync" -d 'Bring the changes of both sides together'
complete -c dsync -n "__fish_dsync_needs_command" -f -a "backup" -d 'Make the destination equal to the source'
complete -c dsync -n "__fish_dsync_needs_command" -f -a "check" -d 'Find out why a destination cannot be synced with, and what to do'
complete -c dsync -n "__fish_dsync_needs_command" -f -a "config" -d 'Show the settings that are in force, and where each was given'
complete -c dsync -n "__fish_dsync_needs_command" -f -a "index" -d 'Look into the index files of a mailbox'
complete -c dsync -n "__fish_dsync_needs_command" -f -a "dsync-server" -d 'Run the program dsync-server with these arguments (see dsync-server --help)'
complete -c dsync -n "__fish_dsync_using_subcommand sync" -l source -d 'The own store; short for -o mail_location=LOCATION. Default: ~/Maildir if it exists' -r
complete -c dsync -n "__fish_dsync_using_subcommand sync" -s u -l user -d 'Whose mail: a user of the userdb, or a mask (*@example.org) for all that fit' -r
complete -c dsync -n "__fish_dsync_using_subcommand sync" -s F -l user-file -d 'The users in this file, one per line; - for standard input' -r -F
complete -c dsync -n "__fish_dsync_using_subcommand sync" -l jobs -d 'So many users at one time (-A, -F, a mask). Default: one for each processor, at most 8; an sshd allows 10 for each connection' -r
complete -c dsync -n "__fish_dsync_using_subcommand sync" -s s -l state -d 'State printed by an earlier run, or \'\' for the first; the new state is printed on stdout' -r
complete -c dsync -n "__fish_dsync_using_subcommand sync" -s m -l mailbox -d 'Only this mailbox, pattern (Work/*) or special use (\\Sent); \'\' for names without mail' -r
complete -c dsync -n "__fish_dsync_using_subcommand sync" -s g -l mailbox-guid -d 'Only the mailbox with this GUID; \'\' for names without mail' -r
complete -c dsync -n "__fish_dsync_using_subcommand sync" -s x -l exclude-mailbox -d 'Not these mailboxes: a name, a mask (Spam*) or a special use (\\Trash); may be repeated' -r
complete -c dsync -n "__fish_dsync_using_subcommand sync" -s n -l namespace -d 'Only the namespace with this prefix; may be repeated' -r
complete -c dsync -n "__fish_dsync_using_subcommand sync" -s t -l sync-since-time -d 'Only messages received since: 2026-11-24, 24-Nov-2026, Unix time, or an age (30days)' -r
complete -c dsync -n "__fish_dsync_using_subcommand sync" -s e -l sync-until-time -d 'Only messages received until then' -r
complete -c dsync -n "__fish_dsync_using_subcommand sync" -s O -l sync-flags -d 'Only messages with this flag (\\Flagged) or keyword; with a leading - those without it' -r
complete -c dsync -n "__fish_dsync_using_subcommand sync" -s I -l sync-max-size -d 'Only messages of at most this size, such as 500K or 20M' -r
complete -c dsync -n "__fish_dsync_using_subcommand sync" -s a -l all-mailbox -d 'Virtual mailbox with all messages, from which the other side copies instead of fetching' -r
complete -c dsync -n "__fish_dsync_using_subcommand sync" -s l -l lock-timeout -d 'Allow one run per user at a time, and wait this many seconds for another one to end' -r
complete -c dsync -n "__fish_dsync_using_subcommand sync" -s T -l timeout -d 'Give up when nothing was sent or received for this long (default 600); until a doveadm server has let us in, after 30 seconds at the latest' -r
complete -c dsync -n "__fish_dsync_using_subcommand sync" -s r -l rawlog -d 'Append everything that is sent and received to this file' -r -F
complete -c dsync -n "__fish_dsync_using_subcommand sync" -s p -l destination-option -d 'Setting for the destination only, if it is a location; may be repeated' -r
complete -c dsync -n "__fish_dsync_using_subcommand sync" -s S -l socket-path -d 'Let a doveadm server do the whole command: path of its UNIX socket, or HOST:PORT' -r
complete -c dsync -n "__fish_dsync_using_subcommand sync" -s c -l config -d 'Read settings from this TOML file, or dovecot.conf' -r -F
complete -c dsync -n "__fish_dsync_using_subcommand sync" -s o -l option -d 'Set a setting, such as mail_location=maildir:~/Maildir; may be repeated' -r
complete -c dsync -n "__fish_dsync_using_subcommand sync" -s 1 -l oneway-sync -d 'One way: the destination gets the changes, nothing is deleted there'
complete -c dsync -n "__fish_dsync_using_subcommand sync" -s A -l all-users -d 'All users of the userdb'
complete -c dsync -n "__fish_dsync_using_subcommand sync" -s R -l reverse-sync -d 'The other side is the source, the own store the destination (backup and -1)'
complete -c dsync -n "__fish_dsync_using_subcommand sync" -s f -l full-sync -d 'Compare everything, also where the counters of both sides are equal'
complete -c dsync -n "__fish_dsync_using_subcommand sync" -s P -l purge-remote -d 'Purge the other side\'s storage afterwards (mdbox)'
complete -c dsync -n "__fish_dsync_using_subcommand sync" -s N -l all-namespaces -d 'All visible namespaces (with a command as destination)'
complete -c dsync -n "__fish_dsync_using_subcommand sync" -s U -l replicator-notify -d 'Accepted for doveadm\'s sake: marks a run that nobody started by hand'
complete -c dsync -n "__fish_dsync_using_subcommand sync" -l no-userdb-lookup -d 'Accepted for doveadm\'s sake'
complete -c dsync -n "__fish_dsync_using_subcommand sync" -s d -l default-destination -d 'The destination is the user\'s mail_replica'
complete -c dsync -n "__fish_dsync_using_subcommand sync" -s v -l verbose -d 'Say what is done: one line for each mailbox'
complete -c dsync -n "__fish_dsync_using_subcommand sync" -s D -l debug -d 'Say everything, on both sides'
complete -c dsync -n "__fish_dsync_using_subcommand sync" -s q -l quiet -d 'Say nothing but errors'
complete -c dsync -n "__fish_dsync_using_subcommand sync" -l json -d 'Print the result as one JSON object on stdout'
complete -c dsync -n "__fish_dsync_using_subcommand sync" -l no-progress -d 'No progress bar, also on a terminal'
complete -c dsync -n "__fish_dsync_using_subcommand sync" -s h -l help -d 'Print help'
complete -c dsync -n "__fish_dsync_using_subcommand backup" -l source -d 'The own store; short for -o mail_location=LOCATION. Default: ~/Maildir if it exists' -r
complete -c dsync -n "__fish_dsync_using_subcommand backup" -s u -l user -d 'Whose mail: a user of the userdb, or a mask (*@example.org) for all that fit' -r
complete -c dsync -n "__fish_dsync_using_subcommand backup" -s F -l user-file -d 'The users in this file, one per line; - for standard input' -r -F
complete -c dsync -n "__fish_dsync_using_subcommand backup" -l jobs -d 'So many users at one time (-A, -F, a mask). Default: one for each processor, at most 8; an sshd allows 10 for each connection' -r
complete -c dsync -n "__fish_dsync_using_subcommand backup" -s s -l state -d 'State printed by an earlier run, or \'\' for the first; the new state is printed on stdout' -r
complete -c dsync -n "__fish_dsync_using_subcommand backup" -s m -l mailbox -d 'Only this mailbox, pattern (Work/*) or special use (\\Sent); \'\' for names without mail' -r
complete -c dsync -n "__fish_dsync_using_subcommand backup" -s g -l mailbox-guid -d 'Only the mailbox with this GUID; \'\' for names without mail' -r
complete -c dsync -n "__fish_dsync_using_subcommand backup" -s x -l exclude-mailbox -d 'Not these mailboxes: a name, a mask (Spam*) or a special use (\\Trash); may be repeated' -r
complete -c dsync -n "__fish_dsync_using_subcommand backup" -s n -l namespace -d 'Only the namespace with this prefix; may be repeated' -r
complete -c dsync -n "__fish_dsync_using_subcommand backup" -s t -l sync-since-time -d 'Only messages received since: 2026-11-24, 24-Nov-2026, Unix time, or an age (30days)' -r
complete -c dsync -n "__fish_dsync_using_subcommand backup" -s e -l sync-until-time -d 'Only messages received until then' -r
complete -c dsync -n "__fish_dsync_using_subcommand backup" -s O -l sync-flags -d 'Only messages with this flag (\\Flagged) or keyword; with a leading - those without it' -r
complete -c dsync -n "__fish_dsync_using_subcommand backup" -s I -l sync-max-size -d 'Only messages of at most this size, such as 500K or 20M' -r
complete -c dsync -n "__fish_dsync_using_subcommand backup" -s a -l all-mailbox -d 'Virtual mailbox with all messages, from which the other side copies instead of fetching' -r
complete -c dsync -n "__fish_dsync_using_subcommand backup" -s l -l lock-timeout -d 'Allow one run per user at a time, and wait this many seconds for another one to end' -r
complete -c dsync -n "__fish_dsync_using_subcommand backup" -s T -l timeout -d 'Give up when nothing was sent or received for this long (default 600); until a doveadm server has let us in, after 30 seconds at the latest' -r
complete -c dsync -n "__fish_dsync_using_subcommand backup" -s r -l rawlog -d 'Append everything that is sent and received to this file' -r -F
complete -c dsync -n "__fish_dsync_using_subcommand backup" -s p -l destination-option -d 'Setting for the destination only, if it is a location; may be repeated' -r
complete -c dsync -n "__fish_dsync_using_subcommand backup" -s S -l socket-path -d 'Let a doveadm server do the whole command: path of its UNIX socket, or HOST:PORT' -r
complete -c dsync -n "__fish_dsync_using_subcommand backup" -s c -l config -d 'Read settings from this TOML file, or dovecot.conf' -r -F
complete -c dsync -n "__fish_dsync_using_subcommand backup" -s o -l option -d 'Set a setting, such as mail_location=maildir:~/Maildir; may be repeated' -r
complete -c dsync -n "__fish_dsync_using_subcommand backup" -s A -l all-users -d 'All users of the userdb'
complete -c dsync -n "__fish_dsync_using_subcommand backup" -s R -l reverse-sync -d 'The other side is the source, the own store the destination (backup and -1)'
complete -c dsync -n "__fish_dsync_using_subcommand backup" -s f -l full-sync -d 'Compare everything, also where the counters of both sides are equal'
complete -c dsync -n "__fish_dsync_using_subcommand backup" -s P -l purge-remote -d 'Purge the other side\'s storage afterwards (mdbox)'
complete -c dsync -n "__fish_dsync_using_subcommand backup" -s N -l all-namespaces -d 'All visible namespaces (with a command as destination)'
complete -c dsync -n "__fish_dsync_using_subcommand backup" -s U -l replicator-notify -d 'Accepted for doveadm\'s sake: marks a run that nobody started by hand'
complete -c dsync -n "__fish_dsync_using_subcommand backup" -l no-userdb-lookup -d 'Accepted for doveadm\'s sake'
complete -c dsync -n "__fish_dsync_using_subcommand backup" -s d -l default-destination -d 'The destination is the user\'s mail_replica'
complete -c dsync -n "__fish_dsync_using_subcommand backup" -s v -l verbose -d 'Say what is done: one line for each mailbox'
complete -c dsync -n "__fish_dsync_using_subcommand backup" -s D -l debug -d 'Say everything, on both sides'
complete -c dsync -n "__fish_dsync_using_subcommand backup" -s q -l quiet -d 'Say nothing but errors'
complete -c dsync -n "__fish_dsync_using_subcommand backup" -l json -d 'Print the result as one JSON object on stdout'
complete -c dsync -n "__fish_dsync_using_subcommand backup" -l no-progress -d 'No progress bar, also on a terminal'
complete -c dsync -n "__fish_dsync_using_subcommand backup" -s h -l help -d 'Print help'
complete -c dsync -n "__fish_dsync_using_subcommand check" -l source -d 'The own store; short for -o mail_location=LOCATION. Default: ~/Maildir if it exists' -r
complete -c dsync -n "__fish_dsync_using_subcommand check" -s u -l user -d 'Whose mail: a user of the userdb' -r
complete -c dsync -n "__fish_dsync_using_subcommand check" -s c -l config -d 'Read settings from this TOML file, or dovecot.conf' -r -F
complete -c dsync -n "__fish_dsync_using_subcommand check" -s o -l option -d 'Set a setting, such as mail_location=maildir:~/Maildir; may be repeated' -r
complete -c dsync -n "__fish_dsync_using_subcommand check" -s d -l default-destination -d 'The destination is the user\'s mail_replica'
complete -c dsync -n "__fish_dsync_using_subcommand check" -s v -l verbose -d 'Say what is done: one line for each mailbox'
complete -c dsync -n "__fish_dsync_using_subcommand check" -s D -l debug -d 'Say everything, on both sides'
complete -c dsync -n "__fish_dsync_using_subcommand check" -s q -l quiet -d 'Say nothing but errors'
complete -c dsync -n "__fish_dsync_using_subcommand check" -l json -d 'Print the result as one JSON object on stdout'
complete -c dsync -n "__fish_dsync_using_subcommand check" -l no-progress -d 'No progress bar, also on a terminal'
complete -c dsync -n "__fish_dsync_using_subcommand check" -s h -l help -d 'Print help'
complete -c dsync -n "__fish_dsync_using_subcommand config" -s u -l user -d 'As they are for this user' -r
complete -c dsync -n "__fish_dsync_using_subcommand config" -s c -l config -d 'Read settings from this TOML file, or dovecot.conf' -r -F
complete -c dsync -n "__fish_dsync_using_subcommand config" -s o -l option -d 'Set a setting, such as mail_location=maildir:~/Maildir; may be repeated' -r
complete -c dsync -n "__fish_dsync_using_subcommand config" -s P -l show-secrets -d 'Passwords too'
complete -c dsync -n "__fish_dsync_using_subcommand config" -s v -l verbose -d 'Say what is done: one line for each mailbox'
complete -c dsync -n "__fish_dsync_using_subcommand config" -s D -l debug -d 'Say everything, on both sides'
complete -c dsync -n "__fish_dsync_using_subcommand config" -s q -l quiet -d 'Say nothing but errors'
complete -c dsync -n "__fish_dsync_using_subcommand config" -l json -d 'Print the result as one JSON object on stdout'
complete -c dsync -n "__fish_dsync_using_subcommand config" -l no-progress -d 'No progress bar, also on a terminal'
complete -c dsync -n "__fish_dsync_using_subcommand config" -s h -l help -d 'Print help'
complete -c dsync -n "__fish_dsync_using_subcommand index; and not __fish_seen_subcommand_from dump" -s h -l help -d 'Print help'
complete -c dsync -n "__fish_dsync_using_subcommand index; and not __fish_seen_subcommand_from dump" -f -a "dump" -d 'Print what stands in dovecot.index, dovecot.index.log.2 and dovecot.index.log'
complete -c dsync -n "__fish_dsync_using_subcommand index; and __fish_seen_subcommand_from dump" -s c -l config -d 'Read settings from this TOML file, or dovecot.conf' -r -F
complete -c dsync -n "__fish_dsync_using_subcommand index; and __fish_seen_subcommand_from dump" -s o -l option -d 'Set a setting, such as mail_location=maildir:~/Maildir; may be repeated' -r
complete -c dsync -n "__fish_dsync_using_subcommand index; and __fish_seen_subcommand_from dump" -s v -l verbose -d 'Say what is done: one line for each mailbox'
complete -c dsync -n "__fish_dsync_using_subcommand index; and __fish_seen_subcommand_from dump" -s D -l debug -d 'Say everything, on both sides'
complete -c dsync -n "__fish_dsync_using_subcommand index; and __fish_seen_subcommand_from dump" -s q -l quiet -d 'Say nothing but errors'
complete -c dsync -n "__fish_dsync_using_subcommand index; and __fish_seen_subcommand_from dump" -l json -d 'Print the result as one JSON object on stdout'
complete -c dsync -n "__fish_dsync_using_subcommand index; and __fish_seen_subcommand_from dump" -l no-progress -d 'No progress bar, also on a terminal'
complete -c dsync -n "__fish_dsync_using_subcommand index; and __fish_seen_subcommand_from dump" -s h -l help -d 'Print help'
