//! One request to Stripe, and what can go wrong with it (<https://docs.stripe.com/api/errors>).

use std::{fmt::Display, time::Duration};

use reqwest::{Method, StatusCode, Url, header, redirect::Policy};
use serde::{Deserialize, de::DeserializeOwned};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::{GatewayError, Secret};

/// The version of the API that this speaks: Stripe keeps each as it was.
const VERSION: &str = "2024-06-20";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// An answer that is longer is none of Stripe's.
const ANSWER: usize = 4 << 20;
/// Keys tried where Stripe replays an error of its own.
const KEYS: u32 = 4;

#[derive(Clone)]
pub(super) struct Client {
    http: reqwest::Client,
    url: Url,
    secret_key: Secret,
}

/// A form, as Stripe takes it. It may hold a card number.
#[derive(Clone)]
pub(super) struct Form(Zeroizing<String>);

impl Form {
    pub(super) fn new() -> Self {
        Self(Zeroizing::default())
    }

    pub(super) fn with(mut self, name: &str, value: impl Display) -> Self {
        let value = Zeroizing::new(value.to_string());
        if !self.0.is_empty() {
            self.0.push('&');
        }
        self.0.extend(form_urlencoded::byte_serialize(name.as_bytes()));
        self.0.push('=');
        self.0.extend(form_urlencoded::byte_serialize(value.as_bytes()));
        self
    }
}

/// An object, or only its id.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Lookup<T> {
    Object(Box<T>),
    Id(String),
}

impl<T> Lookup<T> {
    pub(super) fn object(&self) -> Option<&T> {
        match self {
            Self::Object(object) => Some(object),
            Self::Id(_) => None,
        }
    }
}

pub(super) struct Made<T> {
    pub(super) object: T,
    /// It was made by an earlier request: this is how it was then.
    pub(super) replayed: bool,
}

#[derive(Deserialize)]
struct ErrorBody {
    error: ApiError,
}

#[derive(Deserialize)]
struct ApiError {
    #[serde(rename = "type", default)]
    kind: Option<String>,
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    param: Option<String>,
    #[serde(default)]
    message: Option<String>,
}

/// A failure, and whether Stripe only repeated it.
struct Failed {
    error: GatewayError,
    replayed: bool,
}

impl From<GatewayError> for Failed {
    fn from(error: GatewayError) -> Self {
        Self { error, replayed: false }
    }
}

impl Client {
    pub(super) fn new(url: Url, secret_key: Secret, timeout: Duration) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .user_agent(concat!("Souk/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(timeout)
            .build()?;
        Ok(Self { http, url, secret_key })
    }

    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<T, GatewayError> {
        let mut url = self.at(path)?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let sent = self.send(self.http.request(Method::GET, url)).await;
        sent.map(|made| made.object).map_err(|failed| failed.error)
    }

    pub(super) async fn post<T: DeserializeOwned>(&self, path: &str, form: Form) -> Result<T, GatewayError> {
        self.posted(path, &form, None).await.map(|made| made.object).map_err(|failed| failed.error)
    }

    /// Makes an object once under the key. What Stripe failed at is remembered under the key like any answer; it is then
    /// asked under the next key, which is the same for everybody who comes after.
    pub(super) async fn create<T: DeserializeOwned>(
        &self,
        path: &str,
        form: Form,
        key: Uuid,
    ) -> Result<Made<T>, GatewayError> {
        let mut name = key.to_string();
        for next in 1..KEYS {
            match self.posted(path, &form, Some(&name)).await {
                Err(Failed { error: GatewayError::Unknown(_), replayed: true }) => {
                    name = format!("{key}/{next}");
                }
                other => return other.map_err(|failed| failed.error),
            }
        }
        self.posted(path, &form, Some(&name)).await.map_err(|failed| failed.error)
    }

    async fn posted<T: DeserializeOwned>(
        &self,
        path: &str,
        form: &Form,
        key: Option<&str>,
    ) -> Result<Made<T>, Failed> {
        let mut request = self
            .http
            .request(Method::POST, self.at(path)?)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form.0.as_bytes().to_vec());
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        self.send(request).await
    }

    fn at(&self, path: &str) -> Result<Url, GatewayError> {
        let base = self.url.as_str().trim_end_matches('/');
        Url::parse(&format!("{base}{path}")).map_err(|_| GatewayError::invalid("path", "this is no address"))
    }

    async fn send<T: DeserializeOwned>(&self, request: reqwest::RequestBuilder) -> Result<Made<T>, Failed> {
        let request = request.bearer_auth(self.secret_key.expose()).header("stripe-version", VERSION);
        let mut response = request.send().await.map_err(|error| not_answered(&error))?;
        let status = response.status();
        let replayed = response.headers().get("idempotent-replayed").is_some_and(|value| value == "true");
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|error| not_answered(&error))? {
            body.extend_from_slice(&piece);
            if body.len() > ANSWER {
                return Err(GatewayError::Unknown("Stripe's answer has no end".to_owned()).into());
            }
        }
        if status.is_success() {
            // The position of an error tells nothing of what stands there.
            let object = serde_json::from_slice(&body).map_err(|error| {
                GatewayError::Unknown(format!("Stripe's answer cannot be read, line {}", error.line()))
            })?;
            return Ok(Made { object, replayed });
        }
        Err(Failed { error: refused(status, &body), replayed })
    }
}

/// The request did not leave, or nobody knows what became of it.
fn not_answered(error: &reqwest::Error) -> GatewayError {
    if error.is_connect() {
        GatewayError::Unavailable("Stripe cannot be reached".to_owned())
    } else if error.is_timeout() {
        GatewayError::Unknown("Stripe did not answer in time".to_owned())
    } else {
        GatewayError::Unknown("the connection to Stripe broke off".to_owned())
    }
}

fn refused(status: StatusCode, body: &[u8]) -> GatewayError {
    let error = serde_json::from_slice(body).map(|body: ErrorBody| body.error).ok();
    let code = error.as_ref().and_then(|error| error.code.as_deref());
    match status {
        // Another request under the same key is at work: this one did nothing.
        StatusCode::CONFLICT | StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            GatewayError::Unavailable(format!("Stripe answered {status}"))
        }
        // Our own trouble, and none of the buyer's: an operator has to look.
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            tracing::error!(%status, "Stripe does not take our secret key");
            GatewayError::Unavailable("Stripe does not take our secret key".to_owned())
        }
        _ if code == Some("balance_insufficient") => {
            // An answer, and no sign of trouble: charges, which would fill it, must go on.
            GatewayError::invalid("balance", "our balance at Stripe does not suffice")
        }
        _ if status.is_client_error() => {
            let kind = error.as_ref().and_then(|error| error.kind.as_deref());
            let param = error.as_ref().and_then(|error| error.param.as_deref());
            let message = error.as_ref().and_then(|error| error.message.as_deref());
            let field = field(kind, code, param);
            GatewayError::invalid(&field, message.unwrap_or("Stripe refuses this"))
        }
        _ => GatewayError::Unknown(format!("Stripe answered {status}")),
    }
}

/// What Stripe finds wrong, as the port calls it (<https://docs.stripe.com/error-codes>).
fn field(kind: Option<&str>, code: Option<&str>, param: Option<&str>) -> String {
    let name = match (kind, code, param) {
        (Some("idempotency_error"), ..) => "key",
        (_, Some("incorrect_number" | "invalid_number"), _) => "paymentInfo.cardNo",
        (_, Some("invalid_expiry_month" | "invalid_expiry_year" | "expired_card"), _) => "paymentInfo.expiry",
        (_, Some("incorrect_cvc" | "invalid_cvc"), _) => "paymentInfo.cvc",
        (_, Some("amount_too_large" | "amount_too_small" | "charge_already_refunded"), _)
        | (_, _, Some("amount" | "currency")) => "amount",
        (_, _, Some(param)) => param,
        _ => "request",
    };
    name.to_owned()
}
