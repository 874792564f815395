//! Typed ids. They are UUIDs made elsewhere and handed in, or derived (v5) from what they stand for.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Currency;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}

id!(ItemId);
id!(
    /// One per buyer at a time; the next one is derived from the account and a count.
    CartId
);
id!(
    /// Derived from the cart and its revision, so that a checkout sent twice is one order.
    OrderId
);
id!(AccountId);
id!(
    /// What is kept in stock: derived from the seller and the seller's own text, so that two sellers may use the same text.
    SkuId
);
id!(
    /// Derived from the code that buyers type, whatever its case.
    PromotionId
);
id!(
    /// A gift card or somebody's store credit: derived from the card's code, or from the account and the currency.
    CreditId
);

impl PromotionId {
    pub fn of_code(code: &str) -> Self {
        Self(Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("promotion/{}", code.to_uppercase()).as_bytes()))
    }
}

impl CreditId {
    /// Codes are typed by people: case, spaces and hyphens do not count.
    pub fn of_gift_card(code: &str) -> Self {
        let code: String = code.chars().filter(char::is_ascii_alphanumeric).collect();
        Self(Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("gift card/{}", code.to_uppercase()).as_bytes()))
    }

    /// What the market owes an account in one currency.
    pub fn of_account(account: AccountId, currency: Currency) -> Self {
        Self(Uuid::new_v5(&account.0, format!("credit/{currency}").as_bytes()))
    }
}

id!(
    /// There is one list of synonyms.
    SynonymsId
);

impl SynonymsId {
    pub const SHOP: Self = Self(Uuid::nil());
}

impl CartId {
    /// The n-th cart of an account; the first has n = 1.
    pub fn nth(account: AccountId, n: u64) -> Self {
        Self(Uuid::new_v5(&account.0, format!("cart/{n}").as_bytes()))
    }
}

impl OrderId {
    /// The order that a cart becomes when it is checked out after the given revision.
    pub fn of_cart(cart: CartId, revision_before: u64) -> Self {
        Self(Uuid::new_v5(&cart.0, format!("order/{revision_before}").as_bytes()))
    }
}

impl SkuId {
    pub fn of(seller: AccountId, sku: &Sku) -> Self {
        Self(Uuid::new_v5(&seller.0, format!("sku/{}", sku.as_str()).as_bytes()))
    }
}

/// One shipment per order and seller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShipmentId {
    pub order_id: OrderId,
    pub seller_id: AccountId,
}

impl fmt::Display for ShipmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.order_id, self.seller_id)
    }
}

impl FromStr for ShipmentId {
    type Err = uuid::Error;

    /// Two hyphenated UUIDs joined by a hyphen; the first is 36 characters long.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (order, seller) = text.split_at_checked(36).unwrap_or((text, ""));
        Ok(Self {
            order_id: order.parse()?,
            seller_id: seller.strip_prefix('-').unwrap_or_default().parse()?,
        })
    }
}

impl Serialize for ShipmentId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ShipmentId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The seller's own text for what he keeps in stock: 1 to 64 printable characters, no white space at its ends.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sku(String);

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a SKU is 1 to 64 printable characters without white space at its ends")]
pub struct SkuError;

impl Sku {
    pub fn parse(text: &str) -> Result<Self, SkuError> {
        let fits = (1..=64).contains(&text.chars().count());
        if !fits || text.trim() != text || text.chars().any(char::is_control) {
            return Err(SkuError);
        }
        Ok(Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Sku {
    type Error = SkuError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<Sku> for String {
    fn from(sku: Sku) -> Self {
        sku.0
    }
}

impl fmt::Display for Sku {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
