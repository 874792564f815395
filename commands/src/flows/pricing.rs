//! What a cart costs its buyer at this moment: a quote and a checkout are priced by the same function. Whether a coupon or
//! credit is still there is looked at here, so that a buyer hears of it at once; its own stream decides, later.

use souk_domain::{
    AccountId, CartId, CreditId, Money, PromotionId,
    cart::{CartError, CartState},
    credit::{CreditKind, CreditState},
    pricing::{Basket, Coupon, Priced, PricingError},
    promotion::PromotionState,
};

use super::{
    carts::{self, CartView, CartViewLine},
    checkout::CheckoutFlowError,
};
use crate::{ExecuteError, Market};

/// What a buyer may bring to the till beside money.
#[derive(Clone, Default)]
pub struct Extras {
    pub coupon_code: Option<String>,
    pub gift_card_code: Option<String>,
    pub use_store_credit: bool,
}

/// A gift card's code is as good as money.
impl std::fmt::Debug for Extras {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Extras").field("coupon_code", &self.coupon_code).finish_non_exhaustive()
    }
}

#[derive(Clone, Debug)]
pub struct Quote {
    pub lines: Vec<CartViewLine>,
    pub priced: Priced,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GiftCardRefusal {
    #[error("there is no such gift card")]
    Unknown,
    #[error("this gift card is in another currency")]
    Currency,
    #[error("nothing is left on this gift card")]
    Empty,
}

/// What the open cart would cost. `country`: where it would be sent to.
pub async fn quote(
    market: &Market,
    account: AccountId,
    cart_id: CartId,
    country: Option<&str>,
    extras: &Extras,
) -> Result<Quote, CheckoutFlowError> {
    let cart = market.aggregates.carts.read(cart_id, CartState::clone).await?;
    if let Some(order) = cart.value.checked_out.filter(|_| cart.value.account_id == Some(account)) {
        return Err(ExecuteError::Refused(CartError::CheckedOut(order)).into());
    }
    if cart.value.account_id != Some(account) {
        return Err(carts::not_there(market, account, cart_id).await?);
    }
    let view = carts::view(market, cart_id, cart.revision, &cart.value.lines).await?;
    let priced = price(market, account, &view, country, extras).await?;
    Ok(Quote { lines: view.lines, priced })
}

pub(super) async fn price(
    market: &Market,
    account: AccountId,
    view: &CartView,
    country: Option<&str>,
    extras: &Extras,
) -> Result<Priced, CheckoutFlowError> {
    let goods = goods(view)?;
    let weight_grams = weight(&view.lines, market.prices.default_weight_grams);
    let basket = Basket { goods, weight_grams, country };
    let mut priced = match &extras.coupon_code {
        Some(code) => {
            let promotion_id = PromotionId::of_code(code);
            let promotion = market.aggregates.promotions.read(promotion_id, PromotionState::clone).await?;
            let created = promotion.value.usable(account, goods, market.clock.now())?;
            let coupon = Coupon { promotion_id, code: &created.code, takes_off: &created.takes_off };
            market.prices.price(&basket, Some(coupon))?
        }
        None => market.prices.price(&basket, None)?,
    };
    if let Some(code) = &extras.gift_card_code {
        let id = CreditId::of_gift_card(code);
        priced.pay_with(id, left_on_card(market, id, goods).await?);
    }
    if extras.use_store_credit {
        let id = CreditId::of_account(account, goods.currency);
        let left = market.aggregates.credits.read(id, CreditState::available).await?.value;
        priced.pay_with(id, left);
    }
    Ok(priced)
}

fn goods(view: &CartView) -> Result<Money, CheckoutFlowError> {
    if let Some(line) = view.lines.iter().find(|line| line.withdrawn) {
        return Err(CheckoutFlowError::Withdrawn(line.sku.clone()));
    }
    if view.lines.is_empty() {
        return Err(CheckoutFlowError::EmptyCart);
    }
    view.total.ok_or(CheckoutFlowError::MixedCurrencies)
}

fn weight(lines: &[CartViewLine], default: u64) -> u64 {
    lines.iter().fold(0_u64, |sum, line| {
        let each = line.weight_grams.unwrap_or(default);
        sum.saturating_add(each.saturating_mul(line.quantity.into()))
    })
}

async fn left_on_card(market: &Market, id: CreditId, goods: Money) -> Result<i64, CheckoutFlowError> {
    let card = market.aggregates.credits.read(id, CreditState::clone).await?.value;
    let opened = card.opened.as_ref().filter(|opened| opened.kind == CreditKind::GiftCard);
    match opened {
        None => Err(GiftCardRefusal::Unknown.into()),
        Some(opened) if opened.currency != goods.currency => Err(GiftCardRefusal::Currency.into()),
        Some(_) if card.available() <= 0 => Err(GiftCardRefusal::Empty.into()),
        Some(_) => Ok(card.available()),
    }
}

impl CheckoutFlowError {
    /// Which field of the request a refusal of the price is about.
    pub fn field(&self) -> Option<&'static str> {
        match self {
            Self::Coupon(_) | Self::Pricing(PricingError::NothingToTakeOff) => Some("couponCode"),
            Self::GiftCard(_) => Some("giftCardCode"),
            Self::Pricing(PricingError::CountryNeeded | PricingError::NotShippedTo(_)) => {
                Some("shippingAddress.country")
            }
            Self::Pricing(PricingError::TooLarge) => Some("cartId"),
            _ => None,
        }
    }
}
