//! `souk serve --synonyms FILE`: rules beside those that admins set. The file is read again when it changes.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::Context;
use souk_search::{SearchIndex, SynonymSource};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// When it was written last, and its length.
type Stamp = Option<(SystemTime, u64)>;

/// Reads the file, and from then on whenever it is another. One that cannot be read now keeps what was read before.
pub(crate) fn follow(index: Arc<SearchIndex>, file: PathBuf, stop: CancellationToken) -> anyhow::Result<()> {
    let mut known = stamp(&file);
    read(&index, &file)?;
    tokio::spawn(async move {
        while stop.run_until_cancelled(sleep(LOOK)).await.is_some() {
            let now = stamp(&file);
            if now == known {
                continue;
            }
            known = now;
            match read(&index, &file) {
                Ok(()) => tracing::info!(file = %file.display(), "synonyms read again"),
                Err(error) => tracing::warn!(error = format!("{error:#}"), "synonyms stay as they were"),
            }
        }
    });
    Ok(())
}

fn stamp(file: &Path) -> Stamp {
    let metadata = std::fs::metadata(file).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

fn read(index: &SearchIndex, file: &Path) -> anyhow::Result<()> {
    let rules = std::fs::read_to_string(file).with_context(|| format!("--synonyms {}", file.display()))?;
    index.set_synonyms(SynonymSource::File, &rules).with_context(|| format!("--synonyms {}", file.display()))
}

#[cfg(test)]
mod tests {
    use souk_search::{Config, ItemDocument, Query, evaluation::products};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_file_that_changes_is_read_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let (catalogue, file) = (folder.path().join("one.ndjson"), folder.path().join("synonyms"));
        std::fs::write(&catalogue, r#"{"id": "1", "title": "Lantern"}"#).expect("written");
        let items: Vec<ItemDocument> =
            products(&catalogue).expect("read").map(|item| item.expect("one")).collect();
        let index = SearchIndex::open(&folder.path().join("search"), Config::default()).expect("an index");
        let mut writer = index.writer().expect("a writer");
        writer.upsert(items[0].clone()).expect("written");
        writer.commit(1).expect("committed");
        let finds = |word: &str| {
            let query = Query { term: Some(word.to_owned()), ..Query::default() };
            index.search(&query).expect("searched").total == 1
        };

        let stop = CancellationToken::new();
        assert!(follow(Arc::clone(&index), file.clone(), stop.clone()).is_err(), "there is no file");
        std::fs::write(&file, "torch, lantern").expect("written");
        follow(Arc::clone(&index), file.clone(), stop.clone()).expect("rules");
        assert!(finds("torch") && !finds("flashlight"));
        std::fs::write(&file, "flashlight, lantern").expect("written");
        while !finds("flashlight") {
            sleep(LOOK).await;
        }
        assert!(!finds("torch"));
        stop.cancel();
    }
}
