//! Tests of dsync against real Dovecot; see `tests/`.
