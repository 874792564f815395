//! Minor units: Souk counts as ISO 4217 does, Stripe nearly so (<https://docs.stripe.com/currencies>, "Zero-decimal
//! currencies", "Three-decimal currencies", "Special cases").

use souk_domain::Money;

use crate::GatewayError;

/// What one of our minor units is at Stripe, as a fraction.
fn factor(currency: &str) -> (i64, i64) {
    match currency {
        // No minor unit here, two decimals there, which are zeros.
        "ISK" | "UGX" => (100, 1),
        // Five iraimbilanja make an ariary; ISO 4217 writes it with two decimals, Stripe with none.
        "MGA" => (1, 100),
        _ => (1, 1),
    }
}

/// Those of three decimals, of which the last must be zero.
fn step(currency: &str) -> i64 {
    if matches!(currency, "BHD" | "JOD" | "KWD" | "OMR" | "TND") { 10 } else { 1 }
}

pub(super) fn to_stripe(money: Money) -> Result<i64, GatewayError> {
    let (times, by) = factor(money.currency.as_str());
    let scaled =
        money.amount.checked_mul(times).filter(|scaled| scaled % (by * step(money.currency.as_str())) == 0);
    scaled.map(|scaled| scaled / by).ok_or_else(|| {
        GatewayError::invalid("amount", &format!("Stripe cannot charge {} {}", money.amount, money.currency))
    })
}

/// `None` of a currency that is none, or of a part of a minor unit.
pub(super) fn from_stripe(amount: i64, currency: &str) -> Option<Money> {
    let currency = currency.to_ascii_uppercase();
    let (times, by) = factor(&currency);
    let scaled = amount.checked_mul(by).filter(|scaled| scaled % times == 0)?;
    Some(Money::new(scaled / times, currency.parse().ok()?))
}

/// As Stripe writes it.
pub(super) fn currency(money: Money) -> String {
    money.currency.as_str().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn money(amount: i64, currency: &str) -> Money {
        Money::new(amount, currency.parse().unwrap())
    }

    #[test]
    fn amounts_are_counted_as_stripe_counts() {
        for (ours, currency, theirs) in [
            (1599, "USD", 1599),
            (500, "JPY", 500),
            (5, "ISK", 500),
            (5, "UGX", 500),
            (500, "MGA", 5),
            (5120, "KWD", 5120),
        ] {
            assert_eq!(to_stripe(money(ours, currency)).unwrap(), theirs, "{currency}");
            assert_eq!(from_stripe(theirs, &currency.to_lowercase()), Some(money(ours, currency)));
        }
        for (ours, currency) in [(5123, "KWD"), (501, "MGA"), (i64::MAX, "ISK")] {
            assert!(to_stripe(money(ours, currency)).is_err(), "{ours} {currency}");
        }
    }
}
