//! The real binary under kill -9, and its coming and going.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures::future::join_all;
use serde_json::{Value, json};
use souk_tests::{Person, Server, binary, traversable};
use tokio::process::Command;

/// Keeps a buyer ordering until the server is gone; notes what was acknowledged.
async fn shops(buyer: Person, mug: String, acknowledged: Arc<Mutex<Vec<String>>>) {
    loop {
        let line = json!({"itemId": mug, "quantity": 1});
        let request = buyer.request(reqwest::Method::PATCH, "/v1/cart").json(&line).send().await;
        let Ok(answer) = request else { return };
        let Ok(cart) = answer.json::<Value>().await else { return };
        let body = json!({
            "cartId": cart["cartId"], "amount": cart["total"],
            "paymentInfo": {"paymentType": "card", "cardNo": "4242424242424242", "expiry": "12/2099", "cvc": "123"},
            "shippingAddress": souk_tests::address("GB"),
        });
        let request = buyer.request(reqwest::Method::POST, "/v1/checkout").json(&body).send().await;
        let Ok(answer) = request else { return };
        let accepted = answer.status().as_u16() == 202;
        let Ok(order) = answer.json::<Value>().await else { return };
        if accepted {
            acknowledged.lock().unwrap().push(order["orderId"].as_str().unwrap().to_owned());
        }
    }
}

#[tokio::test]
async fn kill_nine_in_the_middle_of_checkouts_loses_none_and_charges_none_twice() {
    let mut server = Server::scripted(r#"{"charge": {"delayMs": 20}, "book": {"delayMs": 20}}"#).await;
    let seller = server.seller("sam").await;
    // Less than will be asked for.
    let mug = seller.lists("MUG", 400).await;
    let names: Vec<_> = (0..20).map(|n| format!("buyer{n}")).collect();
    let buyers = join_all(names.iter().map(|name| server.buyer(name))).await;
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    let mut rounds = 0;
    while acknowledged.lock().unwrap().len() < 500 {
        rounds += 1;
        assert!(rounds < 40, "only {} checkouts in 40 rounds", acknowledged.lock().unwrap().len());
        let shopping: Vec<_> = buyers
            .iter()
            .map(|buyer| {
                tokio::spawn(shops(buyer.at(server.address()), mug.clone(), Arc::clone(&acknowledged)))
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(700 + 130 * rounds)).await;
        server.kill().await;
        join_all(shopping).await;
        server.resume().await;
    }
    assert!(rounds >= 2, "the load was over before anything was killed");

    let mut ends = BTreeMap::<String, String>::new();
    let orders = acknowledged.lock().unwrap().clone();
    let admin = server.staff("ada", "admin").await;
    let started = Instant::now();
    for order in &orders {
        let path = format!("/v1/orders/{order}");
        let ended = |order: &Value| matches!(order["status"].as_str(), Some("completed" | "cancelled"));
        let end = server.until(&admin, &path, ended).await.body;
        let reason = end["reason"].as_str().unwrap_or("");
        assert!(matches!(reason, "" | "outOfStock"), "{end}");
        ends.insert(order.clone(), end["status"].as_str().unwrap().to_owned());
    }
    println!("{} acknowledged orders, {rounds} kills, ended within {:?}", ends.len(), started.elapsed());

    // Books: every unit and every charge belongs to exactly one completed order.
    server.stop().await;
    let log = server.log_database();
    let count = |event_type: &str| -> i64 {
        log.query_row("SELECT count(*) FROM events WHERE type = ?1", [event_type], |row| row.get(0)).unwrap()
    };
    let (completed, cancelled) = (count("OrderCompleted"), count("OrderCancelled"));
    assert_eq!(count("OrderPlaced"), completed + cancelled);
    assert_eq!(count("CartCheckedOut"), count("OrderPlaced"));
    assert_eq!((count("ReservationCommitted"), count("PaymentCompleted")), (completed, completed));
    assert!(completed <= 400, "{completed} units sold of 400");
    let charges: (i64, i64) = server
        .bank()
        .query_row(
            "SELECT count(*), sum(amount - refunded) FROM statement WHERE outcome = 'charged'",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .unwrap();
    assert_eq!(charges, (completed, completed * 1599));
}

#[tokio::test]
async fn views_that_are_rebuilt_say_the_same() {
    let server = Server::start().await;
    let (seller, buyer) = (server.seller("sam").await, server.buyer("bea").await);
    let admin = server.staff("ada", "admin").await;
    let mug = seller.lists("MUG", 3).await;
    for _ in 0..4 {
        buyer.buys(&[(&mug, 1)], json!({"paymentType": "upi", "vpa": "success@upi"}), "IN").await;
    }
    server
        .until(&admin, "/v1/orders", |list| {
            list["orders"].as_array().is_some_and(|orders| {
                orders.len() == 4 && orders.iter().all(|o| o["status"] != json!("placed"))
            })
        })
        .await;
    let pages = ["/v1/orders", "/v1/admin/orders", "/v1/admin/accounts", &format!("/v1/items/{mug}")]
        .map(str::to_owned);
    let look = async || {
        let mut seen = Vec::new();
        for page in &pages {
            seen.push(admin.get(page).await.expect(200));
        }
        seen
    };
    let before = look().await;
    for name in ["catalogue", "stock", "orders", "seller_orders", "accounts", "checkouts", "promotions"] {
        server.run(&["views", "rebuild", name]).await;
    }
    assert_eq!(look().await, before);
    let status = server.run(&["views", "status"]).await;
    assert!(status.contains("orders") && status.contains("active"), "{status}");
}

#[tokio::test]
async fn a_server_of_its_own_starts_fast_drains_and_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    traversable(folder.path());
    let data = folder.path().join("data");
    let run = || {
        let listen = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let metrics = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let child = Command::new(binary())
            .args(["serve", "--listen", &listen, "--metrics-listen", &metrics, "--data-dir"])
            .arg(&data)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        (child, format!("http://{listen}"), format!("http://{metrics}/metrics"))
    };
    let ready = async |address: &str| {
        let started = Instant::now();
        while !reqwest::get(format!("{address}/readyz"))
            .await
            .is_ok_and(|answer| answer.status().is_success())
        {
            assert!(started.elapsed() < Duration::from_mins(1), "not ready after a minute");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        started.elapsed()
    };
    let end = async |mut child: tokio::process::Child, signal| {
        let pid = nix::unistd::Pid::from_raw(child.id().unwrap().cast_signed());
        nix::sys::signal::kill(pid, signal).unwrap();
        tokio::time::timeout(Duration::from_secs(30), child.wait()).await.unwrap().unwrap().code()
    };

    let (child, address, metrics) = run();
    println!("ready after {:?} on an empty directory", ready(&address).await);
    // A view of nothing is built again, too.
    let rebuilt = Command::new(binary())
        .args(["views", "rebuild", "search", "--data-dir"])
        .arg(&data)
        .output()
        .await
        .unwrap();
    assert!(rebuilt.status.success(), "{}", String::from_utf8_lossy(&rebuilt.stderr));
    let seller = Person::stranger(&address).registered("sam", "seller").await;
    let mug = seller.lists("MUG", 3).await;
    for name in
        ["souk_command_seconds", "souk_log_appends_total", "souk_projector_lag", "souk_checkouts_in_flight"]
    {
        let asked = Instant::now();
        while !reqwest::get(&metrics).await.unwrap().text().await.unwrap().contains(name) {
            assert!(asked.elapsed() < Duration::from_secs(5), "{name} is missing");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    // Its PostgreSQL survives a kill -9 of ours, and is taken over.
    assert_eq!(end(child, nix::sys::signal::Signal::SIGKILL).await, None);
    let (child, address, _) = run();
    println!("ready after {:?} after a crash", ready(&address).await);
    Person::stranger(&address).get(&format!("/v1/items/{mug}")).await.expect(200);
    assert_eq!(end(child, nix::sys::signal::Signal::SIGTERM).await, Some(0));
    // Nothing is left running that holds the data.
    let postmaster = std::fs::read_to_string(data.join("postgres/data/postmaster.pid"))
        .or_else(|_| std::fs::read_to_string(data.join("postgres/postmaster.pid")));
    assert!(postmaster.is_err(), "PostgreSQL is still running: {postmaster:?}");
}
