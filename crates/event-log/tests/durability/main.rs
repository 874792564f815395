//! What a log on a disk has to bear: processes that are killed, and a disk that is full.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests say what they rely on by panicking")]

mod child;
mod disk;
mod kills;
