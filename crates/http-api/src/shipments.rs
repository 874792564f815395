//! What a seller does with his part of an order. Another seller's shipment is none of his business: there is none.

use std::sync::Arc;

use axum::{extract::State, http::StatusCode, response::Response};
use serde::{Deserialize, Serialize};
use souk_commands::flows::shipments::{self, Parcel};
use souk_domain::{ShipmentId, Sku, shipment::ShipmentStatus};
use utoipa::ToSchema;

use crate::{
    Api,
    answer::acknowledged,
    auth::{Person, Seller},
    extract::{CommandHead, MaybeBody, PathId},
    problem::{Problem, ProblemBody},
    returns::ReturnBody,
    validation::{self, Validation, line},
};

#[derive(Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Dispatch {
    /// Who carries it, if not who it was booked with.
    carrier: Option<String>,
    /// Of one parcel.
    tracking_number: Option<String>,
    /// What is in the parcel; without them everything that is left.
    lines: Option<Vec<UnitsBody>>,
}

#[derive(Deserialize, ToSchema)]
#[schema(as = Units)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UnitsBody {
    #[schema(value_type = String)]
    sku: Option<String>,
    #[schema(value_type = u32, example = 1)]
    quantity: Option<i64>,
}

/// Each at least one.
pub(crate) fn units(check: &mut Validation, lines: Option<Vec<UnitsBody>>) -> Option<Vec<(Sku, u32)>> {
    let mut units = Vec::new();
    for (n, line) in lines?.into_iter().enumerate() {
        let sku = check.required(format!("lines[{n}].sku"), line.sku, validation::sku);
        let quantity = check.required(format!("lines[{n}].quantity"), line.quantity, validation::some);
        units.extend(sku.zip(quantity));
    }
    if units.is_empty() && check.is_clean() {
        check.fail("lines", "This must not be empty.");
    }
    Some(units)
}

#[derive(Default, Deserialize, ToSchema)]
pub(crate) struct Delivery {
    /// The parcel's number; without it all that are under way.
    parcel: Option<u32>,
}

#[derive(Default, Deserialize, ToSchema)]
pub(crate) struct GivingUp {
    /// Without them everything that is left.
    lines: Option<Vec<UnitsBody>>,
    /// Whether the units are there, to be sold to somebody else. Without it they are written off.
    #[serde(default)]
    restock: bool,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct GivenUp {
    shipment_id: String,
    #[schema(value_type = String)]
    status: ShipmentStatus,
    /// What became of it; accepted already.
    #[serde(rename = "return")]
    returned: Option<ReturnBody>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ShipmentStanding {
    shipment_id: String,
    #[schema(value_type = String)]
    status: ShipmentStatus,
}

/// Say that a shipment, or a parcel of it, is on its way.
#[utoipa::path(post, path = "/v1/shipments/{shipmentId}/dispatch", tag = "Selling", security(("bearer" = [])),
    request_body(content = Option<Dispatch>), params(("shipmentId" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = ShipmentStanding), (status = 404, body = ProblemBody),
        (status = 409, description = "The order is not ready to ship.", body = ProblemBody),
        (status = 403, body = ProblemBody),
        (status = 422, body = ProblemBody)))]
pub(crate) async fn dispatch(
    Seller(seller): Seller,
    State(api): State<Arc<Api>>,
    PathId(shipment): PathId<ShipmentId>,
    head: CommandHead,
    body: MaybeBody<Dispatch>,
) -> Result<Response, Problem> {
    own(&seller, shipment)?;
    let context = head.context(&api, Some(seller.account), &body.raw);
    let mut check = Validation::default();
    let carrier = check.optional("carrier", body.value.carrier, line(1..=100));
    let tracking_number = check.optional("trackingNumber", body.value.tracking_number, line(1..=100));
    let lines = units(&mut check, body.value.lines);
    check.finish()?;
    let market = Arc::clone(&api.market);
    let parcel = Parcel { lines, carrier, tracking_number };
    let dispatch = async move { shipments::dispatch(&market, &context, shipment, parcel).await };
    let done = api.run(dispatch).await??;
    Ok(acknowledged(StatusCode::OK, done.position, standing(shipment, done.value)))
}

/// Say that a shipment, or a parcel of it, was delivered.
#[utoipa::path(post, path = "/v1/shipments/{shipmentId}/deliver", tag = "Selling", security(("bearer" = [])),
    request_body(content = Option<Delivery>),
    params(("shipmentId" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = ShipmentStanding), (status = 404, body = ProblemBody),
        (status = 409, description = "It was not dispatched.", body = ProblemBody),
        (status = 403, body = ProblemBody),
        (status = 422, body = ProblemBody)))]
pub(crate) async fn deliver(
    Seller(seller): Seller,
    State(api): State<Arc<Api>>,
    PathId(shipment): PathId<ShipmentId>,
    head: CommandHead,
    body: MaybeBody<Delivery>,
) -> Result<Response, Problem> {
    own(&seller, shipment)?;
    let context = head.context(&api, Some(seller.account), &body.raw);
    let (market, parcel) = (Arc::clone(&api.market), body.value.parcel);
    let done =
        api.run(async move { shipments::deliver(&market, &context, shipment, parcel).await }).await??;
    Ok(acknowledged(StatusCode::OK, done.position, standing(shipment, done.value)))
}

/// Give up what cannot be sent: the buyer gets his money back.
#[utoipa::path(post, path = "/v1/shipments/{shipmentId}/give-up", tag = "Selling", security(("bearer" = [])),
    request_body(content = Option<GivingUp>), params(("shipmentId" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = GivenUp), (status = 404, body = ProblemBody),
        (status = 409, description = "The order is not completed, not so many are left to be sent, or the buyer has asked to return these.", body = ProblemBody),
        (status = 403, body = ProblemBody),
        (status = 422, body = ProblemBody)))]
pub(crate) async fn give_up(
    Seller(seller): Seller,
    State(api): State<Arc<Api>>,
    PathId(shipment): PathId<ShipmentId>,
    head: CommandHead,
    body: MaybeBody<GivingUp>,
) -> Result<Response, Problem> {
    own(&seller, shipment)?;
    let context = head.context(&api, Some(seller.account), &body.raw);
    let mut check = Validation::default();
    let lines = units(&mut check, body.value.lines);
    check.finish()?;
    let (market, restock) = (Arc::clone(&api.market), body.value.restock);
    let give_up = async move { shipments::give_up(&market, &context, shipment, lines, restock).await };
    let done = api.run(give_up).await??;
    let (status, returned) = done.value;
    let returned = returned.as_ref().map(ReturnBody::of);
    let body = GivenUp { shipment_id: shipment.to_string(), status, returned };
    Ok(acknowledged(StatusCode::OK, done.position, body))
}

fn own(seller: &Person, shipment: ShipmentId) -> Result<(), Problem> {
    if shipment.seller_id == seller.account { Ok(()) } else { Err(Problem::not_found("shipment")) }
}

fn standing(shipment: ShipmentId, status: ShipmentStatus) -> ShipmentStanding {
    ShipmentStanding { shipment_id: shipment.to_string(), status }
}
