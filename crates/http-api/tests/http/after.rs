//! After checkout over HTTP: parcels, a return, the seller's ledger and a payout; and what is nobody else's business.

use serde_json::{Value, json};
use souk_domain::account::Role;

use crate::support::{Answer, Member, Shop};

/// Asks until the answer is as wanted: what is asked about is made behind the API.
async fn until(shop: &Shop, path: &str, member: &Member, wanted: impl Fn(&Answer) -> bool) -> Answer {
    let asked = async {
        loop {
            let answer = shop.get(path).by(member).send().await.expect(200);
            if wanted(&answer) {
                return answer;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), asked).await.unwrap()
}

#[tokio::test]
async fn a_sale_is_sent_in_parcels_returned_in_part_and_paid_out() {
    let shop = Shop::open().await;
    let (sam, tom) = (shop.join("sam", "seller").await, shop.join("tom", "seller").await);
    let (ann, eve) = (shop.join("ann", "buyer").await, shop.join("eve", "buyer").await);
    let ada = shop.appoint("ada", Role::Admin).await;
    let item = shop.list(&sam, "A", 5).await;
    let checkout = shop.fill(&ann, &item, 3).await;
    let bought =
        shop.post("/v1/checkout", checkout).by(&ann).with("prefer", "wait=20").send().await.expect(200);
    let order = format!("/v1/orders/{}", bought.text("orderId"));
    let shipment = format!("/v1/shipments/{}-{}", bought.text("orderId"), sam.id);

    let one = json!({ "lines": [{ "sku": "A", "quantity": 1 }], "trackingNumber": "T1" });
    let dispatch = format!("{shipment}/dispatch");
    let sent = shop.post(&dispatch, one).by(&sam).send().await.expect(200);
    assert_eq!(sent.text("status"), "partlyDispatched");
    let many = json!({ "lines": [{ "sku": "A", "quantity": 3 }] });
    assert_eq!(shop.post(&dispatch, many).by(&sam).send().await.problem(409, "conflict").body["left"], 2);
    let none = json!({ "lines": [{ "sku": "A", "quantity": 0 }] });
    shop.post(&dispatch, none).by(&sam).send().await.problem(422, "invalid-parameters");
    let rest = shop.post(&dispatch, json!({ "trackingNumber": "T2" })).by(&sam).send().await.expect(200);
    assert_eq!(rest.text("status"), "dispatched");
    let deliver = format!("{shipment}/deliver");
    let arrived = shop.post(&deliver, json!({ "parcel": 1 })).by(&sam).send().await.expect(200);
    assert_eq!(arrived.text("status"), "dispatched");

    let returns = format!("{order}/returns");
    let two = json!({ "lines": [{ "itemId": item, "sku": "A", "quantity": 2 }], "reason": "too bright" });
    shop.post(&returns, two.clone()).by(&eve).send().await.problem(404, "not-found");
    shop.get(&returns).by(&tom).send().await.problem(404, "not-found");
    let ask = || shop.post(&returns, two.clone()).by(&ann).with("idempotency-key", "r1").send();
    let asked = ask().await.expect(201);
    assert_eq!(ask().await.expect(201).body, asked.body);
    shop.post(&returns, two.clone()).by(&ann).send().await.problem(409, "conflict");
    let id = asked.body["returns"][0]["returnId"].as_str().unwrap();
    let waiting = shop
        .get("/v1/seller/returns?status=requested")
        .by(&sam)
        .with("souk-min-position", &asked.position())
        .send()
        .await
        .expect(200);
    assert_eq!(
        (&waiting.body["returns"][0]["reason"], waiting.body["returns"][0]["returnId"].as_str()),
        (&json!("too bright"), Some(id))
    );
    let accept = format!("/v1/returns/{id}/accept");
    shop.post(&accept, json!({})).by(&tom).send().await.problem(404, "not-found");
    let much = json!({ "refund": { "amount": 3199, "currency": "USD" } });
    assert_eq!(
        shop.post(&accept, much).by(&sam).send().await.problem(409, "conflict").body["most"]["amount"],
        3198
    );
    let half = json!({
        "lines": [{ "sku": "A", "quantity": 1 }, { "sku": "A", "quantity": 1, "disposition": "writeOff" }],
        "refund": { "amount": 2000, "currency": "USD" },
    });
    shop.post(&accept, half).by(&sam).send().await.expect(200);
    shop.post(&format!("/v1/returns/{id}/decline"), json!({ "reason": "no" }))
        .by(&sam)
        .send()
        .await
        .problem(409, "conflict");

    let ended =
        until(&shop, &returns, &ann, |answer| answer.body["returns"][0]["status"] == "completed").await;
    assert_eq!(ended.body["returns"][0]["refunded"]["amount"], 2000);
    let shown =
        until(&shop, &order, &ann, |answer| answer.body["payment"]["refunded"]["amount"] == 2000).await;
    assert_eq!(
        (&shown.body["status"], &shown.body["payment"]["status"]),
        (&json!("completed"), &json!("completed"))
    );
    let happened = shown.body["afterwards"].as_array().unwrap().iter();
    assert_eq!(
        happened.map(|told| told["status"].as_str().unwrap()).collect::<Vec<_>>(),
        ["dispatched", "dispatched", "delivered", "returnRequested", "returnAccepted", "returnCompleted"]
    );
    let parcels = &shown.body["shipments"][0]["parcels"];
    assert_eq!(
        (&parcels[0]["trackingNumber"], &parcels[1]["lines"][0]["quantity"]),
        (&json!("T1"), &json!(2))
    );
    assert!(parcels[0]["deliveredAt"].is_string() && parcels[1]["deliveredAt"].is_null());
    let part = shop.get(&order).by(&sam).send().await.expect(200);
    assert_eq!((&part.body["payment"], part.body["returns"].as_array().unwrap().len()), (&json!(null), 1));

    // Sold for 47.97 at ten per cent, 20.00 taken back with their commission.
    let ledger = until(&shop, "/v1/seller/ledger", &sam, |answer| {
        answer.body["entries"].as_array().unwrap().len() == 2
    })
    .await;
    assert_eq!(ledger.body["balances"], json!([{ "amount": 4797 - 479 - 2000 + 199, "currency": "USD" }]));
    assert_eq!(ledger.body["entries"][1]["commission"][0]["basisPoints"], 1000);
    let sum: i64 = ledger.body["accounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["amount"]["amount"].as_i64().unwrap())
        .sum();
    assert_eq!(sum, 0);
    let payout = |amount: i64| json!({ "amount": { "amount": amount, "currency": "USD" } });
    let refused =
        shop.post("/v1/seller/payouts", payout(2518)).by(&sam).send().await.problem(409, "conflict");
    assert_eq!(refused.body["balance"]["amount"], 2517);
    let ask = || shop.post("/v1/seller/payouts", payout(2500)).by(&sam).with("idempotency-key", "p1").send();
    let asked = ask().await.expect(201);
    assert_eq!(ask().await.expect(201).body, asked.body);
    let settle = format!("/v1/admin/payouts/{}/settle", asked.text("payoutId"));
    shop.post(&settle, json!({ "reference": "TF1" })).by(&sam).send().await.problem(403, "forbidden");
    let settled = shop.post(&settle, json!({ "reference": "TF1" })).by(&ada).send().await.expect(200);
    assert_eq!(settled.text("status"), "settled");
    let list = shop
        .get("/v1/admin/payouts?status=settled")
        .by(&ada)
        .with("souk-min-position", &settled.position())
        .send()
        .await
        .expect(200);
    assert_eq!(list.body["payouts"][0]["reference"], "TF1");

    // A cursor is one list's own.
    let another = shop.post("/v1/seller/payouts", payout(17)).by(&sam).send().await.expect(201);
    let page = shop
        .get("/v1/seller/payouts?size=1")
        .by(&sam)
        .with("souk-min-position", &another.position())
        .send()
        .await
        .expect(200);
    let ledger = |query: &str| shop.get(&format!("/v1/seller/ledger?{query}")).by(&sam).send();
    let of_payouts = format!("cursor={}", page.text("nextCursor"));
    assert_eq!(ledger(&of_payouts).await.problem(400, "malformed").fields(), ["cursor"]);
    let first = ledger("size=1").await.expect(200);
    let second = ledger(&format!("size=1&cursor={}", first.text("nextCursor"))).await.expect(200);
    let number = |page: &Value| page["entries"][0]["number"].as_u64().unwrap();
    assert_eq!(number(&second.body) + 1, number(&first.body));

    // Only what is parked is settled by hand, by an admin who says why.
    let settle = format!("/v1/admin/returns/{id}/settle");
    let by_hand = || shop.post(&settle, json!({ "reason": "by transfer" }));
    by_hand().by(&sam).send().await.problem(403, "forbidden");
    by_hand().by(&ada).send().await.problem(409, "conflict");
    let silent = shop.post(&settle, json!({})).by(&ada).send().await.problem(422, "invalid-parameters");
    assert_eq!(silent.fields(), ["reason"]);
}
