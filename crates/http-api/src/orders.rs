//! Orders: lists, one of them, cancelling. Who sees what: its buyer all of it, a seller his part, an admin all; for
//! anybody else there is no such order.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use souk_commands::flows::{checkout::Address, orders as flow};
use souk_domain::{
    AccountId, OrderId,
    account::Role,
    order::{CancelReason, Order, OrderLine, OrderStatus, ShipTo, ShortLine},
    payment::{FailureReason, PaymentState, PaymentType},
    shipment::{ParcelLine, ShipmentStatus},
};
use souk_gateways::BuyerAction;
use souk_projections::{
    Page, ParcelView, ShipmentView,
    orders::{self as view, OrderFilter, OrderView, PaymentStatus, TimelineEntry},
    returns as returns_view,
    seller_orders::{self, SellerOrderFilter, SellerOrderView},
};
use tokio::time::timeout;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    Api,
    answer::{self, OrderPage, SHORT_PATIENCE, acknowledged},
    auth::{BuyerOrAdmin, Person, Trader, Witness},
    charges::ChargesBody,
    checkout::AddressBody,
    extract::{CommandHead, MaybeBody, MinPosition, Params, PathId},
    past,
    problem::{Kind, Problem, ProblemBody},
    returns::{self, ReturnBody},
    validation::MoneyBody,
};

#[derive(Serialize, ToSchema)]
#[schema(as = Order)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OrderBody {
    order_id: Uuid,
    #[schema(value_type = String, example = "completed")]
    status: OrderStatus,
    /// Why it was cancelled: `outOfStock`, `paymentDeclined`, `shippingUnavailable`, `buyerRequest`, `timeout`,
    /// `promotionExhausted` or `creditExhausted`.
    #[schema(value_type = Option<String>)]
    reason: Option<CancelReason>,
    /// What an order that is `outOfStock` lacked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    short_lines: Vec<ShortLineBody>,
    placed_at: DateTime<Utc>,
    /// Of the lines shown; of a whole order with shipping and tax, after discounts.
    total: MoneyBody,
    /// Not in a seller's part: these belong to the order as a whole.
    #[serde(flatten)]
    charges: Option<ChargesBody>,
    lines: Vec<OrderLineBody>,
    shipments: Vec<ShipmentBody>,
    /// Oldest first; not in a seller's list.
    #[serde(skip_serializing_if = "Option::is_none")]
    timeline: Option<Vec<TimelineBody>>,
    /// Not in a seller's part.
    #[serde(skip_serializing_if = "Option::is_none")]
    payment: Option<PaymentBody>,
    /// When one order is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    returns: Option<Vec<ReturnBody>>,
    /// What happened to parcels and returns, oldest first; when one order is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    afterwards: Option<Vec<Afterwards>>,
    /// When one order is asked for, or by its seller. Null when the buyer was forgotten; a seller is told when his
    /// shipment is booked.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<AddressBody>)]
    shipping_address: Option<Value>,
    /// For admins.
    #[serde(skip_serializing_if = "Option::is_none")]
    buyer_id: Option<Uuid>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = OrderLine)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OrderLineBody {
    item_id: Uuid,
    sku: String,
    /// As it was when the order was placed.
    name: String,
    quantity: u32,
    unit_price: MoneyBody,
    line_total: MoneyBody,
    seller_id: Uuid,
}

#[derive(Serialize, ToSchema)]
#[schema(as = TimelineEntry)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TimelineBody {
    #[schema(value_type = String)]
    status: OrderStatus,
    at: DateTime<Utc>,
    /// Where it was cancelled for lack of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    short_lines: Vec<ShortLineBody>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Afterwards {
    /// `dispatched` or `delivered` of a parcel, `returnRequested`, `returnAccepted`, `returnDeclined` or `returnCompleted`.
    status: &'static str,
    at: DateTime<Utc>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shipment_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parcel: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    return_id: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Payment)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PaymentBody {
    #[schema(value_type = String)]
    payment_type: PaymentType,
    brand: Option<String>,
    last_four: Option<String>,
    /// `requested`, `completed`, `failed` or `refunded`; null until it is asked for.
    #[schema(value_type = Option<String>)]
    status: Option<PaymentStatus>,
    #[schema(value_type = Option<String>)]
    failure: Option<FailureReason>,
    /// In whole or in parts.
    refunded: MoneyBody,
    /// What the buyer has to do before he is charged; shown to him alone, when one order is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<ActionBody>,
}

/// For the buyer's bank (3-D Secure): an address to open in his browser, or a secret for the gateway's own script.
#[derive(Serialize, ToSchema)]
#[schema(as = PaymentAction)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(crate) enum ActionBody {
    Redirect { url: String },
    ClientSecret { client_secret: String },
}

impl From<BuyerAction> for ActionBody {
    fn from(action: BuyerAction) -> Self {
        match action {
            BuyerAction::Redirect { url } => Self::Redirect { url },
            BuyerAction::ClientSecret { client_secret } => Self::ClientSecret { client_secret },
        }
    }
}

#[derive(Serialize, ToSchema)]
#[schema(as = Shipment)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ShipmentBody {
    /// The order's id and the seller's, joined by a hyphen.
    shipment_id: String,
    seller_id: Uuid,
    /// `requested`, `ready`, `refused`, `partlyDispatched`, `dispatched`, `delivered` or `cancelled`.
    #[schema(value_type = String)]
    status: ShipmentStatus,
    carrier: Option<String>,
    tracking_number: Option<String>,
    /// Of a refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    dispatched_at: Option<DateTime<Utc>>,
    delivered_at: Option<DateTime<Utc>>,
    lines: Vec<ShipmentLineBody>,
    /// In the order in which they left.
    parcels: Vec<ParcelBody>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Parcel)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ParcelBody {
    parcel: u32,
    carrier: Option<String>,
    tracking_number: Option<String>,
    dispatched_at: DateTime<Utc>,
    delivered_at: Option<DateTime<Utc>>,
    lines: Vec<ShipmentLineBody>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = ShipmentLine)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ShipmentLineBody {
    item_id: Uuid,
    sku: String,
    name: String,
    quantity: u32,
}

#[derive(Serialize, ToSchema)]
#[schema(as = ShortLine)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ShortLineBody {
    item_id: Uuid,
    sku: String,
    /// By all lines of that SKU.
    requested: u32,
    /// What was left.
    available: u64,
}

impl ShortLineBody {
    /// Those that are among the lines.
    pub(crate) fn of(short: &[ShortLine], lines: &[OrderLine]) -> Vec<Self> {
        let named = |short: &ShortLine| {
            let line = lines.iter().find(|line| line.sku_id == short.sku_id)?;
            Some(Self {
                item_id: line.item_id.0,
                sku: line.sku.to_string(),
                requested: short.requested,
                available: short.available,
            })
        };
        short.iter().filter_map(named).collect()
    }
}

impl From<&OrderLine> for OrderLineBody {
    fn from(line: &OrderLine) -> Self {
        // Sums were checked when the order was placed.
        let line_total = line.unit_price.times(line.quantity).unwrap_or(line.unit_price);
        Self {
            item_id: line.item_id.0,
            sku: line.sku.to_string(),
            name: line.name.clone(),
            quantity: line.quantity,
            unit_price: line.unit_price.into(),
            line_total: line_total.into(),
            seller_id: line.seller_id.0,
        }
    }
}

impl ShipmentLineBody {
    fn new(line: &OrderLine, quantity: u32) -> Self {
        Self { item_id: line.item_id.0, sku: line.sku.to_string(), name: line.name.clone(), quantity }
    }
}

impl ShipmentBody {
    fn new(shipment: ShipmentView, lines: &[OrderLine]) -> Self {
        let seller_id = shipment.shipment_id.seller_id;
        let own: Vec<_> = lines.iter().filter(|line| line.seller_id == seller_id).collect();
        let whole = || own.iter().map(|line| ShipmentLineBody::new(line, line.quantity)).collect();
        let parcel = |parcel: ParcelView| ParcelBody {
            parcel: parcel.parcel,
            carrier: parcel.carrier.or_else(|| shipment.carrier.clone()),
            tracking_number: parcel.tracking_number,
            dispatched_at: parcel.dispatched_at,
            delivered_at: parcel.delivered_at,
            lines: if parcel.lines.is_empty() {
                whole()
            } else {
                let units = parcel.lines.iter();
                let body = |units: &ParcelLine| {
                    let line = own.iter().find(|line| line.sku_id == units.sku_id)?;
                    Some(ShipmentLineBody::new(line, units.quantity))
                };
                units.filter_map(body).collect()
            },
        };
        Self {
            shipment_id: shipment.shipment_id.to_string(),
            seller_id: seller_id.0,
            status: shipment.status,
            parcels: shipment.parcels.into_iter().map(parcel).collect(),
            carrier: shipment.carrier.clone(),
            tracking_number: shipment.tracking_number,
            reason: shipment.reason,
            dispatched_at: shipment.dispatched_at,
            delivered_at: shipment.delivered_at,
            lines: whole(),
        }
    }
}

impl OrderBody {
    /// The whole order, as its buyer sees it.
    pub(crate) fn whole(order: OrderView) -> Self {
        let payment = order.payment;
        let lacked = || ShortLineBody::of(&order.short_lines, &order.lines);
        let entry = |TimelineEntry { status, at }: &TimelineEntry| {
            let short_lines = if *status == OrderStatus::Cancelled { lacked() } else { vec![] };
            TimelineBody { status: *status, at: *at, short_lines }
        };
        let timeline = order.timeline.iter().map(entry).collect();
        Self {
            order_id: order.order_id.0,
            status: order.status,
            reason: order.reason,
            short_lines: lacked(),
            placed_at: order.placed_at,
            total: order.total.into(),
            charges: Some(ChargesBody::of(order.charges, order.total)),
            shipments: order
                .shipments
                .into_iter()
                .map(|shipment| ShipmentBody::new(shipment, &order.lines))
                .collect(),
            lines: order.lines.iter().map(OrderLineBody::from).collect(),
            timeline: Some(timeline),
            payment: Some(PaymentBody {
                payment_type: payment.payment_type,
                brand: payment.brand,
                last_four: payment.last_four,
                status: payment.status,
                failure: payment.failure,
                action: None,
                refunded: payment.refunded.into(),
            }),
            returns: None,
            afterwards: None,
            shipping_address: None,
            buyer_id: None,
        }
    }

    /// As an admin sees it.
    pub(crate) fn with_buyer(order: OrderView) -> Self {
        let buyer_id = Some(order.buyer_id.0);
        Self { buyer_id, ..Self::whole(order) }
    }

    /// A seller's part: his lines, his shipment, what they come to.
    pub(crate) fn part(order: SellerOrderView) -> Self {
        let shipment = order.shipment.into_iter().map(|shipment| ShipmentBody::new(shipment, &order.lines));
        Self {
            order_id: order.order_id.0,
            status: order.status,
            reason: order.reason,
            short_lines: vec![],
            placed_at: order.placed_at,
            total: order.total.into(),
            charges: None,
            shipments: shipment.collect(),
            lines: order.lines.iter().map(OrderLineBody::from).collect(),
            timeline: None,
            payment: None,
            returns: None,
            afterwards: None,
            shipping_address: None,
            buyer_id: None,
        }
    }

    /// Not a seller's part.
    fn is_whole(&self) -> bool {
        self.payment.is_some()
    }

    /// With what came back of it, and what happened once it was completed.
    fn with_returns(mut self, returns: Vec<ReturnBody>) -> Self {
        let mut happened = Vec::new();
        for shipment in &self.shipments {
            let told = |status, at, parcel| Afterwards {
                status,
                at,
                shipment_id: Some(shipment.shipment_id.clone()),
                parcel: Some(parcel),
                return_id: None,
            };
            for parcel in &shipment.parcels {
                happened.push(told("dispatched", parcel.dispatched_at, parcel.parcel));
                happened.extend(parcel.delivered_at.map(|at| told("delivered", at, parcel.parcel)));
            }
        }
        for returned in &returns {
            happened.extend(returned.told().map(|(status, at)| Afterwards {
                status,
                at,
                shipment_id: None,
                parcel: None,
                return_id: Some(returned.return_id.clone()),
            }));
        }
        happened.sort_by_key(|told| told.at);
        self.afterwards = Some(happened);
        self.returns = Some(returns);
        self
    }

    /// How somebody pays, and for what beside the goods, is none of a seller's business.
    fn without_payment(self) -> Self {
        Self { payment: None, charges: None, ..self }
    }

    pub(crate) async fn addressed(mut self, api: &Api, ship_to: Option<&ShipTo>) -> Result<Self, Problem> {
        self.shipping_address = Some(match ship_to {
            Some(ship_to) => api.open_address(ship_to).await?,
            None => Value::Null,
        });
        Ok(self)
    }
}

impl Api {
    /// An address in clear, or null.
    async fn open_address(&self, ship_to: &ShipTo) -> Result<Value, Problem> {
        let Some(text) = self.open(Some(&ship_to.address)).await? else { return Ok(Value::Null) };
        let address = serde_json::from_str::<Address>(&text).map_err(Problem::internal)?;
        serde_json::to_value(address).map_err(Problem::internal)
    }
}

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
        let mut body = OrderBody::whole(order).addressed(api, Some(&ship_to)).await?;
        if let Some(payment) = &mut body.payment {
            payment.action = action;
        }
        return Ok(body);
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
