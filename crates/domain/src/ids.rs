//! Typed ids. They are UUIDs made elsewhere and handed in, or derived (v5) from what they stand for.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::{Builder, Uuid, Version};

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
    /// Derived from the cart, its revision and where that stands in the log, so that a checkout sent twice is one order.
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
    /// The order that a cart becomes when it is checked out after the given revision, whose event stands at the given
    /// position of the log. The id begins with that position (UUIDv8), so that streams and rows of orders of one time lie
    /// side by side in every index: see docs/decisions/0009-order-ids-begin-with-a-position.md.
    pub fn of_cart(cart: CartId, revision_before: u64, position_before: u64) -> Self {
        let derived = Self::derived(cart, revision_before).as_u128() & ((1 << 80) - 1);
        let id = u128::from(position_before) << 80 | derived;
        Self(Builder::from_u128(id).with_version(Version::Custom).into_uuid())
    }

    /// Whether this is the order that a cart became after the given revision, wherever that stands in the log. Orders
    /// of the first builds are wholly derived.
    pub fn is_of_cart(self, cart: CartId, revision_before: u64) -> bool {
        let derived = Self::derived(cart, revision_before);
        let tail = |id: Uuid| id.as_u128() & ((1 << 76) - 1);
        self.0 == derived || self.0.get_version() == Some(Version::Custom) && tail(self.0) == tail(derived)
    }

    fn derived(cart: CartId, revision_before: u64) -> Uuid {
        Uuid::new_v5(&cart.0, format!("order/{revision_before}").as_bytes())
    }
}

impl SkuId {
    pub fn of(seller: AccountId, sku: &Sku) -> Self {
        Self(Uuid::new_v5(&seller.0, format!("sku/{}", sku.as_str()).as_bytes()))
    }
}

/// Two ids joined by a hyphen: the first is a UUID, and so 36 characters long.
macro_rules! joined_id {
    ($(#[$doc:meta])* $name:ident { $first:ident: $First:ty, $(#[$second_doc:meta])* $second:ident: $Second:ty }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name {
            pub $first: $First,
            $(#[$second_doc])*
            pub $second: $Second,
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}-{}", self.$first, self.$second)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let (first, second) = text.split_at_checked(36).unwrap_or((text, ""));
                Ok(Self {
                    $first: first.parse()?,
                    $second: second.strip_prefix('-').unwrap_or_default().parse()?,
                })
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

joined_id!(
    /// One shipment per order and seller.
    ShipmentId { order_id: OrderId, seller_id: AccountId }
);
joined_id!(
    /// All returns of one order to one seller: the stream that arbitrates between them.
    ReturnsId { order_id: OrderId, seller_id: AccountId }
);
joined_id!(
    /// Money on its way from the market to a seller.
    PayoutId {
        seller_id: AccountId,
        /// Derived from the request, so that one sent twice is one payout.
        request_id: Uuid
    }
);

/// One return: the n-th of its order and seller, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReturnId {
    pub returns: ReturnsId,
    pub number: u32,
}

impl ReturnId {
    /// Under which its refund is asked for: of the order's payment.
    pub fn refund_key(self) -> Uuid {
        Uuid::new_v5(
            &self.returns.order_id.0,
            format!("return/{}/{}", self.returns.seller_id, self.number).as_bytes(),
        )
    }
}

impl fmt::Display for ReturnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.returns, self.number)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a return's id is its order's, its seller's, and a number")]
pub struct ReturnIdError;

impl FromStr for ReturnId {
    type Err = ReturnIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (returns, number) = text.rsplit_once('-').ok_or(ReturnIdError)?;
        // As it is written, and no other way: one return has one id.
        let number = number.parse().map_err(|_| ReturnIdError)?;
        let id = Self { returns: returns.parse().map_err(|_| ReturnIdError)?, number };
        if id.to_string() == text { Ok(id) } else { Err(ReturnIdError) }
    }
}

impl Serialize for ReturnId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ReturnId {
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
