//! What a seller sees of his trade: his part of each order, and his items, withdrawn ones too.

use std::sync::Arc;

use axum::{Json, extract::State};
use serde::Serialize;
use souk_projections::{
    catalogue,
    seller_orders::{self, SellerOrderFilter},
};
use utoipa::ToSchema;

use crate::{
    Api,
    answer::{self, OrderPage},
    auth::Seller,
    extract::{MinPosition, Params},
    items::{ItemBody, stock_of},
    orders::{self, OrderBody, named},
    problem::{Problem, ProblemBody},
};

/// My part of orders, newest first.
#[utoipa::path(get, path = "/v1/seller/orders", tag = "Selling", security(("bearer" = [])),
    params(("status" = Option<String>, Query, description = "Of the order."),
        ("shipment" = Option<String>, Query, description = "Status of my shipment: `ready` is what waits to be dispatched."),
        ("cursor" = Option<String>, Query), ("size" = Option<u32>, Query), ("Souk-Min-Position" = Option<u64>, Header)),
    responses((status = 200, body = OrderPage<OrderBody>), (status = 403, body = ProblemBody), (status = 503, body = ProblemBody)))]
pub(crate) async fn orders(
    Seller(seller): Seller,
    State(api): State<Arc<Api>>,
    MinPosition(min): MinPosition,
    mut params: Params,
) -> Result<Json<OrderPage<OrderBody>>, Problem> {
    let status = orders::status(&mut params);
    let shipment = params.read(
        "shipment",
        named,
        "requested, ready, refused, partlyDispatched, dispatched, delivered or cancelled",
    );
    let (cursor, size) = params.page();
    params.finish()?;
    api.see(&[answer::view::SELLER_ORDERS], min).await?;
    let filter = SellerOrderFilter { status, shipment };
    let page =
        seller_orders::seller_orders(&api.pool, seller.account, filter, cursor.as_deref(), size).await?;
    Ok(Json(orders::parts(&api, page).await?))
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ItemPage {
    items: Vec<ItemBody>,
    next_cursor: Option<String>,
}

/// My items, newest first.
#[utoipa::path(get, path = "/v1/seller/items", tag = "Selling", security(("bearer" = [])),
    params(("cursor" = Option<String>, Query), ("size" = Option<u32>, Query), ("Souk-Min-Position" = Option<u64>, Header)),
    responses((status = 200, body = ItemPage), (status = 403, body = ProblemBody), (status = 503, body = ProblemBody)))]
pub(crate) async fn items(
    Seller(seller): Seller,
    State(api): State<Arc<Api>>,
    MinPosition(min): MinPosition,
    mut params: Params,
) -> Result<Json<ItemPage>, Problem> {
    let (cursor, size) = params.page();
    params.finish()?;
    api.see(&[answer::view::CATALOGUE, answer::view::STOCK], min).await?;
    let page = catalogue::items_of_seller(&api.pool, seller.account, cursor.as_deref(), size).await?;
    let stock = stock_of(&api, page.rows.iter().map(|row| &row.listing)).await?;
    let items = page.rows.into_iter().map(|row| ItemBody::new(row, &stock, true)).collect();
    Ok(Json(ItemPage { items, next_cursor: page.next_cursor }))
}
