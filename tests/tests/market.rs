//! The main job: list, search, buy, track, dispatch, and look at what happened.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::{Duration, Instant};

use futures::StreamExt;
use reqwest::Method;
use serde_json::{Value, json};
use souk_tests::{Server, card, item, money};

fn statuses(order: &Value) -> Vec<&str> {
    order["timeline"].as_array().unwrap().iter().map(|entry| entry["status"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_market_day() {
    let server = Server::start().await;
    let (seller, buyer) = (server.seller("sam").await, server.buyer("bea").await);
    let analyst = server.staff("ana", "analyst").await;

    let listed = seller.post("/v1/items", item("MUG-1", 5)).await;
    assert!(!listed.header("souk-position").is_empty());
    let location = listed.header("location").to_owned();
    let mug = listed.expect(201)["itemId"].as_str().unwrap().to_owned();
    assert_eq!(location, format!("/v1/items/{mug}"));

    // Found at once by whoever waits for that position, and by anybody soon after.
    let found = server
        .until(&buyer, "/v1/items?term=mug&facets=brand", |found| found["total"] == json!(1))
        .await
        .body;
    assert_eq!(found["items"][0]["itemId"], json!(mug));
    assert_eq!(found["items"][0]["price"], money(1599));
    assert_eq!(found["items"][0]["inStock"], json!(true));
    assert_eq!(found["facets"]["brand"], json!([{"value": "Claybank", "count": 1}]));
    let opened = server.stranger().get(&location).await.expect(200);
    assert_eq!(opened["specifications"]["volume"], json!("330 ml"));

    let (cart, amount) = buyer.fills_cart(&[(&mug, 2)]).await;
    assert_eq!(amount, money(3198));
    let acknowledged = buyer.checks_out(&cart, &amount, card("4242424242424242"), "GB").await.expect(202);
    let order = acknowledged["orderId"].as_str().unwrap().to_owned();
    let path = format!("/v1/orders/{order}");
    let done = server.until(&buyer, &path, |order| order["status"] == json!("completed")).await.body;
    assert_eq!(statuses(&done), ["placed", "stockReserved", "paid", "readyToShip", "completed"]);
    assert_eq!(done["total"], money(3198));

    // The seller sees his part and sends it.
    let part = server
        .until(&seller, "/v1/seller/orders", |list| {
            let part = &list["orders"][0];
            part["orderId"] == json!(order) && part["shipments"][0].is_object()
        })
        .await
        .body;
    let shipment = part["orders"][0]["shipments"][0]["shipmentId"]
        .as_str()
        .or(part["orders"][0]["shipmentId"].as_str())
        .unwrap_or_else(|| panic!("{part}"))
        .to_owned();
    let sent = json!({"carrier": "Camel Post", "trackingNumber": "CP1"});
    seller.post(&format!("/v1/shipments/{shipment}/dispatch"), sent).await.expect(200);
    seller.post(&format!("/v1/shipments/{shipment}/deliver"), json!({})).await.expect(200);
    let delivered =
        server.until(&buyer, &path, |order| order["shipments"][0]["status"] == json!("delivered")).await.body;
    assert_eq!(delivered["shipments"][0]["trackingNumber"], json!("CP1"));

    // The analyst reads everything, in order, without a secret in it.
    let events = analyst.get("/v1/events?limit=1000").await;
    assert_eq!(events.status, 200, "{}", events.text);
    let events: Vec<Value> = events.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (n, event) in events.iter().enumerate() {
        assert_eq!(event["position"], json!(n));
    }
    let of_order: Vec<_> = events
        .iter()
        .filter(|event| event["stream"] == json!(format!("order-{order}")))
        .map(|event| &event["type"])
        .collect();
    assert_eq!(
        of_order,
        ["OrderPlaced", "OrderStockReserved", "OrderPaid", "OrderReadyToShip", "OrderCompleted"]
    );
    let all = serde_json::to_string(&events).unwrap();
    for secret in ["4242424242424242", "correct horse", "bea@example.com", "Mill Lane", "Ada Byron"] {
        assert!(!all.contains(secret), "{secret} stands in the log");
    }
}

#[tokio::test]
async fn every_way_an_order_can_end() {
    let server = Server::start().await;
    let (seller, buyer) = (server.seller("sam").await, server.buyer("bea").await);
    let mug = seller.lists("MUG", 10).await;
    let endings = [
        (2, card("4242424242424242"), "GB", "completed", Value::Null),
        (2, json!({"paymentType": "upi", "vpa": "success@upi"}), "IN", "completed", Value::Null),
        (1, json!({"paymentType": "wallet"}), "GB", "completed", Value::Null),
        (1, card("4000000000000119"), "GB", "completed", Value::Null),
        (1, card("4000000000000002"), "GB", "cancelled", json!("paymentDeclined")),
        (1, card("4000000000009995"), "GB", "cancelled", json!("paymentDeclined")),
        (1, json!({"paymentType": "upi", "vpa": "failure@upi"}), "IN", "cancelled", json!("paymentDeclined")),
        (1, card("4242424242424242"), "AQ", "cancelled", json!("shippingUnavailable")),
        (99, card("4242424242424242"), "GB", "cancelled", json!("outOfStock")),
    ];
    for (quantity, payment, country, status, reason) in endings {
        let ended = buyer.buys(&[(&mug, quantity)], payment, country).await;
        let order = buyer.order(ended["orderId"].as_str().unwrap()).await;
        assert_eq!((&ended["status"], &ended["reason"]), (&json!(status), &reason), "{ended}");
        let id = order["orderId"].as_str().unwrap();
        let order = server
            .until(&buyer, &format!("/v1/orders/{id}"), |order| order["status"] == json!(status))
            .await
            .body;
        assert_eq!(order["reason"], reason);
    }
    let found = json!({"sku": "MUG", "change": 1, "reason": "found"});
    let level = seller.post(&format!("/v1/items/{mug}/stock"), found).await.expect(200);
    assert_eq!(level, json!({"onHand": 5, "reserved": 0, "available": 5}));
}

#[tokio::test]
async fn a_buyer_cancels_at_each_stage() {
    for script in [r#"{"charge": {"delayMs": 1000}}"#, r#"{"book": {"delayMs": 1000}}"#] {
        let server = Server::scripted(script).await;
        let (seller, buyer) = (server.seller("sam").await, server.buyer("bea").await);
        let mug = seller.lists("MUG", 10).await;
        let (cart, amount) = buyer.fills_cart(&[(&mug, 1)]).await;
        let order =
            buyer.checks_out(&cart, &amount, json!({"paymentType": "wallet"}), "GB").await.expect(202);
        let path = format!("/v1/orders/{}", order["orderId"].as_str().unwrap());
        let stage = if script.contains("charge") { "stockReserved" } else { "paid" };
        server.until(&buyer, &path, |order| order["status"] == json!(stage)).await;
        buyer.post(&format!("{path}/cancel"), json!({})).await.expect(202);
        buyer.post(&format!("{path}/cancel"), json!({})).await.expect(202);
        let ended = server.until(&buyer, &path, |order| order["status"] == json!("cancelled")).await.body;
        assert_eq!(ended["reason"], json!("buyerRequest"));
        // The lines are in the next cart, and the wallet is as full as before.
        let cart = buyer.get("/v1/cart").await.expect(200);
        assert_eq!(cart["lines"][0]["itemId"], json!(mug));
        let kept: i64 = server
            .bank()
            .query_row("SELECT coalesce(sum(amount - refunded), 0) FROM statement", [], |row| row.get(0))
            .unwrap();
        assert_eq!(kept, 0);
    }
}

#[tokio::test]
async fn an_order_that_is_done_cannot_be_cancelled() {
    let server = Server::start().await;
    let (seller, buyer) = (server.seller("sam").await, server.buyer("bea").await);
    let mug = seller.lists("MUG", 10).await;
    let ended = buyer.buys(&[(&mug, 1)], card("4242424242424242"), "GB").await;
    let order = ended["orderId"].as_str().unwrap();
    buyer.post(&format!("/v1/orders/{order}/cancel"), json!({})).await.refused(409);
}

#[tokio::test]
async fn a_status_page_follows_an_order_live_and_takes_up_where_it_was() {
    let server = Server::scripted(r#"{"charge": {"delayMs": 300}}"#).await;
    let (seller, buyer) = (server.seller("sam").await, server.buyer("bea").await);
    let mug = seller.lists("MUG", 10).await;
    let (cart, amount) = buyer.fills_cart(&[(&mug, 1)]).await;
    let order = buyer.checks_out(&cart, &amount, card("4242424242424242"), "GB").await.expect(202);
    let path = format!("/v1/orders/{}/tracking", order["orderId"].as_str().unwrap());

    let follow = async |last: Option<String>| -> Vec<(String, String)> {
        let mut request = buyer.request(Method::GET, &path);
        if let Some(last) = last {
            request = request.header("Last-Event-ID", last);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        let (mut text, mut body) = (String::new(), answer.bytes_stream());
        while let Some(piece) = body.next().await {
            text += std::str::from_utf8(&piece.unwrap()).unwrap();
        }
        text.split("\n\n")
            .filter_map(|event| {
                let line = |name: &str| {
                    event.lines().find_map(|line| line.strip_prefix(name)).map(|v| v.trim().to_owned())
                };
                let data: Value = serde_json::from_str(&line("data:")?).unwrap();
                Some((line("id:")?, data["status"].as_str().unwrap().to_owned()))
            })
            .collect()
    };
    let seen = follow(None).await;
    let statuses: Vec<_> = seen.iter().map(|(_, status)| status.as_str()).collect();
    assert_eq!(statuses, ["placed", "stockReserved", "paid", "readyToShip", "completed"]);
    let rest: Vec<_> = follow(Some(seen[1].0.clone())).await.into_iter().map(|(_, status)| status).collect();
    assert_eq!(rest, ["paid", "readyToShip", "completed"]);
}

#[tokio::test]
async fn an_analyst_follows_the_log_live() {
    let server = Server::start().await;
    let analyst = server.staff("ana", "analyst").await;
    let request =
        analyst.request(Method::GET, "/v1/events?category=item").header("Accept", "text/event-stream");
    let mut body = request.send().await.unwrap().bytes_stream();
    let seller = server.seller("sam").await;
    let mug = seller.lists("MUG", 1).await;
    let mut text = String::new();
    let started = Instant::now();
    while !text.contains(&mug) {
        assert!(started.elapsed() < Duration::from_secs(20), "{text}");
        text += std::str::from_utf8(&body.next().await.unwrap().unwrap()).unwrap();
    }
    assert!(text.contains("event: ItemListed"), "{text}");
}

#[tokio::test]
async fn variants_are_sold_each_at_its_price() {
    let server = Server::start().await;
    let (seller, buyer) = (server.seller("sam").await, server.buyer("bea").await);
    let mut shirt = item("SHIRT", 0);
    shirt["variants"] = json!([
        {"sku": "SHIRT-S", "options": {"size": "S"}, "price": money(1000), "quantity": 1, "images": []},
        {"sku": "SHIRT-L", "options": {"size": "L"}, "price": money(1200), "quantity": 3, "images": []},
    ]);
    let listed = seller.post("/v1/items", shirt).await.expect(201);
    let shirt = listed["itemId"].as_str().unwrap();
    let which = buyer.patch("/v1/cart", json!({"itemId": shirt, "quantity": 1})).await.refused(422);
    assert_eq!(which, ["sku"]);
    let cart =
        buyer.patch("/v1/cart", json!({"itemId": shirt, "sku": "SHIRT-L", "quantity": 2})).await.expect(200);
    assert_eq!(cart["total"], money(2400));
    assert_eq!(cart["lines"][0]["lineTotal"], money(2400));
    let (id, total) = (cart["cartId"].as_str().unwrap(), cart["total"].clone());
    let order = buyer.checks_out(id, &total, card("4242424242424242"), "GB").await.expect(202);
    let path = format!("/v1/orders/{}", order["orderId"].as_str().unwrap());
    server.until(&buyer, &path, |order| order["status"] == json!("completed")).await;
    let opened = server
        .until(&buyer, &format!("/v1/items/{shirt}"), |opened| {
            opened["variants"].as_array().is_some_and(|variants| {
                variants
                    .iter()
                    .any(|variant| variant["sku"] == json!("SHIRT-L") && variant["available"] == json!(1))
            })
        })
        .await;
    assert_eq!(opened.status, 200);
}

#[tokio::test]
async fn an_analyst_looks_at_the_log_beside_the_server() {
    let server = Server::start().await;
    let (seller, buyer) = (server.seller("sam").await, server.buyer("bea").await);
    let mug = seller.lists("MUG-1", 5).await;
    let (cart, amount) = buyer.fills_cart(&[(&mug, 2)]).await;
    let acknowledged = buyer.checks_out(&cart, &amount, card("4242424242424242"), "GB").await.expect(202);
    let order = acknowledged["orderId"].as_str().unwrap().to_owned();
    server.until(&buyer, &format!("/v1/orders/{order}"), |order| order["status"] == json!("completed")).await;

    let stream = format!("order-{order}");
    let state = async |at: &[&str]| -> Value {
        let arguments = [&["events", "state", &stream], at].concat();
        serde_json::from_str(&server.run(&arguments).await).unwrap()
    };
    let now = state(&[]).await;
    assert_eq!(now["state"]["status"], json!("completed"));
    let lines = server.run(&["events", "read", "--stream", &stream, "--json"]).await;
    let events: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let paid = events.iter().find(|event| event["type"] == json!("OrderPaid")).unwrap();
    let as_of_position = state(&["--at", &paid["position"].to_string()]).await;
    let as_of_time = state(&["--at", paid["recordedAt"].as_str().unwrap()]).await;
    assert_eq!(
        (&as_of_position["state"]["status"], &as_of_position["revision"]),
        (&json!("paid"), &json!(2))
    );
    assert!(as_of_time["revision"].as_u64() >= Some(2), "{as_of_time}");

    let history = server.run(&["events", "history", &stream]).await;
    for told in [
        // By the buyer's request, or the process manager that saw the cart first.
        "order placed\n    by ",
        "order paid\n    by the checkout process, because of: checkout advanced",
        " USD",
    ] {
        assert!(history.contains(told), "{told} is missing in\n{history}");
    }
    let verified = server.run(&["events", "verify"]).await;
    assert!(verified.contains("no damage"), "{verified}");
    let replayed = server.run(&["bench", "replay", "--json"]).await;
    let replayed: Value = serde_json::from_str(&replayed).unwrap();
    assert!(replayed["events"].as_u64() > Some(20), "{replayed}");
    let appended = ["bench", "log", "--writers", "4", "--duration", "200ms", "--json"];
    let appended: Value = serde_json::from_str(&server.run(&appended).await).unwrap();
    assert!(appended["manyStreams"]["events"].as_u64() > Some(10), "{appended}");
}

#[tokio::test]
async fn what_is_bought_together_is_recommended_after_a_rebuild_and_a_crash_too() {
    let mut server = Server::start().await;
    let (seller, buyer) = (server.seller("sam").await, server.buyer("bea").await);
    let (mug, pot, hat) =
        (seller.lists("MUG", 10).await, seller.lists("POT", 10).await, seller.lists("HAT", 10).await);
    let path = format!("/v1/items/{mug}/related");
    server.until(&buyer, &path, |related| related["boughtTogether"] == json!([])).await;
    buyer.buys(&[(&hat, 1)], card("4242424242424242"), "GB").await;
    let other = server.buyer("ben").await;
    let completed = Instant::now();
    other.buys(&[(&mug, 1), (&pot, 1)], card("4242424242424242"), "GB").await;
    let with_pot = |related: &Value| related["boughtTogether"][0]["itemId"] == json!(pot);
    server.until(&buyer, &path, with_pot).await;
    assert!(completed.elapsed() < Duration::from_secs(10));
    let bought =
        |page: &Value| page["items"][0]["reason"] == json!({"kind": "boughtTogether", "itemId": mug});
    buyer.fills_cart(&[(&mug, 1)]).await;
    server.until(&buyer, "/v1/recommendations", bought).await;

    // Learnt again from the log it is the same, and so it is after a restart.
    server.run(&["views", "rebuild", "recommendations"]).await;
    assert!(with_pot(&buyer.get(&path).await.expect(200)));
    server.kill().await;
    server.resume().await;
    let stranger = server.stranger();
    server.until(&stranger, &path, with_pot).await;
}

/// What people search for and open is what others are offered, and what nobody finds is what admins hear of.
#[tokio::test]
async fn what_is_searched_for_is_suggested_and_what_is_not_found_is_reported() {
    let mut server = Server::start().await;
    let seller = server.seller("sam").await;
    let mug = seller.lists("MUG-1", 5).await;
    let stranger = server.stranger();
    let found = server
        .until(&stranger, "/v1/items?term=blue+mug&record=false", |found| found["total"] == json!(1))
        .await;
    assert_eq!(found.body["searchId"], json!(null));

    let searched = stranger.get("/v1/items?term=blue+mug").await.expect(200);
    let click = json!({"type": "click", "searchId": searched["searchId"], "query": "blue mug", "itemId": mug, "position": 1});
    stranger.post("/v1/search-events", click).await.expect(202);
    stranger.get("/v1/items?term=unicorn+saddle").await.expect(200);

    let asked = |body: &Value| body["suggestions"][0]["kind"] == json!("query");
    let offered = server.until(&stranger, "/v1/suggestions?prefix=bleu+mug", asked).await.body;
    let category = found.body["items"][0]["category"].as_array().unwrap();
    let path: Vec<_> = category.iter().map(|name| name.as_str().unwrap()).collect();
    let facet = json!({"name": "category", "value": path.join(" > ")});
    assert_eq!(offered["suggestions"][0], json!({"text": "blue mug", "kind": "query", "facet": facet}));

    let admin = server.staff("ada", "admin").await;
    let report = "/v1/admin/searches?withoutResults=true&days=30";
    let told = |body: &Value| body["searches"][0]["query"] == json!("unicorn saddle");
    let missed = server.until(&admin, report, told).await.body;
    assert_eq!(
        (&missed["searches"][0]["searches"], &missed["searches"][0]["lastHits"]),
        (&json!(1), &json!(0))
    );
    let all =
        server.until(&admin, "/v1/admin/searches", |all| all["searches"][0]["clicks"] == json!(1)).await.body;
    assert_eq!(all["searches"][0]["query"], json!("blue mug"));

    // What was handed in before the end is there after it.
    stranger.get("/v1/items?term=last+wish").await.expect(200);
    assert_eq!(server.stop().await, Some(0));
    server.resume().await;
    let told = |body: &Value| body["searches"].as_array().is_some_and(|all| all.len() == 2);
    let missed = server.until(&admin.at(server.address()), report, told).await.body;
    assert_eq!(missed["searches"][0]["query"], json!("last wish"));
    server.run(&["views", "rebuild", "searches"]).await;
    assert_eq!(admin.at(server.address()).get(report).await.expect(200), missed);
}
