//! From the cart to the end of an order, in each way it can end.

use serde_json::{Value, json};
use souk_domain::account::Role;

use crate::support::{Member, Shop};

const WAIT: &str = "wait=20";

#[tokio::test]
async fn an_order_is_placed_paid_tracked_and_sent() {
    let shop = Shop::open().await;
    let (sam, ann) = (shop.join("sam", "seller").await, shop.join("ann", "buyer").await);
    let item = shop.list(&sam, "A", 5).await;
    let checkout = shop.fill(&ann, &item, 2).await;
    let attempt =
        || shop.post("/v1/checkout", checkout.clone()).by(&ann).with("idempotency-key", "c1").send();
    let accepted = attempt().await.expect(202);
    assert_eq!(accepted.text("status"), "placed");
    let id = accepted.text("orderId");
    let path = format!("/v1/orders/{id}");
    assert_eq!(accepted.header("location"), path);
    shop.get(&path).by(&ann).send().await.expect(200);
    assert_eq!(attempt().await.expect(202).text("orderId"), id);
    // Another key for the same cart is the same order: the cart became it.
    let waited =
        shop.post("/v1/checkout", checkout.clone()).by(&ann).with("prefer", WAIT).send().await.expect(200);
    assert_eq!((waited.text("orderId"), waited.text("status").as_str()), (id.clone(), "completed"));
    assert_eq!(waited.header("preference-applied"), WAIT);
    let mut other = checkout.clone();
    other["shippingAddress"]["city"] = json!("Oxford");
    let reused = shop.post("/v1/checkout", other).by(&ann).with("idempotency-key", "c1").send().await;
    reused.problem(422, "idempotency-key-reused");

    let statuses = ["placed", "stockReserved", "paid", "readyToShip", "completed"];
    let tracking = format!("{path}/tracking");
    let events = shop.get(&tracking).by(&ann).events(usize::MAX).await;
    assert_eq!(
        events.iter().map(|event| event.data["status"].as_str().unwrap()).collect::<Vec<_>>(),
        statuses
    );
    assert!(events.iter().all(|event| event.event == "status"));
    let rest = shop.get(&tracking).by(&ann).with("last-event-id", &events[2].id).events(usize::MAX).await;
    assert_eq!(rest.len(), 2);
    shop.get(&tracking).by(&ann).with("last-event-id", &events[4].id).send().await.expect(204);
    shop.get(&tracking).by(&shop.join("eve", "buyer").await).send().await.problem(404, "not-found");

    // What was told in the end is what the order then shows, without any header.
    let shown = shop.get(&path).by(&ann).send().await.expect(200);
    let timeline =
        shown.body["timeline"].as_array().unwrap().iter().map(|entry| entry["status"].as_str().unwrap());
    assert_eq!(timeline.collect::<Vec<_>>(), statuses);
    assert_eq!((&shown.body["total"]["amount"], &shown.body["reason"]), (&json!(3198), &json!(null)));
    assert_eq!(shown.body["shippingAddress"]["city"], "Cambridge");
    assert_eq!(shown.body["payment"]["lastFour"], "4242");
    assert!(!shown.text.contains("token"));
    let position = position_of_end(&shop, &ann, &id).await;

    let sold =
        shop.get("/v1/seller/orders").by(&sam).with("souk-min-position", &position).send().await.expect(200);
    let part = &sold.body["orders"][0];
    assert_eq!((&part["orderId"], &part["total"]["amount"]), (&json!(id), &json!(3198)));
    assert_eq!(part["shippingAddress"]["city"], "Cambridge");
    let shipment = part["shipments"][0]["shipmentId"].as_str().unwrap();
    assert_eq!(part["shipments"][0]["lines"][0]["quantity"], 2);
    let dispatch = format!("/v1/shipments/{shipment}/dispatch");
    let deliver = format!("/v1/shipments/{shipment}/deliver");
    shop.call("POST", &deliver).by(&sam).send().await.problem(409, "not-ready");
    let sent = shop
        .post(&dispatch, json!({ "carrier": "Post", "trackingNumber": "T1" }))
        .by(&sam)
        .send()
        .await
        .expect(200);
    assert_eq!(sent.body, json!({ "shipmentId": shipment, "status": "dispatched" }));
    shop.call("POST", &dispatch).by(&shop.join("tom", "seller").await).send().await.problem(404, "not-found");
    let delivered = shop.call("POST", &deliver).by(&sam).send().await.expect(200);
    let shown =
        shop.get(&path).by(&ann).with("souk-min-position", &delivered.position()).send().await.expect(200);
    assert_eq!(shown.body["shipments"][0]["trackingNumber"], "T1");
    assert_eq!(shown.body["shipments"][0]["status"], "delivered");
    shop.call("POST", &format!("{path}/cancel")).by(&ann).send().await.problem(409, "too-late-to-cancel");
}

/// A query that asks for it has seen what the process manager did.
async fn position_of_end(shop: &Shop, member: &Member, order: &str) -> String {
    let analyst = shop.appoint("ana", Role::Analyst).await;
    shop.get(&format!("/v1/orders/{order}/tracking")).by(member).events(usize::MAX).await;
    shop.get("/v1/events?limit=1").by(&analyst).send().await.expect(200).position()
}

#[tokio::test]
async fn orders_that_come_to_nothing_say_why() {
    let shop = Shop::open().await;
    let (sam, ann) = (shop.join("sam", "seller").await, shop.join("ann", "buyer").await);
    let item = shop.list(&sam, "A", 1).await;
    let ends = async |quantity, change: fn(&mut Value)| {
        let mut checkout = shop.fill(&ann, &item, quantity).await;
        change(&mut checkout);
        let ended =
            shop.post("/v1/checkout", checkout).by(&ann).with("prefer", WAIT).send().await.expect(200);
        assert_eq!(ended.text("status"), "cancelled");
        let list =
            shop.get("/v1/orders?size=1").by(&ann).with("souk-min-position", &ended.position()).send().await;
        assert_eq!(list.expect(200).body["orders"][0]["reason"], ended.body["reason"]);
        ended.text("reason")
    };
    assert_eq!(ends(2, |_| {}).await, "outOfStock");
    assert_eq!(
        ends(1, |checkout| checkout["paymentInfo"]["cardNo"] = json!("4000000000000002")).await,
        "paymentDeclined"
    );
    assert_eq!(
        ends(1, |checkout| checkout["shippingAddress"]["country"] = json!("AQ")).await,
        "shippingUnavailable"
    );
    let list = shop.get("/v1/orders?status=cancelled&size=2").by(&ann).send().await.expect(200);
    assert!(list.body["orders"].as_array().unwrap().len() <= 2);
    assert_eq!(
        shop.get("/v1/orders?status=lost").by(&ann).send().await.problem(400, "malformed").fields(),
        ["status"]
    );
}

#[tokio::test]
async fn a_checkout_that_does_not_fit_the_cart_is_refused() {
    let shop = Shop::open().await;
    let (sam, ann) = (shop.join("sam", "seller").await, shop.join("ann", "buyer").await);
    let item = shop.list(&sam, "A", 9).await;
    let cart = shop.get("/v1/cart").by(&ann).send().await.expect(200);
    let mut checkout = crate::support::checkout(&cart.body);
    checkout["amount"] = json!({ "amount": 1, "currency": "USD" });
    let send = |body: &Value| shop.post("/v1/checkout", body.clone()).by(&ann).send();
    assert_eq!(send(&checkout).await.problem(422, "invalid-parameters").fields(), ["cartId"]);

    let good = shop.fill(&ann, &item, 1).await;
    let mut cheap = good.clone();
    cheap["amount"]["amount"] = json!(1);
    let changed = send(&cheap).await.problem(409, "amount-changed");
    assert_eq!(changed.body["total"], json!({ "amount": 1599, "currency": "USD" }));
    let mut wrong = good.clone();
    wrong["paymentInfo"]["cardNo"] = json!("1234");
    assert_eq!(send(&wrong).await.problem(422, "invalid-parameters").fields(), ["paymentInfo.cardNo"]);
    let mut invoice = good.clone();
    invoice["paymentInfo"] = json!({ "paymentType": "invoice" });
    assert_eq!(send(&invoice).await.problem(422, "invalid-parameters").fields(), ["paymentInfo.paymentType"]);
    let eve = shop.join("eve", "buyer").await;
    shop.post("/v1/checkout", good).by(&eve).send().await.problem(404, "not-found");
    assert_eq!(
        send(&json!({})).await.expect(422).fields(),
        ["cartId", "amount", "paymentInfo", "shippingAddress"]
    );
}

#[tokio::test]
async fn a_slow_payment_can_be_waited_for_cancelled_and_followed_live() {
    let shop = Shop::scripted(r#"{"charge":{"delayMs":6000}}"#).await;
    let (sam, ann) = (shop.join("sam", "seller").await, shop.join("ann", "buyer").await);
    let eve = shop.join("eve", "buyer").await;
    let item = shop.list(&sam, "A", 5).await;
    let checkout = shop.fill(&ann, &item, 1).await;
    let placed =
        shop.post("/v1/checkout", checkout).by(&ann).with("prefer", "wait=0").send().await.expect(202);
    let id = placed.text("orderId");
    let path = format!("/v1/orders/{id}");
    let following = shop.get(&format!("{path}/tracking")).by(&ann).events(usize::MAX);
    let cancelling = async {
        shop.call("POST", &format!("{path}/cancel")).by(&eve).send().await.problem(404, "not-found");
        let cancel = || shop.call("POST", &format!("{path}/cancel")).by(&ann).send();
        assert_eq!(cancel().await.expect(202).body["orderId"], *id);
        cancel().await.expect(202);
    };
    let (events, ()) = tokio::join!(following, cancelling);
    let last = events.last().unwrap();
    assert_eq!((&last.data["status"], &last.data["reason"]), (&json!("cancelled"), &json!("buyerRequest")));
    assert!(events.iter().any(|event| event.data["status"] == "cancelling"));
}

#[tokio::test]
async fn sellers_see_their_part_and_no_more() {
    let shop = Shop::open().await;
    let (sam, tom) = (shop.join("sam", "seller").await, shop.join("tom", "seller").await);
    let ann = shop.join("ann", "buyer").await;
    let (lamp, rug) = (shop.list(&sam, "LAMP", 5).await, shop.list(&tom, "RUG", 5).await);
    shop.fill(&ann, &lamp, 1).await;
    let checkout = shop.fill(&ann, &rug, 2).await;
    let ended = shop.post("/v1/checkout", checkout).by(&ann).with("prefer", WAIT).send().await.expect(200);
    let path = format!("/v1/orders/{}", ended.text("orderId"));
    let position = position_of_end(&shop, &ann, &ended.text("orderId")).await;
    let seen = |member: &Member| shop.get(&path).by(member).with("souk-min-position", &position).send();
    let part = seen(&tom).await.expect(200);
    assert_eq!(
        (part.body["lines"].as_array().unwrap().len(), &part.body["total"]["amount"]),
        (1, &json!(3198))
    );
    assert_eq!(part.body["shipments"].as_array().unwrap().len(), 1);
    assert!(!part.text.contains("LAMP") && !part.text.contains("lastFour") && !part.text.contains(&sam.id));
    let listed =
        shop.get("/v1/orders").by(&sam).with("souk-min-position", &position).send().await.expect(200);
    assert!(listed.text.contains("LAMP") && !listed.text.contains("RUG"));
    seen(&shop.join("eve", "buyer").await).await.problem(404, "not-found");
    seen(&shop.join("una", "seller").await).await.problem(404, "not-found");
    let admin = shop.appoint("root", Role::Admin).await;
    let whole = seen(&admin).await.expect(200);
    assert_eq!((&whole.body["total"]["amount"], &whole.body["buyerId"]), (&json!(4797), &json!(ann.id)));
    let all = shop
        .get("/v1/admin/orders?status=completed")
        .by(&admin)
        .with("souk-min-position", &position)
        .send()
        .await;
    assert_eq!(all.expect(200).body["orders"].as_array().unwrap().len(), 1);
}
