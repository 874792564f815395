//! Several processes over one event server, and what the loss of any one of them does: nothing.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::Location,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures::future::join_all;
use serde_json::{Value, json};
use souk_tests::{Fleet, Person, address, card};
use souk_webhooks::testing::{Received, Receiver, Reply};

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

/// What is at stake: one item, of which all buy, and whoever is told of orders.
struct Market {
    fleet: Fleet,
    apis: [String; 2],
    seller: Person,
    buyers: Vec<Person>,
    mug: String,
    partner: Receiver,
    acknowledged: Arc<Mutex<Vec<String>>>,
}

const STOCK: u32 = 100_000;
const MANY: Duration = Duration::from_secs(90);

impl Market {
    async fn open() -> Self {
        let fleet = Fleet::start().await;
        let seller = fleet.stranger("api1").registered("sam", "seller").await;
        let mug = seller.lists("MUG", STOCK).await;
        let mut buyers = Vec::new();
        for n in 0..4 {
            buyers.push(fleet.stranger("api2").registered(&format!("buyer{n}"), "buyer").await);
        }
        let partner = Receiver::start(|_, _| Reply::Status(204)).await;
        let wanted = json!({
            "name": "partner", "categories": ["order"], "after": "start", "webhook": {"url": partner.url()},
        });
        let analyst = fleet.staff("api1", "ana", "analyst").await;
        analyst.post("/v1/consumers", wanted).await.expect(201);
        let apis = [fleet.address("api1"), fleet.address("api2")];
        Self { fleet, apis, seller, buyers, mug, partner, acknowledged: Arc::default() }
    }

    fn orders(&self) -> Vec<String> {
        self.acknowledged.lock().unwrap().clone()
    }

    /// Waits until it holds.
    #[track_caller]
    fn until<W: Future<Output = bool>>(&self, what: &str, holds: impl Fn() -> W) -> impl Future<Output = ()> {
        let caller = Location::caller();
        async move {
            let started = Instant::now();
            while !holds().await {
                if started.elapsed() > MANY {
                    let said = ["api1", "process1", "process2", "project1", "project2"];
                    let said = said.map(|name| format!("{name}: {}", tail(&self.fleet.output_of(name))));
                    panic!("{caller}: not yet: {what}\n{}", said.join("\n"));
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    async fn until_found(&self, name: &str, term: &str, item: &str) {
        let stranger = &self.fleet.stranger(name);
        let (path, item) = (&format!("/v1/items?term={term}"), &json!(item));
        self.until(&format!("{name} finds {term}"), || async move {
            let hits = stranger.get(path).await.body;
            hits["items"].as_array().is_some_and(|items| items.iter().any(|hit| hit["itemId"] == *item))
        })
        .await;
    }

    /// So many orders that were begun from now on are acknowledged; the last of them.
    async fn until_ordered(&self, more: usize) -> String {
        let before = self.acknowledged.lock().unwrap().len();
        self.until("more orders are taken", async || {
            self.acknowledged.lock().unwrap().len() >= before + more
        })
        .await;
        self.orders().pop().unwrap()
    }

    /// The order is carried to its end, and the view of the seller's orders says so through that API.
    async fn until_completed(&self, order: &str, api: &str) {
        let (seller, completed) = (&self.seller.at(api), &(order.into(), "completed".into(), PRICE));
        self.until(&format!("{order} is completed"), || async move {
            listed(seller, "/v1/seller/orders").await.contains(completed)
        })
        .await;
    }
}

fn tail(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

/// All pages of a list of orders, as far as they are answered: id, status and total.
async fn listed(person: &Person, path: &str) -> Vec<(String, String, i64)> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = person.get(&format!("{path}?size=100{cursor}")).await.body;
        let Some(orders) = page["orders"].as_array() else { break };
        all.extend(orders.iter().map(|order| {
            let text = |name: &str| order[name].as_str().unwrap().to_owned();
            (text("orderId"), text("status"), order["total"]["amount"].as_i64().unwrap())
        }));
        let Some(next) = page["nextCursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    all.sort();
    all
}

/// Every event of every order came, none before those ahead of it in its stream had been taken. How many events.
fn assert_told_in_order(received: &[Received], log: &rusqlite::Connection) -> usize {
    let mut taken: BTreeMap<&str, i64> = BTreeMap::new();
    for request in received {
        let next = taken.entry(request.stream()).or_default();
        let revision = request.body["revision"].as_i64().unwrap();
        assert!(revision <= *next, "{} came before its forerunners", request.text);
        if request.is_delivered() {
            *next = (*next).max(revision + 1);
        }
    }
    let mut streams = log.prepare("SELECT stream, events FROM streams WHERE category = 'order'").unwrap();
    let streams = streams.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    let streams: BTreeMap<String, i64> = streams.map(Result::unwrap).collect();
    let taken: BTreeMap<String, i64> = taken.into_iter().map(|(stream, n)| (stream.into(), n)).collect();
    assert_eq!(taken, streams);
    usize::try_from(streams.values().sum::<i64>()).unwrap()
}

#[tokio::test]
async fn any_one_process_may_be_killed_and_nothing_is_lost_or_doubled() {
    let mut market = Market::open().await;
    for name in ["search1", "search2"] {
        market.until_found(name, "mug", &market.mug).await;
    }
    let stop = Arc::new(AtomicBool::new(false));
    let shopping = market.buyers.iter().map(|buyer| {
        let (stop, acknowledged) = (Arc::clone(&stop), Arc::clone(&market.acknowledged));
        tokio::spawn(shops(buyer.clone(), market.apis.clone(), market.mug.clone(), stop, acknowledged))
    });
    let shopping: Vec<_> = shopping.collect();
    for name in market.fleet.names() {
        market.fleet.kill(&name).await;
        if name == "log" {
            market.fleet.begin(&name).await;
        }
        // The others carry on: orders are taken, carried to their end and shown, goods listed and found, before it comes
        // back. Each buyer has one order under way, so the sixth from now was begun after the kill.
        let order = market.until_ordered(6).await;
        let api = if name == "api1" { "api2" } else { "api1" };
        market.until_completed(&order, &market.fleet.address(api)).await;
        if let Some(other) =
            [("search1", "search2"), ("search2", "search1")].iter().find(|pair| pair.0 == name)
        {
            let item = market.seller.lists(&format!("KETTLE{name}"), 1).await;
            market.until_found(other.1, &format!("kettle{name}"), &item).await;
        }
        market.fleet.begin(&name).await;
    }
    stop.store(true, Ordering::Relaxed);
    join_all(shopping).await;
    for name in market.fleet.names() {
        market.fleet.until_up(&name).await;
    }
    let orders = market.orders();
    let started = Instant::now();

    // The log: whatever was placed is completed, once.
    let log = market.fleet.log_database();
    let count = |event_type: &str| -> i64 {
        log.query_row("SELECT count(*) FROM events WHERE type = ?1", [event_type], |row| row.get(0)).unwrap()
    };
    market.until("all orders are completed", async || count("OrderPlaced") == count("OrderCompleted")).await;
    let mut completed =
        log.prepare("SELECT stream_id FROM events WHERE type = 'OrderCompleted' ORDER BY 1").unwrap();
    let completed: Vec<String> =
        completed.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let number = i64::try_from(completed.len()).unwrap();
    println!("{} orders, completed {:?} after the last was acknowledged", orders.len(), started.elapsed());
    // An order whose acknowledgement was lost with a process is an order all the same.
    assert!(orders.iter().all(|order| completed.contains(order)));
    assert_eq!((count("OrderPlaced"), count("OrderCancelled")), (number, 0));
    assert_eq!((count("CartCheckedOut"), count("ReservationCommitted")), (number, number));
    assert_eq!((count("PaymentCompleted"), count("ShipmentReady")), (number, number));

    // The views, through each API: the seller's orders, each buyer's, and what is left of the goods.
    let sold: Vec<_> = completed.iter().map(|id| (id.clone(), "completed".to_owned(), PRICE)).collect();
    let left = json!(i64::from(STOCK) - number);
    for api in &market.apis {
        let (seller, stranger) = (&market.seller.at(api), &Person::stranger(api));
        market
            .until("the seller's list is whole", async || listed(seller, "/v1/seller/orders").await == sold)
            .await;
        market
            .until("each buyer's list is whole", async || {
                let mut bought = Vec::new();
                for buyer in &market.buyers {
                    bought.extend(listed(&buyer.at(api), "/v1/orders").await);
                }
                bought.sort();
                bought == sold
            })
            .await;
        let path = &format!("/v1/items/{}", market.mug);
        let shown = async |person: &Person| person.get(path).await.expect(200)["availability"].take();
        market.until("the stock is right", async || shown(stranger).await["available"] == left).await;
        let inside = shown(seller).await;
        assert_eq!((&inside["onHand"], &inside["reserved"]), (&left, &json!(0)));
    }
    for (name, term) in
        [("search1", "kettlesearch2"), ("search2", "kettlesearch1"), ("search1", "kettlesearch1")]
    {
        let path = format!("/v1/items?term={term}");
        let hits = market.fleet.stranger(name).get(&path).await.expect(200);
        assert_eq!(hits["items"].as_array().map(Vec::len), Some(1), "{hits}");
    }

    // Who is told.
    let last = |received: &[Received]| {
        let told = received.iter().filter(|one| one.body["type"] == "OrderCompleted");
        told.map(Received::stream).collect::<BTreeSet<_>>().len() == completed.len()
    };
    let received = market.partner.until(last).await;
    let told = assert_told_in_order(&received, &log);
    println!("{told} events of orders came in {} requests", received.len());

    // The bank, after all has ended.
    market.fleet.stop().await;
    assert_eq!(count("OrderPlaced"), number);
    let statement = "SELECT count(*), sum(amount - refunded) FROM statement WHERE outcome = 'charged'";
    let charges = market.fleet.bank().query_row(statement, [], |row| Ok((row.get(0)?, row.get(1)?)));
    assert_eq!(charges.unwrap(), (number, number * PRICE));
}
