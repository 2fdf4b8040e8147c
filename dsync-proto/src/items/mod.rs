//! The items of the protocol: one struct per line type (`spec/wire.md` 4 to 7).
//!
//! Fields that Dovecot leaves out when they are zero are plain numbers here, with 0 for absent.
//! Text is bytes: a peer may send anything.

mod attribute;
mod change;
mod deletes;
mod finish;
mod handshake;
mod mail;
mod mailbox;
mod node;
mod state;

pub use attribute::{Attribute, AttributeKind, AttributeValue};
pub use change::{Change, ChangeKind};
pub use deletes::{DeleteEntry, Deletes};
pub use finish::Finish;
pub use handshake::{Handshake, SyncType};
pub use mail::{Mail, MailRequest};
pub use mailbox::{CacheDecision, CacheField, MailboxInfo};
pub use node::{Existence, TreeNode};
pub use state::MailboxState;

use bytes::Bytes;

/// One thing that travels in one direction of a session, in order.
///
/// A [`Item::Mail`] or [`Item::Attribute`] that announces a stream is followed by any number of
/// [`Item::BodyChunk`] and one [`Item::BodyEnd`]; nothing else may come in between.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// `H`: hostname and options.
    Handshake(Box<Handshake>),
    /// `S`: saved state of a mailbox, or the result for the current mailbox.
    State(MailboxState),
    /// `N`: a node of the mailbox tree.
    Node(TreeNode),
    /// `D`: what was deleted or unsubscribed.
    Deletes(Deletes),
    /// `B`: counters of a mailbox.
    Mailbox(MailboxInfo),
    /// `A`: an attribute of the current mailbox.
    Attribute(Attribute),
    /// `C`: a change of a message in the current mailbox.
    Change(Change),
    /// `R`: a request for a message.
    Request(MailRequest),
    /// `M`: a message.
    Mail(Mail),
    /// A piece of the body announced by the last mail or attribute, without dot-stuffing.
    BodyChunk(Bytes),
    /// The body is complete.
    BodyEnd,
    /// `.`: the current list is complete.
    EndOfList,
    /// `F`: the server is finished.
    Finish(Finish),
    /// `X`: the peer stops.
    Done,
}

impl Item {
    /// Name for messages to a person, as in Dovecot's own error texts.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Handshake(_) => "handshake",
            Self::State(_) => "mailbox_state",
            Self::Node(_) => "mailbox_tree_node",
            Self::Deletes(_) => "mailbox_delete",
            Self::Mailbox(_) => "mailbox",
            Self::Attribute(_) => "mailbox_attribute",
            Self::Change(_) => "mail_change",
            Self::Request(_) => "mail_request",
            Self::Mail(_) => "mail",
            Self::BodyChunk(_) | Self::BodyEnd => "body",
            Self::EndOfList => "end_of_list",
            Self::Finish(_) => "finish",
            Self::Done => "done",
        }
    }
}
