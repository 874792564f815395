//! A rebuild that the log interrupts is begun again, and what was served before is served until it is done.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use async_trait::async_trait;
use futures::{StreamExt, stream};
use souk_event_log::{
    AppendError, Appended, Direction, EventLog, EventStream, Expected, Filter, NewEvent, Position, ReadError,
    Revision, StreamName, Subscription,
};
use souk_projections::{Projections, recommendations::RecommendationsProjector, search::SearchProjector};
use souk_recommendations::Book;
use souk_search::{Config, SearchIndex};
use support::{PATIENCE, World, memory_log};

/// Breaks off the next subscription from the first event after one event of it.
struct Shaky {
    log: Arc<dyn EventLog>,
    breaks: AtomicBool,
    from_the_first: AtomicU32,
}

#[async_trait]
impl EventLog for Shaky {
    async fn append(
        &self,
        stream: &StreamName,
        expected: Expected,
        events: Vec<NewEvent>,
    ) -> Result<Appended, AppendError> {
        self.log.append(stream, expected, events).await
    }

    fn read_stream(&self, name: &StreamName, from: Revision, to: Direction, limit: usize) -> EventStream {
        self.log.read_stream(name, from, to, limit)
    }

    fn read_all(&self, from: Position, filter: Filter, to: Direction, limit: usize) -> EventStream {
        self.log.read_all(from, filter, to, limit)
    }

    fn subscribe(&self, after: Option<Position>, filter: Filter) -> Subscription {
        let messages = self.log.subscribe(after, filter);
        if after.is_some() {
            return messages;
        }
        self.from_the_first.fetch_add(1, Ordering::Relaxed);
        if self.breaks.swap(false, Ordering::Relaxed) {
            let away = Err(ReadError::Unavailable("the cable is out".into()));
            return messages.take(1).chain(stream::iter([away])).boxed();
        }
        messages
    }

    async fn head(&self) -> Result<Option<Position>, ReadError> {
        self.log.head().await
    }

    async fn stream_head(&self, stream: &StreamName) -> Result<Option<Revision>, ReadError> {
        self.log.stream_head(stream).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_interrupts_a_rebuild_begins_it_again() {
    let (breaks, from_the_first) = (AtomicBool::new(false), AtomicU32::new(0));
    let shaky = Arc::new(Shaky { log: memory_log(), breaks, from_the_first });
    let world = World::on(Arc::clone(&shaky) as _).await;
    let position = world.history(5).await;
    let folder = tempfile::tempdir().unwrap();
    let index = SearchIndex::open(&folder.path().join("search"), Config::default()).unwrap();
    let book = Book::open(&folder.path().join("recommendations")).unwrap();
    let projections = Projections::start(
        Arc::clone(&world.log),
        world.database.options(),
        Vec::new(),
        Some(SearchProjector::new(Arc::clone(&index))),
        Some(RecommendationsProjector::new(Arc::clone(&book))),
    );
    for name in [SearchProjector::NAME, RecommendationsProjector::NAME] {
        projections.wait_for(name, position, PATIENCE).await.unwrap();
        let found = index.len();
        shaky.from_the_first.store(0, Ordering::Relaxed);
        shaky.breaks.store(true, Ordering::Relaxed);
        projections.rebuild_and_wait(name, |_| ()).await.unwrap();
        assert_eq!(shaky.from_the_first.load(Ordering::Relaxed), 2, "{name}: broken off, and whole");
        projections.wait_for(name, position, PATIENCE).await.unwrap();
        assert!(found > 0 && index.len() == found, "{name}: {} of {found}", index.len());
    }
    projections.shutdown().await;
}
