//! The one writer of an index. Changes become visible together, at a commit, with the position they bring the index to.

use std::sync::Arc;

use tantivy::Term;
use tantivy::indexer::{IndexWriterOptions, LogMergePolicy};
use tantivy::query::AllQuery;
use uuid::Uuid;

use crate::document::{ItemDocument, id_text};
use crate::index::{SearchIndex, payload};
use crate::query::SearchError;
use crate::schema::Key;

pub struct IndexWriter {
    index: Arc<SearchIndex>,
    inner: tantivy::IndexWriter,
    pending: usize,
}

impl IndexWriter {
    pub(crate) fn open(index: Arc<SearchIndex>) -> Result<Self, SearchError> {
        // One thread to index and one to merge: the machine has other work, and one segment per commit keeps them few.
        let options = IndexWriterOptions::builder()
            .num_worker_threads(1)
            .num_merge_threads(1)
            .memory_budget_per_thread(index.config.writer_heap)
            .build();
        let inner = index.index.writer_with_options(options)?;
        // Commits come several times a second, so segments must grow by steps: a large floor would have each small commit
        // merged with thousands of documents again and again. Each segment has dictionaries of its own that a search looks
        // its words up in, so they are merged earlier than is usual: a million items are found in two thirds of the time
        // in two segments that they take in ten.
        let mut merging = LogMergePolicy::default();
        merging.set_min_layer_size(200);
        merging.set_min_num_segments(4);
        merging.set_del_docs_ratio_before_merge(0.3);
        inner.set_merge_policy(Box::new(merging));
        Ok(Self { index, inner, pending: 0 })
    }

    /// Puts an item in place of what is known of it.
    pub fn upsert(&mut self, item: ItemDocument) -> Result<(), SearchError> {
        let slot = self.index.availability.bind(item.item_id, &item.skus);
        let document = item.to_index(&self.index.fields, &self.index.analyzer, slot)?;
        self.inner.delete_term(self.id(item.item_id));
        self.inner.add_document(document)?;
        self.pending += 1;
        Ok(())
    }

    /// Takes an item out. One that is not there is no error.
    pub fn delete(&mut self, item_id: Uuid) {
        self.inner.delete_term(self.id(item_id));
        self.pending += 1;
    }

    /// Takes every item out, to write all of them anew: readers see the old ones until the next commit.
    pub fn clear(&mut self) -> Result<(), SearchError> {
        self.inner.delete_query(Box::new(AllQuery))?;
        self.pending = 0;
        Ok(())
    }

    /// How many changes wait for a commit.
    pub fn pending(&self) -> usize {
        self.pending
    }

    /// Makes everything written so far durable and visible; `position` is what [`SearchIndex::position`] says from then on.
    /// After an error the writer must be dropped: what it held is lost, what was committed before is not.
    pub fn commit(&mut self, position: u64) -> Result<(), SearchError> {
        self.commit_as(position, self.index.is_whole())
    }

    /// As [`Self::commit`], and says that nothing is missing: from now on the index is [ready](SearchIndex::is_ready). Without
    /// a position there is nothing to be missing yet.
    pub fn commit_whole(&mut self, position: Option<u64>) -> Result<(), SearchError> {
        if let Some(position) = position {
            self.commit_as(position, true)?;
        }
        self.index.show_whole()
    }

    fn commit_as(&mut self, position: u64, whole: bool) -> Result<(), SearchError> {
        let mut prepared = self.inner.prepare_commit()?;
        prepared.set_payload(&payload(position, whole)?);
        prepared.commit()?;
        self.index.show(position)?;
        self.pending = 0;
        Ok(())
    }

    /// Waits until segments that are being merged have been, and shows them.
    pub fn finish(self) -> Result<(), SearchError> {
        self.inner.wait_merging_threads()?;
        self.index.reload()
    }

    fn id(&self, item_id: Uuid) -> Term {
        Key::Id.term(&self.index.fields, &id_text(item_id))
    }
}
