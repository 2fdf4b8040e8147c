//! What both versions print for the same wishes.

use super::*;
use crate::{
    DOVEADM_PASSWORD, DSYNC_HASHED_HEADERS, MAIL_HOME, MAIL_UID, SSL_CLIENT_CA_FILE,
    SSL_SERVER_KEY_FILE,
};

const V23: &str = r#"# 2.3.19.1 (9b53102964): /tmp/rc23.conf
# Hostname: vm
doveadm_password = " sek #ret"
dsync_hashed_headers = Date Message-ID Subject
mail_attribute_dict = file:%h/dovecot-attributes
mail_home = /srv/%d/%n
mail_location = maildir:~/Mail:LAYOUT=fs:INDEX=~/idx
mail_uid = 5000
namespace {
  list = children
  location = sdbox:~/archive
  prefix = archive/
  separator = /
}
namespace inbox {
  inbox = yes
  location = 
  mailbox "Old Trash" {
    special_use = \Trash
  }
  prefix = 
  separator = /
}
namespace others {
  prefix = others/%%u/
  separator = /
  type = shared
}
plugin {
  mail_replica = tcp:h:1
  quota = maildir
}
ssl_client_ca_file = /x/ca.pem
ssl_dh = # hidden, use -P to show it
ssl_key = </x/k.pem
"#;

const V24: &str = r#"# 2.4.1-4 (7d8c0e5759): /tmp/rc/d.conf
dovecot_config_version = 2.4.1
doveadm_password = " sek #ret"
dsync_hashed_headers = Date Message-ID Subject
mail_driver = maildir
mail_home = /srv/%{user | domain}/%{user | username}
mail_index_path = ~/idx
mail_path = ~/Mail
mail_uid = 5000
mailbox_list_layout = fs
ssl_client {
  ca_file = /x/ca.pem
}
ssl_server {
  cert_file = /x/c.pem
  key_file = /x/k.pem
}
mail_attribute {
  dict file {
    path = %{home}/dovecot-attributes
  }
}
namespace archive {
  mail_driver = sdbox
  mail_path = ~/archive
  list = children
  prefix = archive/
  separator = /
}
namespace inbox {
  inbox = yes
  separator = /
  mailbox "Old Trash" {
    special_use = "\\Trash"
  }
}
"#;

fn taken(text: &str) -> Settings {
    let mut settings = Settings::default();
    settings.take_doveconf(text).unwrap();
    settings
}

#[test]
fn both_versions() {
    for (text, location, attributes) in [
        (
            V23,
            "maildir:~/Mail:LAYOUT=fs:INDEX=~/idx",
            "file:%h/dovecot-attributes",
        ),
        (
            V24,
            "maildir:~/Mail:INDEX=~/idx:LAYOUT=fs",
            "file:%{home}/dovecot-attributes",
        ),
    ] {
        let settings = taken(text);
        assert_eq!(settings.text(&DOVEADM_PASSWORD), " sek #ret");
        assert_eq!(
            settings.text(&DSYNC_HASHED_HEADERS),
            "Date Message-ID Subject"
        );
        assert_eq!(settings.text(&MAIL_HOME), "/srv/%d/%n");
        assert_eq!(settings.text(&MAIL_LOCATION), location);
        assert_eq!(settings.text(&MAIL_ATTRIBUTE_DICT), attributes);
        assert_eq!(settings.text(&MAIL_UID), "5000");
        assert_eq!(settings.text(&SSL_CLIENT_CA_FILE), "/x/ca.pem");
        assert_eq!(settings.text(&SSL_SERVER_KEY_FILE), "/x/k.pem");
        assert_eq!(settings.text(&USERDB), "auth");
        assert_eq!(settings.origin(&MAIL_LOCATION), Some(&Origin::Doveconf));
        let [archive, inbox] = settings.namespaces() else {
            panic!("{:?}", settings.namespaces());
        };
        assert_eq!(
            (archive.prefix.as_str(), archive.unlisted),
            ("archive/", false)
        );
        assert_eq!(archive.location, "sdbox:~/archive");
        assert!(inbox.inbox && inbox.location.is_empty());
        assert_eq!(inbox.special_use["Old Trash"], ["\\Trash"]);
    }
    assert_eq!(taken(V23).text(&MAIL_REPLICA), "tcp:h:1");
}

#[test]
fn what_cannot_be_done_here_is_said() {
    let error = Settings::default().take_doveconf("lock_method = dotlock\n");
    let error = error.unwrap_err();
    assert_eq!(error.exit_code(), 78);
    assert!(
        error.to_string().starts_with("doveconf: lock_method"),
        "{error}"
    );
}

#[test]
fn colons_in_paths() {
    let settings = taken("mail_driver = maildir\nmail_path = ~/a:b\n");
    assert_eq!(settings.text(&MAIL_LOCATION), "maildir:~/a::b");
}
