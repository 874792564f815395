//! People who use the market over HTTP.

use reqwest::{Client, Method, RequestBuilder, header::HeaderMap};
use serde_json::{Value, json};

#[derive(Clone, Debug)]
pub struct Person {
    client: Client,
    address: String,
    pub account_id: String,
    pub refresh_token: String,
    token: Option<String>,
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    /// `Null` if it was not JSON.
    pub body: Value,
    pub text: String,
}

impl Answer {
    async fn of(request: RequestBuilder) -> Self {
        let answer = request.send().await.unwrap();
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let text = answer.text().await.unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Self { status, headers, body, text }
    }

    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        self.body
    }

    /// A problem (RFC 9457) of that status; returns the fields it names.
    #[track_caller]
    pub fn refused(self, status: u16) -> Vec<String> {
        assert_eq!(self.status, status, "{}", self.text);
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(self.body["status"], json!(status), "{}", self.text);
        assert!(self.body["type"].is_string() && self.body["title"].is_string(), "{}", self.text);
        let errors = self.body["errors"].as_array().cloned().unwrap_or_default();
        errors.iter().filter_map(|error| error["field"].as_str().map(str::to_owned)).collect()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl Person {
    pub fn stranger(address: &str) -> Self {
        Self {
            client: Client::new(),
            address: address.into(),
            account_id: String::new(),
            refresh_token: String::new(),
            token: None,
        }
    }

    pub async fn registered(self, name: &str, role: &str) -> Self {
        let email = format!("{name}@example.com");
        let account =
            json!({"email": email, "password": "correct horse battery", "displayName": name, "role": role});
        self.post("/v1/accounts", account).await.expect(201);
        self.logged_in(&email, "correct horse battery").await
    }

    pub async fn logged_in(mut self, email: &str, password: &str) -> Self {
        let session =
            self.post("/v1/sessions", json!({"email": email, "password": password})).await.expect(201);
        self.token = Some(session["accessToken"].as_str().unwrap().into());
        self.refresh_token = session["refreshToken"].as_str().unwrap().into();
        let me = self.get("/v1/accounts/me").await.expect(200);
        self.account_id = me["accountId"].as_str().unwrap().into();
        self
    }

    /// The same person after the server came back at another address.
    #[must_use]
    pub fn at(&self, address: &str) -> Self {
        Self { address: address.into(), ..self.clone() }
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.address));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    pub async fn get(&self, path: &str) -> Answer {
        Answer::of(self.request(Method::GET, path)).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        Answer::of(self.request(Method::POST, path).json(&body)).await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Answer {
        Answer::of(self.request(Method::PATCH, path).json(&body)).await
    }

    pub async fn send(&self, request: RequestBuilder) -> Answer {
        Answer::of(request).await
    }

    /// Lists an item and returns its id.
    pub async fn lists(&self, sku: &str, quantity: u32) -> String {
        let listed = self.post("/v1/items", item(sku, quantity)).await.expect(201);
        listed["itemId"].as_str().unwrap().into()
    }

    /// Fills the cart and returns what a checkout needs.
    pub async fn fills_cart(&self, lines: &[(&str, u32)]) -> (String, Value) {
        let mut cart = Value::Null;
        for (item_id, quantity) in lines {
            cart = self.patch("/v1/cart", json!({"itemId": item_id, "quantity": quantity})).await.expect(200);
        }
        (cart["cartId"].as_str().unwrap().into(), cart["total"].clone())
    }

    /// Fills the cart, checks it out, and waits for the end: `{orderId, status, …}`.
    pub async fn buys(&self, lines: &[(&str, u32)], payment: Value, country: &str) -> Value {
        let (cart, amount) = self.fills_cart(lines).await;
        let body = checkout(&cart, &amount, payment, country);
        let request = self.request(Method::POST, "/v1/checkout").header("Prefer", "wait=20").json(&body);
        Answer::of(request).await.expect(200)
    }

    pub async fn checks_out(&self, cart: &str, amount: &Value, payment: Value, country: &str) -> Answer {
        self.post("/v1/checkout", checkout(cart, amount, payment, country)).await
    }

    pub async fn order(&self, order: &str) -> Value {
        self.get(&format!("/v1/orders/{order}")).await.expect(200)
    }
}

fn checkout(cart: &str, amount: &Value, payment: Value, country: &str) -> Value {
    json!({"cartId": cart, "amount": amount, "paymentInfo": payment, "shippingAddress": address(country)})
}

pub fn money(amount: i64) -> Value {
    json!({"amount": amount, "currency": "USD"})
}

pub fn card(number: &str) -> Value {
    json!({"paymentType": "card", "cardNo": number, "expiry": "12/2099", "cvc": "123"})
}

pub fn address(country: &str) -> Value {
    json!({
        "name": "Ada Byron", "line1": "1 Mill Lane", "city": "Cambridge", "postalCode": "CB2 1RX",
        "country": country,
    })
}

/// An item at 15.99.
pub fn item(sku: &str, quantity: u32) -> Value {
    json!({
        "sku": sku,
        "name": format!("Mug {sku} with a handle"),
        "description": "Holds a third of a litre",
        "brand": "Claybank",
        "category": ["Home", "Kitchen", "Mugs"],
        "tags": ["mug"],
        "attributes": {"colour": "blue"},
        "specifications": {"volume": "330 ml"},
        "images": ["https://images.example.com/mug.jpg"],
        "price": money(1599),
        "quantity": quantity,
        "variants": [],
    })
}
