//! Each query of each read model, on the real tables, over events as the domain writes them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use chrono::TimeDelta;
use serde_json::json;
use souk_domain::{
    PromotionId, Sku,
    account::{
        AccountEvent, AccountForgotten, AccountReinstated, AccountSuspended, Role, RoleGranted, Standing,
    },
    inventory::{ReservationRejected, ReservationReleased, StockAdjusted, StockReserved},
    item::{ItemEvent, ItemRelisted, ItemRevised, ItemWithdrawn, PriceChanged, VariantAdded},
    order::{CancelReason, CancellationRequested, OrderCancelled, OrderPlaced, OrderStatus, ShortLine},
    payment::{PaymentEvent, PaymentRefunded, PaymentType, RefundRequested},
    promotion::{
        CouponClaimed, CouponRedeemed, CouponReleased, PromotionCreated, PromotionEnded, PromotionEvent,
    },
    search::{Facet, SearchEvent, SearchMade},
    shipment::{ShipmentDelivered, ShipmentDispatched, ShipmentEvent, ShipmentStatus},
    testing::examples::{cents, charges, promotion_created, variant},
};
use souk_event_log::{MemoryLog, StreamName};
use souk_projections::{
    Page, QueryError, accounts, catalogue, checkouts,
    orders::{self, OrderFilter, PaymentStatus},
    promotions,
    searches::{self, PopularQuery, QueryFilter, QueryView},
    seller_orders::{self, SellerOrderFilter},
    stock,
};
use support::{Ending, Offer, World, account, order_id, start_of_time};
use uuid::Uuid;

#[tokio::test(flavor = "multi_thread")]
async fn the_catalogue_shows_items_as_they_stand() {
    let world = World::new().await;
    let projections = world.start();
    let offer = Offer::nth(0);
    let stream = StreamName::new("item", offer.id);
    let position = world.list(&offer).await;
    world.settle(&projections, position).await;

    let item = catalogue::item(&world.pool, offer.id).await.unwrap().unwrap();
    assert_eq!(item.listing.sku, offer.sku);
    assert_eq!(item.listing.variants, offer.listed().variants);
    assert_eq!((item.revision, item.listed_at, item.revised_at), (0, start_of_time(), start_of_time()));

    // In one batch and over several: what was there is read back.
    let mut details = item.listing.details.clone();
    details.name = "A\0 \"pot\" \\u0000".into();
    world
        .append(
            stream.clone(),
            vec![
                ItemEvent::from(ItemRevised { details: details.clone() }),
                VariantAdded { variant: variant("red", 1799) }.into(),
                PriceChanged { sku_id: offer.sku_id(), price: cents(999) }.into(),
            ],
        )
        .await;
    let position = world.append(stream.clone(), vec![ItemEvent::from(ItemWithdrawn { reason: None })]).await;
    world.settle(&projections, position).await;
    let item = catalogue::item(&world.pool, offer.id).await.unwrap().unwrap();
    assert_eq!(item.listing.details.name, "A\u{fffd} \"pot\" \\u0000", "PostgreSQL's text has no NUL");
    let prices: Vec<_> = item.listing.variants.iter().map(|variant| variant.price).collect();
    assert_eq!(prices, [cents(999), cents(1799)]);
    assert!(item.listing.withdrawn);
    assert_eq!((item.revision, item.listed_at), (4, start_of_time()));
    assert!(item.revised_at > item.listed_at);

    let position = world.append(stream, vec![ItemEvent::from(ItemRelisted {})]).await;
    world.settle(&projections, position).await;
    assert!(!catalogue::items(&world.pool, &[offer.id]).await.unwrap()[0].listing.withdrawn);
    assert_eq!(catalogue::item(&world.pool, Offer::nth(9).id).await.unwrap(), None);
    projections.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sellers_items_come_in_pages() {
    let world = World::new().await;
    let projections = world.start();
    let mut position = 0;
    for n in 0..9 {
        position = world.list(&Offer::nth(n)).await;
    }
    world.settle(&projections, position).await;

    let seller = Offer::nth(0).seller;
    let mut cursor = None;
    let mut seen = Vec::new();
    loop {
        let page = catalogue::items_of_seller(&world.pool, seller, cursor.as_deref(), 2).await.unwrap();
        assert!(page.rows.len() <= 2);
        seen.extend(page.rows.into_iter().map(|item| item.item_id));
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(seen, [6, 3, 0].map(|n| Offer::nth(n).id));
    let refused = catalogue::items_of_seller(&world.pool, seller, Some("nonsense"), 2).await;
    assert!(matches!(refused, Err(QueryError::Cursor)));
    projections.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stock_is_counted() {
    let world = World::new().await;
    let projections = world.start();
    let offer = Offer::nth(0);
    let (one, two) = (order_id(1), order_id(2));
    world.receive(&offer, 10).await;
    world
        .stock(
            offer.sku_id(),
            vec![
                StockReserved { order_id: one, quantity: 3 }.into(),
                StockReserved { order_id: two, quantity: 4 }.into(),
                ReservationRejected { order_id: order_id(3), quantity: 9, available: 3 }.into(),
            ],
        )
        .await;
    let position = world
        .stock(
            offer.sku_id(),
            vec![
                souk_domain::inventory::ReservationCommitted { order_id: one, quantity: 3 }.into(),
                ReservationReleased { order_id: two, quantity: 4 }.into(),
                ReservationReleased { order_id: order_id(4), quantity: 0 }.into(),
                StockAdjusted { change: -2, reason: Some("broken".into()) }.into(),
            ],
        )
        .await;
    world.settle(&projections, position).await;
    let position = world.receive(&offer, 5).await;
    world.settle(&projections, position).await;

    let unknown = Offer::nth(7).sku_id();
    let levels = stock::levels(&world.pool, &[offer.sku_id(), unknown]).await.unwrap();
    let [level] = &*levels else { panic!("{levels:?}") };
    assert_eq!((level.on_hand, level.reserved, level.available()), (10, 0, 10));
    assert_eq!((&level.sku, level.item_id, level.seller_id), (&offer.sku, offer.id, offer.seller));
    projections.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_shows_its_whole_story() {
    use OrderStatus::{Completed, Paid, Placed, ReadyToShip, StockReserved};

    let world = World::new().await;
    let projections = world.start();
    let (one, two) = (Offer::nth(0), Offer::nth(1));
    let (buyer, id) = (account(100), order_id(1));
    world.buy(id, buyer, &[&one, &two], Ending::Completed).await;
    let shipment = souk_domain::ShipmentId { order_id: id, seller_id: one.seller };
    let dispatched = ShipmentDispatched {
        parcel: 1,
        lines: vec![],
        carrier: None,
        tracking_number: Some("RM1".into()),
        status: ShipmentStatus::Dispatched,
    };
    let position =
        world.append(StreamName::new("shipment", shipment), vec![ShipmentEvent::from(dispatched)]).await;
    world.settle(&projections, position).await;

    let order = orders::order(&world.pool, id).await.unwrap().unwrap();
    assert_eq!((order.status, order.reason, order.buyer_id), (Completed, None, buyer));
    assert_eq!(order.total, cents(2 * 1599));
    assert_eq!(order.lines, [one.line(1), two.line(1)]);
    assert_eq!(order.ship_to, support::ship_to(buyer));
    assert_eq!(order.revision, 4);
    assert_eq!(order.payment.payment_type, PaymentType::Card);
    assert_eq!(order.payment.last_four.as_deref(), Some("4242"));
    assert_eq!(order.payment.status, Some(PaymentStatus::Completed));
    let statuses: Vec<_> = order.timeline.iter().map(|entry| entry.status).collect();
    assert_eq!(statuses, [Placed, StockReserved, Paid, ReadyToShip, Completed]);
    assert!(order.timeline.is_sorted_by_key(|entry| entry.at));
    assert_eq!(order.timeline[0].at, order.placed_at);
    let statuses: Vec<_> = order.shipments.iter().map(|shipment| shipment.status).collect();
    assert_eq!(statuses, [ShipmentStatus::Dispatched, ShipmentStatus::Ready]);
    let sent = &order.shipments[0];
    assert_eq!(sent.shipment_id, shipment);
    assert_eq!((sent.carrier.as_deref(), sent.tracking_number.as_deref()), (Some("Royal Mail"), Some("RM1")));

    let delivered =
        ShipmentEvent::from(ShipmentDelivered { parcels: vec![1], status: ShipmentStatus::Delivered });
    let position = world.append(StreamName::new("shipment", shipment), vec![delivered]).await;
    world.settle(&projections, position).await;
    let order = orders::order(&world.pool, id).await.unwrap().unwrap();
    assert!(order.shipments[0].delivered_at > order.shipments[0].dispatched_at);
    assert_eq!(orders::order(&world.pool, order_id(9)).await.unwrap(), None);
    projections.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_order_says_why_and_what_became_of_the_money() {
    let world = World::new().await;
    let projections = world.start();
    let offer = Offer::nth(0);
    let id = order_id(1);
    world.buy(id, account(100), &[&offer], Ending::Paying).await;
    world.order(id, CancellationRequested {}).await;
    let refunded = PaymentRefunded { amount: cents(1599), refund_id: "re_1".into(), loss: None };
    world
        .append(StreamName::new("payment", id), vec![PaymentEvent::from(RefundRequested {}), refunded.into()])
        .await;
    let position = world.order(id, OrderCancelled::from(CancelReason::BuyerRequest)).await;
    // A shipment cancelled before it was requested never was; a payment without an order changes nothing.
    let never = souk_domain::ShipmentId { order_id: id, seller_id: offer.seller };
    let cancelled = souk_domain::shipment::ShipmentCancelled {};
    world.append(StreamName::new("shipment", never), vec![ShipmentEvent::from(cancelled)]).await;
    let failed =
        souk_domain::payment::PaymentFailed { reason: souk_domain::payment::FailureReason::Cancelled };
    let last = world.append(StreamName::new("payment", order_id(8)), vec![PaymentEvent::from(failed)]).await;
    assert!(last > position);
    world.settle(&projections, last).await;

    let order = orders::order(&world.pool, id).await.unwrap().unwrap();
    assert_eq!((order.status, order.reason), (OrderStatus::Cancelled, Some(CancelReason::BuyerRequest)));
    assert_eq!(order.payment.status, Some(PaymentStatus::Refunded));
    assert_eq!(order.shipments, []);
    let last: Vec<_> = order.timeline.iter().rev().take(2).map(|entry| entry.status).collect();
    assert_eq!(last, [OrderStatus::Cancelled, OrderStatus::Cancelling]);
    assert_eq!(orders::order(&world.pool, order_id(8)).await.unwrap(), None);
    projections.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_shows_what_it_cost_beside_its_goods_and_what_it_lacked() {
    let world = World::new().await;
    let projections = world.start();
    let offer = Offer::nth(0);
    let placed = OrderPlaced { charges: charges(), ..support::placed(account(1), vec![offer.line(2)]) };
    let total = placed.total;
    world.order(order_id(1), placed).await;
    world.place(order_id(2), account(1), vec![offer.line(1)]).await;
    let short_lines = vec![ShortLine { sku_id: offer.sku_id(), requested: 2, available: 1 }];
    let cancelled = OrderCancelled { reason: CancelReason::OutOfStock, short_lines: short_lines.clone() };
    let position = world.order(order_id(1), cancelled).await;
    world.settle(&projections, position).await;
    let order = orders::order(&world.pool, order_id(1)).await.unwrap().unwrap();
    assert_eq!((order.total, order.charges, order.short_lines), (total, charges(), short_lines));
    let plain = orders::order(&world.pool, order_id(2)).await.unwrap().unwrap();
    assert!(plain.charges.is_none() && plain.short_lines.is_empty());
    projections.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn promotions_are_listed_with_how_often_they_are_used() {
    let world = World::new().await;
    let projections = world.start();
    let (id, stream) = (PromotionId::of_code("SPRING"), |id| StreamName::new("promotion", id));
    let claimed = |n| PromotionEvent::from(CouponClaimed { order_id: order_id(n), buyer_id: account(1) });
    let created = PromotionEvent::from(promotion_created());
    world.append(stream(id), vec![created, claimed(1), claimed(2), claimed(3)]).await;
    let other = PromotionCreated { code: "SUMMER".into(), limit: None, ..promotion_created() };
    let other_id = PromotionId::of_code("SUMMER");
    let position = world.append(stream(other_id), vec![PromotionEvent::from(other)]).await;
    world.settle(&projections, position).await;
    let uses = async || {
        let view = promotions::promotion(&world.pool, id).await.unwrap().unwrap();
        (view.claimed, view.redeemed, view.ended)
    };
    assert_eq!(uses().await, (3, 0, false));
    // A release of what was never claimed changes nothing.
    let released = |n| PromotionEvent::from(CouponReleased { order_id: order_id(n) });
    let redeemed = CouponRedeemed { order_id: order_id(2) };
    let news = vec![released(1), released(9), redeemed.into(), PromotionEnded {}.into()];
    let position = world.append(stream(id), news).await;
    world.settle(&projections, position).await;
    assert_eq!(uses().await, (1, 1, true));
    let first = promotions::promotions(&world.pool, None, 1).await.unwrap();
    let rest = promotions::promotions(&world.pool, first.next_cursor.as_deref(), 1).await.unwrap();
    let codes = [first, rest].map(|page| page.rows[0].terms.code.clone());
    assert!(codes.contains(&"SPRING".into()) && codes.contains(&"SUMMER".into()), "{codes:?}");
    projections.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_filters_left_tells_nothing_of_what_a_query_finds() {
    let world = World::on(Arc::new(MemoryLog::new(Arc::new(start_of_time)))).await;
    let projections = world.start();
    let brown = Some(Facet { name: "brand".into(), value: "Brown".into() });
    let made = SearchMade {
        search_id: Uuid::nil(),
        query: "pot".to_owned(),
        hits: 2,
        corrected_query: None,
        fewer_words: false,
        filters: vec![],
        leads_to: brown.clone(),
        searcher: None,
    };
    let filtered =
        SearchMade { hits: 0, filters: vec!["minPrice".to_owned()], leads_to: None, ..made.clone() };
    let stream = StreamName::new("search", "2026-01-01");
    let mut position = 0;
    for event in [made, filtered] {
        position = world.append(stream.clone(), vec![SearchEvent::from(event)]).await;
    }
    world.settle(&projections, position).await;
    let today = start_of_time().date_naive();
    let filter = QueryFilter { without_results: false, days: 1 };
    let all = searches::queries(&world.pool, filter, today, None, 10).await.unwrap();
    assert_eq!((all.rows[0].searches, all.rows[0].last_hits), (2, Some(2)));
    let popular = searches::popular(&world.pool, today, 10).await.unwrap();
    assert_eq!(popular, [PopularQuery { query: "pot".into(), leads_to: brown }]);
    projections.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_found_by_a_correction_or_fewer_words_alone_is_told_apart() {
    let world = World::on(Arc::new(MemoryLog::new(Arc::new(start_of_time)))).await;
    let projections = world.start();
    let made = |query: &str, hits| SearchMade {
        search_id: Uuid::nil(),
        query: query.to_owned(),
        hits,
        corrected_query: None,
        fewer_words: false,
        filters: vec![],
        leads_to: None,
        searcher: None,
    };
    let corrected = SearchMade { corrected_query: Some("pot".to_owned()), ..made("pto", 2) };
    let fewer = SearchMade { fewer_words: true, ..made("pot with wings", 2) };
    let stream = StreamName::new("search", "2026-01-01");
    let mut position = 0;
    let filtered = SearchMade { filters: vec!["brand".to_owned()], ..made("pto", 0) };
    let again = SearchMade { fewer_words: true, ..made("red pot", 1) };
    for event in [corrected, fewer, made("pot", 2), made("unicorn", 0), again, made("red pot", 1), filtered] {
        position = world.append(stream.clone(), vec![SearchEvent::from(event)]).await;
    }
    world.settle(&projections, position).await;
    let today = start_of_time().date_naive();
    let told = async |without_results| {
        let filter = QueryFilter { without_results, days: 1 };
        let page = searches::queries(&world.pool, filter, today, None, 10).await.unwrap();
        let told = |row: QueryView| (row.query, row.last_hits, row.corrected_query, row.fewer_words);
        page.rows.into_iter().map(told).collect::<Vec<_>>()
    };
    let missed = [
        ("pto".to_owned(), Some(2), Some("pot".to_owned()), false),
        ("pot with wings".to_owned(), Some(2), None, true),
        ("unicorn".to_owned(), Some(0), None, false),
    ];
    assert_eq!(told(true).await, missed);
    assert!(told(false).await.contains(&("red pot".to_owned(), Some(1), None, false)), "as the last one was");
    projections.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn searches_are_counted_by_query_until_they_are_long_past() {
    let days = AtomicI64::new(0);
    let log = MemoryLog::new(Arc::new(move || {
        start_of_time() + TimeDelta::days(days.fetch_add(25, Ordering::Relaxed))
    }));
    let world = World::on(Arc::new(log)).await;
    let projections = world.start();
    let pot = Offer::nth(0);
    world.searched("old pot", 1, &pot).await;
    world.searched("red pot", 2, &pot).await;
    world.searched("blue pot", 0, &pot).await;
    let position = world.searched("blue pot", 0, &pot).await;
    let position = world.searched("red pot", 3, &pot).await.max(position);
    world.settle(&projections, position).await;
    let today = start_of_time().date_naive() + TimeDelta::days(100);
    let asked = async |without_results, days, cursor: Option<&str>, size| {
        let filter = QueryFilter { without_results, days };
        searches::queries(&world.pool, filter, today, cursor, size).await.unwrap()
    };
    let told = |page: &Page<QueryView>| -> Vec<(String, u64, Option<u64>, u64)> {
        let told = |row: &QueryView| (row.query.clone(), row.searches, row.last_hits, row.clicks);
        page.rows.iter().map(told).collect()
    };
    let (blue, red) = (("blue pot".to_owned(), 2, Some(0), 0), ("red pot".to_owned(), 2, Some(3), 2));
    assert_eq!(
        told(&asked(false, 91, None, 10).await),
        [blue.clone(), red.clone()],
        "the old one is forgotten"
    );
    assert_eq!(told(&asked(true, 91, None, 10).await), std::slice::from_ref(&blue));
    let first = asked(false, 91, None, 1).await;
    let rest = asked(false, 91, first.next_cursor.as_deref(), 1).await;
    assert_eq!((told(&first), told(&rest), rest.next_cursor), (vec![blue], vec![red], None));
    assert_eq!(told(&asked(false, 1, None, 10).await), [("red pot".to_owned(), 1, Some(3), 1)]);
    let popular = searches::popular(&world.pool, today, 10).await.unwrap();
    let brown = Some(Facet { name: "brand".into(), value: "Brown".into() });
    assert_eq!(popular, [PopularQuery { query: "red pot".into(), leads_to: brown }]);
    projections.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_are_listed_by_when_they_happened() {
    let world = World::new().await;
    let projections = world.start();
    let offer = Offer::nth(0);
    world.history(20).await;
    // Imported: it happened long before it was recorded.
    let past = start_of_time() - TimeDelta::days(365);
    let old = order_id(900);
    let buyer = account(100);
    let placed = souk_domain::order::OrderEvent::from(support::placed(buyer, vec![offer.line(2)]));
    let position = world.append_at(StreamName::new("order", old), vec![placed], Some(past)).await;
    world.settle(&projections, position).await;

    let all = orders::orders(&world.pool, OrderFilter::default(), None, 100).await.unwrap();
    assert_eq!(all.rows.len(), 21);
    assert_eq!(all.next_cursor, None);
    assert!(all.rows.is_sorted_by(|a, b| a.placed_at >= b.placed_at));
    assert_eq!(all.rows.last().map(|order| (order.order_id, order.placed_at)), Some((old, past)));

    let mine = orders::orders_of_buyer(&world.pool, buyer, None, 2).await.unwrap();
    assert_eq!(mine.rows.len(), 2);
    let rest = orders::orders_of_buyer(&world.pool, buyer, mine.next_cursor.as_deref(), 100).await.unwrap();
    let ids: Vec<_> = mine.rows.iter().chain(&rest.rows).map(|order| order.order_id).collect();
    assert_eq!(ids, [order_id(14), order_id(7), order_id(0), old]);
    assert!(mine.rows.iter().chain(&rest.rows).all(|order| order.buyer_id == buyer));

    let filter = OrderFilter { status: Some(OrderStatus::Cancelled), buyer: None };
    let cancelled = orders::orders(&world.pool, filter, None, 100).await.unwrap();
    assert_eq!(cancelled.rows.len(), 4);
    let filter = OrderFilter { buyer: Some(buyer), ..filter };
    let cancelled = orders::orders(&world.pool, filter, None, 100).await.unwrap();
    assert!(cancelled.rows.iter().all(|order| order.reason == Some(CancelReason::PaymentDeclined)));
    assert_eq!(cancelled.rows.len(), 1);
    assert!(matches!(orders::orders(&world.pool, filter, Some("?"), 5).await, Err(QueryError::Cursor)));
    projections.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seller_sees_his_own_part_alone() {
    let world = World::new().await;
    let projections = world.start();
    let (one, two) = (Offer::nth(0), Offer::nth(1));
    world.buy(order_id(1), account(100), &[&one, &two], Ending::Completed).await;
    world.buy(order_id(2), account(100), &[&one], Ending::Declined).await;
    let position = world.buy(order_id(3), account(101), &[&two], Ending::Paying).await;
    world.settle(&projections, position).await;

    let everything = SellerOrderFilter::default();
    let mine = seller_orders::seller_orders(&world.pool, one.seller, everything, None, 10).await.unwrap();
    let [declined, sold] = &*mine.rows else { panic!("{mine:?}") };
    assert_eq!((sold.order_id, sold.status), (order_id(1), OrderStatus::Completed));
    assert_eq!((&*sold.lines, sold.total), (&[one.line(1)][..], cents(1599)));
    assert_eq!(sold.ship_to, Some(support::ship_to(account(100))));
    assert_eq!(sold.shipment.as_ref().map(|shipment| shipment.status), Some(ShipmentStatus::Ready));
    assert_eq!(
        (declined.status, declined.reason),
        (OrderStatus::Cancelled, Some(CancelReason::PaymentDeclined))
    );
    assert_eq!(
        (&declined.shipment, &declined.ship_to),
        (&None, &None),
        "nothing to send, nowhere to send it"
    );

    let ready = SellerOrderFilter { shipment: Some(ShipmentStatus::Ready), ..everything };
    let to_send = seller_orders::seller_orders(&world.pool, one.seller, ready, None, 10).await.unwrap();
    assert_eq!(to_send.rows, std::slice::from_ref(sold));
    let waiting = SellerOrderFilter { status: Some(OrderStatus::StockReserved), ..everything };
    let theirs = seller_orders::seller_orders(&world.pool, two.seller, waiting, None, 10).await.unwrap();
    assert_eq!(theirs.rows.iter().map(|order| order.order_id).collect::<Vec<_>>(), [order_id(3)]);

    let page = seller_orders::seller_orders(&world.pool, one.seller, everything, None, 1).await.unwrap();
    let next = page.next_cursor.as_deref();
    let page = seller_orders::seller_orders(&world.pool, one.seller, everything, next, 1).await.unwrap();
    assert_eq!((page.rows, page.next_cursor), (vec![sold.clone()], None));
    let one_order = seller_orders::seller_order(&world.pool, one.seller, order_id(1)).await.unwrap();
    assert_eq!(one_order.as_ref(), Some(sold));
    assert_eq!(seller_orders::seller_order(&world.pool, one.seller, order_id(3)).await.unwrap(), None);
    projections.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_keep_secrets_sealed_and_forget_them() {
    let world = World::new().await;
    let projections = world.start();
    let (one, two) = (account(1), account(2));
    world.register(one, Role::Buyer).await;
    world.register(two, Role::Buyer).await;
    let stream = |id| StreamName::new("account", id);
    world.append(stream(one), vec![AccountEvent::from(RoleGranted { role: Role::Admin })]).await;
    let suspended = AccountSuspended { reason: "fraud".into() };
    let position = world.append(stream(two), vec![AccountEvent::from(suspended)]).await;
    world.settle(&projections, position).await;

    let row = accounts::account(&world.pool, one).await.unwrap().unwrap();
    assert_eq!((row.standing, &*row.roles), (Standing::Active, &[Role::Buyer, Role::Admin][..]));
    assert_eq!(row.email, Some(souk_domain::testing::examples::sealed(one, "email")));
    let page = accounts::accounts(&world.pool, None, 1).await.unwrap();
    let [row] = &*page.rows else { panic!("{page:?}") };
    assert_eq!(
        (row.account_id, row.standing, row.reason.as_deref()),
        (two, Standing::Suspended, Some("fraud"))
    );
    let rest = accounts::accounts(&world.pool, page.next_cursor.as_deref(), 5).await.unwrap();
    assert_eq!(rest.rows.iter().map(|row| row.account_id).collect::<Vec<_>>(), [one]);

    world.append(stream(two), vec![AccountEvent::from(AccountReinstated {})]).await;
    let position = world.append(stream(one), vec![AccountEvent::from(AccountForgotten {})]).await;
    world.settle(&projections, position).await;
    let row = accounts::account(&world.pool, one).await.unwrap().unwrap();
    assert_eq!((row.standing, row.email, row.display_name), (Standing::Forgotten, None, None));
    let row = accounts::account(&world.pool, two).await.unwrap().unwrap();
    assert_eq!((row.standing, row.reason), (Standing::Active, None));
    projections.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn checkouts_are_listed_until_they_end() {
    let world = World::new().await;
    let projections = world.start();
    let offer = Offer::nth(0);
    world.buy(order_id(1), account(100), &[&offer], Ending::Completed).await;
    let position = world.buy(order_id(2), account(100), &[&offer], Ending::Paying).await;
    world.settle(&projections, position).await;
    let parked = json!({ "effect": { "effect": "requestPayment" }, "reason": "the gateway is on fire", "attempts": 12 });
    world.checkout(order_id(2), "CheckoutParked", parked).await;
    // Said after the end: the checkout does not come back.
    let late = json!({ "learnt": [], "decided": [] });
    let position = world.checkout(order_id(1), "CheckoutAdvanced", late).await;
    world.settle(&projections, position).await;

    let page = checkouts::checkouts(&world.pool, None, None, 10).await.unwrap();
    let [checkout] = &*page.rows else { panic!("{page:?}") };
    assert_eq!((checkout.order_id, checkout.buyer_id), (order_id(2), Some(account(100))));
    assert_eq!((&*checkout.phase, checkout.parked), ("paying", true));
    assert_eq!(checkout.reason.as_deref(), Some("the gateway is on fire"));
    let story: Vec<_> = checkout.story.iter().map(|step| &*step.event).collect();
    assert_eq!(story, ["CheckoutStarted", "CheckoutAdvanced", "CheckoutParked"]);
    assert_eq!(checkout.story[1].learnt, [json!({ "fact": "stockReserved" })]);
    assert_eq!(checkout.deadline, Some("2026-02-01T00:00:00Z".parse().unwrap()));
    assert_eq!(checkouts::counts(&world.pool).await.unwrap(), (1, 1));
    assert_eq!(checkouts::checkouts(&world.pool, Some(false), None, 10).await.unwrap().rows, []);

    let position = world.checkout(order_id(2), "CheckoutResumed", json!({})).await;
    world.settle(&projections, position).await;
    let resumed = checkouts::checkout(&world.pool, order_id(2)).await.unwrap().unwrap();
    assert_eq!((resumed.parked, resumed.reason), (false, None));
    assert_eq!(resumed.story[2].attempts, Some(12));
    let settled =
        json!({ "effect": { "effect": "refund" }, "outcome": "done", "reason": "by bank transfer" });
    let position = world.checkout(order_id(2), "CheckoutSettled", settled).await;
    world.settle(&projections, position).await;
    let settled = checkouts::checkout(&world.pool, order_id(2)).await.unwrap().unwrap();
    let step = settled.story.last().unwrap();
    assert_eq!((settled.parked, step.outcome.as_deref()), (false, Some("done")));
    assert_eq!(step.reason.as_deref(), Some("by bank transfer"));
    let position = world.order(order_id(2), OrderCancelled::from(CancelReason::Timeout)).await;
    world.settle(&projections, position).await;
    assert_eq!(checkouts::checkout(&world.pool, order_id(2)).await.unwrap(), None);
    projections.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn before_the_views_are_built_queries_say_so() {
    let world = World::new().await;
    let sku = Sku::parse("POT-1").unwrap();
    let levels = stock::levels(&world.pool, &[souk_domain::SkuId::of(account(1), &sku)]).await;
    assert!(matches!(levels, Err(QueryError::Building)));
}
