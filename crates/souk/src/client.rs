//! A client of the HTTP interface, as the demo and the benchmarks need one: what a buyer, a seller and an analyst do.

use std::time::Duration;

use anyhow::{Context, bail};
use futures::{Stream, StreamExt};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use uuid::Uuid;

#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
}

/// Somebody who is logged in.
#[derive(Clone)]
pub(crate) struct Session {
    client: Client,
    pub(crate) token: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Cart {
    #[serde(rename = "cartId")]
    pub(crate) id: Uuid,
    pub(crate) total: Option<Value>,
    #[serde(default)]
    pub(crate) lines: Vec<CartLine>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CartLine {
    pub(crate) item_id: Uuid,
    pub(crate) sku: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Order {
    #[serde(rename = "orderId")]
    pub(crate) id: Uuid,
    pub(crate) status: String,
    #[serde(default)]
    pub(crate) reason: Option<String>,
}

/// An event of the log, with as much as is needed here.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Event {
    pub(crate) stream: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) data: EventData,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct EventData {
    /// Of a cancelled order.
    #[serde(default)]
    pub(crate) reason: Option<String>,
}

impl Client {
    pub(crate) fn new(base: &str) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .tcp_nodelay(true)
            .pool_max_idle_per_host(10_000)
            .pool_idle_timeout(None)
            .connect_timeout(Duration::from_secs(10))
            .build()?;
        Ok(Self { http, base: base.trim_end_matches('/').to_owned() })
    }

    /// False if the address is taken.
    pub(crate) async fn register(
        &self,
        email: &str,
        password: &str,
        display_name: &str,
        role: &str,
    ) -> anyhow::Result<bool> {
        let body = json!({ "email": email, "password": password, "displayName": display_name, "role": role });
        let response = self.http.post(self.url("/v1/accounts")).json(&body).send().await?;
        match response.status() {
            StatusCode::CONFLICT => Ok(false),
            _ => {
                answer::<Value>(response).await.map(|_| true).with_context(|| format!("registering {email}"))
            }
        }
    }

    pub(crate) async fn sign_in(&self, email: &str, password: &str) -> anyhow::Result<Session> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Answer {
            access_token: String,
        }
        let body = json!({ "email": email, "password": password });
        let response = self.http.post(self.url("/v1/sessions")).json(&body).send().await?;
        let answer: Answer = answer(response).await.with_context(|| format!("logging in as {email}"))?;
        Ok(Session { client: self.clone(), token: answer.access_token })
    }

    /// An item's page.
    pub(crate) async fn item(&self, item: Uuid) -> anyhow::Result<Value> {
        answer(self.http.get(self.url(&format!("/v1/items/{item}"))).send().await?).await
    }

    pub(crate) async fn ready(&self) -> anyhow::Result<Value> {
        Ok(self.http.get(self.url("/readyz")).send().await?.json().await?)
    }

    /// Somebody with an access token that was made elsewhere.
    pub(crate) fn session(&self, token: String) -> Session {
        Session { client: self.clone(), token }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }
}

impl Session {
    pub(crate) async fn set_line(
        &self,
        item: Uuid,
        sku: Option<&str>,
        quantity: u32,
    ) -> anyhow::Result<Cart> {
        let body = json!({ "itemId": item, "sku": sku, "quantity": quantity });
        self.send(self.request(Method::PATCH, "/v1/cart").json(&body)).await.context("PATCH /v1/cart")
    }

    pub(crate) async fn cart(&self) -> anyhow::Result<Cart> {
        self.send(self.request(Method::GET, "/v1/cart")).await.context("GET /v1/cart")
    }

    pub(crate) async fn check_out(
        &self,
        cart: &Cart,
        payment: &Value,
        country: &str,
        wait_seconds: Option<u32>,
    ) -> anyhow::Result<Order> {
        let body = json!({
            "cartId": cart.id,
            "amount": cart.total,
            "paymentInfo": payment,
            "shippingAddress": {
                "name": "Robin Example", "line1": "1 Market Street", "city": "Bristol", "postalCode": "BS1 1AA",
                "country": country,
            },
        });
        let mut request = self.request(Method::POST, "/v1/checkout").json(&body);
        if let Some(seconds) = wait_seconds {
            request = request.header("Prefer", format!("wait={seconds}"));
        }
        self.send(request).await.context("POST /v1/checkout")
    }

    pub(crate) async fn cancel(&self, order: Uuid) -> anyhow::Result<()> {
        let request = self.request(Method::POST, &format!("/v1/orders/{order}/cancel"));
        self.send::<Value>(request).await.map(drop).context("POST /v1/orders/…/cancel")
    }

    pub(crate) async fn order(&self, order: Uuid) -> anyhow::Result<Order> {
        self.send(self.request(Method::GET, &format!("/v1/orders/{order}"))).await.context("GET /v1/orders/…")
    }

    pub(crate) async fn orders(&self) -> anyhow::Result<Vec<Order>> {
        #[derive(Deserialize)]
        struct Answer {
            orders: Vec<Order>,
        }
        let request = self.request(Method::GET, "/v1/orders?size=100");
        self.send::<Answer>(request).await.map(|answer| answer.orders).context("GET /v1/orders")
    }

    pub(crate) async fn list_item(&self, item: &Value) -> anyhow::Result<Uuid> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Answer {
            item_id: Uuid,
        }
        let request = self.request(Method::POST, "/v1/items").json(item);
        self.send::<Answer>(request).await.map(|answer| answer.item_id).context("POST /v1/items")
    }

    /// Events of these types from now on, live.
    pub(crate) async fn events(
        &self,
        types: &str,
    ) -> anyhow::Result<impl Stream<Item = anyhow::Result<Event>> + Send + Unpin + use<>> {
        let after = self.client.ready().await?["log"]["position"].as_u64();
        let mut path = format!("/v1/events?type={types}");
        if let Some(after) = after {
            path = format!("{path}&after={after}");
        }
        let request = self.request(Method::GET, &path).header("Accept", "text/event-stream");
        let response = request.send().await?;
        if !response.status().is_success() {
            bail!("GET /v1/events: {}", response.status());
        }
        Ok(Box::pin(parse_events(response)))
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.http.request(method, self.client.url(path)).bearer_auth(&self.token)
    }

    async fn send<T: DeserializeOwned>(&self, request: RequestBuilder) -> anyhow::Result<T> {
        answer(request.send().await?).await
    }
}

async fn answer<T: DeserializeOwned>(response: reqwest::Response) -> anyhow::Result<T> {
    let status = response.status();
    let body = response.bytes().await?;
    if !status.is_success() {
        bail!("{status}: {}", String::from_utf8_lossy(&body));
    }
    serde_json::from_slice(&body)
        .with_context(|| format!("an answer that was not expected: {}", String::from_utf8_lossy(&body)))
}

/// Server-sent events: lines that begin with `data:`, one event each here.
fn parse_events(response: reqwest::Response) -> impl Stream<Item = anyhow::Result<Event>> + Send {
    let lines = tokio_util::codec::FramedRead::new(
        tokio_util::io::StreamReader::new(
            response.bytes_stream().map(|piece| piece.map_err(std::io::Error::other)),
        ),
        tokio_util::codec::LinesCodec::new_with_max_length(64 << 20),
    );
    lines.filter_map(|line| async move {
        match line {
            Ok(line) => {
                let data = line.strip_prefix("data:")?;
                Some(serde_json::from_str(data).context("an event that is no JSON"))
            }
            Err(error) => Some(Err(error.into())),
        }
    })
}
