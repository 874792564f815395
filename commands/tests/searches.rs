//! Searches on their way to the log: written together, kept while it is away, never waited for, and nobody's unless sealed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(dead_code, reason = "the fixture is shared")]

mod support;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures::StreamExt;
use souk_commands::searches::{Noted, Searches};
use souk_domain::{
    AccountId, DomainEvent, Sealed,
    search::{CATEGORY, SearchEvent, SearchMade},
};
use souk_event_log::{EventLog, Filter, Message, memory::Fault};
use support::{Shop, buyer};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

fn searched(query: &str, searcher: Option<AccountId>) -> Noted {
    let made = SearchMade {
        search_id: Uuid::from_u128(1),
        query: query.to_owned(),
        hits: 2,
        corrected_query: None,
        fewer_words: false,
        filters: vec![],
        leads_to: None,
        searcher: None,
    };
    Noted { event: made.into(), at: DateTime::<Utc>::UNIX_EPOCH, searcher }
}

/// The next so many that the log tells of.
async fn recorded(shop: &Shop, count: usize) -> Vec<SearchMade> {
    let news = shop.log.subscribe(None, Filter::categories([CATEGORY]));
    let events = news.filter_map(async |message| match message.unwrap() {
        Message::Event(event) => Some(event),
        _ => None,
    });
    let events: Vec<_> = events.take(count).collect().await;
    let made = events.iter().map(|event| {
        let SearchEvent::SearchMade(made) =
            SearchEvent::from_json(&event.event_type, 1, &event.data).unwrap()
        else {
            panic!("{event:?}")
        };
        made
    });
    made.collect()
}

#[tokio::test]
async fn what_the_log_did_not_take_it_is_given_again_and_once() {
    let shop = Shop::closed("{}").await;
    let end = CancellationToken::new();
    let (searches, writing) = Searches::begin(Arc::clone(&shop.market), end.clone());
    for fault in [Fault::Unavailable, Fault::UnknownWritten, Fault::UnknownNotWritten] {
        shop.log.inject_into(CATEGORY, fault);
    }
    assert!(searches.note(searched("lamp", None)) && searches.note(searched("tent", None)));
    let writing = tokio::spawn(writing);
    recorded(&shop, 2).await;
    searches.note(searched("next", None));
    recorded(&shop, 3).await;
    searches.note(searched("last", None));
    end.cancel();
    writing.await.unwrap();
    assert_eq!(shop.log.faults_left(), 0);
    let queries: Vec<_> = recorded(&shop, 4).await.into_iter().map(|made| made.query).collect();
    assert_eq!(queries, ["lamp", "tent", "next", "last"], "also what was handed in just before the end");
    assert_eq!(shop.log.events().len(), 4);
    assert!(shop.log.events().iter().all(|event| event.metadata().actor.as_deref() == Some("search")));
}

#[tokio::test]
async fn more_than_fits_is_dropped_and_nobody_waits() {
    let shop = Shop::closed("{}").await;
    // Nobody writes: the log is as far away as can be.
    let (searches, _writing) = Searches::begin(Arc::clone(&shop.market), CancellationToken::new());
    let kept = (0..20_000).filter(|n| searches.note(searched(&n.to_string(), None))).count();
    assert_eq!(kept, 10_000);
}

#[tokio::test]
async fn who_searched_is_sealed_and_gone_with_the_key() {
    let shop = Shop::closed("{}").await;
    let end = CancellationToken::new();
    let (searches, writing) = Searches::begin(Arc::clone(&shop.market), end.clone());
    let (known, forgotten) = (buyer(1), buyer(2));
    shop.market.vault.seal(forgotten, b"before").await.unwrap();
    shop.market.vault.forget(forgotten).await.unwrap();
    for searcher in [Some(known), Some(forgotten), None] {
        searches.note(searched("lamp", searcher));
    }
    let writing = tokio::spawn(writing);
    let made = recorded(&shop, 3).await;
    end.cancel();
    writing.await.unwrap();
    let sealed = Sealed { subject: known, sealed: made[0].searcher.clone().unwrap() };
    let opened = shop.market.vault.open_sealed(&sealed).await.unwrap();
    assert_eq!(opened.as_deref(), Some(known.0.as_bytes().as_slice()));
    assert_eq!((&made[1].searcher, &made[2].searcher), (&None, &None));
    let text: Vec<_> =
        shop.log.events().iter().map(|event| String::from_utf8_lossy(&event.data).into_owned()).collect();
    assert!(text.iter().all(|text| !text.contains(&known.to_string())), "{text:?}");
    shop.market.vault.forget(known).await.unwrap();
    assert_eq!(shop.market.vault.open_sealed(&sealed).await.unwrap(), None);
}
