//! Consumers of events from outside: webhooks through failures and kill -9, the endpoint that the documentation shows,
//! and a cursor that outlives a restart.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use souk_tests::{Person, Server};
use souk_webhooks::testing::{CERTIFICATE, Received, Receiver, Reply};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::{TcpListener, TcpStream},
    process::Command,
};

const ALLOWED: &[&str] = &["--webhook-allow-private"];

async fn subscribe(analyst: &Person, wanted: Value) -> (String, String) {
    let made = analyst.post("/v1/consumers", wanted).await.expect(201);
    let secret = made["webhook"]["secret"].as_str().unwrap_or_default().to_owned();
    (format!("/v1/consumers/{}", made["consumerId"].as_str().unwrap()), secret)
}

/// Every event of the log, by position.
async fn log(analyst: &Person) -> BTreeMap<u64, Value> {
    let mut events = BTreeMap::new();
    loop {
        let after = events.last_key_value().map_or(String::new(), |(last, _)| format!("&after={last}"));
        let page = analyst.get(&format!("/v1/events?limit=10000{after}")).await.text;
        if page.is_empty() {
            return events;
        }
        for line in page.lines() {
            let event: Value = serde_json::from_str(line).unwrap();
            events.insert(event["position"].as_u64().unwrap(), event);
        }
    }
}

/// Nothing is missing, an event that came twice is the same, and of each stream none was sent before the ones ahead of it
/// were taken.
fn assert_all_came(received: &[Received], log: &BTreeMap<u64, Value>, secret: &str) {
    let mut taken: BTreeMap<&str, u64> = BTreeMap::new();
    let mut positions = BTreeSet::new();
    for request in received {
        assert!(request.is_signed_with(secret), "{:?}", request.headers);
        assert_eq!(&request.body, &log[&request.position()]);
        assert_eq!(request.body["id"], request.id());
        let next = taken.entry(request.stream()).or_default();
        let revision = request.body["revision"].as_u64().unwrap();
        assert!(revision <= *next, "{} came before its forerunners", request.text);
        if request.is_delivered() {
            *next = (*next).max(revision + 1);
            positions.insert(request.position());
        }
    }
    assert_eq!(positions, log.keys().copied().collect());
}

/// Lists goods and counts their stock until the server is gone.
async fn trade(seller: Person, round: usize) {
    for number in 0.. {
        let sku = format!("MUG-{round}-{number}");
        let listing =
            seller.request(reqwest::Method::POST, "/v1/items").json(&souk_tests::item(&sku, 5)).send();
        let Ok(listed) = listing.await else { return };
        let Ok(item) = listed.json::<Value>().await else { return };
        let Some(item) = item["itemId"].as_str() else { return };
        for change in [2, -1, 3] {
            let body = json!({"change": change});
            let path = format!("/v1/items/{item}/stock");
            if seller.request(reqwest::Method::POST, &path).json(&body).send().await.is_err() {
                return;
            }
        }
    }
}

#[tokio::test]
async fn webhooks_get_through_a_bad_receiver_and_kill_nine() {
    let mut server = Server::with("{}", ALLOWED).await;
    let (seller, analyst) = (server.seller("sam").await, server.staff("ana", "analyst").await);
    let endpoint = Receiver::start(|number, _| match number {
        0 | 90 => Reply::Status(500),
        150 => Reply::HangUp,
        220 => Reply::With(503, "retry-after: 1"),
        _ if number % 7 == 0 => Reply::Slowly(Duration::from_millis(30), 200),
        _ => Reply::Status(204),
    })
    .await;
    let wanted = json!({"name": "partner", "after": "start", "webhook": {"url": endpoint.url()}});
    let (path, secret) = subscribe(&analyst, wanted).await;
    for round in 0..3 {
        let trading = tokio::spawn(trade(seller.at(server.address()), round));
        // In the middle of what it sends.
        let so_far = endpoint.received().len();
        endpoint.until(|received| received.len() >= so_far + 80).await;
        server.kill().await;
        trading.await.unwrap();
        server.resume().await;
    }
    let analyst = analyst.at(server.address());
    let log = log(&analyst).await;
    let last = *log.last_key_value().unwrap().0;
    server.until(&analyst, &path, |consumer| consumer["position"] == json!(last)).await;
    let received = endpoint.received();
    assert_all_came(&received, &log, &secret);
    println!("{} events came in {} requests through 3 kills", log.len(), received.len());
    let failed = analyst.get(&format!("{path}/deliveries?delivered=false")).await.expect(200);
    assert!(!failed["deliveries"].as_array().unwrap().is_empty());

    // Again from somewhere, on purpose, and drained in between.
    let before = endpoint.received().len();
    let from = last - 20;
    analyst.post(&format!("{path}/replay"), json!({"after": from})).await.expect(200);
    endpoint.until(|received| received.len() > before).await;
    assert_eq!(server.stop().await, Some(0));
    server.resume().await;
    let analyst = analyst.at(server.address());
    let received = endpoint
        .until(|received| {
            let again: BTreeSet<_> = received[before..].iter().map(Received::position).collect();
            again.len() == 20
        })
        .await;
    assert!(received[before..].iter().all(|request| request.position() > from));
    let shown = server.until(&analyst, &path, |consumer| consumer["lag"] == json!(0)).await.body;
    assert_eq!(shown["state"], "active");
}

#[tokio::test]
async fn a_webhook_is_paused_by_its_owner_and_with_its_owner() {
    let server = Server::with("{}", ALLOWED).await;
    let (seller, analyst) = (server.seller("sam").await, server.staff("ana", "analyst").await);
    let admin = server.staff("ada", "admin").await;
    let endpoint = Receiver::start(|_, _| Reply::Status(200)).await;
    let wanted = json!({"name": "goods", "categories": ["item"], "webhook": {"url": endpoint.url()}});
    let (path, _) = subscribe(&analyst, wanted).await;
    seller.lists("ONE", 1).await;
    endpoint.until(|received| received.len() == 1).await;
    server.until(&analyst, &path, |consumer| consumer["webhook"]["lastDeliveredAt"].is_string()).await;
    let paused = analyst.post(&format!("{path}/pause"), json!({"reason": "moving house"})).await.expect(200);
    assert_eq!((&paused["state"], &paused["reason"]), (&json!("paused"), &json!("moving house")));
    // Another webhook that is told says that the sender has seen the pause.
    let fence = Receiver::start(|_, _| Reply::Status(200)).await;
    let wanted = json!({"name": "fence", "after": "start", "webhook": {"url": fence.url()}});
    let (other, _) = subscribe(&admin, wanted).await;
    fence.until(|received| !received.is_empty()).await;
    seller.lists("TWO", 1).await;
    fence.until(|received| received.iter().any(|one| one.text.contains("\"TWO\""))).await;
    assert_eq!(endpoint.received().len(), 1);
    analyst.post(&format!("{path}/resume"), json!({})).await.expect(200);
    endpoint.until(|received| received.len() == 2).await;

    let account = &analyst.account_id;
    admin.post(&format!("/v1/admin/accounts/{account}/suspend"), json!({})).await.expect(200);
    let paused = server.until(&admin, &path, |consumer| consumer["state"] == json!("paused")).await.body;
    assert_eq!(paused["reason"], "its owner may not read events any more");
    admin.post(&format!("/v1/admin/accounts/{account}/forget"), json!({})).await.expect(200);
    admin.get(&path).await.refused(404);
    assert_eq!(admin.get(&other).await.expect(200)["state"], "active");
}

#[tokio::test]
async fn over_tls_to_whom_the_system_trusts() {
    let mut server = Server::with("{}", ALLOWED).await;
    let (seller, analyst) = (server.seller("sam").await, server.staff("ana", "analyst").await);
    let endpoint = Receiver::start_tls(|_, _| Reply::Status(200)).await;
    let wanted = json!({"name": "secure", "categories": ["item"], "webhook": {"url": endpoint.url()}});
    let (path, secret) = subscribe(&analyst, wanted).await;
    seller.lists("ONE", 1).await;
    let failing = server.until(&analyst, &path, |consumer| consumer["state"] == json!("failing")).await.body;
    let error = failing["webhook"]["lastError"].as_str().unwrap();
    assert!(error.starts_with("no connection: ") && error.contains("certificate"), "{error}");
    server.stop().await;
    let trusted = server.data_dir().with_file_name("trusted.pem");
    std::fs::write(&trusted, CERTIFICATE).unwrap();
    server.set("SSL_CERT_FILE", trusted.to_str().unwrap());
    server.resume().await;
    let received = endpoint.until(|received| received.len() == 1).await;
    assert!(received[0].is_signed_with(&secret));
}

#[tokio::test]
async fn by_itself_nothing_is_sent_inside() {
    let server = Server::start().await;
    let analyst = server.staff("ana", "analyst").await;
    let endpoint = Receiver::start(|_, _| Reply::Status(200)).await;
    let body = json!({"name": "x", "webhook": {"url": endpoint.url()}});
    assert_eq!(analyst.post("/v1/consumers", body).await.refused(422), ["webhook.url"]);
}

/// The program in the documentation, as it stands there.
fn documented_receiver() -> &'static str {
    let page = include_str!("../../docs/consumers.md");
    let (_, rest) = page.split_once("```python\n").unwrap();
    rest.split_once("```").unwrap().0
}

#[tokio::test]
async fn the_documented_receiver_takes_what_is_genuine() {
    let server = Server::with("{}", ALLOWED).await;
    let analyst = server.staff("ana", "analyst").await;
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let url = format!("http://{address}/");
    let wanted = json!({"name": "python", "categories": ["item"], "webhook": {"url": url}});
    let (path, secret) = subscribe(&analyst, wanted).await;
    let mut python = Command::new("python3")
        .args(["-c", documented_receiver()])
        .env("WEBHOOK_SECRET", secret)
        .env("PORT", address.port().to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap_or_else(|error| panic!("python3 is needed for this test: {error}"));
    let began = Instant::now();
    while TcpStream::connect(address).await.is_err() {
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", python.try_wait());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let forged = reqwest::Client::new()
        .post(&url)
        .header("webhook-id", "x")
        .header("webhook-timestamp", "1700000000")
        .header("webhook-signature", "v1,AAAA")
        .body("{}")
        .send();
    assert_eq!(forged.await.unwrap().status().as_u16(), 401);

    let seller = server.seller("sam").await;
    let mut lines = BufReader::new(python.stdout.take().unwrap()).lines();
    for sku in ["ONE", "TWO", "THREE"] {
        let item = seller.lists(sku, 1).await;
        let line = tokio::time::timeout(Duration::from_secs(30), lines.next_line()).await.unwrap();
        let line = line.unwrap().unwrap();
        assert!(line.ends_with(&format!(" ItemListed item-{item}")), "{line}");
    }
    let shown = server.until(&analyst, &path, |consumer| consumer["lag"] == json!(0)).await.body;
    assert_eq!((&shown["state"], &shown["webhook"]["failures"]), (&json!("active"), &json!(0)));
}

#[tokio::test]
async fn a_cursor_outlives_a_crash() {
    let mut server = Server::start().await;
    let (seller, analyst) = (server.seller("sam").await, server.staff("ana", "analyst").await);
    let (path, _) = subscribe(&analyst, json!({"name": "books", "categories": ["item", "inventory"]})).await;
    let mut listed = BTreeSet::new();
    for number in 0..20 {
        listed.insert(format!("item-{}", seller.lists(&format!("MUG-{number}"), 1).await));
    }
    let mut seen = Vec::new();
    let mut analyst = analyst;
    loop {
        let batch = analyst.get(&format!("{path}/events?limit=7")).await;
        let up_to: u64 = batch.header("souk-position").parse().unwrap();
        if batch.text.is_empty() {
            break;
        }
        // Half of the times it crashes before it has acknowledged, and is answered the same again.
        if seen.len() % 2 == 1 {
            server.kill().await;
            server.resume().await;
            analyst = analyst.at(server.address());
            assert_eq!(analyst.get(&format!("{path}/events?limit=7")).await.text, batch.text);
        }
        analyst.post(&format!("{path}/acknowledge"), json!({"position": up_to})).await.expect(200);
        seen.push(batch.text);
    }
    let events: Vec<Value> =
        seen.iter().flat_map(|text| text.lines()).map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(events.is_sorted_by_key(|event| event["position"].as_u64()));
    let streams: BTreeSet<_> =
        events.iter().map(|event| event["stream"].as_str().unwrap().to_owned()).collect();
    assert!(listed.is_subset(&streams) && events.len() >= 40);
}
