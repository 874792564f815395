//! What nobody may do, what may be repeated, and what bad input gets.

use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use souk_tests::{Server, address, card, item, money};
use uuid::Uuid;

#[tokio::test]
async fn every_route_asks_who_is_there() {
    let server = Server::start().await;
    let (seller, other_seller) = (server.seller("sam").await, server.seller("sue").await);
    let (buyer, other_buyer) = (server.buyer("bea").await, server.buyer("bob").await);
    let stranger = server.stranger();
    let mug = seller.lists("MUG", 10).await;
    let (cart, amount) = buyer.fills_cart(&[(&mug, 1)]).await;
    let id = Uuid::nil();
    let nobody = [
        (Method::POST, "/v1/items".to_owned()),
        (Method::PATCH, format!("/v1/items/{id}")),
        (Method::POST, format!("/v1/items/{id}/withdraw")),
        (Method::POST, format!("/v1/items/{id}/relist")),
        (Method::POST, format!("/v1/items/{id}/stock")),
        (Method::GET, "/v1/cart".to_owned()),
        (Method::PATCH, "/v1/cart".to_owned()),
        (Method::POST, "/v1/checkout".to_owned()),
        (Method::GET, "/v1/orders".to_owned()),
        (Method::GET, format!("/v1/orders/{id}")),
        (Method::POST, format!("/v1/orders/{id}/cancel")),
        (Method::GET, format!("/v1/orders/{id}/tracking")),
        (Method::GET, "/v1/seller/orders".to_owned()),
        (Method::POST, format!("/v1/shipments/{id}-{id}/dispatch")),
        (Method::POST, format!("/v1/shipments/{id}-{id}/deliver")),
        (Method::GET, "/v1/events".to_owned()),
        (Method::GET, "/v1/admin/accounts".to_owned()),
        (Method::GET, "/v1/admin/orders".to_owned()),
        (Method::GET, "/v1/admin/projections".to_owned()),
        (Method::GET, "/v1/admin/checkouts".to_owned()),
    ];
    for (method, path) in nobody {
        let answer = stranger.send(stranger.request(method.clone(), &path).json(&json!({}))).await;
        assert_eq!(answer.status, 401, "{method} {path}: {}", answer.text);
        assert!(answer.header("www-authenticate").starts_with("Bearer"));
    }
    // Roles.
    for path in ["/v1/events", "/v1/admin/accounts", "/v1/admin/orders", "/v1/admin/projections"] {
        buyer.get(path).await.refused(403);
        seller.get(path).await.refused(403);
    }
    buyer.post("/v1/items", item("X", 1)).await.refused(403);
    seller.get("/v1/cart").await.refused(403);
    // Another's.
    other_seller.patch(&format!("/v1/items/{mug}"), json!({"name": "Mine"})).await.refused(403);
    other_seller.post(&format!("/v1/items/{mug}/withdraw"), json!({})).await.refused(403);
    other_seller.post(&format!("/v1/items/{mug}/stock"), json!({"change": 5})).await.refused(403);
    other_buyer.checks_out(&cart, &amount, card("4242424242424242"), "GB").await.refused(404);
    let order = buyer.buys(&[(&mug, 1)], card("4242424242424242"), "GB").await;
    let order = order["orderId"].as_str().unwrap();
    let path = format!("/v1/orders/{order}");
    server.until(&buyer, &path, |order| order["status"] == json!("completed")).await;
    other_buyer.get(&path).await.refused(404);
    other_seller.get(&path).await.refused(404);
    other_buyer.get(&format!("{path}/tracking")).await.refused(404);
    other_buyer.post(&format!("{path}/cancel"), json!({})).await.refused(404);
    let shipment = format!("/v1/shipments/{order}-{}/dispatch", seller.account_id);
    other_seller.post(&shipment, json!({})).await.refused(404);
    assert_eq!(other_seller.get("/v1/seller/orders").await.expect(200)["orders"], json!([]));
}

#[tokio::test]
async fn a_request_that_is_repeated_is_carried_out_once() {
    let server = Server::start().await;
    let (seller, buyer) = (server.seller("sam").await, server.buyer("bea").await);
    let with_key = |key: &str, body: &Value| {
        seller.request(Method::POST, "/v1/items").header("Idempotency-Key", key).json(body)
    };
    let first = seller.send(with_key("one", &item("MUG", 5))).await.expect(201);
    let again = seller.send(with_key("one", &item("MUG", 5))).await.expect(201);
    assert_eq!(first["itemId"], again["itemId"]);
    seller.send(with_key("one", &item("MUG", 6))).await.refused(422);
    // Without the key it is another item, and its SKU is taken.
    seller.post("/v1/items", item("MUG", 5)).await.refused(409);

    let mug = first["itemId"].as_str().unwrap();
    let stock = format!("/v1/items/{mug}/stock");
    let change =
        || seller.request(Method::POST, &stock).header("Idempotency-Key", "two").json(&json!({"change": 5}));
    let sent = (0..10).map(|_| seller.send(change()));
    for level in join_all(sent).await {
        assert_eq!(level.expect(200)["onHand"], json!(10));
    }

    let (cart, amount) = buyer.fills_cart(&[(mug, 1)]).await;
    let sent = (0..3).map(|_| buyer.checks_out(&cart, &amount, json!({"paymentType": "wallet"}), "GB"));
    let orders: Vec<_> =
        join_all(sent).await.into_iter().map(|answer| answer.expect(202)["orderId"].clone()).collect();
    assert!(orders.iter().all(|order| *order == orders[0]), "{orders:?}");
    let path = format!("/v1/orders/{}", orders[0].as_str().unwrap());
    server.until(&buyer, &path, |order| order["status"] == json!("completed")).await;
    let charges: i64 =
        server.bank().query_row("SELECT count(*) FROM statement", [], |row| row.get(0)).unwrap();
    assert_eq!(charges, 1);
    // A checkout of the closed cart answers the order that it became.
    let closed = buyer.checks_out(&cart, &amount, json!({"paymentType": "wallet"}), "GB").await.expect(202);
    assert_eq!(closed["orderId"], orders[0]);
}

#[tokio::test]
async fn thirty_buyers_race_for_ten_units() {
    let server = Server::start().await;
    let seller = server.seller("sam").await;
    let mug = seller.lists("MUG", 10).await;
    let buyers = join_all((0..30).map(|n| async move { format!("buyer{n}") })).await;
    let buyers = join_all(buyers.iter().map(|name| server.buyer(name))).await;
    let line = [(mug.as_str(), 1)];
    let bought = buyers.iter().map(|buyer| buyer.buys(&line, card("4242424242424242"), "GB"));
    let ends = join_all(bought).await;
    let count = |status: &str, reason: Value| {
        ends.iter().filter(|end| end["status"] == json!(status) && end["reason"] == reason).count()
    };
    assert_eq!((count("completed", Value::Null), count("cancelled", json!("outOfStock"))), (10, 20));
    let level = seller.post(&format!("/v1/items/{mug}/stock"), json!({"change": 1, "reason": "found"})).await;
    assert_eq!(level.expect(200), json!({"onHand": 1, "reserved": 0, "available": 1}));
}

#[tokio::test]
async fn an_amount_that_is_not_the_total_is_told_the_new_one() {
    let server = Server::start().await;
    let (seller, buyer) = (server.seller("sam").await, server.buyer("bea").await);
    let mug = seller.lists("MUG", 10).await;
    let (cart, amount) = buyer.fills_cart(&[(&mug, 1)]).await;
    seller.patch(&format!("/v1/items/{mug}"), json!({"price": money(1700)})).await.expect(200);
    let refused = buyer.checks_out(&cart, &amount, card("4242424242424242"), "GB").await;
    assert_eq!(refused.body["total"], money(1700), "{}", refused.text);
    refused.refused(409);
    buyer.checks_out(&cart, &money(1700), card("4242424242424242"), "GB").await.expect(202);
}

#[tokio::test]
async fn an_item_is_not_changed_by_somebody_who_saw_an_older_one() {
    let server = Server::start().await;
    let seller = server.seller("sam").await;
    let mug = seller.lists("MUG", 10).await;
    let path = format!("/v1/items/{mug}");
    let etag = seller.get(&path).await.header("etag").to_owned();
    let change = |name: &str| {
        seller.request(Method::PATCH, &path).header("If-Match", &etag).json(&json!({"name": name}))
    };
    let changed = seller.send(change("Better")).await;
    assert_ne!(changed.header("etag"), etag);
    changed.expect(200);
    seller.send(change("Worse")).await.refused(412);
}

#[tokio::test]
async fn bad_input_names_the_field_and_loses_nothing() {
    let server = Server::start().await;
    let (seller, buyer) = (server.seller("sam").await, server.buyer("bea").await);
    let stranger = server.stranger();
    let body = json!({"email": "nonsense", "password": "short", "displayName": "", "role": "admin"});
    let mut fields = stranger.post("/v1/accounts", body).await.refused(422);
    fields.sort();
    assert_eq!(fields, ["displayName", "email", "password", "role"]);
    let again = json!({"email": "bea@example.com", "password": "correct horse battery!", "displayName": "B", "role": "buyer"});
    stranger.post("/v1/accounts", again).await.refused(409);
    stranger
        .post("/v1/sessions", json!({"email": "bea@example.com", "password": "wrong password"}))
        .await
        .refused(401);

    let mut bad = item("MUG", 1);
    bad["price"] = money(-1);
    bad["name"] = json!("");
    let mut fields = seller.post("/v1/items", bad).await.refused(422);
    fields.sort();
    assert_eq!(fields, ["name", "price.amount"]);

    for garbage in ["{", "[]", "nonsense", "{\"email\": 1}"] {
        let request =
            stranger.request(Method::POST, "/v1/sessions").header("Content-Type", "application/json");
        let answer = stranger.send(request.body(garbage)).await;
        assert!(matches!(answer.status, 400 | 422), "{garbage}: {} {}", answer.status, answer.text);
        assert_eq!(answer.header("content-type"), "application/problem+json");
    }
    stranger.get("/v1/items?cursor=%21%21").await.refused(400);
    stranger.get("/v1/items?minPrice=cheap").await.refused(400);
    stranger.get("/v1/items/not-a-uuid").await.refused(404);
    stranger.get(&format!("/v1/items/{}", Uuid::nil())).await.refused(404);
    stranger.get("/v1/nowhere").await.refused(404);
    stranger.send(stranger.request(Method::DELETE, "/v1/items")).await.refused(405);

    let mug = seller.lists("MUG", 10).await;
    let (cart, amount) = buyer.fills_cart(&[(&mug, 2)]).await;
    let pay = async |payment: Value| {
        let body = json!({"cartId": cart, "amount": amount, "paymentInfo": payment, "shippingAddress": address("GB")});
        buyer.post("/v1/checkout", body).await.refused(422)
    };
    assert_eq!(pay(card("4242424242424241")).await, ["paymentInfo.cardNo"]);
    assert_eq!(pay(json!({"paymentType": "upi", "vpa": "nobody"})).await, ["paymentInfo.vpa"]);
    assert_eq!(pay(json!({"paymentType": "invoice"})).await, ["paymentInfo.paymentType"]);
    let nowhere = json!({
        "cartId": cart, "amount": amount, "paymentInfo": card("4242424242424242"), "shippingAddress": {"name": "Ada"},
    });
    let fields = buyer.post("/v1/checkout", nowhere).await.refused(422);
    assert!(fields.contains(&"shippingAddress.country".to_owned()), "{fields:?}");
    // The cart is as it was.
    let cart = buyer.get("/v1/cart").await.expect(200);
    assert_eq!(cart["total"], amount);
}

#[tokio::test]
async fn a_refresh_token_works_once() {
    let server = Server::start().await;
    let buyer = server.buyer("bea").await;
    let refresh =
        async |token: &Value| buyer.post("/v1/sessions/refresh", json!({"refreshToken": token})).await;
    let first = json!(buyer.refresh_token);
    let second = refresh(&first).await;
    let second = second.body["refreshToken"].clone();
    assert!(second.is_string());
    // Somebody has a copy: the whole family ends.
    refresh(&first).await.refused(401);
    refresh(&second).await.refused(401);
}

#[tokio::test]
async fn somebody_forgotten_is_unreadable() {
    let server = Server::start().await;
    let (seller, buyer) = (server.seller("sam").await, server.buyer("bea").await);
    let admin = server.staff("ada", "admin").await;
    let mug = seller.lists("MUG", 10).await;
    let order = buyer.buys(&[(&mug, 1)], card("4242424242424242"), "GB").await;
    let path = format!("/v1/orders/{}", order["orderId"].as_str().unwrap());
    let order = server.until(&admin, &path, |order| order["status"] == json!("completed")).await.text;
    assert!(order.contains("Mill Lane"), "{order}");
    let forget = format!("/v1/admin/accounts/{}/forget", buyer.account_id);
    let answer = admin.post(&forget, json!({})).await;
    assert!(answer.status < 300, "{}", answer.text);
    let order = admin.get(&path).await;
    assert_eq!(order.status, 200);
    assert!(!order.text.contains("Mill Lane"), "{}", order.text);
    let login = json!({"email": "bea@example.com", "password": "correct horse battery"});
    server.stranger().post("/v1/sessions", login).await.refused(401);
}
