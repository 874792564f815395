//! Orders: lists, one of them, cancelling. Who sees what: its buyer all of it, a seller his part, an admin all; for
//! anybody else there is no such order.

mod body;

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use souk_commands::flows::orders as flow;
use souk_domain::{
    AccountId, OrderId,
    account::Role,
    order::{Order, OrderStatus},
    payment::PaymentState,
};
use souk_projections::{
    Page,
    orders::{self as view, OrderFilter, OrderView, PaymentStatus},
    returns as returns_view,
    seller_orders::{self, SellerOrderFilter, SellerOrderView},
};
use tokio::time::timeout;
use utoipa::ToSchema;
use uuid::Uuid;

use self::body::ActionBody;
pub(crate) use self::body::{OrderBody, ShortLineBody};
use crate::{
    Api,
    answer::{self, OrderPage, SHORT_PATIENCE, acknowledged},
    auth::{BuyerOrAdmin, Person, Trader, Witness},
    extract::{CommandHead, MaybeBody, MinPosition, Params, PathId},
    past,
    problem::{Kind, Problem, ProblemBody},
    returns::{self},
};

/// The orders of who asks: a buyer's own; of who only sells, his part of others'; of an admin all.
#[utoipa::path(get, path = "/v1/orders", tag = "Orders", security(("bearer" = [])),
    params(("status" = Option<String>, Query), ("cursor" = Option<String>, Query), ("size" = Option<u32>, Query),
        ("Souk-Min-Position" = Option<u64>, Header)),
    responses((status = 200, body = OrderPage<OrderBody>), (status = 400, body = ProblemBody),
        (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 503, body = ProblemBody)))]
pub(crate) async fn list(
    Trader(person): Trader,
    State(api): State<Arc<Api>>,
    MinPosition(min): MinPosition,
    mut params: Params,
) -> Result<Json<OrderPage<OrderBody>>, Problem> {
    let (status, (cursor, size)) = (status(&mut params), params.page());
    params.finish()?;
    let cursor = cursor.as_deref();
    if person.is(Role::Buyer) || !person.is(Role::Seller) {
        api.see(&[answer::view::ORDERS], min).await?;
        let buyer = person.is(Role::Buyer).then_some(person.account);
        let page = view::orders(&api.pool, OrderFilter { status, buyer }, cursor, size).await?;
        let show = if buyer.is_some() { OrderBody::whole } else { OrderBody::with_buyer };
        return Ok(Json(OrderPage::of(page, show)));
    }
    api.see(&[answer::view::SELLER_ORDERS], min).await?;
    let filter = SellerOrderFilter { status, shipment: None };
    let page = seller_orders::seller_orders(&api.pool, person.account, filter, cursor, size).await?;
    Ok(Json(parts(&api, page).await?))
}

/// A seller's list, with the addresses that he sends to.
pub(crate) async fn parts(api: &Api, page: Page<SellerOrderView>) -> Result<OrderPage<OrderBody>, Problem> {
    let mut orders = Vec::with_capacity(page.rows.len());
    for order in page.rows {
        let ship_to = order.ship_to.clone();
        orders.push(OrderBody::part(order).addressed(api, ship_to.as_ref()).await?);
    }
    Ok(OrderPage { orders, next_cursor: page.next_cursor })
}

pub(crate) fn status(params: &mut Params) -> Option<OrderStatus> {
    let expected = "placed, stockReserved, paid, readyToShip, completed, cancelling or cancelled";
    params.read("status", named, expected)
}

/// The value that has this name in JSON.
pub(crate) fn named<T: for<'a> Deserialize<'a>>(name: &str) -> Option<T> {
    serde_json::from_value(name.into()).ok()
}

/// One order; with `at`, as it was then, which analysts may ask for, too.
#[utoipa::path(get, path = "/v1/orders/{orderId}", tag = "Orders", security(("bearer" = [])),
    params(("orderId" = Uuid, Path), ("Souk-Min-Position" = Option<u64>, Header),
        ("at" = Option<String>, Query, description = "As of then: a position, or a time as in RFC 3339.")),
    responses((status = 200, body = OrderBody), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody),
        (status = 404, body = ProblemBody), (status = 422, body = ProblemBody), (status = 503, body = ProblemBody)))]
pub(crate) async fn show(
    Witness(person): Witness,
    State(api): State<Arc<Api>>,
    PathId(order): PathId<OrderId>,
    MinPosition(min): MinPosition,
    mut params: Params,
) -> Result<Json<OrderBody>, Problem> {
    let at = past::at(&api, &mut params).await?;
    params.finish()?;
    let found = if let Some(at) = at {
        let _turn = api.turn_to_replay().await?;
        past::order(&api, order, at).await?
    } else {
        person.require(&[Role::Buyer, Role::Seller, Role::Admin])?;
        api.see(&[answer::view::ORDERS, answer::view::RETURNS], min).await?;
        find(&api, order).await?
    };
    let order = found.ok_or_else(|| Problem::not_found("order"))?;
    let (id, buyer, lines) = (order.order_id, order.buyer_id, order.lines.clone());
    let body = seen_by(&api, &person, order).await?;
    let sellers = lines.iter().map(|line| line.seller_id);
    let sellers = sellers.filter(|seller| body.is_whole() || *seller == person.account).collect();
    let returned = match at {
        Some(at) => past::returns(&api, id, &sellers, at).await?,
        None => returns_view::of_order(&api.pool, id).await?,
    };
    // An analyst sees what stands in clear in the log.
    let opens = person.account == buyer || !person.is(Role::Analyst) || person.is(Role::Admin);
    Ok(Json(body.with_returns(returns::bodies(&api, returned, &sellers, opens).await?)))
}

/// As much of the order as is the person's business.
async fn seen_by(api: &Api, person: &Person, order: OrderView) -> Result<OrderBody, Problem> {
    let ship_to = order.ship_to.clone();
    if person.account == order.buyer_id {
        let action = action(api, &order).await;
        return OrderBody::whole(order).with_action(action).addressed(api, Some(&ship_to)).await;
    }
    if person.is(Role::Admin) {
        return OrderBody::with_buyer(order).addressed(api, Some(&ship_to)).await;
    }
    // What analysts read in the log: everything but what is sealed there.
    if person.is(Role::Analyst) {
        return Ok(OrderBody::with_buyer(order));
    }
    let part = part_of(order, person.account).ok_or_else(|| Problem::not_found("order"))?;
    let booked = part.shipments.iter().any(|shipment| shipment.status.is_booked());
    OrderBody::whole(part).without_payment().addressed(api, booked.then_some(&ship_to)).await
}

/// What the buyer has to do for his payment, as the gateway says now. It is nowhere kept, and an order can be shown without.
async fn action(api: &Api, order: &OrderView) -> Option<ActionBody> {
    if order.payment.status != Some(PaymentStatus::Requested) || order.status.is_final() {
        return None;
    }
    let read = |state: &PaymentState| match state {
        PaymentState::Pending { action_required, refund_wanted: false, .. } => action_required.clone(),
        _ => None,
    };
    let charge_id = api.market.aggregates.payments.read(order.order_id, read).await.ok()?.value?;
    match timeout(SHORT_PATIENCE, api.market.payments.action(&charge_id)).await {
        Ok(Ok(action)) => action.map(ActionBody::from),
        Ok(Err(error)) => {
            tracing::warn!(order = %order.order_id, %error, "the gateway does not say what the buyer has to do");
            None
        }
        Err(_) => None,
    }
}

/// A seller's lines and shipment, and what they come to; `None` if nothing of it is his.
fn part_of(mut order: OrderView, seller: AccountId) -> Option<OrderView> {
    order.lines.retain(|line| line.seller_id == seller);
    order.shipments.retain(|shipment| shipment.shipment_id.seller_id == seller);
    order.total = souk_domain::order::total(&order.lines)?.ok()?;
    Some(order)
}

/// The order as the view has it, which is given a moment to see what the log has seen. While the log is out of reach, the
/// view is what there is.
async fn find(api: &Api, order: OrderId) -> Result<Option<OrderView>, Problem> {
    let found = view::order(&api.pool, order).await?;
    let fresh = match (flow::find(&api.market, order).await, &found) {
        (Ok(fresh), _) => fresh,
        (Err(_), Some(_)) => return Ok(found),
        (Err(failure), None) => return Err(failure.into()),
    };
    let Some(position) =
        fresh.position.filter(|_| fresh.revision > found.as_ref().map(|order| order.revision))
    else {
        return Ok(found);
    };
    match (api.projections.wait_for(answer::view::ORDERS, position, SHORT_PATIENCE).await, found) {
        (Err(_), Some(found)) => Ok(Some(found)),
        (Err(_), None) => Err(Problem::new(Kind::Behind).retry_after(1)),
        (Ok(()), _) => Ok(view::order(&api.pool, order).await?),
    }
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OrderStanding {
    order_id: Uuid,
    #[schema(value_type = String)]
    status: OrderStatus,
}

#[derive(Default, Deserialize)]
pub(crate) struct Nothing {}

/// Ask for an order to be cancelled. Doing so twice is fine.
#[utoipa::path(post, path = "/v1/orders/{orderId}/cancel", tag = "Orders", security(("bearer" = [])),
    params(("orderId" = Uuid, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 202, body = OrderStanding), (status = 404, body = ProblemBody),
        (status = 409, description = "It is ready to ship.", body = ProblemBody)))]
pub(crate) async fn cancel(
    BuyerOrAdmin(person): BuyerOrAdmin,
    State(api): State<Arc<Api>>,
    PathId(order): PathId<OrderId>,
    head: CommandHead,
    body: MaybeBody<Nothing>,
) -> Result<Response, Problem> {
    owned(&api, &person, order).await?;
    let context = head.context(&api, Some(person.account), &body.raw);
    let market = Arc::clone(&api.market);
    let done = api.run(async move { flow::cancel(&market, &context, order).await }).await??;
    let body = OrderStanding { order_id: order.0, status: done.value };
    Ok(acknowledged(StatusCode::ACCEPTED, done.position, body).into_response())
}

/// The order, if it is the person's own; an admin may act for any buyer.
pub(crate) async fn owned(api: &Api, person: &Person, order: OrderId) -> Result<Order, Problem> {
    let found = flow::find(&api.market, order).await?.value;
    let mine = |order: &Order| order.placed.buyer_id == person.account || person.is(Role::Admin);
    found.filter(mine).ok_or_else(|| Problem::not_found("order"))
}
