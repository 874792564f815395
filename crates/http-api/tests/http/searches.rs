//! What is searched for: recorded beside the answer, shown to admins, and nobody's.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use serde_json::{Value, json};
use souk_commands::clock::Clock;
use souk_domain::account::Role;
use souk_event_log::{EventStream, Filter, MemoryLog, Message, memory::Fault};

use crate::support::{Shop, item};

const PATIENCE: Duration = Duration::from_secs(20);

/// What the log says of searches, as it comes.
fn recorded(shop: &Shop) -> EventStream {
    let news = shop.market.log.subscribe(None, Filter::categories(["search"]));
    let events = news.filter_map(async |message| match message {
        Ok(Message::Event(event)) => Some(Ok(event)),
        Ok(_) => None,
        Err(error) => Some(Err(error)),
    });
    events.boxed()
}

async fn next(events: &mut EventStream) -> (u64, Value) {
    let event = tokio::time::timeout(PATIENCE, events.next()).await.unwrap().unwrap().unwrap();
    let mut data: Value = serde_json::from_slice(&event.data).unwrap();
    data["type"] = json!(&*event.event_type);
    (event.position, data)
}

#[tokio::test]
async fn a_search_and_a_click_are_recorded_and_reported() {
    let shop = Shop::open().await;
    let (sam, admin) = (shop.join("sam", "seller").await, shop.appoint("root", Role::Admin).await);
    let listed = shop.post("/v1/items", item("A", 5)).by(&sam).send().await.expect(201);
    let (lantern, at) = (listed.text("itemId"), listed.position());
    let search = |query: &str| shop.get(&format!("/v1/items?{query}")).with("souk-min-position", &at).send();

    let mut events = recorded(&shop);
    let found = search("term=%20Red%20%20L%C3%A1ntern&brand=Lumen&inStock=true").await.expect(200);
    let id = found.text("searchId");
    let (_, made) = next(&mut events).await;
    assert_eq!(
        made,
        json!({ "type": "SearchMade", "searchId": id, "query": "red lantern", "hits": 1, "filters": ["brand", "inStock"],
            "leadsTo": { "name": "category", "value": "Home > Lamps" } })
    );
    // Neither a later page, nor what nobody typed, nor what could be a secret.
    let unrecorded = [
        "brand=Lumen",
        "term=lantern&record=false",
        "term=4242424242424242",
        "term=ann@example.org",
        "term=%20",
        &format!("term={}", "x".repeat(300)),
    ];
    for query in unrecorded {
        assert_eq!(search(query).await.expect(200).body["searchId"], json!(null), "{query}");
    }
    assert_eq!(search("term=unicorn").await.expect(200).body["total"], 0);
    assert_eq!(next(&mut events).await.1["query"], "unicorn");

    let click =
        json!({ "type": "click", "searchId": id, "query": "Red lantern", "itemId": lantern, "position": 1 });
    for _ in 0..2 {
        let taken = shop.post("/v1/search-events", click.clone()).send().await.expect(202);
        assert_eq!(taken.body, json!({ "searchId": id }));
    }
    let cached = json!({ "type": "search", "query": "Unicorn", "hits": 0, "consent": true });
    shop.post("/v1/search-events", cached).by(&sam).send().await.expect(202);
    let (_, clicked) = next(&mut events).await;
    assert_eq!((&clicked["type"], &clicked["itemId"]), (&json!("ResultClicked"), &json!(lantern)));
    assert!(clicked.get("searcher").is_none());
    let (position, cached) = next(&mut events).await;
    assert_eq!(cached["query"], "unicorn", "a click that comes twice counts once");
    assert!(cached["searcher"].is_string() && !cached.to_string().contains(&sam.id), "{cached}");

    let report = async |query: &str| {
        let path = format!("/v1/admin/searches?{query}");
        let call = shop.get(&path).by(&admin).with("souk-min-position", &position.to_string());
        call.send().await.expect(200).body
    };
    let missed = report("withoutResults=true&days=30").await;
    let last_at = &missed["searches"][0]["lastAt"];
    let expected = json!({ "query": "unicorn", "searches": 2, "lastHits": 0, "correctedQuery": null, "fewerWords": false,
            "clicks": 0, "lastAt": last_at });
    assert_eq!(missed, json!({ "searches": [expected], "nextCursor": null }));
    let first = report("size=1").await;
    let second = report(&format!("size=1&cursor={}", first["nextCursor"].as_str().unwrap())).await;
    assert_eq!(
        (&first["searches"][0]["query"], &second["searches"][0]["clicks"]),
        (&json!("unicorn"), &json!(1))
    );
    shop.get("/v1/admin/searches").by(&sam).send().await.problem(403, "forbidden");
    let call = shop.get("/v1/admin/searches?days=91&withoutResults=maybe").by(&admin).send().await;
    assert_eq!(call.problem(400, "malformed").fields(), ["withoutResults", "days"]);
}

#[tokio::test]
async fn what_is_found_by_other_or_fewer_words_is_reported_as_missed() {
    let shop = Shop::open().await;
    let (sam, admin) = (shop.join("sam", "seller").await, shop.appoint("root", Role::Admin).await);
    let at = shop.post("/v1/items", item("A", 5)).by(&sam).send().await.expect(201).position();
    let mut events = recorded(&shop);
    let mut position = 0;
    for (term, told, says) in [
        ("lantern", "correctedQuery", json!(null)),
        ("lantarn", "correctedQuery", json!("lantern")),
        ("red+lantern+unicorn", "fewerWords", json!(true)),
    ] {
        let search = shop.get(&format!("/v1/items?term={term}")).with("souk-min-position", &at);
        assert_eq!(search.send().await.expect(200).body["total"], 1, "{term}");
        let (made_at, made) = next(&mut events).await;
        assert_eq!(made[told], says, "{made}");
        position = made_at;
    }
    let report = shop.get("/v1/admin/searches?withoutResults=true").by(&admin);
    let missed = report.with("souk-min-position", &position.to_string()).send().await.expect(200).body;
    let told: Vec<_> = missed["searches"].as_array().unwrap().iter().collect();
    assert_eq!(told.len(), 2, "{missed}");
    assert_eq!((&told[0]["query"], &told[0]["correctedQuery"]), (&json!("lantarn"), &json!("lantern")));
    assert_eq!((&told[1]["query"], &told[1]["fewerWords"]), (&json!("red lantern unicorn"), &json!(true)));
}

#[tokio::test]
async fn a_log_that_takes_nothing_stops_no_search() {
    let clock = Clock::system();
    let log = MemoryLog::new(Arc::new(move || clock.now()));
    let shop = Shop::over(Arc::new(log.clone())).await;
    for _ in 0..2 {
        log.inject_into("search", Fault::Unavailable);
    }
    let mut asked = Vec::new();
    for _ in 0..50 {
        asked.push(shop.get("/v1/items?term=lamp").send().await.expect(200).text("searchId"));
    }
    let mut events = recorded(&shop);
    for id in asked {
        assert_eq!(next(&mut events).await.1["searchId"], id, "each, in order, once");
    }
    assert_eq!(log.faults_left(), 0);
}

#[tokio::test]
async fn what_is_no_event_of_a_search_is_refused() {
    let shop = Shop::open().await;
    let send = |body| shop.post("/v1/search-events", body).send();
    let nobody = "00000000-0000-0000-0000-000000000000";
    for (body, fields) in [
        (json!({}), vec!["query", "type"]),
        (json!({ "type": "look", "query": "lamp" }), vec!["type"]),
        (json!({ "type": "click", "query": " " }), vec!["query", "searchId", "itemId", "position"]),
        (json!({ "type": "search", "query": "x".repeat(201), "hits": -1 }), vec!["query", "hits"]),
        (json!({ "type": "search", "query": "4242 4242 4242 4242", "hits": 1 }), vec!["query"]),
        (json!({ "type": "search", "query": "lamp", "hits": 1, "filters": vec!["x"; 21] }), vec!["filters"]),
        (
            json!({ "type": "click", "query": "lamp", "searchId": nobody, "itemId": nobody, "position": 1 }),
            vec!["itemId"],
        ),
    ] {
        let refused = send(body).await.problem(422, "invalid-parameters");
        assert_eq!(refused.fields(), fields, "{}", refused.text);
    }
    send(json!({ "type": "search", "query": 7 })).await.problem(400, "malformed");
}
