//! The projector of the search index, over a real index and logs with and without a memory.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::{path::Path, sync::Arc, time::Duration};

use souk_domain::{
    inventory::{ReservationCommitted, ReservationReleased, StockAdjusted, StockReserved},
    item::{ItemEvent, ItemRelisted, ItemRevised, ItemWithdrawn, PriceChanged, VariantAdded},
    testing::examples::{cents, variant},
};
use souk_event_log::{EventLog, MemoryLog, StreamName};
use souk_projections::{Projections, ProjectorState, search::SearchProjector};
use souk_search::{Config, Hit, Query, SearchIndex};
use support::{Offer, PATIENCE, World, order_id};

struct Shop {
    world: World,
    directory: tempfile::TempDir,
}

impl Shop {
    async fn new() -> Self {
        Self { world: World::new().await, directory: tempfile::tempdir().unwrap() }
    }

    fn open(&self) -> (Arc<SearchIndex>, Projections) {
        open(self.directory.path(), &self.world)
    }

    async fn change(&self, offer: &Offer, events: Vec<ItemEvent>) -> u64 {
        self.world.append(StreamName::new("item", offer.id), events).await
    }
}

fn open(directory: &Path, world: &World) -> (Arc<SearchIndex>, Projections) {
    let index = SearchIndex::open(directory, Config::default()).unwrap();
    let search = SearchProjector::new(Arc::clone(&index));
    let log = Arc::clone(&world.log);
    (index, Projections::start(log, world.database.options(), Vec::new(), Some(search), None))
}

async fn reached(projections: &Projections, position: u64) {
    projections.wait_for("search", position, PATIENCE).await.unwrap();
}

fn find(index: &Arc<SearchIndex>, term: &str) -> Vec<Hit> {
    let query = Query { term: Some(term.to_owned()), ..Query::default() };
    index.search(&query).unwrap().hits
}

#[tokio::test(flavor = "multi_thread")]
async fn items_are_found_as_they_stand() {
    let shop = Shop::new().await;
    let (index, projections) = shop.open();
    let offer = Offer::nth(0);
    reached(&projections, shop.world.list(&offer).await).await;
    let [hit] = &*find(&index, "teapot") else { panic!() };
    assert_eq!((hit.item_id, hit.price, hit.in_stock), (offer.id.0, 1599, false));

    let mut details = offer.listed().details;
    details.name = "Samovar".into();
    let events = vec![
        ItemRevised { details }.into(),
        VariantAdded { variant: variant("red", 1299) }.into(),
        PriceChanged { sku_id: offer.sku_id(), price: cents(1499) }.into(),
    ];
    reached(&projections, shop.change(&offer, events).await).await;
    assert_eq!(find(&index, "teapot"), []);
    let [hit] = &*find(&index, "samovar") else { panic!() };
    assert_eq!(hit.price, 1299, "the lowest among its variants");

    reached(&projections, shop.change(&offer, vec![ItemWithdrawn { reason: None }.into()]).await).await;
    assert_eq!(find(&index, "samovar"), []);
    let changed = PriceChanged { sku_id: offer.sku_id(), price: cents(1000) };
    reached(&projections, shop.change(&offer, vec![changed.into()]).await).await;
    assert_eq!(find(&index, "samovar"), [], "a change does not bring a withdrawn item back");
    reached(&projections, shop.change(&offer, vec![ItemRelisted {}.into()]).await).await;
    let [hit] = &*find(&index, "samovar") else { panic!() };
    assert_eq!(hit.price, 1000, "what changed while it was away counts");
    projections.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stock_is_counted_once_across_restarts() {
    let shop = Shop::new().await;
    let offer = Offer::nth(0);
    let order = order_id(1);
    let available = |index: &Arc<SearchIndex>| index.availability().available(offer.sku_id().0);

    let (index, projections) = shop.open();
    shop.world.list(&offer).await;
    reached(&projections, shop.world.receive(&offer, 3).await).await;
    assert_eq!(available(&index), Some(3));
    assert!(find(&index, "teapot")[0].in_stock);
    projections.shutdown().await;
    drop((index, projections));

    // While it was away: items and stock both went on.
    shop.world.stock(offer.sku_id(), vec![StockReserved { order_id: order, quantity: 2 }.into()]).await;
    let position = shop.world.list(&Offer::nth(1)).await;
    let (index, projections) = shop.open();
    reached(&projections, position).await;
    assert_eq!(available(&index), Some(1));
    assert_eq!(find(&index, "teapot").len(), 2);
    let events = vec![
        ReservationCommitted { order_id: order, quantity: 2 }.into(),
        StockReserved { order_id: order_id(2), quantity: 1 }.into(),
    ];
    reached(&projections, shop.world.stock(offer.sku_id(), events).await).await;
    assert_eq!(available(&index), Some(0));
    assert!(find(&index, "teapot").iter().all(|hit| !hit.in_stock));
    projections.shutdown().await;
    drop((index, projections));

    // Without its snapshot, quantities are counted from the first event on; the index is where it was.
    std::fs::remove_file(shop.directory.path().join("availability")).unwrap();
    let events = vec![
        ReservationReleased { order_id: order_id(2), quantity: 1 }.into(),
        StockAdjusted { change: 4, reason: None }.into(),
    ];
    let position = shop.world.stock(offer.sku_id(), events).await;
    let (index, projections) = shop.open();
    reached(&projections, position).await;
    assert_eq!(available(&index), Some(5));
    assert_eq!(find(&index, "teapot").len(), 2);
    projections.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_clicked_comes_first_also_after_a_rebuild() {
    let shop = Shop::new().await;
    let (index, projections) = shop.open();
    shop.world.list(&Offer::nth(0)).await;
    reached(&projections, shop.world.list(&Offer::nth(1)).await).await;
    let second = |index| find(index, "teapot")[1].item_id;
    let clicked =
        [Offer::nth(0), Offer::nth(1)].into_iter().find(|offer| offer.id.0 == second(&index)).unwrap();
    let mut position = 0;
    for _ in 0..20 {
        position = shop.world.searched("teapot", 2, &clicked).await;
    }
    reached(&projections, position).await;
    assert_eq!(find(&index, "teapot")[0].item_id, clicked.id.0);
    projections.rebuild_and_wait("search", |_| ()).await.unwrap();
    assert_eq!(find(&index, "teapot")[0].item_id, clicked.id.0);
    projections.shutdown().await;
    drop((index, projections));
    let (index, projections) = shop.open();
    assert_eq!(find(&index, "teapot")[0].item_id, clicked.id.0);
    projections.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_shows_the_old_index_until_the_new_one_is_whole() {
    let shop = Shop::new().await;
    let (index, projections) = shop.open();
    for n in 0..30 {
        shop.world.list(&Offer::nth(n)).await;
        shop.world.receive(&Offer::nth(n), 1).await;
    }
    let gone = vec![ItemEvent::from(ItemWithdrawn { reason: None })];
    reached(&projections, shop.change(&Offer::nth(3), gone).await).await;
    let looking = tokio::spawn({
        let index = Arc::clone(&index);
        async move {
            loop {
                let query = Query { term: Some("teapot".into()), size: 1, ..Query::default() };
                assert_eq!(index.search(&query).unwrap().total, 29);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    });
    projections.rebuild_and_wait("search", |_| ()).await.unwrap();
    assert!(!looking.is_finished(), "no search saw less");
    looking.abort();
    assert_eq!(find(&index, "teapot").len(), 20, "a page");
    assert_eq!(index.availability().available(Offer::nth(7).sku_id().0), Some(1));
    let position = shop.world.list(&Offer::nth(40)).await;
    reached(&projections, position).await;
    projections.shutdown().await;
    assert_eq!(index.len(), 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_it_cannot_read_stops_it() {
    let shop = Shop::new().await;
    let (index, projections) = shop.open();
    reached(&projections, shop.world.list(&Offer::nth(0)).await).await;
    let stream = StreamName::new("item", Offer::nth(1).id);
    let poison = shop.world.append_raw(stream, "ItemTeleported", serde_json::json!({})).await;
    let stopped = async {
        loop {
            let status = projections.status().await.remove(0);
            if status.state == ProjectorState::Stopped {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let stopped = tokio::time::timeout(PATIENCE, stopped).await.unwrap();
    assert!(stopped.error.is_some_and(|error| error.contains(&format!("event {poison} (ItemTeleported"))));
    assert_eq!(find(&index, "teapot").len(), 1, "searches go on");
    projections.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_of_another_log_is_built_anew() {
    let mut shop = Shop::new().await;
    let (index, projections) = shop.open();
    shop.world.list(&Offer::nth(0)).await;
    reached(&projections, shop.world.list(&Offer::nth(1)).await).await;
    projections.shutdown().await;
    drop((index, projections));

    let log: Arc<MemoryLog> = support::memory_log();
    shop.world.log = Arc::clone(&log) as Arc<dyn EventLog>;
    let position = shop.world.list(&Offer::nth(2)).await;
    let (index, projections) = shop.open();
    reached(&projections, position).await;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while find(&index, "teapot").iter().map(|hit| hit.item_id).ne([Offer::nth(2).id.0]) {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    projections.shutdown().await;
}
