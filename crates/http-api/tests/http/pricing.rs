//! Quotes, promotions, gift cards and store credit, as buyers and admins meet them.

use serde_json::{Value, json};
use souk_domain::account::Role;

use crate::support::{Member, Shop};

const WAIT: &str = "wait=20";

fn usd(amount: i64) -> Value {
    json!({ "amount": amount, "currency": "USD" })
}

async fn quote(shop: &Shop, buyer: &Member, checkout: &Value, more: &Value) -> crate::support::Answer {
    let mut body = json!({ "cartId": checkout["cartId"], "country": "GB" });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    shop.post("/v1/checkout/quote", body).by(buyer).send().await
}

#[tokio::test]
async fn a_buyer_is_told_what_it_costs_and_pays_that() {
    let prices = json!({ "shipping": { "USD": { "GB": { "flat": 500 } } }, "tax": { "GB": 2000 } });
    let shop = Shop::priced(prices).await;
    let (sam, ann) = (shop.join("sam", "seller").await, shop.join("ann", "buyer").await);
    let admin = shop.appoint("root", Role::Admin).await;
    let item = shop.list(&sam, "A", 5).await;
    let mut checkout = shop.fill(&ann, &item, 2).await;

    let tenth = json!({ "code": "Spring", "kind": "percentage", "basisPoints": 1000, "limit": 1 });
    let made = shop.post("/v1/admin/promotions", tenth.clone()).by(&admin).send().await.expect(201);
    let promotion = made.header("location").to_owned();
    shop.post("/v1/admin/promotions", tenth.clone()).by(&admin).send().await.expect(201);
    let mut other = tenth;
    other["basisPoints"] = json!(2000);
    shop.post("/v1/admin/promotions", other).by(&admin).send().await.problem(409, "conflict");
    let issue = || {
        let body = json!({ "amount": usd(1000), "reason": "prize" });
        shop.post("/v1/admin/gift-cards", body).by(&admin).with("idempotency-key", "g1").send()
    };
    let card = issue().await.expect(201).text("code");
    assert_eq!(issue().await.expect(201).text("code"), card);
    let account = format!("/v1/admin/accounts/{}/credit", ann.id);
    let granted = shop.post(&account, json!({ "amount": usd(200) })).by(&admin).send().await.expect(200);
    assert_eq!(granted.body["available"], usd(200));

    let extras = json!({ "couponCode": "SPRING", "giftCardCode": card, "useStoreCredit": true });
    let quoted = quote(&shop, &ann, &checkout, &extras).await.expect(200).body;
    // Two of 15.99 less a tenth, 5.00 of shipping, a fifth of tax.
    for (part, amount) in [("goods", 3198), ("shipping", 500), ("tax", 676), ("total", 4054), ("due", 2854)] {
        assert_eq!(quoted[part], usd(amount), "{part}");
    }
    assert_eq!(
        (&quoted["discounts"][0]["amount"], &quoted["discounts"][0]["code"]),
        (&usd(320), &json!("Spring"))
    );
    assert_eq!((&quoted["credits"][0]["amount"], &quoted["credits"][1]["amount"]), (&usd(1000), &usd(200)));
    assert_eq!(quoted["lines"][0]["quantity"], 2);

    checkout.as_object_mut().unwrap().extend(extras.as_object().unwrap().clone());
    let send = |body: &Value| shop.post("/v1/checkout", body.clone()).by(&ann).with("prefer", WAIT).send();
    assert_eq!(send(&checkout).await.problem(409, "amount-changed").body["total"], usd(4054));
    checkout["amount"] = quoted["total"].clone();
    let ended = send(&checkout).await.expect(200);
    assert_eq!(ended.text("status"), "completed");
    let path = format!("/v1/orders/{}", ended.text("orderId"));
    for address in [path.clone(), format!("{path}?at={}", ended.position())] {
        let shown = shop.get(&address).by(&ann).send().await.expect(200).body;
        for part in ["discounts", "shipping", "tax", "credits", "total"] {
            assert_eq!(shown[part], quoted[part], "{part} at {address}");
        }
    }
    let part = shop.get(&path).by(&sam).send().await.expect(200);
    assert_eq!(part.body["total"], usd(3198));
    assert!(part.body.get("tax").is_none() && !part.text.contains("Spring"), "{}", part.text);

    let used = shop.get(&promotion).by(&admin).with("souk-min-position", &ended.position()).send().await;
    let used = used.expect(200).body;
    assert_eq!((&used["claimed"], &used["redeemed"], &used["limit"]), (&json!(0), &json!(1), &json!(1)));
    let again =
        quote(&shop, &ann, &shop.fill(&ann, &item, 1).await, &json!({ "couponCode": "spring" })).await;
    assert_eq!(again.problem(422, "invalid-parameters").fields(), ["couponCode"]);
    let mine = shop.get("/v1/accounts/me/credit?currency=USD").by(&ann).send().await.expect(200).body;
    assert_eq!((&mine["balance"], &mine["held"]), (&usd(0), &usd(0)));
    let balance = |code: &str| shop.post("/v1/gift-cards/balance", json!({ "code": code })).by(&ann).send();
    assert_eq!(balance(&card).await.expect(200).body["balance"], usd(0));
    balance("0000-0000").await.problem(404, "not-found");
}

#[tokio::test]
async fn a_short_line_is_named_with_what_is_left() {
    let shop = Shop::open().await;
    let (sam, ann) = (shop.join("sam", "seller").await, shop.join("ann", "buyer").await);
    let item = shop.list(&sam, "A", 2).await;
    let checkout = shop.fill(&ann, &item, 3).await;
    let ended = shop.post("/v1/checkout", checkout).by(&ann).with("prefer", WAIT).send().await.expect(200);
    let short = json!([{ "itemId": item, "sku": "A", "requested": 3, "available": 2 }]);
    assert_eq!((ended.text("reason").as_str(), &ended.body["shortLines"]), ("outOfStock", &short));
    let path = format!("/v1/orders/{}", ended.text("orderId"));
    for address in [path.clone(), format!("{path}?at={}", ended.position())] {
        let shown = shop.get(&address).by(&ann).send().await.expect(200);
        assert_eq!(shown.body["shortLines"], short, "{address}");
        assert_eq!(shown.body["timeline"][1]["shortLines"], short, "{address}");
    }
}

#[tokio::test]
async fn what_cannot_be_used_names_its_field_and_why() {
    let shop = Shop::priced(json!({ "shipping": { "USD": { "GB": { "flat": 500 } } } })).await;
    let (sam, ann) = (shop.join("sam", "seller").await, shop.join("ann", "buyer").await);
    let admin = shop.appoint("root", Role::Admin).await;
    let item = shop.list(&sam, "A", 5).await;
    let checkout = shop.fill(&ann, &item, 1).await;
    let promote = |body: Value| shop.post("/v1/admin/promotions", body).by(&admin).send();
    let late = json!({ "code": "LATE", "kind": "freeShipping", "endsAt": "2020-01-01T00:00:00Z" });
    promote(late).await.expect(201);
    let dear = json!({ "code": "DEAR", "kind": "amount", "amount": usd(100), "minimum": usd(5000) });
    let dear = promote(dear).await.expect(201).text("promotionId");
    for (more, field, why) in [
        (json!({ "couponCode": "NONE" }), "couponCode", "no such code"),
        (json!({ "couponCode": "late" }), "couponCode", "any more"),
        (json!({ "couponCode": "DEAR" }), "couponCode", "at least"),
        (json!({ "giftCardCode": "NONE" }), "giftCardCode", "no such gift card"),
        (json!({ "country": "FR" }), "shippingAddress.country", "FR"),
        (json!({ "country": null }), "shippingAddress.country", "country"),
        (json!({ "country": "gb" }), "country", "capital"),
    ] {
        let refused = quote(&shop, &ann, &checkout, &more).await.problem(422, "invalid-parameters");
        assert_eq!(refused.fields(), [field], "{more}");
        assert!(refused.text.contains(why), "{more}: {}", refused.text);
    }
    let mut coupon = checkout.clone();
    coupon["couponCode"] = json!("NONE");
    let refused = shop.post("/v1/checkout", coupon).by(&ann).send().await;
    assert_eq!(refused.problem(422, "invalid-parameters").fields(), ["couponCode"]);
    quote(&shop, &shop.join("eve", "buyer").await, &checkout, &json!({})).await.problem(404, "not-found");

    let bad = json!({ "code": "a b", "kind": "percentage", "basisPoints": 0, "limit": 0, "endsAt": "soon" });
    assert_eq!(
        promote(bad).await.problem(422, "invalid-parameters").fields(),
        ["code", "basisPoints", "endsAt", "limit"]
    );
    shop.call("POST", &format!("/v1/admin/promotions/{dear}/end")).by(&admin).send().await.expect(200);
    let none = uuid::Uuid::nil();
    shop.call("POST", &format!("/v1/admin/promotions/{none}/end"))
        .by(&admin)
        .send()
        .await
        .problem(404, "not-found");
    let ended =
        shop.call("POST", &format!("/v1/admin/promotions/{dear}/end")).by(&admin).send().await.expect(200);
    let list =
        shop.get("/v1/admin/promotions").by(&admin).with("souk-min-position", &ended.position()).send();
    let list = list.await.expect(200).body;
    assert_eq!(
        (&list["promotions"][0]["code"], &list["promotions"][0]["ended"]),
        (&json!("DEAR"), &json!(true))
    );
    shop.get("/v1/admin/promotions").by(&ann).send().await.problem(403, "forbidden");
    let stranger = format!("/v1/admin/accounts/{none}/credit");
    shop.post(&stranger, json!({ "amount": usd(1) })).by(&admin).send().await.problem(404, "not-found");
    shop.get("/v1/accounts/me/credit").by(&ann).send().await.problem(400, "malformed");
}
