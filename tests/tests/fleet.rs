//! Several processes over one event server, and what the loss of any one of them does: nothing.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures::future::join_all;
use serde_json::{Value, json};
use souk_tests::{Fleet, Person, address, card};

const PRICE: i64 = 1599;

/// Orders until told to stop, at another API whenever one does not answer; notes what was acknowledged.
async fn shops(
    buyer: Person,
    apis: [String; 2],
    mug: String,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<Mutex<Vec<String>>>,
) {
    let mut turn = 0;
    while !stop.load(Ordering::Relaxed) {
        let buyer = buyer.at(&apis[turn % 2]);
        match order(&buyer, &mug).await {
            Some(order) => acknowledged.lock().unwrap().push(order),
            None => turn += 1,
        }
    }
}

/// Fills the cart and checks it out. `None`: something in between was not answered, or not now.
async fn order(buyer: &Person, mug: &str) -> Option<String> {
    let line = json!({"itemId": mug, "quantity": 1});
    let cart = buyer.request(reqwest::Method::PATCH, "/v1/cart").json(&line).send().await.ok()?;
    let cart: Value = cart.json().await.ok()?;
    let body = json!({
        "cartId": cart["cartId"], "amount": cart["total"], "paymentInfo": card("4242424242424242"),
        "shippingAddress": address("GB"),
    });
    let answer = buyer.request(reqwest::Method::POST, "/v1/checkout").json(&body).send().await.ok()?;
    if answer.status().as_u16() != 202 {
        return None;
    }
    let order: Value = answer.json().await.ok()?;
    Some(order["orderId"].as_str()?.to_owned())
}

#[tokio::test]
async fn any_one_process_may_be_killed_and_nothing_is_lost_or_doubled() {
    let mut fleet = Fleet::start().await;
    let seller = fleet.stranger("api1").registered("sam", "seller").await;
    let mug = seller.lists("MUG", 100_000).await;
    let found = |fleet: &Fleet, name: &str| {
        let stranger = fleet.stranger(name);
        let mug = mug.clone();
        async move {
            let started = Instant::now();
            loop {
                let hits = stranger.get("/v1/items?term=mug").await.body;
                if hits["items"][0]["itemId"] == json!(mug) {
                    return;
                }
                assert!(started.elapsed() < Duration::from_secs(30), "not found: {hits}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    };
    found(&fleet, "search1").await;
    found(&fleet, "search2").await;

    let apis = [fleet.address("api1"), fleet.address("api2")];
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    let stop = Arc::new(AtomicBool::new(false));
    let mut buyers = Vec::new();
    for n in 0..4 {
        buyers.push(fleet.stranger("api2").registered(&format!("buyer{n}"), "buyer").await);
    }
    let shopping: Vec<_> = buyers
        .iter()
        .map(|buyer| {
            let (stop, acknowledged) = (Arc::clone(&stop), Arc::clone(&acknowledged));
            tokio::spawn(shops(buyer.clone(), apis.clone(), mug.clone(), stop, acknowledged))
        })
        .collect();
    for name in fleet.names() {
        let before = acknowledged.lock().unwrap().len();
        fleet.kill(&name).await;
        if name == "log" {
            fleet.begin(&name).await;
        }
        // The others carry on: some more orders are taken before it comes back.
        let started = Instant::now();
        while acknowledged.lock().unwrap().len() < before + 6 {
            assert!(
                started.elapsed() < Duration::from_mins(1),
                "no orders without {name}:\n{}",
                fleet.output_of("api1")
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        fleet.begin(&name).await;
    }
    stop.store(true, Ordering::Relaxed);
    join_all(shopping).await;
    for name in fleet.names() {
        fleet.until_up(&name).await;
    }

    let orders = acknowledged.lock().unwrap().clone();
    let started = Instant::now();
    for order in &orders {
        let seen = loop {
            let seen = seller.at(&apis[0]).get(&format!("/v1/orders/{order}")).await;
            if seen.body["status"] == "completed" {
                break seen;
            }
            assert!(
                started.elapsed() < Duration::from_secs(90),
                "{order} is {}\n{}\n{}",
                seen.text,
                fleet.output_of("process1"),
                fleet.output_of("process2")
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        assert_eq!(seen.body["total"]["amount"], json!(PRICE));
    }
    println!("{} orders, ended {:?} after the last was acknowledged", orders.len(), started.elapsed());
    found(&fleet, "search1").await;
    fleet.stop().await;

    let log = fleet.log_database();
    let count = |event_type: &str| -> i64 {
        log.query_row("SELECT count(*) FROM events WHERE type = ?1", [event_type], |row| row.get(0)).unwrap()
    };
    let completed = count("OrderCompleted");
    // An order whose acknowledgement was lost with a process is an order all the same.
    assert!(completed >= i64::try_from(orders.len()).unwrap());
    assert_eq!((count("OrderPlaced"), count("OrderCancelled")), (completed, 0));
    assert_eq!((count("CartCheckedOut"), count("ReservationCommitted")), (completed, completed));
    assert_eq!((count("PaymentCompleted"), count("ShipmentReady")), (completed, completed));
    let charges: (i64, i64) = fleet
        .bank()
        .query_row(
            "SELECT count(*), sum(amount - refunded) FROM statement WHERE outcome = 'charged'",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .unwrap();
    assert_eq!(charges, (completed, completed * PRICE));
}
