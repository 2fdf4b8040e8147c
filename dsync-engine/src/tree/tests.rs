//! Replays the vectors of `spec/vectors` with Dovecot's exact rules.

mod vectors;
