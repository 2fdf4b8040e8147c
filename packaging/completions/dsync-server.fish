complete -c dsync-server -s c -l config -d 'Read settings from this TOML file' -r -F
complete -c dsync-server -s o -l option -d 'Set a setting, such as mail_location=maildir:~/Maildir; may be repeated' -r
complete -c dsync-server -s u -l user -d 'Whose mail: fills in %u in settings and finds the home directory' -r
complete -c dsync-server -s T -l timeout -d 'Give up when nothing was sent or received for this long' -r
complete -c dsync-server -s r -l rawlog -d 'Append everything that is sent and received to this file' -r -F
complete -c dsync-server -l remoteprefix -d 'Read whose mail it is from the first line of standard input (destination remoteprefix:)'
complete -c dsync-server -s v -l verbose -d 'Say what is done'
complete -c dsync-server -s D -l debug -d 'Say everything'
complete -c dsync-server -s U -l replicator-notify -d 'Accepted for doveadm\'s sake: marks a run that nobody started by hand'
complete -c dsync-server -s E -l legacy-dsync -d 'Accepted for doveadm\'s sake'
complete -c dsync-server -s h -l help -d 'Print help (see more with \'--help\')'
complete -c dsync-server -s V -l version -d 'Print version'
