//! What holds for every call: problems, limits, ids, the description.

use serde_json::json;

use crate::support::{Shop, item};

#[tokio::test]
async fn whatever_goes_wrong_is_a_problem() {
    let shop = Shop::open().await;
    let seller = shop.join("sam", "seller").await;
    shop.get("/nowhere").send().await.problem(404, "not-found");
    shop.get("/v1/items/not-an-id").send().await.problem(404, "not-found");
    let answer = shop.call("DELETE", "/v1/items").send().await.problem(405, "method-not-allowed");
    assert_eq!(answer.header("allow"), "GET,HEAD,POST");
    let post = |body: &'static str| shop.call("POST", "/v1/items").by(&seller).raw(body);
    post("{}").send().await.problem(415, "unsupported-media-type");
    post("{").with("content-type", "application/json").send().await.problem(400, "malformed");
    post("[]").with("content-type", "application/json").send().await.problem(400, "malformed");
    let typed = post(r#"{"quantity":"two"}"#).with("content-type", "application/json").send().await;
    assert_eq!(typed.problem(400, "malformed").fields(), ["quantity"]);
    let named = shop.post("/v1/items", json!({ "quantity": -1 })).by(&seller).send().await;
    assert_eq!(named.problem(422, "invalid-parameters").fields(), ["sku", "name", "price", "quantity"]);
    let large = shop.post("/v1/items", json!({ "name": "x".repeat(1 << 20) })).by(&seller).send().await;
    large.problem(413, "body-too-large");
    let keyed = shop.post("/v1/items", item("A", 1)).by(&seller).with("idempotency-key", "a b").send().await;
    assert_eq!(keyed.problem(400, "malformed").fields(), ["Idempotency-Key"]);
    let behind = shop.get("/v1/items").with("souk-min-position", "soon").send().await;
    assert_eq!(behind.problem(400, "malformed").fields(), ["Souk-Min-Position"]);
}

#[tokio::test]
async fn a_query_waits_for_what_it_must_have_seen_but_not_for_ever() {
    let shop = Shop::open().await;
    let buyer = shop.join("ann", "buyer").await;
    let answer = shop.get("/v1/orders").by(&buyer).with("souk-min-position", "1000000").send().await;
    assert_eq!(answer.problem(503, "behind").header("retry-after"), "1");
}

#[tokio::test]
async fn a_request_keeps_its_id_down_to_the_events() {
    let shop = Shop::open().await;
    let seller = shop.join("sam", "seller").await;
    let analyst = shop.appoint("ana", souk_domain::account::Role::Analyst).await;
    let id = "0198a1b2-0000-7000-8000-000000000001";
    let answer =
        shop.post("/v1/items", item("A", 1)).by(&seller).with("x-request-id", id).send().await.expect(201);
    assert_eq!(answer.header("x-request-id"), id);
    let events = shop.get("/v1/events?type=ItemListed").by(&analyst).send().await.expect(200);
    assert!(events.text.contains(&format!(r#""correlationId":"{id}""#)), "{}", events.text);
    let own = shop.get("/healthz").with("x-request-id", "not one").send().await.expect(200);
    assert_ne!(own.header("x-request-id"), "not one");
}

#[tokio::test]
async fn it_describes_itself_and_says_how_it_is() {
    let shop = Shop::open().await;
    let document = shop.get("/openapi.json").send().await.expect(200);
    assert!(document.body["paths"]["/v1/checkout"]["post"].is_object());
    assert_eq!(shop.get("/docs").send().await.expect(303).header("location"), "/docs/");
    assert!(shop.get("/docs/").send().await.expect(200).text.contains("swagger"));
    assert_eq!(shop.get("/healthz").send().await.expect(200).text("status"), "alive");
    let ready = shop.get("/readyz").send().await.expect(200);
    assert_eq!(ready.body["postgres"]["status"], "up");
    assert_eq!(ready.body["projectors"].as_array().unwrap().len(), 12);
    shop.pool.close().await;
    let unready = shop.get("/readyz").send().await.expect(503);
    assert_eq!(
        (unready.text("status").as_str(), &unready.body["postgres"]["status"]),
        ("unready", &json!("down"))
    );
    shop.get("/v1/items?term=lantern").send().await.expect(200);
    let down =
        shop.get("/v1/items/00000000-0000-0000-0000-000000000000").send().await.problem(503, "unavailable");
    assert_eq!(down.header("retry-after"), "2");
    assert!(!down.text.to_lowercase().contains("pool"), "{}", down.text);
}
