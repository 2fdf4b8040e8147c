//! `N` mailbox_tree_node (`spec/wire.md` 7.2).

use crate::items::{Existence, TreeNode};
use crate::wire::error::DecodeError;
use crate::wire::fields::Fields;
use crate::wire::row::Row;
use crate::wire::spec::{ItemSpec, optional, required};

pub(crate) static SPEC: ItemSpec = ItemSpec {
    letter: b'N',
    name: "mailbox_tree_node",
    min_minor: 0,
    keys: &[
        required("name"),
        required("existence"),
        optional("mailbox_guid"),
        optional("uid_validity"),
        optional("uid_next"),
        optional("last_renamed_or_created"),
        optional("subscribed"),
        optional("last_subscription_change"),
    ],
};

const NAME: usize = 0;
const EXISTENCE: usize = 1;
const MAILBOX_GUID: usize = 2;
const UID_VALIDITY: usize = 3;
const UID_NEXT: usize = 4;
const LAST_RENAMED_OR_CREATED: usize = 5;
const SUBSCRIBED: usize = 6;
const LAST_SUBSCRIPTION_CHANGE: usize = 7;

pub(crate) fn decode(fields: &Fields<'_>) -> Result<TreeNode, DecodeError> {
    let name = fields.list(NAME)?;
    if name.is_empty() {
        return Err(fields.invalid(NAME));
    }
    let existence = match fields.text_or_empty(EXISTENCE).first() {
        Some(b'y') => Existence::Exists,
        Some(b'd') => Existence::Deleted,
        _ => Existence::Nonexistent,
    };
    Ok(TreeNode {
        name,
        existence,
        mailbox_guid: fields.guid(MAILBOX_GUID)?,
        uid_validity: fields.u32(UID_VALIDITY)?,
        uid_next: fields.u32(UID_NEXT)?,
        last_renamed_or_created: fields.time(LAST_RENAMED_OR_CREATED)?,
        subscribed: fields.flag(SUBSCRIBED),
        last_subscription_change: fields.time(LAST_SUBSCRIPTION_CHANGE)?,
    })
}

pub(crate) fn encode(node: &TreeNode, row: &mut Row) {
    let existence = match node.existence {
        Existence::Nonexistent => b"n",
        Existence::Exists => b"y",
        Existence::Deleted => b"d",
    };
    row.list(NAME, &node.name);
    row.text(EXISTENCE, existence);
    if !node.mailbox_guid.is_zero() {
        row.guid(MAILBOX_GUID, &node.mailbox_guid);
    }
    row.nonzero(UID_VALIDITY, node.uid_validity);
    row.nonzero(UID_NEXT, node.uid_next);
    row.nonzero_time(LAST_RENAMED_OR_CREATED, node.last_renamed_or_created);
    row.flag(SUBSCRIBED, node.subscribed);
    row.nonzero_time(LAST_SUBSCRIPTION_CHANGE, node.last_subscription_change);
}
