//! Consumers: partners and analysts for whom the market remembers how far they have read. Here they are made, shown and
//! deleted; `cursor` is reading and moving on, `webhook` being told.

pub(crate) mod cursor;
pub(crate) mod webhook;

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use souk_domain::{AccountId, account::Role};
use souk_event_log::{Position, StreamName};
use souk_vault::{Consumer, ConsumerKey, NewConsumer, Webhook, WebhookSecret, Whose};
use souk_webhooks::{Reach, Target};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    Api,
    auth::{Person, Reader},
    extract::{Body, CommandHead, Params, PathId},
    problem::{Problem, ProblemBody},
    validation::{Refusal, Validation, line},
};

/// Names in one list.
const MOST_NAMES: usize = 100;

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ConsumerRequest {
    /// For you to know it by.
    #[schema(value_type = String, example = "bookkeeping")]
    name: Option<String>,
    /// Events of these categories; of all if there is none.
    #[schema(example = json!(["order", "payment"]))]
    #[serde(default)]
    categories: Vec<String>,
    /// Events of these types; of all if there is none.
    #[schema(example = json!(["OrderCompleted"]))]
    #[serde(default)]
    types: Vec<String>,
    /// Events of this stream alone.
    stream: Option<String>,
    /// Begins after it; at the `end` if not said otherwise.
    after: Option<Place>,
    /// Without one, events are fetched.
    webhook: Option<WebhookRequest>,
}

#[derive(Deserialize, ToSchema)]
pub(crate) struct WebhookRequest {
    #[schema(value_type = String, example = "https://hooks.example.org/souk")]
    url: Option<String>,
}

/// A place in the log: a position, `start` (before the first event), or `end` (as of now).
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Place {
    Position(u64),
    Name(String),
}

impl Place {
    /// What stands before it; `None`: nothing.
    fn position(self, end: Option<Position>) -> Result<Option<Position>, Refusal> {
        match self {
            Self::Position(position) => within(position, end).map(Some),
            Self::Name(name) if name == "start" => Ok(None),
            Self::Name(name) if name == "end" => Ok(end),
            Self::Name(_) => Err("This is a position, `start` or `end`.".into()),
        }
    }
}

/// A position that the log has reached.
fn within(position: Position, end: Option<Position>) -> Result<Position, Refusal> {
    match end {
        Some(end) if position <= end => Ok(position),
        Some(end) => Err(format!("The log ends at {end}.").into()),
        None => Err("The log is empty.".into()),
    }
}

/// Who asks for it, and by which command.
struct Made {
    id: Uuid,
    owner: AccountId,
    fingerprint: Option<String>,
}

impl ConsumerRequest {
    fn parse(self, made: Made, end: Option<Position>, reach: Reach) -> Result<NewConsumer, Problem> {
        let mut check = Validation::default();
        let name = check.required("name", self.name, line(1..=100));
        let categories = names(&mut check, "categories", self.categories, |name| !name.contains('-'));
        let types = names(&mut check, "types", self.types, |_| true);
        let stream = check.optional("stream", self.stream, |name| StreamName::parse(&name));
        let after = self.after.unwrap_or_else(|| Place::Name("end".to_owned()));
        let position = check.optional("after", Some(after), |after| after.position(end));
        let url = self.webhook.and_then(|webhook| {
            check.required("webhook.url", webhook.url, |url| {
                Target::parse(&url, reach).map_err(|error| format!("This {error}."))
            })
        });
        match (name, check.is_clean()) {
            (Some(name), true) => Ok(NewConsumer {
                id: made.id,
                owner: made.owner,
                name,
                stream: stream.map(|stream| stream.to_string()),
                categories,
                types,
                position: position.flatten(),
                webhook_url: url.map(|url| url.as_str().to_owned()),
                fingerprint: made.fingerprint,
            }),
            _ => Err(check.into()),
        }
    }
}

fn names(
    check: &mut Validation,
    field: &str,
    names: Vec<String>,
    fits: impl Fn(&str) -> bool,
) -> Vec<String> {
    if names.len() > MOST_NAMES {
        check.fail(field, format!("There are {MOST_NAMES} at most."));
        return Vec::new();
    }
    let parse = |name: String| -> Result<String, Refusal> {
        let name = line(1..=200)(name)?;
        if fits(&name) { Ok(name) } else { Err("A category is what stands before the first hyphen.".into()) }
    };
    let numbered = names.into_iter().enumerate();
    numbered.filter_map(|(n, name)| check.required(format!("{field}[{n}]"), Some(name), parse)).collect()
}

#[derive(Serialize, ToSchema)]
#[schema(as = Consumer)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ConsumerBody {
    consumer_id: Uuid,
    owner_id: Uuid,
    name: String,
    categories: Vec<String>,
    types: Vec<String>,
    stream: Option<String>,
    /// Up to here everything is acknowledged, or delivered; null: nothing yet.
    position: Option<Position>,
    /// How far the end of the log is ahead of it.
    lag: u64,
    /// `active`, `failing` or `paused`.
    state: &'static str,
    /// Why it is paused.
    reason: Option<String>,
    created_at: DateTime<Utc>,
    #[serde(skip_serializing_if = "Option::is_none")]
    webhook: Option<WebhookBody>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Webhook)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WebhookBody {
    url: String,
    /// Shown when it is made, and never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    /// Tries in a row that failed.
    failures: u32,
    failing_since: Option<DateTime<Utc>>,
    next_attempt_at: Option<DateTime<Utc>>,
    last_error: Option<String>,
    last_delivered_at: Option<DateTime<Utc>>,
}

impl ConsumerBody {
    fn new(consumer: Consumer, secret: Option<WebhookSecret>, end: Option<Position>) -> Self {
        let count = |position: Option<Position>| position.map_or(0, |position| position + 1);
        let failing = consumer.webhook.as_ref().is_some_and(|webhook| webhook.failures > 0);
        let state = match (&consumer.paused_because, failing) {
            (Some(_), _) => "paused",
            (None, true) => "failing",
            (None, false) => "active",
        };
        Self {
            consumer_id: consumer.id,
            owner_id: consumer.owner.0,
            name: consumer.name,
            categories: consumer.categories,
            types: consumer.types,
            stream: consumer.stream,
            position: consumer.position,
            lag: count(end).saturating_sub(count(consumer.position)),
            state,
            reason: consumer.paused_because,
            created_at: consumer.created_at,
            webhook: consumer.webhook.map(|webhook| WebhookBody::new(webhook, secret)),
        }
    }
}

impl WebhookBody {
    fn new(webhook: Webhook, secret: Option<WebhookSecret>) -> Self {
        Self {
            url: webhook.url,
            secret: secret.map(|secret| secret.as_text().to_string()),
            failures: webhook.failures,
            failing_since: webhook.failing_since,
            next_attempt_at: webhook.next_attempt_at,
            last_error: webhook.last_error,
            last_delivered_at: webhook.delivered_at,
        }
    }
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ConsumerPage {
    consumers: Vec<ConsumerBody>,
    next_cursor: Option<String>,
}

/// Whose consumers somebody may see and change: admins everybody's.
fn whose(person: &Person) -> Whose {
    if person.is(Role::Admin) { Whose::Everybodys } else { Whose::Of(person.account) }
}

fn no_such() -> Problem {
    Problem::not_found("consumer")
}

async fn owned(api: &Api, person: &Person, id: Uuid) -> Result<Consumer, Problem> {
    api.market.vault.consumer(id, whose(person)).await?.ok_or_else(no_such)
}

async fn shown(api: &Api, consumer: Consumer) -> Result<Json<ConsumerBody>, Problem> {
    let end = api.market.log.head().await?;
    Ok(Json(ConsumerBody::new(consumer, None, end)))
}

/// Subscribe to events. With a webhook, its secret is in this answer alone.
#[utoipa::path(post, path = "/v1/consumers", tag = "Analysis", security(("bearer" = [])),
    request_body = ConsumerRequest, params(("Idempotency-Key" = Option<String>, Header)),
    responses((status = 201, body = ConsumerBody), (status = 400, body = ProblemBody), (status = 403, body = ProblemBody),
        (status = 409, description = "An account has so many at most.", body = ProblemBody), (status = 422, body = ProblemBody)))]
pub(crate) async fn create(
    Reader(reader): Reader,
    State(api): State<Arc<Api>>,
    head: CommandHead,
    body: Body<ConsumerRequest>,
) -> Result<Response, Problem> {
    let context = head.context(&api, Some(reader.account), &body.raw);
    let end = api.market.log.head().await?;
    let made = Made {
        id: Uuid::new_v5(&context.command_id, b"consumer"),
        owner: reader.account,
        fingerprint: context.fingerprint.as_deref().map(str::to_owned),
    };
    let new = body.value.parse(made, end, api.settings.webhook_reach)?;
    let market = Arc::clone(&api.market);
    let made = async move { market.vault.create_consumer(new, market.clock.now()).await };
    let (consumer, secret) = api.run(made).await??;
    let location =
        HeaderValue::try_from(format!("/v1/consumers/{}", consumer.id)).map_err(Problem::internal)?;
    let body = ConsumerBody::new(consumer, secret, end);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(body)).into_response())
}

/// My consumers, newest first; to admins everybody's.
#[utoipa::path(get, path = "/v1/consumers", tag = "Analysis", security(("bearer" = [])),
    params(("cursor" = Option<String>, Query), ("size" = Option<u32>, Query)),
    responses((status = 200, body = ConsumerPage), (status = 400, body = ProblemBody), (status = 403, body = ProblemBody)))]
pub(crate) async fn list(
    Reader(reader): Reader,
    State(api): State<Arc<Api>>,
    mut params: Params,
) -> Result<Json<ConsumerPage>, Problem> {
    let (cursor, size) = params.page();
    let after = cursor.and_then(|text| {
        let key = key_of(&text);
        if key.is_none() {
            params.malformed("cursor", "This is no cursor of this list.");
        }
        key
    });
    params.finish()?;
    let end = api.market.log.head().await?;
    // One more says whether there is another page.
    let mut consumers = api.market.vault.consumers(whose(&reader), after, i64::from(size) + 1).await?;
    let more = consumers.len() > size as usize;
    consumers.truncate(size as usize);
    let next_cursor = consumers.last().filter(|_| more).map(|last| cursor_of((last.created_at, last.id)));
    let consumers = consumers.into_iter().map(|consumer| ConsumerBody::new(consumer, None, end)).collect();
    Ok(Json(ConsumerPage { consumers, next_cursor }))
}

fn cursor_of((created_at, id): ConsumerKey) -> String {
    format!("{:x}.{}", created_at.timestamp_micros(), id.simple())
}

fn key_of(cursor: &str) -> Option<ConsumerKey> {
    let (micros, id) = cursor.split_once('.')?;
    let micros = i64::from_str_radix(micros, 16).ok()?;
    Some((DateTime::from_timestamp_micros(micros)?, id.parse().ok()?))
}

/// A consumer: where it is, and how it goes.
#[utoipa::path(get, path = "/v1/consumers/{consumerId}", tag = "Analysis", security(("bearer" = [])),
    params(("consumerId" = Uuid, Path)),
    responses((status = 200, body = ConsumerBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody)))]
pub(crate) async fn show(
    Reader(reader): Reader,
    State(api): State<Arc<Api>>,
    PathId(id): PathId<Uuid>,
) -> Result<Json<ConsumerBody>, Problem> {
    let consumer = owned(&api, &reader, id).await?;
    shown(&api, consumer).await
}

/// Delete a consumer, with its cursor, its secret and its deliveries.
#[utoipa::path(delete, path = "/v1/consumers/{consumerId}", tag = "Analysis", security(("bearer" = [])),
    params(("consumerId" = Uuid, Path)),
    responses((status = 204), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody)))]
pub(crate) async fn delete(
    Reader(reader): Reader,
    State(api): State<Arc<Api>>,
    PathId(id): PathId<Uuid>,
) -> Result<StatusCode, Problem> {
    if api.market.vault.delete_consumer(id, whose(&reader)).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(no_such())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn parse(json: Value) -> Result<NewConsumer, Problem> {
        let request: ConsumerRequest = serde_json::from_value(json).unwrap();
        let made = Made { id: Uuid::nil(), owner: AccountId(Uuid::nil()), fingerprint: None };
        request.parse(made, Some(9), Reach::Public)
    }

    #[test]
    fn it_begins_where_it_is_told_to_and_else_at_the_end() {
        let position = |after: Value| {
            let mut json = json!({ "name": "x" });
            if !after.is_null() {
                json["after"] = after;
            }
            parse(json).map(|new| new.position)
        };
        assert_eq!(position(Value::Null).unwrap(), Some(9));
        assert_eq!(position(json!("end")).unwrap(), Some(9));
        assert_eq!(position(json!("start")).unwrap(), None);
        assert_eq!(position(json!(0)).unwrap(), Some(0));
        assert_eq!(position(json!(9)).unwrap(), Some(9));
        for bad in [json!(10), json!("now")] {
            assert_eq!(position(bad).unwrap_err().errors()[0].field, "after");
        }
    }

    #[test]
    fn everything_wrong_is_named() {
        let problem = parse(json!({
            "categories": ["order", "order-1"], "types": [""], "stream": "", "webhook": { "url": "http://10.0.0.1/" },
        }))
        .unwrap_err();
        let fields: Vec<_> = problem.errors().iter().map(|error| error.field.as_str()).collect();
        assert_eq!(fields, ["name", "categories[1]", "types[0]", "stream", "webhook.url"]);
        assert_eq!(
            parse(json!({ "name": "x", "webhook": {} })).unwrap_err().errors()[0].field,
            "webhook.url"
        );
        assert!(parse(json!({ "name": "x", "types": vec!["T"; 101] })).is_err());
    }

    #[test]
    fn cursors_come_back_as_they_went() {
        let key = (DateTime::from_timestamp_micros(1_700_000_000_123_456).unwrap(), Uuid::from_u128(7));
        assert_eq!(key_of(&cursor_of(key)), Some(key));
        for bad in ["", ".", "x.y", "7fffffffffffffff.00000000000000000000000000000007"] {
            assert_eq!(key_of(bad), None, "{bad}");
        }
    }
}
