//! Consumers: who may have them, fetching and acknowledging, and what can be done with a webhook.

use serde_json::{Value, json};
use souk_domain::account::Role;
use souk_vault::{Delivery, Progress, Whose};
use uuid::Uuid;

use crate::support::{Member, Shop};

fn positions(text: &str) -> Vec<u64> {
    let line = |line| serde_json::from_str::<Value>(line).unwrap()["position"].as_u64().unwrap();
    text.lines().map(line).collect()
}

async fn make(shop: &Shop, who: &Member, body: Value) -> String {
    shop.post("/v1/consumers", body).by(who).send().await.expect(201).text("consumerId")
}

fn hook(name: &str) -> Value {
    json!({ "name": name, "after": "start", "webhook": { "url": "https://hooks.example.org/in" } })
}

#[tokio::test]
async fn a_consumer_fetches_acknowledges_and_goes_back() {
    let shop = Shop::open().await;
    let (sam, ana) = (shop.join("sam", "seller").await, shop.appoint("ana", Role::Analyst).await);
    for sku in ["A", "B", "C"] {
        shop.list(&sam, sku, 5).await;
    }
    shop.join("bea", "buyer").await;
    let wanted =
        json!({ "name": "goods", "categories": ["item"], "types": ["ItemListed"], "after": "start" });
    let made = shop.post("/v1/consumers", wanted).by(&ana).send().await.expect(201);
    let path = format!("/v1/consumers/{}", made.text("consumerId"));
    assert_eq!(made.header("location"), path);
    assert_eq!(
        (&made.body["position"], &made.body["state"], &made.body["ownerId"]),
        (&Value::Null, &json!("active"), &json!(ana.id))
    );
    assert!(made.body.get("webhook").is_none());

    let fetch =
        async |query: &str| shop.get(&format!("{path}/events{query}")).by(&ana).send().await.expect(200);
    let acknowledge = async |position: Value| {
        shop.post(&format!("{path}/acknowledge"), json!({ "position": position })).by(&ana).send().await
    };
    let all = fetch("").await;
    assert_eq!(all.header("content-type"), "application/x-ndjson");
    let listed = positions(&all.text);
    assert_eq!(listed.len(), 3);
    let end: u64 = all.position().parse().unwrap();
    assert!(end > listed[2], "it looked at what follows, too");
    assert_eq!(fetch("").await.text, all.text, "until it is acknowledged");
    let shown =
        shop.get(&format!("/v1/events?type=ItemListed&after={}", listed[0] - 1)).by(&ana).send().await;
    assert_eq!(shown.text, all.text, "as the log is read");

    let two = fetch("?limit=2").await;
    assert_eq!((positions(&two.text), two.position()), (listed[..2].to_vec(), listed[1].to_string()));
    let moved = acknowledge(json!(listed[1])).await.expect(200);
    assert_eq!(
        (moved.body["position"].as_u64(), moved.body["lag"].as_u64()),
        (Some(listed[1]), Some(end - listed[1]))
    );
    acknowledge(json!(listed[1])).await.expect(200);
    assert_eq!(positions(&fetch("").await.text), listed[2..]);

    let behind = acknowledge(json!(listed[0])).await.problem(409, "conflict");
    assert_eq!(behind.body["position"], listed[1]);
    assert_eq!(acknowledge(json!(end + 100)).await.problem(422, "invalid-parameters").fields(), ["position"]);
    assert_eq!(acknowledge(Value::Null).await.problem(422, "invalid-parameters").fields(), ["position"]);
    assert_eq!(acknowledge(json!("x")).await.problem(400, "malformed").fields(), ["position"]);

    // What is not for it counts as seen when it says so.
    let moved = acknowledge(json!(end)).await.expect(200);
    assert_eq!(moved.body["lag"], 0);
    let empty = fetch("").await;
    assert_eq!((empty.text.as_str(), empty.position()), ("", end.to_string()));

    let replay = async |body: Value| shop.post(&format!("{path}/replay"), body).by(&ana).send().await;
    assert_eq!(replay(json!({ "after": listed[0] })).await.expect(200).body["position"], listed[0]);
    assert_eq!(positions(&fetch("").await.text), listed[1..]);
    assert_eq!(replay(json!({ "after": "start" })).await.expect(200).body["position"], Value::Null);
    assert_eq!(positions(&fetch("").await.text), listed);
    assert_eq!(replay(json!({ "after": "end" })).await.expect(200).body["lag"], 0);
    for bad in [json!({}), json!({ "after": "now" }), json!({ "after": end + 100 })] {
        assert_eq!(replay(bad).await.problem(422, "invalid-parameters").fields(), ["after"]);
    }
    // Only webhooks have what follows.
    for call in ["pause", "resume", "rotate-secret"] {
        shop.call("POST", &format!("{path}/{call}")).by(&ana).send().await.problem(409, "conflict");
    }
    shop.call("DELETE", &path).by(&ana).send().await.expect(204);
    shop.get(&path).by(&ana).send().await.problem(404, "not-found");
}

#[tokio::test]
async fn who_waits_is_answered_when_something_happens() {
    let shop = Shop::open().await;
    let (sam, ana) = (shop.join("sam", "seller").await, shop.appoint("ana", Role::Analyst).await);
    let id = make(&shop, &ana, json!({ "name": "goods", "categories": ["item"] })).await;
    let fetch = |wait: &str| shop.get(&format!("/v1/consumers/{id}/events")).by(&ana).with("prefer", wait);
    assert_eq!(fetch("wait=0").send().await.expect(200).text, "");
    let (news, _) = tokio::join!(fetch("wait=30").send(), shop.list(&sam, "A", 1));
    let news = news.expect(200);
    assert_eq!((positions(&news.text).len(), news.header("preference-applied")), (1, "wait=30"));
}

#[tokio::test]
async fn a_consumer_is_its_owners_and_an_admin_sees_all() {
    let shop = Shop::open().await;
    let (ana, bob) = (shop.appoint("ana", Role::Analyst).await, shop.appoint("bob", Role::Analyst).await);
    let (root, sam) = (shop.appoint("root", Role::Admin).await, shop.join("sam", "seller").await);
    let one = make(&shop, &ana, hook("one")).await;
    let two = make(&shop, &bob, json!({ "name": "two" })).await;
    for call in [shop.get("/v1/consumers").by(&sam), shop.post("/v1/consumers", hook("no")).by(&sam)] {
        call.send().await.problem(403, "forbidden");
    }
    shop.get("/v1/consumers").send().await.problem(401, "unauthenticated");
    let path = format!("/v1/consumers/{one}");
    for (method, call) in [
        ("GET", ""),
        ("DELETE", ""),
        ("GET", "/events"),
        ("POST", "/pause"),
        ("POST", "/resume"),
        ("POST", "/rotate-secret"),
        ("GET", "/deliveries"),
    ] {
        shop.call(method, &format!("{path}{call}")).by(&bob).send().await.problem(404, "not-found");
    }
    for (call, body) in [("acknowledge", json!({ "position": 0 })), ("replay", json!({ "after": "end" }))] {
        shop.post(&format!("{path}/{call}"), body).by(&bob).send().await.problem(404, "not-found");
    }
    let list = async |who: &Member, query: &str| {
        let page = shop.get(&format!("/v1/consumers{query}")).by(who).send().await.expect(200);
        let ids = page.body["consumers"].as_array().unwrap().iter();
        let ids: Vec<_> = ids.map(|one| one["consumerId"].as_str().unwrap().to_owned()).collect();
        (ids, page.body["nextCursor"].as_str().map(str::to_owned))
    };
    assert_eq!(list(&ana, "").await, (vec![one.clone()], None));
    assert_eq!(list(&root, "").await, (vec![two.clone(), one.clone()], None));
    let (first, cursor) = list(&root, "?size=1").await;
    let (second, end) = list(&root, &format!("?size=1&cursor={}", cursor.unwrap())).await;
    assert_eq!((first, second, end), (vec![two], vec![one.clone()], None));
    let bad = shop.get("/v1/consumers?cursor=x").by(&root).send().await;
    assert_eq!(bad.problem(400, "malformed").fields(), ["cursor"]);
    shop.get(&path).by(&root).send().await.expect(200);
    shop.call("POST", &format!("{path}/pause")).by(&root).send().await.expect(200);
    shop.get("/v1/consumers/not-an-id").by(&ana).send().await.problem(404, "not-found");
}

#[tokio::test]
async fn the_same_request_makes_one_consumer_and_shows_its_secret_again() {
    let shop = Shop::open().await;
    let ana = shop.appoint("ana", Role::Analyst).await;
    let ask = |body: Value| shop.post("/v1/consumers", body).by(&ana).with("idempotency-key", "k").send();
    let first = ask(hook("one")).await.expect(201);
    let again = ask(hook("one")).await.expect(201);
    assert_eq!(first.body, again.body);
    let secret = first.body["webhook"]["secret"].as_str().unwrap();
    assert!(secret.starts_with("whsec_"), "{secret}");
    ask(hook("two")).await.problem(422, "idempotency-key-reused");
    let path = format!("/v1/consumers/{}", first.text("consumerId"));
    let shown = shop.get(&path).by(&ana).send().await.expect(200);
    assert!(!shown.text.contains("secret"), "{}", shown.text);

    let rotate = |key: &str| {
        shop.call("POST", &format!("{path}/rotate-secret")).by(&ana).with("idempotency-key", key).send()
    };
    let rotated = rotate("r").await.expect(200).text("secret");
    assert_ne!(rotated, secret);
    assert_eq!(rotate("r").await.expect(200).text("secret"), rotated);
    assert_ne!(rotate("s").await.expect(200).text("secret"), rotated);
}

#[tokio::test]
async fn a_webhook_is_refused_where_it_must_not_go() {
    let shop = Shop::open().await;
    let ana = shop.appoint("ana", Role::Analyst).await;
    for url in
        ["http://127.0.0.1/", "http://localhost:8080/", "ftp://a.example/", "https://u:p@a.example/", "x", ""]
    {
        let body = json!({ "name": "x", "webhook": { "url": url } });
        let refused = shop.post("/v1/consumers", body).by(&ana).send().await;
        assert_eq!(refused.problem(422, "invalid-parameters").fields(), ["webhook.url"], "{url}");
    }
    let body = json!({ "categories": ["order-7"], "webhook": {} });
    let refused = shop.post("/v1/consumers", body).by(&ana).send().await.problem(422, "invalid-parameters");
    assert_eq!(refused.fields(), ["name", "categories[0]", "webhook.url"]);
    let typed = shop.post("/v1/consumers", json!({ "name": "x", "after": -1 })).by(&ana).send().await;
    assert_eq!(typed.problem(400, "malformed").fields(), ["after"]);
}

#[tokio::test]
async fn a_webhook_tells_how_it_goes() {
    let shop = Shop::open().await;
    let ana = shop.appoint("ana", Role::Analyst).await;
    let id = make(&shop, &ana, hook("one")).await;
    let path = format!("/v1/consumers/{id}");
    let id: Uuid = id.parse().unwrap();
    let vault = &shop.market.vault;
    let now = shop.market.clock.now();
    let failed = |attempt| Delivery {
        id: 0,
        position: 3,
        event: Uuid::from_u128(3),
        event_type: "ItemListed".into(),
        stream: "item-1".into(),
        attempt,
        at: now,
        delivered: false,
        status: Some(500),
        error: Some("the receiver answered 500 Internal Server Error".into()),
        took_ms: 12,
    };
    let taken = Delivery { position: 2, delivered: true, status: Some(204), error: None, ..failed(1) };
    let failing = Progress {
        position: Some(2),
        failures: 2,
        failing_since: Some(now),
        next_attempt_at: Some(now),
        last_error: Some("the receiver answered 500 Internal Server Error".into()),
        delivered_at: Some(now),
        paused_because: None,
    };
    let epoch = vault.consumer(id, Whose::Everybodys).await.unwrap().unwrap().epoch;
    assert!(vault.note_sending(id, epoch, &failing, &[taken, failed(1), failed(2)]).await.unwrap());

    let shown = shop.get(&path).by(&ana).send().await.expect(200);
    assert_eq!((&shown.body["state"], &shown.body["position"]), (&json!("failing"), &json!(2)));
    let webhook = &shown.body["webhook"];
    assert_eq!((&webhook["failures"], &webhook["lastError"]), (&json!(2), &json!(failing.last_error)));
    assert!(webhook["failingSince"].is_string() && webhook["nextAttemptAt"].is_string());

    let deliveries = async |query: &str| {
        shop.get(&format!("{path}/deliveries{query}")).by(&ana).send().await.expect(200).body
    };
    let all = deliveries("").await;
    let attempts = |page: &Value| {
        let tries = page["deliveries"].as_array().unwrap().iter();
        tries
            .map(|one| (one["delivered"].as_bool().unwrap(), one["attempt"].as_u64().unwrap()))
            .collect::<Vec<_>>()
    };
    assert_eq!(attempts(&all), [(false, 2), (false, 1), (true, 1)]);
    assert_eq!(
        all["deliveries"][0],
        json!({
            "position": 3, "eventId": Uuid::from_u128(3), "type": "ItemListed", "stream": "item-1", "attempt": 2,
            "at": all["deliveries"][0]["at"], "delivered": false, "status": 500,
            "error": "the receiver answered 500 Internal Server Error", "tookMs": 12,
        })
    );
    assert_eq!(attempts(&deliveries("?delivered=true").await), [(true, 1)]);
    let page = deliveries("?size=2").await;
    assert_eq!(attempts(&page), [(false, 2), (false, 1)]);
    let rest = deliveries(&format!("?size=2&cursor={}", page["nextCursor"].as_str().unwrap())).await;
    assert_eq!((attempts(&rest), &rest["nextCursor"]), (vec![(true, 1)], &Value::Null));

    let paused =
        shop.post(&format!("{path}/pause"), json!({ "reason": "moving house" })).by(&ana).send().await;
    let paused = paused.expect(200);
    assert_eq!((&paused.body["state"], &paused.body["reason"]), (&json!("paused"), &json!("moving house")));
    let resumed = shop.call("POST", &format!("{path}/resume")).by(&ana).send().await.expect(200);
    assert_eq!((&resumed.body["state"], &resumed.body["reason"]), (&json!("active"), &Value::Null));
    let acknowledged =
        shop.post(&format!("{path}/acknowledge"), json!({ "position": 0 })).by(&ana).send().await;
    acknowledged.problem(409, "conflict");
}
