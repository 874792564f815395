//! What a seller does with his part of an order. Another seller's shipment is none of his business: there is none.

use std::sync::Arc;

use axum::{extract::State, http::StatusCode, response::Response};
use serde::{Deserialize, Serialize};
use souk_commands::flows::shipments;
use souk_domain::{ShipmentId, shipment::ShipmentStatus};
use utoipa::ToSchema;

use crate::{
    Api,
    answer::acknowledged,
    auth::{Person, Seller},
    extract::{CommandHead, MaybeBody, PathId},
    orders::Nothing,
    problem::{Problem, ProblemBody},
    validation::{Validation, line},
};

#[derive(Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Dispatch {
    /// Who carries it, if not who it was booked with.
    carrier: Option<String>,
    tracking_number: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ShipmentStanding {
    shipment_id: String,
    #[schema(value_type = String)]
    status: ShipmentStatus,
}

/// Say that a shipment is on its way.
#[utoipa::path(post, path = "/v1/shipments/{shipmentId}/dispatch", tag = "Selling", security(("bearer" = [])),
    request_body(content = Option<Dispatch>), params(("shipmentId" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = ShipmentStanding), (status = 404, body = ProblemBody),
        (status = 409, description = "The order is not ready to ship.", body = ProblemBody)))]
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
    check.finish()?;
    let market = Arc::clone(&api.market);
    let dispatch =
        async move { shipments::dispatch(&market, &context, shipment, carrier, tracking_number).await };
    let done = api.run(dispatch).await??;
    Ok(acknowledged(StatusCode::OK, done.position, standing(shipment, done.value)))
}

/// Say that a shipment was delivered.
#[utoipa::path(post, path = "/v1/shipments/{shipmentId}/deliver", tag = "Selling", security(("bearer" = [])),
    params(("shipmentId" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = ShipmentStanding), (status = 404, body = ProblemBody),
        (status = 409, description = "It was not dispatched.", body = ProblemBody)))]
pub(crate) async fn deliver(
    Seller(seller): Seller,
    State(api): State<Arc<Api>>,
    PathId(shipment): PathId<ShipmentId>,
    head: CommandHead,
    body: MaybeBody<Nothing>,
) -> Result<Response, Problem> {
    own(&seller, shipment)?;
    let context = head.context(&api, Some(seller.account), &body.raw);
    let market = Arc::clone(&api.market);
    let done = api.run(async move { shipments::deliver(&market, &context, shipment).await }).await??;
    Ok(acknowledged(StatusCode::OK, done.position, standing(shipment, done.value)))
}

fn own(seller: &Person, shipment: ShipmentId) -> Result<(), Problem> {
    if shipment.seller_id == seller.account { Ok(()) } else { Err(Problem::not_found("shipment")) }
}

fn standing(shipment: ShipmentId, status: ShipmentStatus) -> ShipmentStanding {
    ShipmentStanding { shipment_id: shipment.to_string(), status }
}
