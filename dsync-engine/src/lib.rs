//! The dsync brain: decides what both sides of a sync do, and knows no sockets and no clock.
