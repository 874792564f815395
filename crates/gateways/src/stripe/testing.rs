//! A Stripe for tests, over real HTTP: it answers as <https://docs.stripe.com/api> says, and misbehaves when told to. It
//! keeps books of its own, or stands in front of another server and adds what that lacks: idempotency keys and search.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that fails should stop")]

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fmt::Write,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{HeaderMap, Method, Response, Uri},
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::{future::BoxFuture, stream};
use hmac::{Hmac, KeyInit, Mac};
use parking_lot::Mutex;
use reqwest::Url;
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::net::TcpListener;

use super::StripeConfig;
use crate::Secret;

pub const SECRET_KEY: &str = "sk_test_souk";
pub const WEBHOOK_SECRET: &str = "whsec_souk";

/// What goes wrong with a request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Answered with this status, and nothing done. Remembered under the idempotency key from 500 on, as Stripe does.
    Status(u16),
    /// Done, and the answer is no JSON.
    Garbage,
    /// The connection is cut before anything is done.
    CutBefore,
    /// Done, and the connection is cut.
    CutAfter,
    /// Done, but the answer comes so late.
    Slow(Duration),
}

#[derive(Clone)]
pub struct TestStripe(Arc<Inner>);

struct Inner {
    address: SocketAddr,
    behind: Option<Url>,
    http: reqwest::Client,
    clock: Box<dyn Fn() -> DateTime<Utc> + Send + Sync>,
    /// One request after another, so that the same key is never at work twice.
    turn: tokio::sync::Mutex<Memory>,
    books: Mutex<Books>,
    faults: Mutex<VecDeque<(String, Fault)>>,
    requests: Mutex<Vec<String>>,
}

/// By key: what was asked, and what was answered.
type Memory = HashMap<String, (String, (u16, Value))>;

#[derive(Default)]
struct Books {
    numbers: u64,
    /// By id, the way they are shown.
    objects: BTreeMap<String, Value>,
    /// Card numbers of payment methods.
    cards: HashMap<String, String>,
}

type Fields = HashMap<String, String>;
type Reply = (u16, Value);

impl TestStripe {
    pub async fn start(clock: impl Fn() -> DateTime<Utc> + Send + Sync + 'static) -> Self {
        Self::listen(None, clock).await
    }

    /// In front of another one, such as `localstripe`.
    pub async fn before(behind: Url, clock: impl Fn() -> DateTime<Utc> + Send + Sync + 'static) -> Self {
        Self::listen(Some(behind), clock).await
    }

    async fn listen(behind: Option<Url>, clock: impl Fn() -> DateTime<Utc> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let stripe = Self(Arc::new(Inner {
            address: listener.local_addr().unwrap(),
            behind,
            http: reqwest::Client::new(),
            clock: Box::new(clock),
            turn: tokio::sync::Mutex::default(),
            books: Mutex::default(),
            faults: Mutex::default(),
            requests: Mutex::default(),
        }));
        let router = Router::new().fallback(answer).with_state(stripe.clone());
        tokio::spawn(axum::serve(listener, router).into_future());
        stripe
    }

    pub fn url(&self) -> Url {
        format!("http://{}", self.0.address).parse().unwrap()
    }

    pub fn config(&self) -> StripeConfig {
        StripeConfig {
            secret_key: Secret::new(SECRET_KEY),
            webhook_secret: Some(Secret::new(WEBHOOK_SECRET)),
            url: self.url(),
            return_url: None,
            timeout: Duration::from_secs(5),
        }
    }

    /// The next request whose method and path begin so (`POST /v1/refunds`) goes wrong.
    pub fn fail(&self, request: &str, fault: Fault) {
        self.0.faults.lock().push_back((request.to_owned(), fault));
    }

    /// Methods and paths, in the order they came.
    pub fn requests(&self) -> Vec<String> {
        self.0.requests.lock().clone()
    }

    /// Stripe forgets idempotency keys after a day.
    pub async fn forget_keys(&self) {
        self.0.turn.lock().await.clear();
    }

    /// An object, changed as the test likes.
    pub fn change(&self, id: &str, change: impl FnOnce(&mut Value)) {
        change(self.0.books.lock().objects.get_mut(id).expect("it is there"));
    }

    /// All objects whose id begins so.
    pub fn all(&self, prefix: &str) -> Vec<Value> {
        let books = self.0.books.lock();
        books
            .objects
            .iter()
            .filter(|(id, _)| id.starts_with(prefix))
            .map(|(_, object)| object.clone())
            .collect()
    }

    /// Plays the buyer before his bank.
    pub fn confirm(&self, intent: &str, yes: bool) {
        let mut books = self.0.books.lock();
        let number =
            books.cards[books.objects[intent]["payment_method"].as_str().expect("it has a method")].clone();
        let outcome = if yes { "pays" } else { "authentication" };
        books.settle(intent, &number, outcome);
    }

    /// A dispute about an intent, in this status; the same again changes its status.
    pub fn dispute(&self, intent: &str, amount: i64, status: &str) -> String {
        let mut books = self.0.books.lock();
        let id = format!("dp_{intent}");
        let currency = books.objects[intent]["currency"].clone();
        let dispute = json!({
            "id": id, "object": "dispute", "amount": amount, "currency": currency, "reason": "fraudulent",
            "status": status, "payment_intent": intent, "charge": "ch_1",
        });
        books.objects.insert(id.clone(), dispute);
        id
    }

    /// An event about the object: its body, and its signature.
    pub fn event(&self, id: &str, kind: &str, object: &str) -> (String, String) {
        let object = json!({ "id": object });
        let body =
            json!({ "id": id, "object": "event", "type": kind, "data": { "object": object } }).to_string();
        let signature = sign(WEBHOOK_SECRET, (self.0.clock)().timestamp(), &body);
        (body, signature)
    }

    fn fault(&self, request: &str) -> Option<Fault> {
        let mut faults = self.0.faults.lock();
        let at = faults.iter().position(|(prefix, _)| request.starts_with(prefix))?;
        faults.remove(at).map(|(_, fault)| fault)
    }
}

/// As Stripe signs.
pub fn sign(secret: &str, time: i64, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(format!("{time}.{body}").as_bytes());
    let mut header = format!("t={time},v1=");
    for byte in mac.finalize().into_bytes() {
        write!(header, "{byte:02x}").unwrap();
    }
    header
}

async fn answer(
    State(stripe): State<TestStripe>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let request = format!("{method} {}", uri.path());
    stripe.0.requests.lock().push(request.clone());
    let text = String::from_utf8(body.to_vec()).unwrap();
    let fault = stripe.fault(&request);
    if matches!(fault, Some(Fault::CutBefore)) {
        return cut();
    }
    let ((status, value), replayed) = stripe.perform(&method, &uri, &headers, &text, fault.as_ref()).await;
    match fault {
        Some(Fault::CutAfter) => return cut(),
        Some(Fault::Garbage) => return Response::new(Body::from("<html>the gateway's gateway</html>")),
        Some(Fault::Slow(delay)) => tokio::time::sleep(delay).await,
        _ => {}
    }
    let mut response = Response::builder().status(status).header("content-type", "application/json");
    if replayed {
        response = response.header("idempotent-replayed", "true");
    }
    response.body(Body::from(value.to_string())).unwrap()
}

/// An answer that breaks off.
fn cut() -> Response<Body> {
    let broken = stream::once(async { Err::<Bytes, _>(std::io::Error::other("cut")) });
    Response::builder().header("content-length", "100").body(Body::from_stream(broken)).unwrap()
}

impl TestStripe {
    async fn perform(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        body: &str,
        fault: Option<&Fault>,
    ) -> (Reply, bool) {
        let bearer = format!("Bearer {SECRET_KEY}");
        if headers.get("authorization").is_none_or(|value| value.as_bytes() != bearer.as_bytes()) {
            return (error(401, "invalid_request_error", None, "Invalid API Key provided"), false);
        }
        let mut memory = self.0.turn.lock().await;
        let key = headers.get("idempotency-key").map(|key| key.to_str().unwrap().to_owned());
        let asked = format!("{} {body}", uri.path());
        if let Some((earlier, reply)) = key.as_ref().and_then(|key| memory.get(key)) {
            if *earlier == asked {
                return (reply.clone(), true);
            }
            return (
                error(
                    400,
                    "idempotency_error",
                    None,
                    "Keys for idempotent requests can only be used with the same parameters they were first used with.",
                ),
                false,
            );
        }
        let reply = match fault {
            Some(Fault::Status(status)) => error(*status, "api_error", None, "told to"),
            _ => self.done(method, uri, headers, body).await,
        };
        // What is refused before it is at work is not kept.
        let kept = reply.0 < 400 || reply.0 == 402 || reply.0 >= 500 && reply.0 != 503;
        if let Some(key) = key.filter(|_| kept) {
            memory.insert(key, (asked, reply.clone()));
        }
        (reply, false)
    }

    fn done<'a>(
        &'a self,
        method: &'a Method,
        uri: &'a Uri,
        headers: &'a HeaderMap,
        body: &'a str,
    ) -> BoxFuture<'a, Reply> {
        Box::pin(async move {
            let query: Fields = fields(uri.query().unwrap_or_default());
            let Some(behind) = &self.0.behind else {
                let now = (self.0.clock)().timestamp();
                return self.0.books.lock().handle(method, uri.path(), &query, &fields(body), now);
            };
            let path = uri.path_and_query().unwrap().as_str();
            let url = format!("{}{path}", behind.as_str().trim_end_matches('/'));
            let mut request = self.0.http.request(method.clone(), url).body(body.to_owned());
            for name in ["authorization", "content-type"] {
                if let Some(value) = headers.get(name) {
                    request = request.header(name, value);
                }
            }
            let response = request.send().await.unwrap();
            let status = response.status().as_u16();
            (status, response.json().await.unwrap_or(Value::Null))
        })
    }
}

fn fields(text: &str) -> Fields {
    form_urlencoded::parse(text.as_bytes()).into_owned().collect()
}

fn error(status: u16, kind: &str, code: Option<&str>, message: &str) -> Reply {
    (status, json!({ "error": { "type": kind, "code": code, "message": message } }))
}

fn missing(what: &str) -> Reply {
    error(404, "invalid_request_error", Some("resource_missing"), &format!("No such {what}"))
}

impl Books {
    fn next(&mut self, kind: &str) -> String {
        self.numbers += 1;
        format!("{kind}_{:06}", self.numbers)
    }

    fn handle(&mut self, method: &Method, path: &str, query: &Fields, form: &Fields, now: i64) -> Reply {
        let parts: Vec<&str> = path.trim_start_matches("/v1/").split('/').collect();
        match (method.as_str(), parts.as_slice()) {
            ("POST", ["payment_methods"]) => {
                let (id, number) = (self.next("pm"), form["card[number]"].clone());
                self.method(&id, &number, now)
            }
            ("GET", ["payment_methods", "pm_card_visa"]) => {
                let id = self.next("pm");
                self.method(&id, "4242424242424242", now)
            }
            ("POST", ["payment_intents"]) => self.intend(form, now),
            ("GET", ["payment_intents", "search"]) => {
                let wanted = query["query"].rsplit('\'').nth(1).unwrap().to_owned();
                let found = |object: &&Value| object["metadata"]["souk_key"] == wanted.as_str();
                let data: Vec<_> = self.of("pi_").filter(found).cloned().collect();
                (200, json!({ "object": "search_result", "data": data }))
            }
            ("POST", ["payment_intents", id, step]) => self.step(id, step, form),
            ("POST", ["refunds"]) => self.refund(form),
            ("GET", ["refunds"]) => {
                let of = |object: &&Value| object["payment_intent"] == query["payment_intent"].as_str();
                let data: Vec<_> = self.of("re_").filter(of).cloned().collect();
                (200, json!({ "object": "list", "data": data }))
            }
            ("GET", [kind, id]) => match self.objects.get(*id) {
                Some(object) => (200, object.clone()),
                None => missing(kind),
            },
            _ => missing("path"),
        }
    }

    fn of(&self, prefix: &'static str) -> impl Iterator<Item = &Value> {
        self.objects.iter().filter(move |(id, _)| id.starts_with(prefix)).map(|(_, object)| object)
    }

    fn method(&mut self, id: &str, number: &str, now: i64) -> Reply {
        let method = json!({
            "id": id, "object": "payment_method", "type": "card", "created": now,
            "card": { "brand": "visa", "last4": number[number.len() - 4..] },
        });
        self.cards.insert(id.to_owned(), number.to_owned());
        self.objects.insert(id.to_owned(), method.clone());
        (200, method)
    }

    fn intend(&mut self, form: &Fields, now: i64) -> Reply {
        let method = form["payment_method"].clone();
        let Some(whole) = self.objects.get(&method).cloned() else { return missing("PaymentMethod") };
        let id = self.next("pi");
        let amount: i64 = form["amount"].parse().unwrap();
        let mut intent = json!({
            "id": id, "object": "payment_intent", "status": "requires_confirmation", "amount": amount,
            "currency": form["currency"], "created": now, "client_secret": format!("{id}_secret_1"),
            "payment_method": method, "latest_charge": null, "next_action": null, "last_payment_error": null,
            "metadata": { "souk_key": form["metadata[souk_key]"], "souk_order": form["metadata[souk_order]"] },
        });
        self.objects.insert(id, intent.clone());
        intent["payment_method"] = whole;
        (200, intent)
    }

    fn step(&mut self, id: &str, step: &str, form: &Fields) -> Reply {
        let Some(intent) = self.objects.get_mut(id) else { return missing("payment_intent") };
        let status = intent["status"].as_str().unwrap().to_owned();
        match (step, status.as_str()) {
            ("confirm", "requires_confirmation") => {
                let number = self.cards[intent["payment_method"].as_str().unwrap()].clone();
                if let Some(url) = form.get("return_url") {
                    intent["return_url"] = json!(url);
                }
                let outcome = match number.as_str() {
                    "4000000000000002" => "generic_decline",
                    "4000000000009995" => "insufficient_funds",
                    "4000002500003155" => "action",
                    _ => "pays",
                };
                self.settle(id, &number, outcome)
            }
            (
                "cancel",
                "requires_confirmation" | "requires_payment_method" | "requires_action" | "requires_capture",
            ) => {
                intent["status"] = json!("canceled");
                intent["next_action"] = Value::Null;
                // "It will be cleared if the PaymentIntent is later updated for any reason."
                intent["last_payment_error"] = Value::Null;
                (200, intent.clone())
            }
            ("capture", "requires_capture") => {
                intent["status"] = json!("succeeded");
                (200, intent.clone())
            }
            _ => error(
                400,
                "invalid_request_error",
                Some("payment_intent_unexpected_state"),
                &format!("You cannot {step} this PaymentIntent because it has a status of {status}."),
            ),
        }
    }

    fn settle(&mut self, id: &str, number: &str, outcome: &str) -> Reply {
        let charge = self.next("ch");
        let intent = self.objects.get_mut(id).unwrap();
        intent["next_action"] = Value::Null;
        match outcome {
            "pays" => {
                intent["status"] = json!("succeeded");
                intent["latest_charge"] = json!({ "id": charge, "failure_code": null });
            }
            "action" => {
                intent["status"] = json!("requires_action");
                intent["next_action"] = match intent.get("return_url") {
                    Some(_) => json!({
                        "type": "redirect_to_url",
                        "redirect_to_url": { "url": format!("https://hooks.stripe.com/{id}") },
                    }),
                    None => json!({ "type": "use_stripe_sdk", "use_stripe_sdk": {} }),
                };
            }
            failure => {
                let code = if failure == "authentication" {
                    "payment_intent_authentication_failure"
                } else {
                    "card_declined"
                };
                intent["status"] = json!("requires_payment_method");
                intent["payment_method"] = Value::Null;
                intent["last_payment_error"] = json!({ "code": code, "decline_code": failure });
                let outcome = json!({ "reason": failure });
                intent["latest_charge"] = json!({ "id": charge, "failure_code": code, "outcome": outcome });
                if failure != "authentication" {
                    let mut reply = error(402, "card_error", Some(code), "Your card was declined.");
                    reply.1["error"]["decline_code"] = json!(failure);
                    reply.1["error"]["payment_intent"] = intent.clone();
                    reply.1["error"]["last4"] = json!(number[number.len() - 4..]);
                    return reply;
                }
            }
        }
        (200, intent.clone())
    }

    fn refund(&mut self, form: &Fields) -> Reply {
        let (of, amount) = (form["payment_intent"].clone(), form["amount"].parse::<i64>().unwrap());
        let Some(intent) = self.objects.get(&of) else { return missing("payment_intent") };
        let gone: i64 = self
            .of("re_")
            .filter(|refund| refund["payment_intent"] == of.as_str())
            .map(|refund| refund["amount"].as_i64().unwrap())
            .sum();
        if gone + amount > intent["amount"].as_i64().unwrap() {
            let message = "Refund amount is greater than unrefunded amount on charge";
            return error(400, "invalid_request_error", Some("charge_already_refunded"), message);
        }
        let id = self.next("re");
        let refund = json!({
            "id": id, "object": "refund", "amount": amount, "status": "succeeded", "payment_intent": of,
            "metadata": { "souk_key": form["metadata[souk_key]"] },
        });
        self.objects.insert(id, refund.clone());
        (200, refund)
    }
}
