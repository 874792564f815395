//! Items: what a seller says of them (`request`), how they are shown (`body`), and the calls themselves. Searching is in
//! `search`.

mod body;
mod request;

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use souk_commands::flows::{
    Acknowledged,
    items::{self as flow, Caller, Listed, StockChange, StockLevel},
    revision,
};
use souk_domain::{ItemId, Sku, account::Role, item::ItemState};
use souk_event_log::At;
use souk_projections::catalogue::{self, ItemRow};
use utoipa::ToSchema;

pub(crate) use self::body::{ItemBody, Stock, stock_of};
use self::{body::complete, request::ItemRequest};
use crate::{
    Api,
    answer::{SHORT_PATIENCE, acknowledged, positioned, view},
    auth::{Person, Seller, SellerOrAdmin, Visitor},
    checkout::header_value,
    extract::{Body, CommandHead, IfMatch, MaybeBody, MinPosition, Params, PathId},
    past,
    problem::{Kind, Problem, ProblemBody},
    validation::{self, Validation, line},
};

/// List an item.
#[utoipa::path(post, path = "/v1/items", tag = "Catalogue", request_body = ItemRequest, security(("bearer" = [])),
    params(("Idempotency-Key" = Option<String>, Header)),
    responses((status = 201, body = ItemBody), (status = 403, body = ProblemBody),
        (status = 409, description = "The SKU belongs to another item of yours.", body = ProblemBody), (status = 422, body = ProblemBody)))]
pub(crate) async fn list(
    Seller(seller): Seller,
    State(api): State<Arc<Api>>,
    head: CommandHead,
    body: Body<ItemRequest>,
) -> Result<Response, Problem> {
    let context = head.context(&api, Some(seller.account), &body.raw);
    let new = body.value.into_new(seller.account)?;
    let market = Arc::clone(&api.market);
    let done = api.run(async move { flow::list(&market, &context, new).await }).await??;
    let location = format!("/v1/items/{}", done.value.item_id);
    let mut response = changed(&api, StatusCode::CREATED, done).await?;
    response.headers_mut().insert(header::LOCATION, header_value(&location)?);
    Ok(response)
}

/// Revise an item. What is left out stays as it is; a variant is added, or its price and images changed, by its SKU; a
/// quantity is what was counted.
#[utoipa::path(patch, path = "/v1/items/{itemId}", tag = "Catalogue", request_body = ItemRequest, security(("bearer" = [])),
    params(("itemId" = Uuid, Path), ("If-Match" = Option<String>, Header), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = ItemBody), (status = 403, description = "Another seller's.", body = ProblemBody),
        (status = 404, body = ProblemBody), (status = 412, body = ProblemBody), (status = 422, body = ProblemBody)))]
pub(crate) async fn revise(
    Seller(seller): Seller,
    State(api): State<Arc<Api>>,
    PathId(item): PathId<ItemId>,
    IfMatch(if_match): IfMatch,
    head: CommandHead,
    body: Body<ItemRequest>,
) -> Result<Response, Problem> {
    let context = head.context(&api, Some(seller.account), &body.raw);
    let patch = body.value.into_patch()?;
    let (market, caller) = (Arc::clone(&api.market), Caller::Seller(seller.account));
    let revised = async move { revision::revise(&market, &context, item, caller, if_match, patch).await };
    let done = api.run(revised).await??;
    changed(&api, StatusCode::OK, done).await
}

#[derive(Default, Deserialize, ToSchema)]
pub(crate) struct Withdrawal {
    /// Why.
    reason: Option<String>,
}

/// Take an item off the market.
#[utoipa::path(post, path = "/v1/items/{itemId}/withdraw", tag = "Catalogue", security(("bearer" = [])),
    request_body(content = Option<Withdrawal>), params(("itemId" = Uuid, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = ItemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody)))]
pub(crate) async fn withdraw(
    SellerOrAdmin(person): SellerOrAdmin,
    State(api): State<Arc<Api>>,
    PathId(item): PathId<ItemId>,
    head: CommandHead,
    body: MaybeBody<Withdrawal>,
) -> Result<Response, Problem> {
    let context = head.context(&api, Some(person.account), &body.raw);
    let mut check = Validation::default();
    let reason = check.optional("reason", body.value.reason, line(1..=500));
    check.finish()?;
    let (market, caller) = (Arc::clone(&api.market), caller(&person));
    let done =
        api.run(async move { flow::withdraw(&market, &context, item, caller, reason).await }).await??;
    changed(&api, StatusCode::OK, done).await
}

/// Put an item back on the market.
#[utoipa::path(post, path = "/v1/items/{itemId}/relist", tag = "Catalogue", security(("bearer" = [])),
    params(("itemId" = Uuid, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = ItemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody)))]
pub(crate) async fn relist(
    SellerOrAdmin(person): SellerOrAdmin,
    State(api): State<Arc<Api>>,
    PathId(item): PathId<ItemId>,
    head: CommandHead,
    body: MaybeBody<Withdrawal>,
) -> Result<Response, Problem> {
    let context = head.context(&api, Some(person.account), &body.raw);
    let (market, caller) = (Arc::clone(&api.market), caller(&person));
    let done = api.run(async move { flow::relist(&market, &context, item, caller).await }).await??;
    changed(&api, StatusCode::OK, done).await
}

#[derive(Deserialize, ToSchema)]
pub(crate) struct StockRequest {
    /// Not needed where an item has one SKU.
    sku: Option<String>,
    /// How many more, or less.
    #[schema(value_type = i64, example = 10)]
    change: Option<i64>,
    #[schema(example = "delivery of May")]
    reason: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StockBody {
    on_hand: u64,
    reserved: u64,
    available: u64,
}

/// Change what is in stock.
#[utoipa::path(post, path = "/v1/items/{itemId}/stock", tag = "Catalogue", request_body = StockRequest, security(("bearer" = [])),
    params(("itemId" = Uuid, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = StockBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody),
        (status = 409, description = "There is not that much: `available` says how much.", body = ProblemBody), (status = 422, body = ProblemBody)))]
pub(crate) async fn change_stock(
    Seller(seller): Seller,
    State(api): State<Arc<Api>>,
    PathId(item): PathId<ItemId>,
    head: CommandHead,
    body: Body<StockRequest>,
) -> Result<Response, Problem> {
    let context = head.context(&api, Some(seller.account), &body.raw);
    let change = body.value.parse()?;
    let (market, caller) = (Arc::clone(&api.market), Caller::Seller(seller.account));
    let done =
        api.run(async move { flow::change_stock(&market, &context, item, caller, change).await }).await??;
    let StockLevel { on_hand, reserved, available } = done.value;
    Ok(acknowledged(StatusCode::OK, done.position, StockBody { on_hand, reserved, available }))
}

impl StockRequest {
    fn parse(self) -> Result<StockChange, Problem> {
        let mut check = Validation::default();
        let sku: Option<Sku> = check.optional("sku", self.sku, validation::sku);
        let change = check.required("change", self.change, Ok::<_, &str>);
        let reason = check.optional("reason", self.reason, line(0..=500)).filter(|reason| !reason.is_empty());
        match (change, check.is_clean()) {
            (Some(change), true) => Ok(StockChange { sku, change, reason }),
            _ => Err(check.into()),
        }
    }
}

/// One item; with `at`, as it was then, for who may see it now.
#[utoipa::path(get, path = "/v1/items/{itemId}", tag = "Catalogue",
    params(("itemId" = Uuid, Path), ("If-None-Match" = Option<String>, Header), ("Souk-Min-Position" = Option<u64>, Header),
        ("at" = Option<String>, Query, description = "As of then: a position, or a time as in RFC 3339.")),
    responses((status = 200, body = ItemBody), (status = 304), (status = 404, body = ProblemBody),
        (status = 422, body = ProblemBody), (status = 503, body = ProblemBody)))]
pub(crate) async fn show(
    Visitor(visitor): Visitor,
    State(api): State<Arc<Api>>,
    PathId(item): PathId<ItemId>,
    MinPosition(min): MinPosition,
    headers: HeaderMap,
    mut params: Params,
) -> Result<Response, Problem> {
    let at = past::at(&api, &mut params).await?;
    params.finish()?;
    if let Some(at) = at {
        return Ok(Json(as_of(&api, visitor.as_ref(), item, at).await?).into_response());
    }
    api.see(&[view::CATALOGUE, view::STOCK], min).await?;
    let row = catalogue::item(&api.pool, item).await?;
    let mine = |row: &ItemRow| {
        let mine = |person: &Person| person.account == row.listing.seller_id || person.is(Role::Admin);
        visitor.as_ref().is_some_and(mine)
    };
    let row = match row {
        Some(row) if !mine(&row) => Some(row),
        row => latest(&api, item, row).await?,
    };
    let row = row.ok_or_else(|| Problem::not_found("item"))?;
    let mine = mine(&row);
    if row.listing.withdrawn && !mine {
        return Err(Problem::not_found("item"));
    }
    let mut stock = stock_of(&api, [&row.listing]).await?;
    complete(&api, &mut stock, &row.listing).await?;
    let tag = shown_tag(&row, &stock);
    let body = ItemBody::new(row, &stock, mine);
    let mut response = if matches(&headers, &tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        Json(body).into_response()
    };
    response.headers_mut().insert(header::ETAG, header_value(&tag)?);
    response.headers_mut().insert(header::CACHE_CONTROL, header_value("private, no-cache")?);
    Ok(response)
}

/// Whoever may see an item may see how it was, but not when it was off the market; its seller, admins and analysts may.
async fn as_of(api: &Api, visitor: Option<&Person>, item: ItemId, at: At) -> Result<ItemBody, Problem> {
    let missing = || Problem::not_found("item");
    let _turn = api.turn_to_replay().await?;
    let now = api.market.aggregates.items.read(item, ItemState::clone).await?.value.ok_or_else(missing)?;
    let inside = visitor.is_some_and(|person| {
        person.account == now.seller_id || person.is(Role::Admin) || person.is(Role::Analyst)
    });
    if now.withdrawn && !inside {
        return Err(missing());
    }
    let (row, stock) = past::item(api, item, at).await?.ok_or_else(missing)?;
    if row.listing.withdrawn && !inside {
        return Err(missing());
    }
    Ok(ItemBody::new(row, &stock, inside))
}

/// For its seller, and for who was told of an item that is not in the view yet: what the view says when it has seen what
/// the log has seen. Everybody else is answered by the view alone.
async fn latest(api: &Api, item: ItemId, found: Option<ItemRow>) -> Result<Option<ItemRow>, Problem> {
    let fresh = match (api.market.aggregates.items.read(item, |_| ()).await, &found) {
        (Ok(fresh), _) => fresh,
        (Err(_), Some(_)) => return Ok(found),
        (Err(failure), None) => return Err(failure.into()),
    };
    let Some(position) = fresh.position.filter(|_| fresh.revision > found.as_ref().map(|row| row.revision))
    else {
        return Ok(found);
    };
    match (api.projections.wait_for(view::CATALOGUE, position, SHORT_PATIENCE).await, found) {
        (Err(_), Some(found)) => Ok(Some(found)),
        (Err(_), None) => Err(Problem::new(Kind::Behind).retry_after(1)),
        (Ok(()), _) => Ok(catalogue::item(&api.pool, item).await?),
    }
}

fn caller(person: &Person) -> Caller {
    if person.is(Role::Admin) { Caller::Admin } else { Caller::Seller(person.account) }
}

/// The item as it is after a command, from its own stream.
async fn changed(api: &Api, status: StatusCode, done: Acknowledged<Listed>) -> Result<Response, Problem> {
    let fresh = api.market.aggregates.items.read(done.value.item_id, ItemState::clone).await?;
    let listing =
        fresh.value.ok_or_else(|| Problem::internal("an item that was just changed is not there"))?;
    let mut stock = Stock::new();
    complete(api, &mut stock, &listing).await?;
    let body = ItemBody::of_listing(done.value.item_id, listing, fresh.revision.unwrap_or_default(), &stock);
    let mut response = positioned((status, Json(body)).into_response(), done.position);
    if let Some(revision) = done.value.revision {
        response.headers_mut().insert(header::ETAG, header_value(&format!("\"{revision}\""))?);
    }
    Ok(response)
}

/// The item's revision, and behind a point what stands for its stock: that changes what is shown, but not the item.
fn shown_tag(row: &ItemRow, stock: &Stock) -> String {
    let mut hasher = blake3::Hasher::new();
    let skus: BTreeSet<_> = row.listing.variants.iter().map(|variant| variant.sku_id).collect();
    for level in skus.iter().filter_map(|sku| stock.get(sku)) {
        hasher.update(&level.on_hand.to_le_bytes()).update(&level.reserved.to_le_bytes());
    }
    format!("\"{}.{}\"", row.revision, &hasher.finalize().to_hex()[..8])
}

/// `If-None-Match`, by the weak comparison that it asks for.
fn matches(headers: &HeaderMap, tag: &str) -> bool {
    let values = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut tags = values.flat_map(|value| value.split(',')).map(str::trim);
    tags.any(|given| given == "*" || given.trim_start_matches("W/") == tag)
}
