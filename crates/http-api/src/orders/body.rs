//! What an order, its payment, shipments and returns look like.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use souk_commands::flows::checkout::Address;
use souk_domain::{
    order::{CancelReason, OrderLine, OrderStatus, ShipTo, ShortLine},
    payment::{FailureReason, PaymentType},
    shipment::{ParcelLine, ShipmentStatus},
};
use souk_gateways::BuyerAction;
use souk_projections::{
    ParcelView, ShipmentView,
    orders::{OrderView, PaymentStatus, TimelineEntry},
    seller_orders::SellerOrderView,
};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    Api, charges::ChargesBody, checkout::AddressBody, problem::Problem, returns::ReturnBody,
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
    pub(super) fn is_whole(&self) -> bool {
        self.payment.is_some()
    }

    /// With what came back of it, and what happened once it was completed.
    pub(super) fn with_returns(mut self, returns: Vec<ReturnBody>) -> Self {
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

    pub(super) fn with_action(mut self, action: Option<ActionBody>) -> Self {
        if let Some(payment) = &mut self.payment {
            payment.action = action;
        }
        self
    }

    /// How somebody pays, and for what beside the goods, is none of a seller's business.
    pub(super) fn without_payment(self) -> Self {
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
