//! What a cart would cost, before it is checked out: priced as the checkout is.

use std::sync::Arc;

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use souk_commands::flows::pricing::{self, Extras, Quote};
use souk_domain::CartId;
use souk_gateways::Secret;
use utoipa::ToSchema;

use crate::{
    Api,
    auth::Buyer,
    cart::CartLineBody,
    charges::{ChargesBody, CreditUseBody, DiscountBody},
    checkout::extras,
    extract::Body,
    problem::{Problem, ProblemBody},
    validation::{self, MoneyBody, Validation},
};

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NewQuote {
    #[schema(value_type = uuid::Uuid)]
    cart_id: Option<String>,
    /// Needed where shipping or tax depend on it; `shippingAddress.country` will do as well.
    #[schema(example = "GB")]
    country: Option<String>,
    shipping_address: Option<Destination>,
    coupon_code: Option<String>,
    #[schema(value_type = Option<String>)]
    gift_card_code: Option<Secret>,
    use_store_credit: Option<bool>,
}

/// Of an address the country counts.
#[derive(Deserialize, ToSchema)]
pub(crate) struct Destination {
    country: Option<String>,
}

impl NewQuote {
    fn parse(self) -> Result<(CartId, Option<String>, Extras), Problem> {
        let mut check = Validation::default();
        let cart_id = check.required("cartId", self.cart_id, validation::id);
        let country = check.optional("country", self.country, validation::country);
        let of_address = self.shipping_address.and_then(|address| address.country);
        let of_address = check.optional("shippingAddress.country", of_address, validation::country);
        let extras = extras(&mut check, self.coupon_code, self.gift_card_code, self.use_store_credit);
        match (cart_id, check.is_clean()) {
            (Some(cart_id), true) => Ok((cart_id, of_address.or(country), extras)),
            _ => Err(check.into()),
        }
    }
}

#[derive(Serialize, ToSchema)]
#[schema(as = Quote)]
#[serde(rename_all = "camelCase")]
pub(crate) struct QuoteBody {
    lines: Vec<CartLineBody>,
    /// What the lines come to.
    goods: MoneyBody,
    discounts: Vec<DiscountBody>,
    shipping: MoneyBody,
    tax: MoneyBody,
    /// The `amount` of a checkout.
    total: MoneyBody,
    credits: Vec<CreditUseBody>,
    /// What is left of the total to be paid with `paymentInfo`.
    due: MoneyBody,
}

impl From<Quote> for QuoteBody {
    fn from(Quote { lines, priced }: Quote) -> Self {
        let due = priced.due();
        let ChargesBody { discounts, shipping, tax, credits } = ChargesBody::of(priced.charges, priced.total);
        Self {
            lines: lines.into_iter().map(CartLineBody::from).collect(),
            goods: priced.goods.into(),
            discounts,
            shipping,
            tax,
            total: priced.total.into(),
            credits,
            due: due.into(),
        }
    }
}

/// What the cart would cost.
#[utoipa::path(post, path = "/v1/checkout/quote", tag = "Orders", request_body = NewQuote, security(("bearer" = [])),
    responses((status = 200, body = QuoteBody), (status = 404, description = "No such cart.", body = ProblemBody),
        (status = 409, description = "It was checked out, or an item is no longer sold.", body = ProblemBody),
        (status = 422, description = "A code that cannot be used, a country nothing is sent to, or an empty cart.",
            body = ProblemBody)))]
pub(crate) async fn quote(
    Buyer(buyer): Buyer,
    State(api): State<Arc<Api>>,
    body: Body<NewQuote>,
) -> Result<Json<QuoteBody>, Problem> {
    let (cart, country, extras) = body.value.parse()?;
    let quote = pricing::quote(&api.market, buyer.account, cart, country.as_deref(), &extras).await?;
    Ok(Json(quote.into()))
}
