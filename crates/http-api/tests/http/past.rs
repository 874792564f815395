//! How orders and items were.

use serde_json::{Value, json};
use souk_domain::account::Role;
use souk_http_api::Settings;

use crate::support::{Answer, Member, Shop};

/// The events of the log that pass, as `GET /v1/events` answers them.
async fn events(shop: &Shop, analyst: &Member, filter: &str) -> Vec<Value> {
    let answer = shop.get(&format!("/v1/events?{filter}")).by(analyst).send().await.expect(200);
    answer.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn at(shop: &Shop, path: &str, who: &Member, at: &Value) -> Answer {
    let at = at.as_str().map_or_else(|| at.to_string(), ToOwned::to_owned);
    shop.get(&format!("{path}?at={}", at.replace('+', "%2B"))).by(who).send().await
}

#[tokio::test]
async fn an_order_is_shown_as_it_was_at_every_step() {
    let shop = Shop::open().await;
    let (sam, tom) = (shop.join("sam", "seller").await, shop.join("tom", "seller").await);
    let (ann, eve) = (shop.join("ann", "buyer").await, shop.join("eve", "buyer").await);
    let (admin, ana) = (shop.appoint("root", Role::Admin).await, shop.appoint("ana", Role::Analyst).await);
    let (lamp, rug) = (shop.list(&sam, "LAMP", 5).await, shop.list(&tom, "RUG", 5).await);
    shop.fill(&ann, &lamp, 1).await;
    let checkout = shop.fill(&ann, &rug, 2).await;
    let ended =
        shop.post("/v1/checkout", checkout).by(&ann).with("prefer", "wait=20").send().await.expect(200);
    let id = ended.text("orderId");
    let path = format!("/v1/orders/{id}");
    let shipment = format!("{id}-{}", tom.id);
    let sent = json!({ "carrier": "Post", "trackingNumber": "T1" });
    let sent =
        shop.post(&format!("/v1/shipments/{shipment}/dispatch"), sent).by(&tom).send().await.expect(200);
    let delivered =
        shop.call("POST", &format!("/v1/shipments/{shipment}/deliver")).by(&tom).send().await.expect(200);

    // As of now it is what the views say.
    let now = Value::from(delivered.position().parse::<u64>().unwrap());
    for who in [&ann, &sam, &tom, &admin] {
        let shown = shop.get(&path).by(who).with("souk-min-position", &delivered.position()).send().await;
        assert_eq!(at(&shop, &path, who, &now).await.expect(200).body, shown.expect(200).body);
    }
    let dispatched =
        at(&shop, &path, &ann, &sent.position().parse::<u64>().unwrap().into()).await.expect(200);
    let shipments = dispatched.body["shipments"].as_array().unwrap();
    let of_tom = shipments.iter().find(|shipment| shipment["sellerId"] == tom.id).unwrap();
    assert_eq!((&of_tom["status"], &of_tom["deliveredAt"]), (&json!("dispatched"), &Value::Null));

    // Step by step, by position and by time.
    let steps = events(&shop, &ana, &format!("stream=order-{id}")).await;
    let statuses = ["placed", "stockReserved", "paid", "readyToShip", "completed"];
    assert_eq!(steps.len(), statuses.len());
    for (index, step) in steps.iter().enumerate() {
        let then = at(&shop, &path, &ann, &step["position"]).await.expect(200);
        assert_eq!(then.text("status"), statuses[index]);
        assert_eq!(then.body["timeline"].as_array().unwrap().len(), index + 1);
        assert_eq!(then.body["timeline"][index]["at"], step["occurredAt"]);
        assert_eq!(then.body["placedAt"], steps[0]["occurredAt"]);
        // Another step may have been recorded within the same microsecond.
        let by_time = at(&shop, &path, &ann, &step["recordedAt"]).await.expect(200);
        assert!(by_time.body["timeline"].as_array().unwrap().len() > index);
    }
    let placed = at(&shop, &path, &ann, &steps[0]["position"]).await.expect(200).body;
    assert_eq!((&placed["payment"]["status"], &placed["shipments"]), (&Value::Null, &json!([])));
    assert_eq!(placed["shippingAddress"]["city"], "Cambridge");
    let paid = at(&shop, &path, &ann, &steps[2]["position"]).await.expect(200).body;
    assert_eq!(paid["payment"]["status"], "completed");

    // Who may see what: a seller his part, an analyst everything that stands in clear in the log.
    let part = at(&shop, &path, &sam, &steps[0]["position"]).await.expect(200);
    assert!(!part.text.contains("RUG") && !part.text.contains("lastFour"), "{}", part.text);
    assert_eq!(part.body["shippingAddress"], Value::Null, "nothing was booked yet");
    let seen = at(&shop, &path, &ana, &now).await.expect(200);
    assert_eq!((&seen.body["total"]["amount"], &seen.body["buyerId"]), (&json!(4797), &json!(ann.id)));
    assert!(seen.body.get("shippingAddress").is_none(), "{}", seen.text);
    shop.get(&path).by(&ana).send().await.problem(403, "forbidden");
    for stranger in [&eve, &shop.join("una", "seller").await] {
        at(&shop, &path, stranger, &now).await.problem(404, "not-found");
    }
    shop.get(&format!("{path}?at={now}")).send().await.problem(401, "unauthenticated");

    // Before it was there, in the time to come, and nonsense.
    let before = steps[0]["position"].as_u64().unwrap() - 1;
    at(&shop, &path, &ann, &before.into()).await.problem(404, "not-found");
    at(&shop, &path, &ann, &json!("2001-01-01T00:00:00Z")).await.problem(404, "not-found");
    for wrong in [json!("2999-01-01T00:00:00Z"), json!(1_000_000), json!("yesterday"), json!(-1)] {
        let refused = at(&shop, &path, &ann, &wrong).await.problem(422, "invalid-parameters");
        assert_eq!(refused.fields(), ["at"], "{wrong}");
    }
}

#[tokio::test]
async fn an_order_that_came_to_nothing_is_shown_as_it_was() {
    let shop = Shop::open().await;
    let (sam, ann) = (shop.join("sam", "seller").await, shop.join("ann", "buyer").await);
    let ana = shop.appoint("ana", Role::Analyst).await;
    let item = shop.list(&sam, "A", 5).await;
    let mut checkout = shop.fill(&ann, &item, 1).await;
    checkout["paymentInfo"]["cardNo"] = json!("4000000000000002");
    let ended =
        shop.post("/v1/checkout", checkout).by(&ann).with("prefer", "wait=20").send().await.expect(200);
    let path = format!("/v1/orders/{}", ended.text("orderId"));
    let shown =
        shop.get(&path).by(&ann).with("souk-min-position", &ended.position()).send().await.expect(200);
    let end = Value::from(ended.position().parse::<u64>().unwrap());
    assert_eq!(at(&shop, &path, &ann, &end).await.expect(200).body, shown.body);
    assert_eq!(
        (shown.text("reason").as_str(), &shown.body["payment"]["status"]),
        ("paymentDeclined", &json!("failed"))
    );
    let failed = events(&shop, &ana, "type=PaymentFailed").await;
    let before = failed[0]["position"].as_u64().unwrap() - 1;
    let then = at(&shop, &path, &ann, &before.into()).await.expect(200);
    assert_eq!((&then.body["payment"]["status"], &then.body["reason"]), (&json!("requested"), &Value::Null));
}

#[tokio::test]
async fn an_item_is_shown_at_the_price_and_with_the_stock_it_had() {
    let shop = Shop::open().await;
    let (sam, ann) = (shop.join("sam", "seller").await, shop.join("ann", "buyer").await);
    let ana = shop.appoint("ana", Role::Analyst).await;
    let item = shop.list(&sam, "A", 5).await;
    let path = format!("/v1/items/{item}");
    let listed = events(&shop, &ana, "type=ItemListed").await.remove(0);
    let received = events(&shop, &ana, "type=StockReceived").await.remove(0);
    let both = listed["position"].as_u64().max(received["position"].as_u64()).unwrap();

    let price = json!({ "price": { "amount": 1799, "currency": "USD" } });
    let dearer = shop.call("PATCH", &path).json(price).by(&sam).send().await.expect(200);
    let checkout = shop.fill(&ann, &item, 2).await;
    shop.post("/v1/checkout", checkout).by(&ann).with("prefer", "wait=20").send().await.expect(200);
    let off = shop.post(&format!("{path}/withdraw"), json!({})).by(&sam).send().await.expect(200);
    let back = shop.post(&format!("{path}/relist"), json!({})).by(&sam).send().await.expect(200);
    let position = |answer: &Answer| Value::from(answer.position().parse::<u64>().unwrap());

    for who in [&ann, &sam] {
        let shown =
            shop.get(&path).by(who).with("souk-min-position", &back.position()).send().await.expect(200);
        assert_eq!(at(&shop, &path, who, &position(&back)).await.expect(200).body, shown.body);
    }
    let first = at(&shop, &path, &ann, &both.into()).await.expect(200);
    assert_eq!(
        (&first.body["price"]["amount"], &first.body["availability"]),
        (&json!(1599), &json!({"available": 5}))
    );
    let second = at(&shop, &path, &sam, &position(&dearer)).await.expect(200);
    assert_eq!(second.body["price"]["amount"], 1799);
    assert_eq!(second.body["availability"], json!({"available": 5, "onHand": 5, "reserved": 0}));
    assert_eq!(at(&shop, &path, &ana, &position(&off)).await.expect(200).body["availability"]["onHand"], 3);

    // While it was off the market only those who could see it then can see it now.
    at(&shop, &path, &ann, &position(&off)).await.problem(404, "not-found");
    assert_eq!(at(&shop, &path, &sam, &position(&off)).await.expect(200).body["withdrawn"], true);
    // And once it is off the market, its past is, too.
    shop.post(&format!("{path}/withdraw"), json!({})).by(&sam).send().await.expect(200);
    at(&shop, &path, &ann, &both.into()).await.problem(404, "not-found");
    at(&shop, &path, &ana, &both.into()).await.expect(200);

    let early = listed["position"].as_u64().unwrap() - 1;
    at(&shop, &path, &sam, &early.into()).await.problem(404, "not-found");
    let refused = at(&shop, &path, &sam, &json!("2999-01-01T00:00:00Z")).await;
    assert_eq!(refused.problem(422, "invalid-parameters").fields(), ["at"]);
}

#[tokio::test]
async fn who_finds_no_turn_to_look_at_the_past_is_told_to_come_again() {
    let settings = Settings { max_replays: 0, ..Settings::default() };
    let shop = Shop::with("{}", settings).await;
    let sam = shop.join("sam", "seller").await;
    let lamp = shop.list(&sam, "LAMP", 5).await;
    let refused = at(&shop, &format!("/v1/items/{lamp}"), &sam, &1.into()).await;
    refused.problem(503, "unavailable");
}
