//! The buyer's cart: always at the prices of this moment, and read from the log's own state, never from a view.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode, response::Response};
use serde::{Deserialize, Serialize};
use souk_commands::flows::carts::{self, CartView, CartViewLine, LineRequest};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    Api,
    answer::acknowledged,
    auth::Buyer,
    extract::{Body, CommandHead},
    problem::{Problem, ProblemBody},
    validation::{self, MoneyBody, Validation},
};

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CartBody {
    cart_id: Uuid,
    /// Null until something is put in.
    revision: Option<u64>,
    lines: Vec<CartLineBody>,
    /// Null of an empty cart, and of lines in several currencies.
    total: Option<MoneyBody>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CartLineBody {
    item_id: Uuid,
    /// The seller's own text.
    sku: String,
    name: String,
    quantity: u32,
    unit_price: MoneyBody,
    line_total: MoneyBody,
    seller_id: Uuid,
    /// False if the item was taken off the market: take the line out to check out.
    available: bool,
}

impl From<CartView> for CartBody {
    fn from(cart: CartView) -> Self {
        Self {
            cart_id: cart.cart_id.0,
            revision: cart.revision,
            lines: cart.lines.into_iter().map(CartLineBody::from).collect(),
            total: cart.total.map(MoneyBody::from),
        }
    }
}

impl From<CartViewLine> for CartLineBody {
    fn from(line: CartViewLine) -> Self {
        Self {
            item_id: line.item_id.0,
            sku: line.sku.into(),
            name: line.name,
            quantity: line.quantity,
            unit_price: line.unit_price.into(),
            line_total: line.line_total.into(),
            seller_id: line.seller_id.0,
            available: !line.withdrawn,
        }
    }
}

/// The cart.
#[utoipa::path(get, path = "/v1/cart", tag = "Cart", security(("bearer" = [])),
    responses((status = 200, body = CartBody), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody)))]
pub(crate) async fn show(
    Buyer(buyer): Buyer,
    State(api): State<Arc<Api>>,
) -> Result<Json<CartBody>, Problem> {
    Ok(Json(carts::current(&api.market, buyer.account).await?.into()))
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SetLine {
    #[schema(value_type = Uuid)]
    item_id: Option<String>,
    /// Not needed where an item has one SKU.
    sku: Option<String>,
    /// Absolute; 0 takes the line out.
    #[schema(value_type = u32, example = 1)]
    quantity: Option<i64>,
}

impl SetLine {
    fn parse(self) -> Result<LineRequest, Problem> {
        let mut check = Validation::default();
        let item_id = check.required("itemId", self.item_id, validation::id);
        let sku = check.optional("sku", self.sku, validation::sku);
        let quantity = check.required("quantity", self.quantity, validation::quantity);
        match (item_id, quantity, check.is_clean()) {
            (Some(item_id), Some(quantity), true) => Ok(LineRequest { item_id, sku, quantity }),
            _ => Err(check.into()),
        }
    }
}

/// Set the quantity of a line.
#[utoipa::path(patch, path = "/v1/cart", tag = "Cart", request_body = SetLine, security(("bearer" = [])),
    params(("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = CartBody), (status = 404, description = "No such item.", body = ProblemBody),
        (status = 409, description = "No longer sold.", body = ProblemBody), (status = 422, body = ProblemBody)))]
pub(crate) async fn set_line(
    Buyer(buyer): Buyer,
    State(api): State<Arc<Api>>,
    head: CommandHead,
    body: Body<SetLine>,
) -> Result<Response, Problem> {
    let context = head.context(&api, Some(buyer.account), &body.raw);
    let line = body.value.parse()?;
    let market = Arc::clone(&api.market);
    let done =
        api.run(async move { carts::set_line(&market, &context, buyer.account, line).await }).await??;
    Ok(acknowledged(StatusCode::OK, done.position, CartBody::from(done.value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_line() {
        let fields = |json| {
            let problem = serde_json::from_value::<SetLine>(json).unwrap().parse().unwrap_err();
            problem.errors().iter().map(|error| error.field.clone()).collect::<Vec<_>>()
        };
        assert_eq!(fields(serde_json::json!({})), ["itemId", "quantity"]);
        let bad = serde_json::json!({ "itemId": "x", "sku": " ", "quantity": -1 });
        assert_eq!(fields(bad), ["itemId", "sku", "quantity"]);
    }
}
