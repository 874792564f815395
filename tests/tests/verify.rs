//! `souk verify`: says of a market that adds up that it does, and names what does not.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use serde_json::{Value, json};
use souk_event_log::{EventLog, Expected, NewEvent, SqliteLog, StreamName, sqlite};
use souk_tests::{Server, card};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

async fn verify(server: &Server) -> (Option<i32>, Value) {
    let output = server.command(&["verify", "--json"]).output().await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    (output.status.code(), serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}\n{error}")))
}

#[tokio::test]
async fn what_adds_up_is_said_to_and_each_damage_is_named() {
    let mut server = Server::start().await;
    let (seller, buyer) = (server.seller("sam").await, server.buyer("bea").await);
    let (mug, pot) = (seller.lists("MUG", 5).await, seller.lists("POT", 5).await);
    let completed = buyer.buys(&[(&mug, 2), (&pot, 1)], card("4242424242424242"), "GB").await;
    let refunded = buyer.buys(&[(&mug, 1)], card("4242424242424242"), "AQ").await;
    let declined = buyer.buys(&[(&pot, 1)], card("4000000000000002"), "GB").await;
    let ends = [&completed, &refunded, &declined].map(|order| order["status"].as_str().unwrap().to_owned());
    assert_eq!(ends, ["completed", "cancelled", "cancelled"]);
    let admin = server.staff("ada", "admin").await;
    let spring = json!({"code": "SPRING", "kind": "percentage", "basisPoints": 1000});
    let spring = admin.post("/v1/admin/promotions", spring).await.expect(201);
    let one = json!({"lines": [{"sku": "MUG", "quantity": 1}], "reason": "too small"});
    let returns = format!("/v1/orders/{}/returns", completed["orderId"].as_str().unwrap());
    let returned = buyer.post(&returns, one).await.expect(201)["returns"][0]["returnId"].clone();
    let returned = returned.as_str().unwrap();
    seller.post(&format!("/v1/returns/{returned}/decline"), json!({"reason": "worn"})).await.expect(200);

    // Beside the server, without it, and from the log alone.
    let (status, beside) = verify(&server).await;
    assert_eq!((status, &beside["findings"]), (Some(0), &json!([])));
    assert_eq!(beside["views"].as_array().unwrap().len(), 9);
    assert_eq!(
        (&beside["completed"], &beside["cancelled"], &beside["bankCharges"]),
        (&json!(1), &json!(2), &json!(3))
    );
    let flow = json!({"charged": 4 * 1599, "refunded": 1599, "byHand": 0, "disputed": 0});
    assert_eq!(beside["money"]["USD"], flow);
    server.stop().await;
    assert_eq!(verify(&server).await.0, Some(0));
    let told = server.run(&["verify", "--log-only"]).await;
    assert!(told.contains("everything adds up") && !told.contains("view"), "{told}");

    // Views that others have written to.
    let nobody = Uuid::from_u128(0xBAD);
    let spring = spring["promotionId"].as_str().unwrap();
    let [completed, refunded, declined] =
        [completed, refunded, declined].map(|order| order["orderId"].as_str().unwrap().to_owned());
    let pool = server.pool().await;
    let level = "SELECT sku_id FROM views.stock WHERE sku = ";
    let mug: Uuid =
        sqlx::query_scalar(AssertSqlSafe(format!("{level} 'MUG'"))).fetch_one(&pool).await.unwrap();
    let pot: Uuid =
        sqlx::query_scalar(AssertSqlSafe(format!("{level} 'POT'"))).fetch_one(&pool).await.unwrap();
    for damage in [
        "UPDATE views.stock SET on_hand = on_hand + 1 WHERE sku = 'POT'".to_owned(),
        format!("UPDATE views.orders SET total = 1 WHERE order_id = '{completed}'"),
        format!("UPDATE views.seller_order_states SET status = 'completed' WHERE order_id = '{declined}'"),
        format!("DELETE FROM views.order_shipments WHERE order_id = '{refunded}'"),
        "DELETE FROM views.items WHERE sku = 'MUG'".to_owned(),
        format!("INSERT INTO views.ledger_balances VALUES ('{nobody}', 'USD', 'commission', 7)"),
        format!("UPDATE views.promotions SET redeemed = 3 WHERE promotion_id = '{spring}'"),
        format!("DELETE FROM views.returns WHERE return_id = '{returned}'"),
    ] {
        sqlx::query(AssertSqlSafe(damage)).execute(&pool).await.unwrap();
    }
    // A charge that the bank knows nothing of.
    let key = Uuid::new_v5(&completed.parse().unwrap(), b"payment/charge");
    server.bank().execute("DELETE FROM charges WHERE key = ?1", [key.as_bytes().as_slice()]).unwrap();
    // Events by hand: more is reserved than there is, for nobody, and somebody is charged for nothing.
    let event = |n: u128, event_type: &str, data: Value| NewEvent {
        id: Uuid::from_u128(n),
        event_type: event_type.into(),
        data: data.to_string().into_bytes(),
        metadata: br#"{"schemaVersion":1}"#.to_vec().into(),
    };
    let reserved = event(1, "StockReserved", json!({"orderId": nobody, "quantity": 1_000}));
    let amount = json!({"amount": 1599, "currency": "USD"});
    let charged = event(2, "PaymentCompleted", json!({"amount": amount, "chargeId": "ch_1"}));
    let completed_again = event(3, "OrderCompleted", json!({}));
    let entry = json!({"entryId": nobody, "kind": "sale", "orderId": completed, "parts": 1, "postings": []});
    let sold_again = event(4, "EntryPosted", entry);
    let log = SqliteLog::open(&server.data_dir().join("events.sqlite"), sqlite::Options::default()).unwrap();
    for (stream, event) in [
        (format!("inventory-{mug}"), reserved),
        (format!("payment-{nobody}"), charged),
        (format!("order-{refunded}"), completed_again),
        (format!("ledger-{}", seller.account_id), sold_again),
    ] {
        log.append(&StreamName::stored(&stream), Expected::Any, vec![event]).await.unwrap();
    }
    drop(log);

    let (status, report) = verify(&server).await;
    assert_eq!(status, Some(1));
    let findings = report["findings"].as_array().unwrap();
    let has = |stream: &str, problem: &str| {
        let said = |finding: &&Value| {
            finding["stream"] == stream && finding["problem"].as_str().unwrap().contains(problem)
        };
        assert!(findings.iter().any(|finding| said(&finding)), "{stream}, {problem}: {report:#}");
    };
    has(&format!("inventory-{mug}"), "1000 reserved of 3");
    has(&format!("inventory-{mug}"), "expected an order");
    has(&format!("payment-{nobody}"), "expected an order for this payment");
    has(&format!("order-{refunded}"), "Some(Cancelled) does not become Completed");
    has(&format!("inventory-{pot}"), "view stock: expected Level { on_hand: 4, reserved: 0 }");
    has(&format!("ledger-{}", seller.account_id), "once too often");
    has(&format!("order-{completed}"), "view orders: expected (\"completed\", \"\", 4797");
    has(&format!("order-{declined}"), "view seller_orders: expected (\"cancelled\", 1, ");
    has(
        &format!("shipment-{refunded}-{}", seller.account_id),
        "view orders: expected \"refused\", found nothing",
    );
    has("-", "view catalogue: expected 2 rows, found 1");
    has(&format!("ledger-{nobody}"), "view ledger: expected nothing, found 7");
    has(&format!("promotion-{spring}"), "view promotions: expected (0, 0), found (0, 3)");
    let of_seller = returned.trim_end_matches("-1");
    has(&format!("return-{of_seller}"), "view returns: expected \"declined\", found nothing");
    has(&format!("payment-{completed}"), "expected the bank to have charged 4797");
    // For people: one line each, with the position.
    let lines = server.command(&["verify"]).output().await.unwrap();
    let lines = String::from_utf8(lines.stdout).unwrap();
    assert_eq!(lines.lines().filter(|line| line.starts_with("finding")).count(), findings.len(), "{lines}");
}
