//! With a Dovecot server over a slow link: which mailboxes are equal is found out for all at once.
//!
//! A Dovecot reads exactly what its state lets it expect, so a client that does not know whether a
//! mailbox is equal must wait for the answer to each `B`: a round trip for every mailbox. But a
//! session without mail sync (`no_mail_sync`) answers each `B` with the server's own, whatever the
//! counters are, and waits for the next. Such a second session asks about all mailboxes in one go
//! while the first one pauses. What it finds equal is not mentioned in the first one any more
//! (`spec/wire.md` 6.5).
//!
//! The second session changes nothing at the server: it makes the server the source of a one-way
//! run, gives its own tree back to it, and its `B` never make it take a UIDVALIDITY or a cache
//! decision.

use std::collections::{HashMap, VecDeque};

use bstr::BString;
use dsync_proto::items::{Deletes, Finish, Item, MailboxInfo, SyncType};
use dsync_proto::types::Guid;

use super::errors::unexpected;
use super::{Brain, Phase, Poll};
use crate::options::Mode;
use crate::{Outcome, RunError, SyncOptions};

/// Fewer mailboxes are talked about one after the other.
const FEWEST: usize = 8;

/// What the server says of its mailboxes, by GUID.
pub type Findings = HashMap<Guid, MailboxInfo>;

enum Stage {
    Handshake,
    Nodes,
    Deletes,
    Mailboxes,
    Over,
}

/// The second session as a value, used like a [`Brain`].
pub struct Inquiry {
    /// Mailboxes to ask about, with the UIDVALIDITY that the server has told.
    wanted: VecDeque<(Guid, u32)>,
    out: VecDeque<Item>,
    phase: Stage,
    peer_name: Option<BString>,
    findings: Findings,
    error: Option<RunError>,
}

impl Inquiry {
    fn new(options: &SyncOptions, hostname: BString, wanted: VecDeque<(Guid, u32)>) -> Self {
        let options = SyncOptions {
            // The server is the source and skips what it does not have.
            mode: Mode::OneWay,
            reverse: true,
            sync_type: SyncType::Changed,
            tree_only: true,
            purge_remote: false,
            lock_timeout: 0,
            ..options.clone()
        };
        let handshake = Item::Handshake(Box::new(options.to_handshake(hostname)));
        Self {
            wanted,
            out: VecDeque::from([handshake]),
            phase: Stage::Handshake,
            peer_name: None,
            findings: Findings::new(),
            error: None,
        }
    }

    /// What was found out; less than all if the session failed.
    pub fn into_findings(self) -> Findings {
        self.findings
    }

    /// As [`Brain::handle`].
    pub fn handle(&mut self, item: Item) {
        if let Err(error) = self.try_handle(item) {
            self.fail(error);
        }
    }

    fn try_handle(&mut self, item: Item) -> Result<(), RunError> {
        match (&self.phase, item) {
            (Stage::Over, _) => Ok(()),
            (_, Item::Done) => Err(RunError::peer("the remote side stopped")),
            (Stage::Handshake, Item::Handshake(handshake)) => {
                self.peer_name = Some(handshake.hostname);
                self.phase = Stage::Nodes;
                Ok(())
            }
            // Equal trees: there is nothing to merge.
            (Stage::Nodes, item @ Item::Node(_)) => {
                self.out.push_back(item);
                Ok(())
            }
            (Stage::Nodes, Item::EndOfList) => {
                self.out.push_back(Item::EndOfList);
                self.phase = Stage::Deletes;
                Ok(())
            }
            (Stage::Deletes, Item::Deletes(deletes)) => {
                self.out.push_back(Item::Deletes(Deletes {
                    mailboxes: Vec::new(),
                    dirs: Vec::new(),
                    unsubscribes: Vec::new(),
                    ..deletes
                }));
                self.phase = Stage::Mailboxes;
                Ok(())
            }
            (Stage::Mailboxes, Item::Mailbox(info)) => {
                if !info.mailbox_lost && !info.mailbox_ignore {
                    self.findings.insert(info.mailbox_guid, info);
                }
                Ok(())
            }
            (Stage::Mailboxes, Item::Finish(Finish { .. })) => {
                self.phase = Stage::Over;
                Ok(())
            }
            (_, item) => Err(unexpected(&item, self.state_name())),
        }
    }

    /// As [`Brain::fail`].
    pub fn fail(&mut self, error: RunError) {
        if !matches!(self.phase, Stage::Over) {
            self.error.get_or_insert(error);
            self.phase = Stage::Over;
            self.out.clear();
        }
    }

    /// As [`Brain::poll`].
    pub fn poll(&mut self) -> Poll {
        if let Some(item) = self.out.pop_front() {
            return Poll::Transmit(item);
        }
        match self.phase {
            Stage::Over => Poll::Finished(Box::new(Outcome {
                error: self.error.clone(),
                ..Outcome::default()
            })),
            Stage::Mailboxes => match self.wanted.pop_front() {
                Some((mailbox_guid, uid_validity)) => {
                    // Without messages and with the server's UIDVALIDITY: nothing to take over.
                    let question = MailboxInfo {
                        mailbox_guid,
                        uid_validity,
                        uid_next: 1,
                        first_recent_uid: 1,
                        ..MailboxInfo::default()
                    };
                    if self.wanted.is_empty() {
                        self.out.push_back(Item::EndOfList);
                    }
                    Poll::Transmit(Item::Mailbox(question))
                }
                None => Poll::NeedInput,
            },
            _ => Poll::NeedInput,
        }
    }

    /// As [`Brain::state_name`].
    pub fn state_name(&self) -> &'static str {
        match self.phase {
            Stage::Handshake => "handshake",
            Stage::Nodes => "mailbox_tree_node",
            Stage::Deletes => "mailbox_delete",
            Stage::Mailboxes => "mailbox",
            Stage::Over => "done",
        }
    }

    /// As [`Brain::peer_name`].
    pub fn peer_name(&self) -> Option<&BString> {
        self.peer_name.as_ref()
    }
}

impl Brain {
    /// How many mailboxes an [`Inquiry`] could spare from being talked about; 0 if it is of no use
    /// now.
    pub fn inquiry_size(&self) -> usize {
        let is_between_mailboxes = matches!(self.phase, Phase::Mailboxes)
            && self.finished_mailbox.is_none()
            && self.out.is_empty();
        let is_wanted = self.is_client
            && !self.peer_is_ours
            && self.findings.is_none()
            && self.options.sync_type == SyncType::Changed
            && !self.options.tree_only;
        if !is_between_mailboxes || !is_wanted || self.walk.len() < FEWEST {
            return 0;
        }
        let known = self.walk.rest().iter();
        known.filter(|entry| entry.remote.is_some()).count()
    }

    /// The second session to hold now; its findings go to [`Brain::inquired`].
    pub fn inquiry(&self) -> Inquiry {
        let known = self.walk.rest().iter();
        let wanted = known
            .filter_map(|entry| Some((entry.guid, entry.remote?.uid_validity)))
            .collect();
        Inquiry::new(&self.options, self.environment.hostname.clone(), wanted)
    }

    /// Takes what the second session has found out. A mailbox that it does not tell about is
    /// talked about.
    pub fn inquired(&mut self, findings: Findings) {
        self.findings = Some(findings);
    }
}

#[cfg(test)]
mod tests {
    use dsync_proto::items::TreeNode;

    use super::*;

    fn transmitted(inquiry: &mut Inquiry) -> Vec<Item> {
        std::iter::from_fn(|| match inquiry.poll() {
            Poll::Transmit(item) => Some(item),
            _ => None,
        })
        .collect()
    }

    fn guid(number: u8) -> Guid {
        Guid([number; 16])
    }

    fn asking(numbers: &[u8]) -> Inquiry {
        let wanted = numbers.iter().map(|number| (guid(*number), 7)).collect();
        Inquiry::new(&SyncOptions::default(), "here".into(), wanted)
    }

    #[test]
    fn it_gives_back_the_tree_and_asks_for_all_without_waiting() {
        let mut inquiry = asking(&[1, 2]);
        let first = transmitted(&mut inquiry);
        let [Item::Handshake(handshake)] = first.as_slice() else {
            panic!("{first:?}");
        };
        assert!(handshake.backup_send && handshake.no_mail_sync && handshake.no_backup_overwrite);
        let node = Item::Node(TreeNode::default());
        inquiry.handle(Item::Handshake(Box::default()));
        inquiry.handle(node.clone());
        inquiry.handle(Item::EndOfList);
        inquiry.handle(Item::Deletes(Deletes {
            hierarchy_sep: b'.',
            escape_char: None,
            mailboxes: Vec::new(),
            dirs: Vec::new(),
            unsubscribes: Vec::new(),
        }));
        let items = transmitted(&mut inquiry);
        let names: Vec<&str> = items.iter().map(Item::name).collect();
        assert_eq!(items.first(), Some(&node));
        let expected = ["mailbox_tree_node", "end_of_list", "mailbox_delete"];
        assert_eq!(names[..3], expected, "{names:?}");
        assert!(matches!(
            &items[3..],
            [Item::Mailbox(_), Item::Mailbox(_), Item::EndOfList]
        ));
        let lost = MailboxInfo {
            mailbox_guid: guid(1),
            mailbox_ignore: true,
            ..MailboxInfo::default()
        };
        let there = MailboxInfo {
            mailbox_guid: guid(2),
            uid_next: 5,
            ..MailboxInfo::default()
        };
        inquiry.handle(Item::Mailbox(lost));
        inquiry.handle(Item::Mailbox(there.clone()));
        inquiry.handle(Item::Finish(Finish::default()));
        let Poll::Finished(outcome) = inquiry.poll() else {
            panic!("not finished");
        };
        assert_eq!(outcome.error, None);
        assert_eq!(inquiry.into_findings(), Findings::from([(guid(2), there)]));
    }

    #[test]
    fn anything_unexpected_ends_it() {
        let mut inquiry = asking(&[1]);
        transmitted(&mut inquiry);
        inquiry.handle(Item::EndOfList);
        let Poll::Finished(outcome) = inquiry.poll() else {
            panic!("not finished");
        };
        assert!(outcome.error.is_some());
    }
}
