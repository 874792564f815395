//! Checking out. The answer comes when the order is durable; with `Prefer: wait` when the checkout has ended, if that is
//! soon enough.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use serde::{Deserialize, Serialize};
use souk_commands::{
    Fresh,
    flows::{
        checkout::{self, Address, CheckedOut, CheckoutRequest},
        orders,
        pricing::Extras,
    },
};
use souk_domain::order::{CancelReason, OrderStatus};
use souk_event_log::Position;
use souk_gateways::{PaymentDetails, Secret};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    Api,
    answer::acknowledged,
    auth::Buyer,
    extract::{Body, CommandHead, Prefer},
    orders::ShortLineBody,
    problem::{Problem, ProblemBody},
    validation::{self, MoneyBody, Validation, line},
};

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NewCheckout {
    #[schema(value_type = Uuid)]
    cart_id: Option<String>,
    /// What you believe it costs: the `total` of a quote, which is the cart's where nothing is added or taken off.
    #[schema(value_type = MoneyBody)]
    amount: Option<MoneyBody>,
    #[schema(value_type = PaymentInfo)]
    payment_info: Option<PaymentInfo>,
    #[schema(value_type = AddressBody)]
    shipping_address: Option<AddressBody>,
    coupon_code: Option<String>,
    #[schema(value_type = Option<String>)]
    gift_card_code: Option<Secret>,
    use_store_credit: Option<bool>,
}

/// What else a buyer may bring.
pub(crate) fn extras(
    check: &mut Validation,
    coupon_code: Option<String>,
    gift_card_code: Option<Secret>,
    use_store_credit: Option<bool>,
) -> Extras {
    let code = |code: Secret| line(1..=64)(code.expose().to_owned());
    Extras {
        coupon_code: check.optional("couponCode", coupon_code, line(1..=64)),
        gift_card_code: check.optional("giftCardCode", gift_card_code, code),
        use_store_credit: use_store_credit.unwrap_or_default(),
    }
}

/// Of a card `cardNo`, `expiry` and `cvc`, or the `token` that the buyer's browser got for it from the gateway; of UPI `vpa`; a wallet needs nothing more.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PaymentInfo {
    /// `card`, `upi` or `wallet`.
    #[schema(value_type = String, example = "card")]
    payment_type: Option<String>,
    #[schema(value_type = Option<String>, example = "4242424242424242")]
    card_no: Option<Secret>,
    /// `MM/YY`.
    #[schema(example = "12/34")]
    expiry: Option<String>,
    #[schema(value_type = Option<String>, example = "123")]
    cvc: Option<Secret>,
    vpa: Option<String>,
    /// Instead of `cardNo`, `expiry` and `cvc`.
    #[schema(example = "pm_card_visa")]
    token: Option<String>,
}

#[derive(Clone, Deserialize, Serialize, ToSchema)]
#[schema(as = Address)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AddressBody {
    #[schema(value_type = String, example = "Ann Example")]
    name: Option<String>,
    #[schema(value_type = String, example = "1 Market Street")]
    line1: Option<String>,
    line2: Option<String>,
    #[schema(value_type = String, example = "Bristol")]
    city: Option<String>,
    region: Option<String>,
    #[schema(value_type = String, example = "BS1 1AA")]
    postal_code: Option<String>,
    /// ISO 3166-1, two capital letters.
    #[schema(value_type = String, example = "GB")]
    country: Option<String>,
}

impl NewCheckout {
    fn parse(self) -> Result<CheckoutRequest, Problem> {
        let mut check = Validation::default();
        let cart_id = check.required("cartId", self.cart_id, validation::id);
        let amount = check
            .present("amount", self.amount)
            .and_then(|amount| check.money_or_none("amount", Some(amount)));
        let payment = check.present("paymentInfo", self.payment_info).and_then(|info| info.parse(&mut check));
        let shipping_address = check
            .present("shippingAddress", self.shipping_address)
            .and_then(|address| address.parse(&mut check));
        let extras = extras(&mut check, self.coupon_code, self.gift_card_code, self.use_store_credit);
        match (cart_id, amount, payment, shipping_address, check.is_clean()) {
            (Some(cart_id), Some(amount), Some(payment), Some(shipping_address), true) => {
                Ok(CheckoutRequest { cart_id, amount, payment, shipping_address, extras })
            }
            _ => Err(check.into()),
        }
    }
}

impl PaymentInfo {
    /// Whether the details are right is for the gateway to say.
    fn parse(self, check: &mut Validation) -> Option<PaymentDetails> {
        let given = |secret: Secret| {
            if secret.expose().is_empty() { Err("This must not be empty.") } else { Ok(secret) }
        };
        match self.payment_type.as_deref() {
            Some("card") if self.token.is_some() => {
                let doubled = self.card_no.is_some() || self.expiry.is_some() || self.cvc.is_some();
                if doubled {
                    check.fail("paymentInfo.token", "Send the token, or the card's details.");
                }
                let token = check.required("paymentInfo.token", self.token, line(1..=255))?;
                (!doubled).then_some(PaymentDetails::CardToken { token })
            }
            Some("card") => {
                let card_no = check.required("paymentInfo.cardNo", self.card_no, given);
                let expiry = check.required("paymentInfo.expiry", self.expiry, line(1..=10));
                let cvc = check.required("paymentInfo.cvc", self.cvc, given);
                Some(PaymentDetails::Card { card_no: card_no?, expiry: expiry?, cvc: cvc? })
            }
            Some("upi") => {
                let vpa = check.required("paymentInfo.vpa", self.vpa, line(1..=320))?;
                Some(PaymentDetails::Upi { vpa })
            }
            Some("wallet") => Some(PaymentDetails::Wallet),
            Some(_) => {
                check.fail("paymentInfo.paymentType", "A payment type is card, upi or wallet.");
                None
            }
            None => check.present("paymentInfo.paymentType", None),
        }
    }
}

impl AddressBody {
    fn parse(self, check: &mut Validation) -> Option<Address> {
        let name = check.required("shippingAddress.name", self.name, line(1..=200));
        let line1 = check.required("shippingAddress.line1", self.line1, line(1..=200));
        let line2 = check.optional("shippingAddress.line2", self.line2, line(0..=200));
        let city = check.required("shippingAddress.city", self.city, line(1..=100));
        let region = check.optional("shippingAddress.region", self.region, line(0..=100));
        let postal_code = check.required("shippingAddress.postalCode", self.postal_code, line(1..=20));
        let country = check.required("shippingAddress.country", self.country, validation::country);
        Some(Address {
            name: name?,
            line1: line1?,
            line2: line2.filter(|text| !text.is_empty()),
            city: city?,
            region: region.filter(|text| !text.is_empty()),
            postal_code: postal_code?,
            country: country?,
        })
    }
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OrderAccepted {
    order_id: Uuid,
    #[schema(value_type = String)]
    status: OrderStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    reason: Option<CancelReason>,
    /// Of an order that lacked stock.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    short_lines: Vec<ShortLineBody>,
}

/// Check out.
#[utoipa::path(post, path = "/v1/checkout", tag = "Orders", request_body = NewCheckout, security(("bearer" = [])),
    params(("Idempotency-Key" = Option<String>, Header),
        ("Prefer" = Option<String>, Header, description = "`wait=N`: up to N seconds (60 at most) for the checkout to end")),
    responses((status = 202, description = "The order is placed.", body = OrderAccepted),
        (status = 200, description = "With `Prefer: wait`: the checkout has ended.", body = OrderAccepted),
        (status = 404, description = "No such cart.", body = ProblemBody),
        (status = 409, description = "`amount` is not what it costs: `total` is; or what the cart holds has changed.", body = ProblemBody),
        (status = 422, body = ProblemBody),
        (status = 503, description = "The payment gateway is left alone for a moment.", body = ProblemBody)))]
pub(crate) async fn check_out(
    Buyer(buyer): Buyer,
    State(api): State<Arc<Api>>,
    head: CommandHead,
    prefer: Prefer,
    body: Body<NewCheckout>,
) -> Result<Response, Problem> {
    let context = head.context(&api, Some(buyer.account), &body.raw);
    let request = body.value.parse()?;
    let market = Arc::clone(&api.market);
    let done = api
        .run(async move { checkout::check_out(&market, &context, buyer.account, request).await })
        .await??;
    let (answer, position, status) = match prefer.wait {
        Some(wait) => ending(&api, done.value, wait).await,
        None => (OrderAccepted::of(done.value), None, StatusCode::ACCEPTED),
    };
    let location = format!("/v1/orders/{}", answer.order_id);
    let mut response = acknowledged(status, position.max(done.position), answer);
    response.headers_mut().insert(header::LOCATION, header_value(&location)?);
    if let Some(wait) = prefer.wait {
        response
            .headers_mut()
            .insert("preference-applied", header_value(&format!("wait={}", wait.as_secs()))?);
    }
    Ok(response)
}

impl OrderAccepted {
    pub(crate) fn of(checked_out: CheckedOut) -> Self {
        Self {
            order_id: checked_out.order_id.0,
            status: checked_out.status,
            reason: None,
            short_lines: vec![],
        }
    }
}

/// How the order stands when the checkout has ended, or at the end of the wait, and from which position on views know
/// it. What cannot be read now is told as it was accepted: the order is placed, whatever else happens.
async fn ending(
    api: &Api,
    accepted: CheckedOut,
    wait: Duration,
) -> (OrderAccepted, Option<Position>, StatusCode) {
    let mut watch = api.hub.watch(accepted.order_id);
    let (mut answer, mut position) = standing(api, accepted).await;
    if !answer.status.is_final() {
        tokio::select! {
            () = watch.ended() => {}
            () = tokio::time::sleep(wait) => {}
            () = api.stop.cancelled() => {}
        }
        (answer, position) = standing(api, accepted).await;
    }
    let status = if answer.status.is_final() { StatusCode::OK } else { StatusCode::ACCEPTED };
    (answer, position, status)
}

async fn standing(api: &Api, accepted: CheckedOut) -> (OrderAccepted, Option<Position>) {
    let Ok(Fresh { value: Some(order), position, .. }) = orders::find(&api.market, accepted.order_id).await
    else {
        return (OrderAccepted::of(accepted), None);
    };
    let short_lines = ShortLineBody::of(&order.short_lines, &order.placed.lines);
    let order_id = accepted.order_id.0;
    (OrderAccepted { order_id, status: order.status, reason: order.reason, short_lines }, position)
}

pub(crate) fn header_value(text: &str) -> Result<HeaderValue, Problem> {
    HeaderValue::try_from(text).map_err(Problem::internal)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn body() -> Value {
        json!({
            "cartId": Uuid::nil(),
            "amount": { "amount": 1599, "currency": "USD" },
            "paymentInfo": { "paymentType": "card", "cardNo": "4242424242424242", "expiry": "12/34", "cvc": "123" },
            "shippingAddress": { "name": "A", "line1": "1", "city": "C", "postalCode": "P", "country": "GB" },
        })
    }

    fn parse(body: Value) -> Result<CheckoutRequest, Problem> {
        serde_json::from_value::<NewCheckout>(body).unwrap().parse()
    }

    fn fields(body: Value) -> Vec<String> {
        parse(body).unwrap_err().errors().iter().map(|error| error.field.clone()).collect()
    }

    #[test]
    fn a_whole_checkout_is_read() {
        let request = parse(body()).unwrap();
        assert_eq!((request.amount.amount, request.shipping_address.line2), (1599, None));
        assert!(matches!(request.payment, PaymentDetails::Card { .. }));
        let mut with_wallet = body();
        with_wallet["paymentInfo"] = json!({ "paymentType": "wallet" });
        assert!(matches!(parse(with_wallet).unwrap().payment, PaymentDetails::Wallet));
    }

    #[test]
    fn coupons_and_credit_are_read_and_an_amount_may_be_nothing() {
        let mut free = body();
        free["amount"]["amount"] = json!(0);
        free["couponCode"] = json!("SPRING");
        free["giftCardCode"] = json!("ABCD-EFGH");
        free["useStoreCredit"] = json!(true);
        let request = parse(free.clone()).unwrap();
        assert_eq!(request.extras.coupon_code.as_deref(), Some("SPRING"));
        assert_eq!(request.extras.gift_card_code.as_deref(), Some("ABCD-EFGH"));
        assert!(request.extras.use_store_credit);
        assert!(!format!("{request:?}").contains("ABCD"));
        free["amount"]["amount"] = json!(-1);
        free["couponCode"] = json!("");
        assert_eq!(fields(free), ["amount.amount", "couponCode"]);
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(fields(json!({})), ["cartId", "amount", "paymentInfo", "shippingAddress"]);
        let mut hollow = body();
        hollow["paymentInfo"] = json!({ "paymentType": "card" });
        hollow["shippingAddress"] = json!({ "country": "gb" });
        assert_eq!(
            fields(hollow),
            [
                "paymentInfo.cardNo",
                "paymentInfo.expiry",
                "paymentInfo.cvc",
                "shippingAddress.name",
                "shippingAddress.line1",
                "shippingAddress.city",
                "shippingAddress.postalCode",
                "shippingAddress.country",
            ]
        );
    }

    #[test]
    fn a_token_stands_for_the_card() {
        let mut paid = body();
        paid["paymentInfo"] = json!({ "paymentType": "card", "token": "pm_1" });
        assert!(matches!(parse(paid.clone()).unwrap().payment, PaymentDetails::CardToken { .. }));
        paid["paymentInfo"]["cvc"] = json!("123");
        assert_eq!(fields(paid), ["paymentInfo.token"]);
    }

    #[test]
    fn only_imports_pay_by_invoice() {
        for kind in ["invoice", "cash", "Card"] {
            let mut paid = body();
            paid["paymentInfo"] = json!({ "paymentType": kind });
            assert_eq!(fields(paid), ["paymentInfo.paymentType"], "{kind}");
        }
    }
}
