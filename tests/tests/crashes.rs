//! The real binary under kill -9, and its coming and going.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures::future::join_all;
use serde_json::{Value, json};
use souk_tests::{Person, Server, binary, card, traversable};
use tokio::{process::Command, task::JoinSet};

const ROUNDS: u64 = 50;
const SEED: &str = "SOUK_CRASH_SEED";

/// SplitMix64: what is drawn depends on the seed alone, though what comes of it does not.
#[derive(Clone)]
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    fn pick<T: Clone>(&mut self, among: &[T]) -> T {
        among[self.below(among.len() as u64) as usize].clone()
    }
}

/// What clients were told.
#[derive(Default)]
struct Told {
    orders: Mutex<Vec<String>>,
    cancelled: Mutex<BTreeSet<String>>,
}

/// `None` once the server is gone.
async fn ask(request: reqwest::RequestBuilder) -> Option<(u16, Value)> {
    let answer = request.send().await.ok()?;
    Some((answer.status().as_u16(), answer.json().await.ok()?))
}

/// Fills carts, checks out in every way, and changes his mind, until the server is gone.
async fn shops(buyer: Person, mut dice: Dice, goods: Vec<String>, told: Arc<Told>) -> Option<()> {
    use reqwest::Method;
    loop {
        let mut cart = Value::Null;
        for _ in 0..=dice.below(2) {
            let line = json!({"itemId": dice.pick(&goods), "quantity": 1 + dice.below(3)});
            cart = ask(buyer.request(Method::PATCH, "/v1/cart").json(&line)).await?.1;
        }
        let payment = match dice.below(8) {
            0 => card("4000000000000002"),
            1 => card("4000000000000119"),
            2 => json!({"paymentType": "wallet"}),
            _ => card("4242424242424242"),
        };
        let body = json!({
            "cartId": cart["cartId"], "amount": cart["total"], "paymentInfo": payment,
            "shippingAddress": souk_tests::address(dice.pick(&["GB", "GB", "GB", "GB", "AQ"])),
        });
        let mut request = buyer.request(Method::POST, "/v1/checkout").json(&body);
        if dice.below(4) == 0 {
            request = request.header("Prefer", "wait=1");
        }
        let (200 | 202, answer) = ask(request).await? else { continue };
        let order = answer["orderId"].as_str()?.to_owned();
        told.orders.lock().unwrap().push(order.clone());
        if dice.below(4) == 0 {
            let path = format!("/v1/orders/{order}/cancel");
            if ask(buyer.request(Method::POST, &path)).await?.0 == 202 {
                told.cancelled.lock().unwrap().insert(order);
            }
        }
    }
}

/// Takes goods in, and out again.
async fn restocks(seller: Person, mut dice: Dice, goods: Vec<String>) -> Option<()> {
    loop {
        let path = format!("/v1/items/{}/stock", dice.pick(&goods));
        let change = json!({"change": dice.pick(&[1, 2, 5, -1, -3])});
        ask(seller.request(reqwest::Method::POST, &path).json(&change)).await?;
        tokio::time::sleep(Duration::from_millis(dice.below(60))).await;
    }
}

/// The only test that kills the real thing while everything happens at once. A run is named by its seed.
#[tokio::test]
async fn fifty_kills_under_load_lose_nothing_and_everything_adds_up() {
    let seed = std::env::var(SEED)
        .map_or_else(|_| RandomState::new().hash_one(ROUNDS), |seed| seed.parse().unwrap());
    println!("seed {seed}; the same draws again with {SEED}={seed}");
    let began = Instant::now();
    let mut dice = Dice(seed);
    let mut server = Server::scripted(r#"{"charge": {"delayMs": 10}, "book": {"delayMs": 10}}"#).await;
    let seller = server.seller("sam").await;
    let mut goods = Vec::new();
    // Some run short soon, some later.
    for (sku, quantity) in [("MUG", 20), ("POT", 100), ("CUP", 1_000)] {
        goods.push(seller.lists(sku, quantity).await);
    }
    let names: Vec<_> = (0..8).map(|n| format!("buyer{n}")).collect();
    let buyers = join_all(names.iter().map(|name| server.buyer(name))).await;
    let admin = server.staff("ada", "admin").await;
    let told = Arc::new(Told::default());
    for round in 1..=ROUNDS {
        let mut people = JoinSet::new();
        for buyer in &buyers {
            let own = Dice(dice.below(u64::MAX));
            people.spawn(shops(buyer.at(server.address()), own, goods.clone(), Arc::clone(&told)));
        }
        people.spawn(restocks(seller.at(server.address()), Dice(dice.below(u64::MAX)), goods.clone()));
        tokio::time::sleep(Duration::from_millis(50 + dice.below(1_000))).await;
        server.kill().await;
        people.join_all().await;
        if round % 10 == 0 {
            // Also what a crash has left may be in the middle of something, and must not be wrong.
            server.run(&["verify", "--log-only"]).await;
            let orders = told.orders.lock().unwrap().len();
            println!("round {round}: {orders} orders acknowledged, {:?}", began.elapsed());
        }
        server.resume().await;
    }
    let over = |page: &Value| page["checkouts"] == json!([]);
    server.until(&admin.at(server.address()), "/v1/admin/checkouts", over).await;
    let proof: Value = serde_json::from_str(&server.run(&["verify", "--json"]).await).unwrap();
    println!("{proof}");
    assert_eq!(
        (&proof["findingsCount"], &proof["inFlight"], &proof["parked"]),
        (&json!(0), &json!(0), &json!([]))
    );

    let ends: Vec<(uuid::Uuid, String)> = sqlx::query_as("SELECT order_id, status FROM views.order_states")
        .fetch_all(&server.pool().await)
        .await
        .unwrap();
    let ends: BTreeMap<String, String> =
        ends.into_iter().map(|(id, status)| (id.to_string(), status)).collect();
    let orders = told.orders.lock().unwrap().clone();
    assert!(orders.len() > 200, "only {} orders: that is no load", orders.len());
    for order in &orders {
        let end = ends.get(order).map(String::as_str);
        assert!(matches!(end, Some("completed" | "cancelled")), "{order} was acknowledged and is {end:?}");
    }
    for order in &*told.cancelled.lock().unwrap() {
        assert_eq!(ends[order], "cancelled", "the cancellation of {order} was acknowledged");
    }
    println!("{} orders acknowledged, {ROUNDS} kills, {:?}", orders.len(), began.elapsed());
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
