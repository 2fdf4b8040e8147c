//! One suite of checks for every mail store: what the traits of `dsync-storage` promise.
//!
//! A back-end's test file needs a [`StoreFactory`] and one line:
//!
//! ```
//! use dsync_storage::Store;
//! use dsync_storage::memory::{MemoryOptions, MemoryStore};
//! use dsync_testkit::conformance::{Account, StoreFactory};
//!
//! struct Memory;
//!
//! impl StoreFactory for Memory {
//!     fn create(&self) -> Box<dyn Account> {
//!         let store = MemoryStore::new(MemoryOptions::dbox(1));
//!         Box::new(move || Box::new(store.clone()) as Box<dyn Store>)
//!     }
//! }
//!
//! dsync_testkit::conformance_tests!(Memory);
//! ```

mod attributes;
mod bodies;
mod changes;
mod flags;
mod messages;
mod metadata;
mod names;
mod sharing;
mod support;

pub use attributes::*;
pub use bodies::*;
pub use changes::*;
pub use flags::*;
pub use messages::*;
pub use metadata::*;
pub use names::*;
pub use sharing::*;

use dsync_storage::Store;

/// What differs between formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// CRLF becomes LF when a message is saved; else bodies come back as they were.
    pub lf_only: bool,
    /// The line between headers and body is added where it is missing, and header lines `From `
    /// are left out (mbox).
    pub ends_headers: bool,
    /// A mailbox can have others below it.
    pub mailboxes_have_children: bool,
    /// Names can exist without a mailbox.
    pub directories: bool,
    /// INBOX can be deleted.
    pub inbox_deletable: bool,
    /// Attributes can be stored.
    pub attributes: bool,
    /// A given save date is kept.
    pub saved_dates: bool,
    /// POP3 UIDL and order are kept.
    pub pop3: bool,
}

impl Default for Features {
    /// A store that can do everything and keeps every byte.
    fn default() -> Self {
        Self {
            lf_only: false,
            ends_headers: false,
            mailboxes_have_children: true,
            directories: true,
            inbox_deletable: true,
            attributes: true,
            saved_dates: true,
            pop3: true,
        }
    }
}

/// Storage of one account, for as long as the value lives.
pub trait Account {
    /// A new handle on it, as another process would get; nothing is kept in memory from others.
    fn open(&self) -> Box<dyn Store>;
}

impl<F: Fn() -> Box<dyn Store>> Account for F {
    fn open(&self) -> Box<dyn Store> {
        self()
    }
}

/// Makes accounts of one format.
pub trait StoreFactory {
    /// A new account without mailboxes; it may have an empty INBOX. Separator `/`, no prefix.
    fn create(&self) -> Box<dyn Account>;

    /// What this format can do.
    fn features(&self) -> Features {
        Features::default()
    }
}

/// Writes one `#[test]` per check of the suite; the argument is an expression of a
/// [`StoreFactory`].
#[macro_export]
macro_rules! conformance_tests {
    ($factory:expr) => {
        $crate::conformance_tests!(
            $factory;
            a_new_account_is_empty,
            creates_and_lists_mailboxes,
            keeps_given_guid_and_uid_validity,
            makes_identities_that_differ,
            keeps_odd_names,
            refuses_bad_names,
            makes_directories,
            deletes_mailboxes,
            a_parent_can_be_deleted_before_its_child,
            deletes_or_resets_inbox,
            renames_with_children,
            renames_only_what_is_there,
            subscribes,
            finds_mailboxes_by_guid,
            names_that_do_not_exist,
            saves_and_reads_back,
            keeps_uid_order_and_gaps,
            moves_a_taken_uid,
            makes_guids,
            one_guid_can_stand_for_several_messages,
            copies_messages,
            saves_another_instance,
            forgets_an_aborted_save,
            saves_many_messages,
            an_expunged_message_is_gone,
            an_expunge_does_not_free_its_uid,
            reads_dates_and_sizes,
            keeps_every_kind_of_body,
            keeps_a_large_body,
            a_body_may_come_in_any_pieces,
            changes_flags,
            changes_keywords,
            keeps_hundreds_of_keywords,
            keywords_differ_by_more_than_case,
            raises_modseqs_as_asked,
            modseqs_rise_with_every_change,
            ignores_flags_of_missing_messages,
            keeps_recent,
            own_changes_are_not_logged_as_changes,
            expunges_are_logged_with_guid,
            an_unknown_past_is_not_covered,
            logs_only_up_to_the_asked_uid,
            raises_counters_only,
            changes_uid_validity,
            reassigns_uids,
            keeps_attributes,
            logs_no_attribute_of_its_own,
            everything_survives_reopening,
            uncommitted_changes_vanish,
            the_snapshot_stays_until_refresh,
            two_writers_do_not_collide,
            a_second_run_waits_for_the_lock,
            follows_a_rename_by_another,
        );
    };
    ($factory:expr; $($check:ident),+ $(,)?) => {
        $(
            #[test]
            fn $check() {
                $crate::conformance::$check(&$factory);
            }
        )+
    };
}
