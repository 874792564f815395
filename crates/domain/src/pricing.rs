//! What an order costs: goods − discounts + shipping + tax = total, and total − credits is what the gateway is asked for.
//!
//! The parts are recorded with the order, and nobody computes them again. Shipping and tax follow a [`PriceList`]; an empty
//! one charges neither. All amounts are integer minor units; a share of an amount (a percentage, a tax) is rounded
//! once, to the nearest unit, half a unit up. Whoever wants another rate adds a field to [`ShippingRate`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{CreditId, Currency, Money, PromotionId};

/// A hundredth of a percent.
pub const WHOLE: u32 = 10_000;
/// Rates above this would leave no room for sums.
const MAX_RATE: i64 = 1_000_000_000_000;
/// Every country that has no row of its own.
const ELSEWHERE: &str = "*";

/// What an order costs beside its goods, and what else pays for it. Absent is nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Charges {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub shipping: Option<Money>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tax: Option<Money>,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub discounts: Vec<Discount>,
    /// Parts of the total that are paid by gift card or store credit.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub credits: Vec<CreditUse>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Discount {
    pub promotion_id: PromotionId,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub code: Option<String>,
    pub amount: Money,
    /// The first orders with a coupon do not say it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub taken_off: Option<TakenOff>,
}

/// What a discount made cheaper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TakenOff {
    Goods,
    Shipping,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreditUse {
    pub credit_id: CreditId,
    pub amount: Money,
}

impl Charges {
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// What the goods come to with everything; `None` if a part is negative, in another currency, or takes off more than
    /// there is.
    pub fn total(&self, goods: Money) -> Option<Money> {
        let discounts = sum(goods, self.discounts.iter().map(|discount| discount.amount))?;
        let shipping = sum(goods, self.shipping)?;
        let tax = sum(goods, self.tax)?;
        let taxed = goods.amount.checked_add(shipping)?.checked_sub(discounts).filter(|base| *base >= 0)?;
        let total = taxed.checked_add(tax)?;
        let credits = sum(goods, self.credits.iter().map(|credit| credit.amount))?;
        (credits <= total).then(|| goods.with(total))
    }

    /// What was paid for goods of so much, in minor units: less what was taken off them, with their part of the tax, and
    /// without what sending them cost.
    pub fn paid_for_goods(&self, goods: i64) -> i64 {
        let amount = |charge: Option<Money>| charge.map_or(0, |charge| i128::from(charge.amount));
        let discounts: i128 = self.discounts.iter().map(|discount| i128::from(discount.amount.amount)).sum();
        let net = i128::from(goods.saturating_sub(self.off_goods()).max(0));
        let taxed = i128::from(goods) + amount(self.shipping) - discounts;
        let tax = amount(self.tax);
        i64::try_from(net + (tax * net / taxed.max(1)).min(tax)).unwrap_or(i64::MAX)
    }

    /// What the goods cost less. A discount of which it is not said was on shipping if it is just what that
    /// costs: so the buyer has the benefit of the doubt.
    fn off_goods(&self) -> i64 {
        let is_off_shipping = |discount: &&Discount| match discount.taken_off {
            Some(taken_off) => taken_off == TakenOff::Shipping,
            None => self.shipping == Some(discount.amount),
        };
        let off_goods = self.discounts.iter().filter(|discount| !is_off_shipping(discount));
        off_goods.fold(0, |sum, discount| sum.saturating_add(discount.amount.amount))
    }

    /// What is left of the total for the gateway.
    pub fn due(&self, total: Money) -> Money {
        let credits = self.credits.iter().fold(0_i64, |sum, credit| sum.saturating_add(credit.amount.amount));
        total.with(total.amount.saturating_sub(credits))
    }
}

/// What a promotion takes off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum TakesOff {
    /// Of the goods.
    Percentage { basis_points: u32 },
    /// Of the goods, and not more than they cost.
    Amount { amount: Money },
    /// What shipping costs.
    FreeShipping,
}

/// What shipping and tax cost, by country. Read when the market starts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PriceList {
    /// Of an item whose attribute `weightGrams` is no number.
    pub default_weight_grams: u64,
    /// By currency and country; `*` is every other country. Without any shipping costs nothing; where there are some, to
    /// a country without one nothing is sent.
    pub shipping: BTreeMap<Currency, BTreeMap<String, ShippingRate>>,
    /// In basis points, on the goods after discount and on shipping; `*` as above, and 0 elsewhere.
    pub tax: BTreeMap<String, u32>,
}

/// Either flat or by weight.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ShippingRate {
    pub flat: Option<i64>,
    pub by_weight: Option<ByWeight>,
    /// From this much of goods (after discount) on it costs nothing.
    pub free_above: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ByWeight {
    #[serde(default)]
    pub base: i64,
    /// For every kilogram begun.
    pub per_kilogram: i64,
}

/// A price list that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct PriceListError {
    /// As in the file: `shipping.USD.GB.flat`.
    pub field: String,
    pub problem: String,
}

/// What is bought, as far as its price goes.
#[derive(Clone, Copy, Debug)]
pub struct Basket<'a> {
    pub goods: Money,
    pub weight_grams: u64,
    /// Where to; `None` while the buyer has not said so.
    pub country: Option<&'a str>,
}

/// A promotion that may be used.
#[derive(Clone, Copy, Debug)]
pub struct Coupon<'a> {
    pub promotion_id: PromotionId,
    pub code: &'a str,
    pub takes_off: &'a TakesOff,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Priced {
    pub goods: Money,
    pub charges: Charges,
    pub total: Money,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PricingError {
    #[error("what it costs depends on the country it is sent to")]
    CountryNeeded,
    #[error("nothing is sent to {0}")]
    NotShippedTo(String),
    #[error("this code takes nothing off this cart")]
    NothingToTakeOff,
    #[error("the total is too large")]
    TooLarge,
}

impl Priced {
    pub fn due(&self) -> Money {
        self.charges.due(self.total)
    }

    /// Pays as much as it can of what is still due.
    pub fn pay_with(&mut self, credit_id: CreditId, available: i64) {
        let amount = available.min(self.due().amount);
        if amount > 0 {
            self.charges.credits.push(CreditUse { credit_id, amount: self.total.with(amount) });
        }
    }
}

impl PriceList {
    pub fn price(&self, basket: &Basket<'_>, coupon: Option<Coupon<'_>>) -> Result<Priced, PricingError> {
        let goods = basket.goods;
        let off_goods = match coupon.map(|coupon| coupon.takes_off) {
            Some(TakesOff::Percentage { basis_points }) => share(goods.amount, *basis_points),
            Some(TakesOff::Amount { amount }) if amount.currency == goods.currency => amount.amount,
            _ => 0,
        };
        let off_goods = off_goods.clamp(0, goods.amount.max(0));
        let left = goods.amount - off_goods;
        let shipping = self.shipping(basket, left)?;
        let free = matches!(coupon.map(|coupon| coupon.takes_off), Some(TakesOff::FreeShipping));
        let (off, taken_off) =
            if free { (shipping, TakenOff::Shipping) } else { (off_goods, TakenOff::Goods) };
        let taxed = goods.amount.checked_add(shipping).ok_or(PricingError::TooLarge)? - off;
        let tax = share(taxed, self.tax_rate(basket)?);
        let charge = |amount: i64| (amount > 0).then(|| goods.with(amount));
        let discounts = match coupon {
            Some(_) if off == 0 => return Err(PricingError::NothingToTakeOff),
            Some(Coupon { promotion_id, code, .. }) => vec![Discount {
                promotion_id,
                code: Some(code.to_owned()),
                amount: goods.with(off),
                taken_off: Some(taken_off),
            }],
            None => vec![],
        };
        let charges = Charges { shipping: charge(shipping), tax: charge(tax), discounts, credits: vec![] };
        let total = charges.total(goods).ok_or(PricingError::TooLarge)?;
        Ok(Priced { goods, charges, total })
    }

    /// `left`: what is paid for the goods.
    fn shipping(&self, basket: &Basket<'_>, left: i64) -> Result<i64, PricingError> {
        if self.shipping.is_empty() {
            return Ok(0);
        }
        let country = basket.country.ok_or(PricingError::CountryNeeded)?;
        let rate = self
            .shipping
            .get(&basket.goods.currency)
            .and_then(|rates| row(rates, country))
            .ok_or_else(|| PricingError::NotShippedTo(country.to_owned()))?;
        rate.of(basket.weight_grams, left).ok_or(PricingError::TooLarge)
    }

    fn tax_rate(&self, basket: &Basket<'_>) -> Result<u32, PricingError> {
        if self.tax.is_empty() {
            return Ok(0);
        }
        let country = basket.country.ok_or(PricingError::CountryNeeded)?;
        Ok(row(&self.tax, country).copied().unwrap_or(0))
    }

    /// What is wrong with it, by field.
    pub fn check(&self) -> Result<(), PriceListError> {
        for (currency, rates) in &self.shipping {
            for (country, rate) in rates {
                let field = format!("shipping.{currency}.{country}");
                check_country(&field, country)?;
                rate.check(&field)?;
            }
        }
        for (country, basis_points) in &self.tax {
            let field = format!("tax.{country}");
            check_country(&field, country)?;
            if *basis_points > WHOLE {
                return wrong(field, format!("it is in basis points, {WHOLE} at most"));
            }
        }
        Ok(())
    }
}

impl ShippingRate {
    fn of(&self, grams: u64, left: i64) -> Option<i64> {
        if self.free_above.is_some_and(|limit| left >= limit) {
            return Some(0);
        }
        match &self.by_weight {
            Some(ByWeight { base, per_kilogram }) => {
                let kilograms = i64::try_from(grams.div_ceil(1_000)).ok()?;
                per_kilogram.checked_mul(kilograms)?.checked_add(*base)
            }
            None => Some(self.flat.unwrap_or(0)),
        }
    }

    fn check(&self, field: &str) -> Result<(), PriceListError> {
        let amounts = [
            ("flat", self.flat),
            ("byWeight.base", self.by_weight.as_ref().map(|by| by.base)),
            ("byWeight.perKilogram", self.by_weight.as_ref().map(|by| by.per_kilogram)),
            ("freeAbove", self.free_above),
        ];
        for (name, amount) in amounts {
            if amount.is_some_and(|amount| !(0..=MAX_RATE).contains(&amount)) {
                return wrong(format!("{field}.{name}"), format!("it is between 0 and {MAX_RATE}"));
            }
        }
        if self.flat.is_some() == self.by_weight.is_some() {
            return wrong(field.to_owned(), "it has either `flat` or `byWeight`".to_owned());
        }
        Ok(())
    }
}

/// `None` if one of them is negative, or in another currency.
fn sum(like: Money, parts: impl IntoIterator<Item = Money>) -> Option<i64> {
    parts.into_iter().try_fold(0_i64, |sum, part| {
        let fits = part.currency == like.currency && part.amount >= 0;
        sum.checked_add(part.amount).filter(|_| fits)
    })
}

fn check_country(field: &str, country: &str) -> Result<(), PriceListError> {
    let capitals = country.len() == 2 && country.bytes().all(|byte| byte.is_ascii_uppercase());
    if capitals || country == ELSEWHERE {
        return Ok(());
    }
    wrong(field.to_owned(), "a country is two capital letters, or * for all others".to_owned())
}

fn wrong(field: String, problem: String) -> Result<(), PriceListError> {
    Err(PriceListError { field, problem })
}

fn row<'a, T>(rows: &'a BTreeMap<String, T>, country: &str) -> Option<&'a T> {
    rows.get(country).or_else(|| rows.get(ELSEWHERE))
}

/// So many basis points of an amount, rounded half up.
fn share(amount: i64, basis_points: u32) -> i64 {
    let exact = i128::from(amount) * i128::from(basis_points);
    i64::try_from((exact + i128::from(WHOLE / 2)).div_euclid(i128::from(WHOLE))).unwrap_or(i64::MAX)
}
