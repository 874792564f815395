//! Analysts read the log; admins look after views and checkouts.

use futures::StreamExt;
use serde_json::{Value, json};
use souk_commands::{
    Context,
    checkout::{CheckoutCommand, Effect},
    clock::fresh_id,
};
use souk_domain::account::Role;

use crate::support::Shop;

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn the_log_is_read_in_pieces_and_live() {
    let shop = Shop::open().await;
    let (sam, ana) = (shop.join("sam", "seller").await, shop.appoint("ana", Role::Analyst).await);
    let item = shop.list(&sam, "A", 5).await;
    let read = |query: &str| shop.get(&format!("/v1/events{query}")).by(&ana).send();
    let all = read("").await.expect(200);
    assert_eq!(all.header("content-type"), "application/x-ndjson");
    let events = lines(&all.text);
    assert_eq!(events.last().unwrap()["position"].to_string(), all.position());
    for (number, event) in events.iter().enumerate() {
        assert_eq!(event["position"], number);
    }
    let listed = events.iter().find(|event| event["type"] == "ItemListed").unwrap();
    assert_eq!(
        (&listed["stream"], &listed["actor"]),
        (&json!(format!("item-{item}")), &json!(format!("account:{}", sam.id)))
    );
    assert!(listed["hash"].as_str().is_some_and(|hash| hash.len() == 64));
    assert!(listed["data"]["details"]["name"].is_string());

    assert_eq!(lines(&read("?limit=2").await.text), events[..2]);
    assert_eq!(lines(&read("?after=0&limit=2").await.text), events[1..3]);
    assert_eq!(lines(&read(&format!("?stream=item-{item}")).await.text).len(), 1);
    assert!(
        lines(&read("?category=account").await.text).iter().all(|event| event["type"] == "AccountRegistered")
    );
    assert_eq!(read("?limit=0").await.problem(422, "invalid-parameters").fields(), ["limit"]);
    assert_eq!(read("?after=x").await.problem(400, "malformed").fields(), ["after"]);
    assert!(read("?after=1000000").await.expect(200).text.is_empty());

    let live = shop.get("/v1/events?category=item").by(&ana).with("accept", "text/event-stream").events(2);
    let (live, _) = tokio::join!(live, shop.list(&sam, "B", 1));
    assert_eq!((live[0].id.clone(), live[0].event.as_str()), (listed["position"].to_string(), "ItemListed"));
    assert_eq!(live[0].data, *listed);
    let resumed = shop.get("/v1/events?category=item").by(&ana).with("accept", "text/event-stream");
    let resumed = resumed.with("last-event-id", &live[0].id).events(1).await;
    assert_eq!(resumed[0].id, live[1].id);
}

#[tokio::test]
async fn who_is_suspended_no_longer_follows_the_log() {
    let shop = Shop::open().await;
    let (ana, admin) = (shop.appoint("ana", Role::Analyst).await, shop.appoint("root", Role::Admin).await);
    let following = shop.get("/v1/events?type=AccountSuspended").by(&ana).with("accept", "text/event-stream");
    let suspend = shop.call("POST", &format!("/v1/admin/accounts/{}/suspend", ana.id)).by(&admin);
    // It ends, though more was asked for.
    let (events, _) = tokio::join!(following.events(2), suspend.json(json!({ "reason": "fraud" })).send());
    assert!(events.len() <= 1, "{events:?}");
}

#[tokio::test]
async fn views_are_watched_and_built_again() {
    let shop = Shop::open().await;
    let admin = shop.appoint("root", Role::Admin).await;
    let states = shop.get("/v1/admin/projections").by(&admin).send().await.expect(200);
    let names =
        states.body["projections"].as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap());
    assert_eq!(
        names.collect::<Vec<_>>(),
        [
            "accounts",
            "catalogue",
            "checkouts",
            "ledger",
            "orders",
            "promotions",
            "recommendations",
            "returns",
            "search",
            "searches",
            "seller_orders",
            "stock"
        ]
    );
    let rebuild =
        |name: &str| shop.call("POST", &format!("/v1/admin/projections/{name}/rebuild")).by(&admin).send();
    assert_eq!(rebuild("orders").await.expect(202).text("name"), "orders");
    rebuild("nothing").await.problem(404, "not-found");
}

#[tokio::test]
async fn a_parked_checkout_is_seen_and_sent_on() {
    // The payment takes its time, which leaves some for an operator.
    let shop = Shop::scripted(r#"{"charge":{"delayMs":6000}}"#).await;
    let admin = shop.appoint("root", Role::Admin).await;
    let nobody = "/v1/admin/checkouts/00000000-0000-0000-0000-000000000000/retry";
    shop.call("POST", nobody).by(&admin).send().await.problem(404, "not-found");
    let list = |query: &str| shop.get(&format!("/v1/admin/checkouts?{query}")).by(&admin);
    assert_eq!(list("state=parked").send().await.expect(200).body["checkouts"], json!([]));
    assert_eq!(list("state=lost").send().await.problem(400, "malformed").fields(), ["state"]);

    let (sam, ann) = (shop.join("sam", "seller").await, shop.join("ann", "buyer").await);
    let item = shop.list(&sam, "A", 5).await;
    let checkout = shop.fill(&ann, &item, 1).await;
    let order = shop.post("/v1/checkout", checkout).by(&ann).send().await.expect(202).text("orderId");
    let park = CheckoutCommand::Park {
        effect: Effect::RequestPayment,
        reason: "the bank is closed".into(),
        attempts: 12,
    };
    let context = Context::new(fresh_id(), "test");
    let id = order.parse().unwrap();
    let parked =
        shop.market.aggregates.checkouts.execute(id, park, &context).await.unwrap().position.unwrap();
    let seen = list("state=parked").with("souk-min-position", &parked.to_string()).send().await.expect(200);
    let shown = &seen.body["checkouts"][0];
    assert_eq!((&shown["orderId"], &shown["state"]), (&json!(order), &json!("parked")));
    assert_eq!(shown["reason"], "the bank is closed");
    let story = shown["story"].as_array().unwrap();
    let step = |event: &str| story.iter().find(|step| step["event"] == event).unwrap();
    assert_eq!(
        (&step("CheckoutStarted")["actor"], &step("CheckoutParked")["attempts"]),
        (&json!("process:checkout"), &json!(12))
    );
    let retried =
        shop.call("POST", &format!("/v1/admin/checkouts/{order}/retry")).by(&admin).send().await.expect(202);
    assert_eq!(retried.body, json!({ "orderId": order, "state": "inFlight" }));
    let events = shop.get(&format!("/v1/orders/{order}/tracking")).by(&ann).events(usize::MAX).await;
    assert_eq!(events.last().unwrap().data["status"], "completed");
}

#[tokio::test]
async fn what_a_checkout_is_parked_for_is_settled_by_hand() {
    // Nobody ships, and the bank takes its time to give money back: nobody waits for that here.
    let shop = Shop::scripted(r#"{"book":{"refuse":true},"refund":{"delayMs":600000}}"#).await;
    let (admin, sam) = (shop.appoint("root", Role::Admin).await, shop.join("sam", "seller").await);
    let ann = shop.join("ann", "buyer").await;
    let item = shop.list(&sam, "A", 5).await;
    let checkout = shop.fill(&ann, &item, 1).await;
    let order = shop.post("/v1/checkout", checkout).by(&ann).send().await.expect(202).text("orderId");
    let settle = |order: &str, body: Value| {
        shop.post(&format!("/v1/admin/checkouts/{order}/settle"), body).by(&admin).send()
    };
    let body = json!({ "reason": "bank transfer 4711", "outcome": "done" });
    settle("00000000-0000-0000-0000-000000000000", body.clone()).await.problem(404, "not-found");
    for (bad, field) in [
        (json!({}), "reason"),
        (json!({ "reason": " " }), "reason"),
        (json!({ "reason": "x".repeat(501) }), "reason"),
        (json!({ "reason": "so", "outcome": "perhaps" }), "outcome"),
    ] {
        assert_eq!(settle(&order, bad).await.problem(422, "invalid-parameters").fields(), [field]);
    }
    let stranger = shop.post(&format!("/v1/admin/checkouts/{order}/settle"), body.clone()).by(&ann);
    stranger.send().await.problem(403, "forbidden");

    let filter = souk_event_log::Filter::event_types(["RefundRequested"]);
    let mut asked = shop.market.log.subscribe(None, filter);
    while !matches!(asked.next().await, Some(Ok(souk_event_log::Message::Event(_)))) {}
    settle(&order, body.clone()).await.problem(409, "conflict");
    let park = CheckoutCommand::Park { effect: Effect::Refund, reason: "no answer".into(), attempts: 12 };
    let context = Context::new(fresh_id(), "test");
    let checkouts = &shop.market.aggregates.checkouts;
    checkouts.execute(order.parse().unwrap(), park, &context).await.unwrap();
    let not_needed = json!({ "reason": "never mind", "outcome": "notNeeded" });
    settle(&order, not_needed).await.problem(409, "conflict");
    assert_eq!(settle(&order, body.clone()).await.expect(202).text("orderId"), order);
    // Again is fine.
    settle(&order, body).await.expect(202);
    let events = shop.get(&format!("/v1/orders/{order}/tracking")).by(&ann).events(usize::MAX).await;
    assert_eq!(events.last().unwrap().data["status"], "cancelled");
    let read = |query: &str| shop.get(&format!("/v1/events?{query}")).by(&admin).send();
    let settlements = lines(&read("type=CheckoutSettled").await.text);
    let [settlement] = &*settlements else { panic!("{settlements:?}") };
    assert_eq!(
        (&settlement["actor"], &settlement["data"]["reason"]),
        (&json!(format!("account:{}", admin.id)), &json!("bank transfer 4711"))
    );
    let refunds = lines(&read("type=PaymentRefunded").await.text);
    assert_eq!(refunds[0]["data"]["refundId"], format!("byHand:{order}"));
}
