//! The real binary, paid through Stripe: a server that answers as Stripe's documentation says.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use chrono::{DateTime, Utc};
use serde_json::json;
use souk_gateways::stripe::testing::{SECRET_KEY, TestStripe, WEBHOOK_SECRET};
use souk_tests::Server;

fn now() -> DateTime<Utc> {
    (std::time::UNIX_EPOCH + std::time::UNIX_EPOCH.elapsed().unwrap()).into()
}

#[tokio::test]
async fn an_order_is_paid_through_stripe_and_confirmed_by_its_webhook() {
    let stripe = TestStripe::start(now).await;
    let secrets = tempfile::tempdir().unwrap();
    let file = |name: &str, secret: &str| {
        let path = secrets.path().join(name);
        std::fs::write(&path, format!("{secret}\n")).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (key, webhook) = (file("key", SECRET_KEY), file("webhook", WEBHOOK_SECRET));
    let url = stripe.url().to_string();
    let arguments = [
        ["--payments", "stripe"],
        ["--stripe-url", &url],
        ["--stripe-secret-key-file", &key],
        ["--stripe-webhook-secret-file", &webhook],
    ];
    let server = Server::with("{}", arguments.as_flattened()).await;
    let (sam, ann) = (server.seller("sam").await, server.buyer("ann").await);
    let mug = sam.lists("MUG", 5).await;

    let token = json!({ "paymentType": "card", "token": "pm_card_visa" });
    let paid = ann.buys(&[(&mug, 1)], token, "GB").await;
    assert_eq!(paid["status"], "completed");
    // What the carrier refuses is given back at Stripe.
    let refused =
        ann.buys(&[(&mug, 2)], json!({ "paymentType": "card", "token": "pm_card_visa" }), "AQ").await;
    assert_eq!((&refused["status"], stripe.all("re_").len()), (&json!("cancelled"), 1));
    assert_eq!(stripe.all("re_")[0]["amount"], 3198);

    let (cart, amount) = ann.fills_cart(&[(&mug, 1)]).await;
    let asks = souk_tests::card("4000002500003155");
    let accepted = ann.checks_out(&cart, &amount, asks, "GB").await.expect(202);
    let path = format!("/v1/orders/{}", accepted["orderId"].as_str().unwrap());
    server.until(&ann, &path, |order| order["payment"]["action"]["type"] == "clientSecret").await;
    let waits = |intent: &serde_json::Value| intent["status"] == "requires_action";
    let intent = stripe.all("pi_").into_iter().find(waits).unwrap()["id"].as_str().unwrap().to_owned();
    stripe.confirm(&intent, true);
    let (body, signature) = stripe.event("evt_1", "payment_intent.succeeded", &intent);
    let told = reqwest::Client::new()
        .post(format!("{}/v1/webhooks/stripe", server.address()))
        .header("stripe-signature", signature)
        .body(body);
    assert_eq!(told.send().await.unwrap().status(), 200);
    server.until(&ann, &path, |order| order["status"] == "completed").await;

    let kept = server.log_database();
    let secrets = "SELECT count(*) FROM events WHERE CAST(data AS TEXT) LIKE '%_secret_%' OR CAST(data AS TEXT) LIKE '%sk_test%'";
    assert_eq!(kept.query_row(secrets, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
}
