//! Replays the vectors of `spec/vectors` with Dovecot's exact rules.

mod disk;
mod histories;
mod large;
mod names;
mod pair;
mod properties;
mod vectors;
