//! A shop behind a router, and a client that speaks to it without a socket.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderMap, Request, StatusCode, header},
};
use futures::StreamExt;
use serde_json::{Value, json};
use souk_commands::{
    Context, Market,
    after::{self, AfterSales, Commissions},
    checkout::{ProcessManager, Settings as CheckoutSettings},
    clock::{Clock, fresh_id},
    flows::accounts::{self, Registration},
};
use souk_domain::{AccountId, account::Role, pricing::PriceList};
use souk_event_log::{EventLog, SqliteLog, sqlite};
use souk_gateways::{
    PaymentGateway,
    sandbox::{SandboxBank, Script},
    stripe::Stripe,
};
use souk_http_api::{Api, Parts, Settings, router};
use souk_local_postgres::{TestDatabase, TestPostgres};
use souk_projections::{
    Projections, read_models,
    recommendations::{RecommendationsProjector, Recommender},
    search::SearchProjector,
};
use souk_recommendations::Book;
use souk_search::SearchIndex;
use souk_vault::{MasterKey, Vault};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

pub(crate) const PASSWORD: &str = "correct horse battery";
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Shop {
    pub(crate) market: Arc<Market>,
    pub(crate) pool: sqlx::PgPool,
    router: Router,
    stop: CancellationToken,
    _folder: TempDir,
    _database: TestDatabase,
}

impl Shop {
    pub(crate) async fn open() -> Self {
        Self::scripted("{}").await
    }

    pub(crate) async fn scripted(script: &str) -> Self {
        Self::with(script, Settings::default()).await
    }

    /// Where shipping and tax cost something.
    pub(crate) async fn priced(prices: Value) -> Self {
        let prices = serde_json::from_value(prices).unwrap();
        Self::built(None, None, "{}", Settings::default(), prices).await
    }

    /// Over a log of the caller's.
    pub(crate) async fn over(log: Arc<dyn EventLog>) -> Self {
        Self::built(Some(log), None, "{}", Settings::default(), PriceList::default()).await
    }

    pub(crate) async fn with(script: &str, settings: Settings) -> Self {
        Self::built(None, None, script, settings, PriceList::default()).await
    }

    /// Through Stripe, if one is given.
    pub(crate) async fn paid_through(stripe: Option<Stripe>, script: &str, settings: Settings) -> Self {
        Self::built(None, stripe, script, settings, PriceList::default()).await
    }

    async fn built(
        log: Option<Arc<dyn EventLog>>,
        stripe: Option<Stripe>,
        script: &str,
        settings: Settings,
        prices: PriceList,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = TestPostgres::shared().await.database().await;
        let file = folder.path().join("events.sqlite");
        let log = log.unwrap_or_else(|| SqliteLog::open(&file, sqlite::Options::default()).unwrap());
        let clock = Clock::system();
        let now = clock.clone();
        let script = Script::parse(script).unwrap();
        let bank = SandboxBank::open(&folder.path().join("bank.sqlite"), script, move || now.now()).unwrap();
        let pool = database.pool().await;
        let vault = Vault::open(pool.clone(), MasterKey::new([7; 32])).await.unwrap();
        let sandbox = stripe.is_none().then(|| bank.clone());
        let payments: Arc<dyn PaymentGateway> = match &stripe {
            Some(stripe) => Arc::new(stripe.clone()),
            None => Arc::new(bank.clone()),
        };
        let carrier = Arc::new(bank);
        let market = Market::new(Arc::clone(&log), None, vault, payments, carrier, clock);
        let market = Arc::new(market.with_prices(prices));
        let index = SearchIndex::open(&folder.path().join("search"), souk_search::Config::default()).unwrap();
        let search = SearchProjector::new(Arc::clone(&index));
        let book = Book::open(&folder.path().join("recommendations")).unwrap();
        let projections = Projections::start(
            log,
            database.options(),
            read_models(),
            Some(search),
            Some(RecommendationsProjector::new(Arc::clone(&book))),
        );
        projections.ready(PATIENCE).await.unwrap();
        let checkout = CheckoutSettings { deadline: Duration::from_mins(15), attempts: 2, snapshot: None };
        let process = ProcessManager::new(Arc::clone(&market), checkout);
        let stop = CancellationToken::new();
        tokio::spawn(Arc::clone(&process).run(stop.clone()));
        let commissions = Commissions::parse(r#"{"default": 0, "categories": {"Home": 1000}}"#).unwrap();
        let after = AfterSales::new(Arc::clone(&market), after::Settings { commissions, notes: None });
        tokio::spawn(after.run(stop.clone()));
        let parts = Parts {
            market: Arc::clone(&market),
            pool: pool.clone(),
            projections,
            recommender: Some(Arc::new(Recommender::new(book, Arc::clone(&index)))),
            search: Some(index),
            process: Some(process),
            settings,
            stripe,
            sandbox,
        };
        let router = router(Api::start(parts, stop.clone()));
        Self { market, pool, router, stop, _folder: folder, _database: database }
    }

    pub(crate) fn call(&self, method: &str, path: &str) -> Call<'_> {
        Call { shop: self, builder: Request::builder().method(method).uri(path), body: Body::empty() }
    }

    pub(crate) fn get(&self, path: &str) -> Call<'_> {
        self.call("GET", path)
    }

    pub(crate) fn post(&self, path: &str, body: Value) -> Call<'_> {
        self.call("POST", path).json(body)
    }

    /// Registers over HTTP and logs in.
    pub(crate) async fn join(&self, name: &str, role: &str) -> Member {
        let email = format!("{name}@example.org");
        let body = json!({ "email": email, "password": PASSWORD, "displayName": name, "role": role });
        let account = self.post("/v1/accounts", body).send().await.expect(201);
        Member { id: account.text("accountId"), token: self.log_in(&email).await }
    }

    /// As [`Self::join`], in a role that one cannot take on oneself.
    pub(crate) async fn appoint(&self, name: &str, role: Role) -> Member {
        let registration = Registration {
            account_id: AccountId(fresh_id()),
            email: format!("{name}@example.org"),
            password: PASSWORD.into(),
            display_name: name.into(),
            role,
        };
        let context = Context::new(fresh_id(), "test");
        let account = accounts::register(&self.market, &context, registration).await.unwrap().value;
        Member { id: account.to_string(), token: self.log_in(&format!("{name}@example.org")).await }
    }

    pub(crate) async fn log_in(&self, email: &str) -> String {
        let session = self.post("/v1/sessions", json!({ "email": email, "password": PASSWORD })).send().await;
        session.expect(201).text("accessToken")
    }

    /// Lists an item of 15.99 with so many in stock; answers its id.
    pub(crate) async fn list(&self, seller: &Member, sku: &str, quantity: u32) -> String {
        let item = self.post("/v1/items", item(sku, quantity)).by(seller).send().await;
        item.expect(201).text("itemId")
    }

    /// Puts so many of the item into the buyer's cart and answers a checkout that pays for it all.
    pub(crate) async fn fill(&self, buyer: &Member, item: &str, quantity: u32) -> Value {
        let line = json!({ "itemId": item, "quantity": quantity });
        let cart = self.call("PATCH", "/v1/cart").json(line).by(buyer).send().await.expect(200);
        checkout(&cart.body)
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub(crate) fn item(sku: &str, quantity: u32) -> Value {
    json!({
        "sku": sku,
        "name": format!("The {sku} lantern"),
        "description": "It gives light.",
        "brand": "Lumen",
        "category": ["Home", "Lamps"],
        "attributes": { "colour": "red" },
        "price": { "amount": 1599, "currency": "USD" },
        "quantity": quantity,
    })
}

pub(crate) fn checkout(cart: &Value) -> Value {
    json!({
        "cartId": cart["cartId"],
        "amount": cart["total"],
        "paymentInfo": { "paymentType": "card", "cardNo": "4242424242424242", "expiry": "12/2099", "cvc": "123" },
        "shippingAddress": {
            "name": "Ada Byron", "line1": "1 Mill Lane", "city": "Cambridge", "postalCode": "CB2 1RX", "country": "GB",
        },
    })
}

pub(crate) struct Member {
    pub(crate) id: String,
    pub(crate) token: String,
}

pub(crate) struct Call<'a> {
    shop: &'a Shop,
    builder: axum::http::request::Builder,
    body: Body,
}

impl Call<'_> {
    pub(crate) fn json(self, body: Value) -> Self {
        let builder = self.builder.header(header::CONTENT_TYPE, "application/json");
        Self { builder, body: Body::from(body.to_string()), ..self }
    }

    pub(crate) fn raw(self, body: impl Into<Body>) -> Self {
        Self { body: body.into(), ..self }
    }

    pub(crate) fn by(self, member: &Member) -> Self {
        self.with("authorization", &format!("Bearer {}", member.token))
    }

    pub(crate) fn with(self, name: &str, value: &str) -> Self {
        Self { builder: self.builder.header(name, value), ..self }
    }

    async fn respond(self) -> axum::response::Response {
        self.shop.router.clone().oneshot(self.builder.body(self.body).unwrap()).await.unwrap()
    }

    pub(crate) async fn send(self) -> Answer {
        let response = self.respond().await;
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes =
            tokio::time::timeout(PATIENCE, to_bytes(response.into_body(), 1 << 24)).await.unwrap().unwrap();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Answer { status, headers, body, text }
    }

    /// Reads server-sent events until there are so many, or the stream ends.
    pub(crate) async fn events(self, most: usize) -> Vec<ServerEvent> {
        let response = self.respond().await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
        let mut stream = response.into_body().into_data_stream();
        let (mut text, mut events) = (String::new(), Vec::new());
        let reading = async {
            while events.len() < most
                && let Some(piece) = stream.next().await
            {
                text.push_str(str::from_utf8(&piece.unwrap()).unwrap());
                while let Some(end) = text.find("\n\n") {
                    let event: String = text.drain(..end + 2).collect();
                    events.extend(ServerEvent::parse(&event));
                }
            }
        };
        tokio::time::timeout(PATIENCE, reading).await.unwrap();
        events
    }
}

#[derive(Debug)]
pub(crate) struct ServerEvent {
    pub(crate) id: String,
    pub(crate) event: String,
    pub(crate) data: Value,
}

impl ServerEvent {
    fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
                .map(|value| value.trim().to_owned())
        };
        let data = serde_json::from_str(&field("data")?).unwrap();
        Some(Self { id: field("id")?, event: field("event")?, data })
    }
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
    pub(crate) text: String,
}

impl Answer {
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        self
    }

    /// A problem of that name.
    #[track_caller]
    pub(crate) fn problem(self, status: u16, name: &str) -> Self {
        let answer = self.expect(status);
        assert_eq!(answer.header("content-type"), "application/problem+json");
        assert_eq!(answer.body["type"], format!("https://souk.dev/problems/{name}"));
        assert_eq!(answer.body["status"], status);
        answer
    }

    pub(crate) fn fields(&self) -> Vec<&str> {
        let errors = self.body["errors"].as_array().into_iter().flatten();
        errors.filter_map(|error| error["field"].as_str()).collect()
    }

    #[track_caller]
    pub(crate) fn text(&self, field: &str) -> String {
        self.body[field].as_str().unwrap_or_else(|| panic!("no {field} in {}", self.text)).to_owned()
    }

    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", self.headers)).to_str().unwrap()
    }

    #[track_caller]
    pub(crate) fn position(&self) -> String {
        self.header("souk-position").to_owned()
    }
}
