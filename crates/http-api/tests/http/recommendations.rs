//! What is shown beside an item, and on a home page.

use serde_json::{Value, json};

use crate::support::{Answer, Member, Shop, item};

impl Shop {
    /// Lists an item that has nothing in common with others but what its category says.
    async fn stock_up(&self, seller: &Member, name: &str, category: &str, quantity: u32) -> String {
        let mut body = item(name, quantity);
        (body["name"], body["category"], body["brand"]) = (json!(name), json!([category]), Value::Null);
        body["attributes"] = json!({});
        self.post("/v1/items", body).by(seller).send().await.expect(201).text("itemId")
    }

    /// One order of these, to its end.
    async fn buy(&self, buyer: &Member, items: &[&String]) {
        let mut checkout = Value::Null;
        for item in items {
            checkout = self.fill(buyer, item, 1).await;
        }
        let done = self.post("/v1/checkout", checkout).by(buyer).with("prefer", "wait=20").send().await;
        assert_eq!(done.expect(200).text("status"), "completed");
    }

    /// Asks for what has seen everything.
    async fn shown(&self, path: &str, to: Option<&Member>) -> Answer {
        let head = self.market.log.head().await.unwrap().unwrap().to_string();
        let call = self.get(path).with("souk-min-position", &head);
        match to {
            Some(member) => call.by(member).send().await,
            None => call.send().await,
        }
    }
}

fn ids(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|hit| hit["itemId"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn beside_an_item_stands_what_is_bought_with_it_and_what_is_like_it() {
    let shop = Shop::open().await;
    let (sam, ann) = (shop.join("sam", "seller").await, shop.join("ann", "buyer").await);
    let tea = shop.stock_up(&sam, "Black tea", "Tea", 9).await;
    let pot = shop.stock_up(&sam, "Brown pot", "Pots", 9).await;
    let cosy = shop.stock_up(&sam, "Woollen cosy", "Textiles", 1).await;
    let green = shop.stock_up(&sam, "Green tea", "Tea", 9).await;
    let hammer = shop.stock_up(&sam, "Hammer", "Tools", 9).await;
    shop.buy(&ann, &[&hammer]).await;
    shop.buy(&ann, &[&tea, &pot, &cosy]).await;

    let path = format!("/v1/items/{tea}/related");
    let related = shop.shown(&path, None).await.expect(200).body;
    let together = ids(&related["boughtTogether"]);
    assert_eq!(together[..2], [&pot, &hammer][..], "in one order before two orders; {related}");
    assert_eq!(together[2], cosy, "what cannot be had comes last");
    assert_eq!(ids(&related["similar"]), [&green], "a tea in place of a tea");
    let hit = &related["boughtTogether"][0];
    assert_eq!(
        (&hit["name"], &hit["price"]["amount"], &hit["inStock"]),
        (&json!("Brown pot"), &json!(1599), &json!(true))
    );

    // Nobody has bought the new one yet: what goes with one like it will go with it.
    let new = shop.shown(&format!("/v1/items/{green}/related"), None).await.expect(200).body;
    assert_eq!(ids(&new["boughtTogether"])[0], pot, "{new}");

    let one = shop.shown(&format!("{path}?size=1"), None).await.expect(200).body;
    assert_eq!(ids(&one["boughtTogether"]), [&pot]);
    shop.call("POST", &format!("/v1/items/{pot}/withdraw")).by(&sam).send().await.expect(200);
    let related = shop.shown(&path, None).await.expect(200).body;
    assert!(!ids(&related["boughtTogether"]).contains(&pot.as_str()), "{related}");
    shop.shown(&format!("/v1/items/{pot}/related"), None).await.problem(404, "not-found");
    shop.get(&format!("/v1/items/{}/related", sam.id)).send().await.problem(404, "not-found");
    shop.get(&format!("{path}?size=0")).send().await.problem(422, "invalid-parameters");
}

#[tokio::test]
async fn a_home_page_suits_the_buyer_and_a_stranger_sees_what_sells() {
    let shop = Shop::open().await;
    let (sam, ann) = (shop.join("sam", "seller").await, shop.join("ann", "buyer").await);
    let bob = shop.join("bob", "buyer").await;
    let tea = shop.stock_up(&sam, "Black tea", "Tea", 9).await;
    let green = shop.stock_up(&sam, "Green tea", "Tea", 9).await;
    let pot = shop.stock_up(&sam, "Brown pot", "Pots", 9).await;
    let hammer = shop.stock_up(&sam, "Hammer", "Tools", 9).await;
    let nails = shop.stock_up(&sam, "Box of nails", "Tools", 9).await;
    shop.buy(&ann, &[&tea, &pot]).await;
    for _ in 0..3 {
        shop.buy(&bob, &[&hammer]).await;
    }

    let stranger = shop.shown("/v1/recommendations?size=4", None).await.expect(200).body;
    let items = &stranger["items"];
    assert_eq!(
        (ids(items)[0], &items[0]["reason"]),
        (hammer.as_str(), &json!({"kind": "popular"})),
        "{items}"
    );
    assert_eq!(ids(items).len(), 4);

    let cat = shop.join("cat", "buyer").await;
    shop.fill(&cat, &tea, 1).await;
    let page = shop.shown("/v1/recommendations", Some(&cat)).await.expect(200).body;
    let items = &page["items"];
    assert_eq!(ids(items)[0], pot, "{items}");
    assert_eq!(items[0]["reason"], json!({"kind": "boughtTogether", "itemId": tea}));
    assert_eq!(items[0]["name"], "Brown pot");
    assert_eq!((ids(items)[1], &items[1]["reason"]["kind"]), (green.as_str(), &json!("similar")));
    assert!(!ids(items).contains(&tea.as_str()), "it is in the cart");
    assert_eq!(items.as_array().unwrap().len(), 4, "and what sells fills the page");

    // Bob has had the hammer; who buys hammers is not known to buy anything else.
    let page = shop.shown("/v1/recommendations?size=2", Some(&bob)).await.expect(200).body;
    let items = &page["items"];
    assert_eq!(ids(items)[0], nails, "{items}");
    assert!(!ids(items).contains(&hammer.as_str()));
    shop.get("/v1/recommendations")
        .with("authorization", "Bearer x")
        .send()
        .await
        .problem(401, "unauthenticated");

    shop.pool.close().await;
    shop.shown("/v1/recommendations", Some(&ann)).await.expect(200);
    shop.shown(&format!("/v1/items/{tea}/related"), None).await.expect(200);
}
