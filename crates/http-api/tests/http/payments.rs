//! Payments that wait for their buyer, and a gateway that speaks up: over the sandbox, and over a Stripe that answers as
//! documented.

use std::time::Duration;

use futures::StreamExt;
use serde_json::{Value, json};
use souk_commands::clock::Clock;
use souk_domain::account::Role;
use souk_event_log::{Direction, Filter, StreamName};
use souk_gateways::stripe::{
    Stripe,
    testing::{Fault, TestStripe, sign},
};
use souk_http_api::Settings;

use crate::support::{Answer, Member, Shop};

async fn until(what: &str, mut look: impl AsyncFnMut() -> bool) {
    for _ in 0..600 {
        if look().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("{what} does not come");
}

async fn order(shop: &Shop, buyer: &Member, id: &str) -> Value {
    shop.get(&format!("/v1/orders/{id}")).by(buyer).send().await.expect(200).body
}

async fn until_status(shop: &Shop, buyer: &Member, id: &str, status: &str) {
    until(status, async || order(shop, buyer, id).await["status"] == status).await;
}

/// Checks out one item with the card; answers the order's id.
async fn buy(shop: &Shop, seller: &Member, buyer: &Member, sku: &str, number: &str) -> String {
    let item = shop.list(seller, sku, 5).await;
    let mut checkout = shop.fill(buyer, &item, 1).await;
    checkout["paymentInfo"]["cardNo"] = json!(number);
    shop.post("/v1/checkout", checkout).by(buyer).send().await.expect(202).text("orderId")
}

/// Types of the payment's events.
async fn story(shop: &Shop, id: &str) -> Vec<String> {
    let stream = StreamName::new("payment", id);
    let events = shop.market.log.read_stream(&stream, 0, Direction::Forward, 100);
    events.map(|event| event.unwrap().event_type.to_string()).collect().await
}

#[tokio::test]
async fn the_buyer_alone_is_told_what_to_do_and_does_it() {
    let shop = Shop::open().await;
    let (sam, ann) = (shop.join("sam", "seller").await, shop.join("ann", "buyer").await);
    let admin = shop.appoint("root", Role::Admin).await;
    let id = buy(&shop, &sam, &ann, "A", "4000002500003155").await;
    until("the action", async || !order(&shop, &ann, &id).await["payment"]["action"].is_null()).await;
    let action = order(&shop, &ann, &id).await["payment"]["action"].clone();
    assert_eq!(action["type"], "redirect");
    let url = action["url"].as_str().unwrap();
    for other in [&sam, &admin] {
        assert!(!order(&shop, other, &id).await.to_string().contains("action"));
    }
    shop.post(url, json!({})).send().await.expect(400);
    let settled = shop.post(url, json!({ "confirm": true })).send().await.expect(200);
    assert_eq!(settled.text("outcome"), "charged");
    until_status(&shop, &ann, &id, "completed").await;
    assert!(order(&shop, &ann, &id).await["payment"]["action"].is_null());
    shop.post("/v1/sandbox/charges/ch_1", json!({ "confirm": true })).send().await.problem(404, "not-found");
    shop.post("/v1/webhooks/stripe", json!({})).send().await.problem(404, "not-found");
}

/// A shop whose payments go through Stripe.
struct Paid {
    shop: Shop,
    server: TestStripe,
    sam: Member,
    ann: Member,
}

impl Paid {
    async fn open() -> Self {
        let clock = Clock::system();
        let server = TestStripe::start({
            let clock = clock.clone();
            move || clock.now()
        })
        .await;
        let stripe = Stripe::new(server.config(), move || clock.now()).unwrap();
        let shop = Shop::paid_through(Some(stripe), "{}", Settings::default()).await;
        let (sam, ann) = (shop.join("sam", "seller").await, shop.join("ann", "buyer").await);
        Self { shop, server, sam, ann }
    }

    async fn buy(&self, sku: &str, number: &str) -> String {
        buy(&self.shop, &self.sam, &self.ann, sku, number).await
    }

    /// The only intent of the order.
    fn intent(&self, order: &str) -> Option<String> {
        let intents = self.server.all("pi_").into_iter();
        let mut ids = intents
            .filter(|intent| intent["metadata"]["souk_order"] == order)
            .map(|intent| intent["id"].clone());
        let id = ids.next()?;
        assert_eq!(ids.next(), None);
        Some(id.as_str().unwrap().to_owned())
    }

    async fn tell(&self, event: &str, kind: &str, object: &str) -> Answer {
        let (body, signature) = self.server.event(event, kind, object);
        self.shop
            .post("/v1/webhooks/stripe", json!(null))
            .raw(body)
            .with("stripe-signature", &signature)
            .send()
            .await
    }
}

#[tokio::test]
async fn a_buyer_confirms_at_his_bank_and_stripe_tells() {
    let paid = Paid::open().await;
    let id = paid.buy("A", "4000002500003155").await;
    until("the action", async || !order(&paid.shop, &paid.ann, &id).await["payment"]["action"].is_null())
        .await;
    let intent = paid.intent(&id).unwrap();
    let action = order(&paid.shop, &paid.ann, &id).await["payment"]["action"].clone();
    assert_eq!(action, json!({ "type": "clientSecret", "clientSecret": format!("{intent}_secret_1") }));
    // What Stripe told on the way there is of no use any more, and does no harm.
    paid.tell("evt_1", "payment_intent.requires_action", &intent).await.expect(200);
    assert_eq!(story(&paid.shop, &id).await, ["PaymentRequested", "PaymentActionRequired"]);

    paid.server.confirm(&intent, true);
    paid.tell("evt_2", "payment_intent.succeeded", &intent).await.expect(200);
    assert_eq!(
        story(&paid.shop, &id).await.last().unwrap(),
        "PaymentCompleted",
        "without waiting for a look"
    );
    until_status(&paid.shop, &paid.ann, &id, "completed").await;

    // The same event again is not even looked into; another one about the same changes nothing.
    let asked = paid.server.requests().len();
    paid.tell("evt_2", "payment_intent.succeeded", &intent).await.expect(200);
    assert_eq!(paid.server.requests().len(), asked);
    paid.tell("evt_3", "payment_intent.succeeded", &intent).await.expect(200);
    assert_eq!(
        story(&paid.shop, &id).await,
        ["PaymentRequested", "PaymentActionRequired", "PaymentCompleted"]
    );
    let log = paid.shop.market.log.read_all(0, Filter::all(), Direction::Forward, usize::MAX);
    let secrets = log.any(async |event| String::from_utf8_lossy(&event.unwrap().data).contains("_secret_"));
    assert!(!secrets.await, "the secret is nowhere kept");
}

#[tokio::test]
async fn a_webhook_may_overtake_the_answer_or_follow_it() {
    let paid = Paid::open().await;
    // The answer to the confirmation is late: Stripe has told by then.
    paid.server.fail("POST /v1/payment_intents/pi_", Fault::Slow(Duration::from_secs(2)));
    let id = paid.buy("A", "4242424242424242").await;
    until("the charge", async || paid.server.all("pi_").iter().any(|intent| intent["status"] == "succeeded"))
        .await;
    let intent = paid.intent(&id).unwrap();
    paid.tell("evt_1", "payment_intent.succeeded", &intent).await.expect(200);
    assert_eq!(story(&paid.shop, &id).await, ["PaymentRequested", "PaymentCompleted"]);
    until_status(&paid.shop, &paid.ann, &id, "completed").await;

    let id = paid.buy("B", "4242424242424242").await;
    until_status(&paid.shop, &paid.ann, &id, "completed").await;
    paid.tell("evt_2", "payment_intent.succeeded", &paid.intent(&id).unwrap()).await.expect(200);
    assert_eq!(story(&paid.shop, &id).await, ["PaymentRequested", "PaymentCompleted"]);

    let id = paid.buy("C", "4000000000000002").await;
    until_status(&paid.shop, &paid.ann, &id, "cancelled").await;
    paid.tell("evt_3", "payment_intent.payment_failed", &paid.intent(&id).unwrap()).await.expect(200);
    paid.tell("evt_4", "payment_intent.canceled", &paid.intent(&id).unwrap()).await.expect(200);
    assert_eq!(story(&paid.shop, &id).await, ["PaymentRequested", "PaymentFailed"]);
}

#[tokio::test]
async fn disputes_are_told_in_any_order() {
    let paid = Paid::open().await;
    let id = paid.buy("A", "4242424242424242").await;
    until_status(&paid.shop, &paid.ann, &id, "completed").await;
    let dispute = paid.server.dispute(&paid.intent(&id).unwrap(), 1599, "lost");
    for (event, kind) in [("evt_1", "charge.dispute.closed"), ("evt_2", "charge.dispute.created")] {
        paid.tell(event, kind, &dispute).await.expect(200);
    }
    let expected = ["PaymentRequested", "PaymentCompleted", "ChargebackOpened", "ChargebackClosed"];
    assert_eq!(story(&paid.shop, &id).await, expected);
}

#[tokio::test]
async fn nobody_else_is_believed_and_what_could_not_be_taken_in_is_asked_for_again() {
    let paid = Paid::open().await;
    let id = paid.buy("A", "4242424242424242").await;
    until_status(&paid.shop, &paid.ann, &id, "completed").await;
    let intent = paid.intent(&id).unwrap();
    let (body, signature) = paid.server.event("evt_1", "payment_intent.succeeded", &intent);
    let post = |body: &str| paid.shop.post("/v1/webhooks/stripe", json!(null)).raw(body.to_owned());
    post(&body).send().await.problem(400, "malformed");
    let forged = sign("whsec_mallory", Clock::system().now().timestamp(), &body);
    post(&body).with("stripe-signature", &forged).send().await.problem(400, "malformed");
    let old = sign("whsec_souk", Clock::system().now().timestamp() - 301, &body);
    post(&body).with("stripe-signature", &old).send().await.problem(400, "malformed");
    post(&"x".repeat(300 << 10))
        .with("stripe-signature", &signature)
        .send()
        .await
        .problem(413, "body-too-large");

    for fault in [Fault::Status(500), Fault::CutBefore, Fault::Garbage] {
        paid.server.fail("GET /v1/payment_intents", fault);
        paid.tell("evt_1", "payment_intent.succeeded", &intent).await.problem(503, "unavailable");
    }
    paid.tell("evt_1", "payment_intent.succeeded", &intent).await.expect(200);
    paid.tell("evt_2", "customer.created", "cus_1").await.expect(200);
}
