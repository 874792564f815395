//! The projector of recommendations, over a real book and a log.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::{path::Path, sync::Arc};

use souk_domain::{
    account::{AccountEvent, AccountForgotten},
    order::OrderCompleted,
};
use souk_event_log::StreamName;
use souk_projections::{Projections, recommendations::RecommendationsProjector};
use souk_recommendations::Book;
use support::{Ending, Offer, PATIENCE, World, account, order_id};
use uuid::Uuid;

fn open(directory: &Path, world: &World) -> (Arc<Book>, Projections) {
    let book = Book::open(directory).unwrap();
    let projector = RecommendationsProjector::new(Arc::clone(&book));
    let log = Arc::clone(&world.log);
    (book, Projections::start(log, world.database.options(), Vec::new(), None, Some(projector)))
}

async fn reached(projections: &Projections, position: u64) {
    projections.wait_for(RecommendationsProjector::NAME, position, PATIENCE).await.unwrap();
}

fn together(book: &Book, offer: &Offer) -> Vec<Uuid> {
    book.together(offer.id.0, 10).unwrap().iter().map(|pick| pick.item).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_teaches_when_it_completes_and_not_before() {
    let (world, directory) = (World::new().await, tempfile::tempdir().unwrap());
    let (book, projections) = open(directory.path(), &world);
    let [pot, cup, lid] = [Offer::nth(0), Offer::nth(1), Offer::nth(2)];
    world.buy(order_id(1), account(100), &[&pot, &lid], Ending::Declined).await;
    reached(&projections, world.buy(order_id(2), account(100), &[&pot, &cup], Ending::Paying).await).await;
    assert!(together(&book, &pot).is_empty(), "nothing was bought yet");
    projections.shutdown().await;

    // It completes while nobody looks, and what was in it is known all the same.
    let position = world.order(order_id(2), OrderCompleted {}).await;
    let (book, projections) = open(directory.path(), &world);
    reached(&projections, position).await;
    assert_eq!(together(&book, &pot), [cup.id.0]);
    projections.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_book_from_the_log_is_always_the_same() {
    let (world, directory, other) =
        (World::new().await, tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (book, projections) = open(directory.path(), &world);
    let mut position = world.history(30).await;
    reached(&projections, position).await;
    let gone = vec![AccountEvent::from(AccountForgotten {})];
    position = position.max(world.append(StreamName::new("account", account(102)), gone).await);
    reached(&projections, position).await;
    let grown = book.dump().unwrap();
    assert!(grown.iter().any(|row| row.starts_with("neighbours")), "{grown:?}");
    let history =
        |who| book.taste(Some(account(who).0), &[], chrono::DateTime::UNIX_EPOCH, 1).unwrap().bought;
    assert!(history(102).is_empty() && !history(103).is_empty(), "who is forgotten has no history");

    projections.rebuild_and_wait(RecommendationsProjector::NAME, |_| ()).await.unwrap();
    assert_eq!(book.dump().unwrap(), grown);
    let statuses = projections.status().await;
    assert!(statuses.iter().all(|status| status.generation == 2 && status.served), "{statuses:?}");
    projections.shutdown().await;

    let (new, projections) = open(other.path(), &world);
    reached(&projections, position).await;
    assert_eq!(new.dump().unwrap(), grown);
    projections.shutdown().await;
}
