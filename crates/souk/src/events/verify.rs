//! `souk events verify`: the chain of hashes, from one end to the other.

use std::path::Path;

use anyhow::bail;
use souk_event_log::sqlite;

use crate::progress::{Progress, grouped};

pub(super) fn verify(path: &Path, from: u64) -> anyhow::Result<()> {
    let progress = Progress::new("events", 0);
    let report = sqlite::verify(path, from, |position| progress.set(position))?;
    progress.finish();
    if let Some((position, damage)) = report.bad {
        bail!("the log is damaged at position {position}: {damage}");
    }
    println!("{} events, no damage", grouped(report.events));
    if let Some((position, hash)) = report.head {
        println!("head {position} {}", blake3::Hash::from_bytes(hash));
    }
    Ok(())
}
