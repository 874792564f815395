//! Listing, revising, finding, taking off the market.

use serde_json::json;
use souk_domain::account::Role;

use crate::support::{Shop, item};

#[tokio::test]
async fn an_item_from_listing_to_withdrawal() {
    let shop = Shop::open().await;
    let (sam, tom) = (shop.join("sam", "seller").await, shop.join("tom", "seller").await);
    let listed =
        shop.post("/v1/items", item("A", 5)).by(&sam).with("idempotency-key", "1").send().await.expect(201);
    let id = listed.text("itemId");
    let path = format!("/v1/items/{id}");
    assert_eq!((listed.header("location"), listed.header("etag")), (path.as_str(), "\"0\""));
    let again =
        shop.post("/v1/items", item("A", 5)).by(&sam).with("idempotency-key", "1").send().await.expect(201);
    assert_eq!(again.text("itemId"), id);
    shop.post("/v1/items", item("A", 5)).by(&sam).send().await.problem(409, "sku-taken");
    shop.post("/v1/items", item("A", 1)).by(&tom).send().await.expect(201);

    let shown = shop.get(&path).send().await.expect(200);
    assert_eq!(shown.body["price"], json!({ "amount": 1599, "currency": "USD" }));
    assert_eq!(
        (&shown.body["inStock"], &shown.body["availability"]),
        (&json!(true), &json!({ "available": 5 }))
    );
    assert_eq!(shown.body["variants"].as_array().unwrap().len(), 1);
    let tag = shown.header("etag").to_owned();
    shop.get(&path).with("if-none-match", &tag).send().await.expect(304);
    let inside = shop.get(&path).by(&sam).send().await.expect(200);
    assert_eq!(inside.body["variants"][0]["onHand"], 5);

    let revise = |body| shop.call("PATCH", &path).json(body);
    revise(json!({ "name": "Mine" })).by(&tom).send().await.problem(403, "forbidden");
    let renamed = revise(json!({ "name": "A better lantern", "quantity": 3 }))
        .by(&sam)
        .with("if-match", &tag)
        .send()
        .await;
    let renamed = renamed.expect(200);
    assert_eq!((renamed.text("name").as_str(), renamed.header("etag")), ("A better lantern", "\"1\""));
    assert_eq!(renamed.body["availability"]["onHand"], 3);
    revise(json!({ "name": "Too late" })).by(&sam).with("if-match", &tag).send().await.problem(412, "stale");
    assert_eq!(revise(json!({ "sku": "B" })).by(&sam).send().await.expect(422).fields(), ["sku"]);
    let seen = shop
        .get(&path)
        .with("if-none-match", &tag)
        .with("souk-min-position", &renamed.position())
        .send()
        .await;
    assert_eq!(seen.expect(200).text("name"), "A better lantern");

    let stock = |body| shop.post(&format!("{path}/stock"), body);
    let received = stock(json!({ "change": 4, "reason": "delivery" })).by(&sam).send().await.expect(200);
    assert_eq!(received.body, json!({ "onHand": 7, "reserved": 0, "available": 7 }));
    assert_eq!(
        stock(json!({ "change": -8 })).by(&sam).send().await.problem(409, "insufficient-stock").body["available"],
        7
    );
    assert_eq!(stock(json!({ "change": 0 })).by(&sam).send().await.expect(422).fields(), ["change"]);
    stock(json!({ "change": 1 })).by(&tom).send().await.problem(403, "forbidden");

    let admin = shop.appoint("root", Role::Admin).await;
    let withdrawn = shop
        .post(&format!("{path}/withdraw"), json!({ "reason": "recall" }))
        .by(&admin)
        .send()
        .await
        .expect(200);
    let position = withdrawn.position();
    shop.get(&path).with("souk-min-position", &position).send().await.problem(404, "not-found");
    let own = shop.get(&path).by(&sam).with("souk-min-position", &position).send().await.expect(200);
    assert_eq!(own.body["withdrawn"], true);
    let found =
        shop.get("/v1/items?term=better").with("souk-min-position", &position).send().await.expect(200);
    assert_eq!(found.body["total"], 0);
    let relisted = shop.call("POST", &format!("{path}/relist")).by(&sam).send().await.expect(200);
    let found = shop
        .get("/v1/items?term=better")
        .with("souk-min-position", &relisted.position())
        .send()
        .await
        .expect(200);
    assert_eq!(found.body["items"][0]["itemId"], *id);
}

#[tokio::test]
async fn variants_are_sold_each_at_its_price() {
    let shop = Shop::open().await;
    let sam = shop.join("sam", "seller").await;
    let mut body = item("SHIRT", 0);
    body["variants"] = json!([
        { "sku": "SHIRT-S", "options": { "size": "S" }, "quantity": 2 },
        { "sku": "SHIRT-L", "options": { "size": "L" }, "quantity": 0, "price": { "amount": 1899, "currency": "USD" } },
    ]);
    let id = shop.post("/v1/items", body).by(&sam).send().await.expect(201).text("itemId");
    let shown = shop.get(&format!("/v1/items/{id}")).send().await.expect(200);
    let variants = shown.body["variants"].as_array().unwrap();
    assert_eq!(variants.len(), 2);
    assert_eq!((&variants[0]["available"], &variants[0]["inStock"]), (&json!(2), &json!(true)));
    assert_eq!((&variants[1]["price"]["amount"], &variants[1]["inStock"]), (&json!(1899), &json!(false)));

    let ann = shop.join("ann", "buyer").await;
    let set = |line| shop.call("PATCH", "/v1/cart").json(line).by(&ann);
    assert_eq!(set(json!({ "itemId": id, "quantity": 1 })).send().await.expect(422).fields(), ["sku"]);
    let cart = set(json!({ "itemId": id, "sku": "SHIRT-L", "quantity": 2 })).send().await.expect(200);
    assert_eq!(cart.body["total"], json!({ "amount": 3798, "currency": "USD" }));
    assert_eq!(cart.body["lines"][0]["lineTotal"]["amount"], 3798);
    let emptied = set(json!({ "itemId": id, "sku": "SHIRT-L", "quantity": 0 })).send().await.expect(200);
    assert_eq!((&emptied.body["lines"], &emptied.body["total"]), (&json!([]), &json!(null)));
    set(json!({ "itemId": ann.id, "quantity": 1 })).send().await.problem(404, "not-found");
}

#[tokio::test]
async fn a_revision_that_is_refused_changes_nothing() {
    let shop = Shop::open().await;
    let sam = shop.join("sam", "seller").await;
    let mut shirt = item("SHIRT", 0);
    shirt["variants"] = json!([{ "sku": "SHIRT-S", "options": { "size": "S" }, "quantity": 2 }]);
    shirt["variants"][0]["price"] = json!({ "amount": 1500, "currency": "USD" });
    let mut both = shirt.clone();
    both["variants"].as_array_mut().unwrap().push(json!({ "sku": "SHIRT-M", "options": { "size": "M" } }));
    let id = shop.post("/v1/items", both).by(&sam).send().await.expect(201).text("itemId");
    let path = format!("/v1/items/{id}");
    let revise = |body| shop.call("PATCH", &path).json(body).by(&sam);
    let item_now = async || shop.get(&path).by(&sam).send().await.expect(200).body;
    let before = item_now().await;

    let large = |currency: &str| {
        let price = json!({ "amount": 1899, "currency": currency });
        json!({ "variants": [{ "sku": "SHIRT-L", "options": { "size": "L" }, "price": price, "quantity": 4 }] })
    };
    revise(large("USD")).with("if-match", "\"7\"").send().await.problem(412, "stale");
    revise(large("EUR")).send().await.expect(422);
    let counted = revise(json!({ "name": "Half a change", "quantity": 5 })).send().await;
    assert_eq!(counted.expect(422).fields(), ["quantity"]);
    let priced = revise(json!({ "name": "Half a change", "price": { "amount": 2000, "currency": "USD" } }));
    assert_eq!(priced.send().await.expect(422).fields(), ["price"]);
    assert_eq!(item_now().await, before);

    // What is shown as the price may come back, and where it says something it is the default of what is new.
    revise(json!({ "price": before["price"] })).send().await.expect(200);
    let added = json!({ "price": { "amount": 2000, "currency": "USD" }, "variants": [{ "sku": "SHIRT-L", "quantity": 4 }] });
    for _ in 0..2 {
        let added = revise(added.clone()).with("idempotency-key", "large").send().await.expect(200);
        assert_eq!(
            (&added.body["variants"][2]["price"]["amount"], &added.body["variants"][2]["onHand"]),
            (&json!(2000), &json!(4))
        );
    }
    let shown =
        json!({ "variants": [{ "sku": "SHIRT-S", "images": ["https://img.example/s.jpg"], "quantity": 1 }] });
    let shown = revise(shown).send().await.expect(200);
    assert_eq!(shown.body["variants"][0]["images"], json!(["https://img.example/s.jpg"]));
    assert_eq!(
        (&shown.body["variants"][0]["onHand"], &shown.body["variants"][2]["onHand"]),
        (&json!(1), &json!(4))
    );
}

#[tokio::test]
async fn a_search_finds_filters_and_turns_pages() {
    let shop = Shop::open().await;
    let sam = shop.join("sam", "seller").await;
    let mut last = String::new();
    for n in 1..=5 {
        let mut body = item(&format!("N{n}"), n % 2);
        body["price"]["amount"] = json!(100 * n);
        last = shop.post("/v1/items", body).by(&sam).send().await.expect(201).position();
    }
    let search =
        |query: &str| shop.get(&format!("/v1/items?{query}")).with("souk-min-position", &last).send();
    let first = search("term=lantern&sort=-price&size=2&facets=brand,inStock").await.expect(200);
    assert_eq!((&first.body["total"], &first.body["items"][0]["price"]["amount"]), (&json!(5), &json!(500)));
    assert_eq!(first.body["facets"]["brand"], json!([{ "value": "Lumen", "count": 5 }]));
    assert_eq!(first.body["items"][0]["inStock"], true);
    let second = search(&format!("term=lantern&sort=-price&size=2&cursor={}", first.text("nextCursor")))
        .await
        .expect(200);
    assert_eq!(second.body["items"][0]["price"]["amount"], 300);
    let filtered =
        search("minPrice=200&maxPrice=400&inStock=true&attribute=colour:red&category=Home%20%3E%20Lamps")
            .await;
    assert_eq!(filtered.expect(200).body["total"], 1);
    assert_eq!(search("cursor=x").await.problem(400, "malformed").fields(), ["cursor"]);
    assert_eq!(search("sort=best").await.problem(400, "malformed").fields(), ["sort"]);
    assert_eq!(search("size=101").await.problem(422, "invalid-parameters").fields(), ["size"]);
    assert_eq!(search("facets=colour").await.problem(400, "malformed").fields(), ["facets"]);
    let suggested =
        shop.get("/v1/suggestions?prefix=lum").with("souk-min-position", &last).send().await.expect(200);
    assert_eq!(
        suggested.body["suggestions"][0],
        json!({ "text": "Lumen", "kind": "brand", "facet": { "name": "brand", "value": "Lumen" } })
    );
    let own = shop
        .get("/v1/seller/items?size=3")
        .by(&sam)
        .with("souk-min-position", &last)
        .send()
        .await
        .expect(200);
    assert_eq!(own.body["items"].as_array().unwrap().len(), 3);
    assert!(own.body["nextCursor"].is_string());
}

#[tokio::test]
async fn synonyms_that_an_admin_sets_are_found_by_at_once() {
    let shop = Shop::open().await;
    let (sam, admin) = (shop.join("sam", "seller").await, shop.appoint("root", Role::Admin).await);
    shop.list(&sam, "A", 1).await;
    let found = async |term: &str, position: &str| {
        let path = format!("/v1/items?term={term}");
        let answer = shop.get(&path).with("souk-min-position", position).send().await.expect(200);
        answer.body["total"].as_u64()
    };
    let put = |rules| shop.call("PUT", "/v1/admin/synonyms").json(json!({ "synonyms": rules }));
    put(json!([])).by(&sam).send().await.problem(403, "forbidden");
    let refused = put(json!(["torch => lantern", "alone"])).by(&admin).send().await.expect(422);
    assert_eq!(refused.fields(), ["synonyms[1]"]);

    let set = put(json!(["torch => lantern"])).by(&admin).send().await.expect(200);
    assert_eq!(found("torch", &set.position()).await, Some(1));
    let shown = shop.get("/v1/admin/synonyms").by(&admin).send().await.expect(200);
    assert_eq!(shown.body, json!({ "synonyms": ["torch => lantern"] }));
    let none = put(json!([])).by(&admin).send().await.expect(200);
    assert_eq!(found("torch", &none.position()).await, Some(0));
}
