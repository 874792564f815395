//! What can go wrong in a flow or a query, mapped to what the client is told. Each match is exhaustive: a new failure asks
//! for its status here.

use souk_commands::{
    ExecuteError,
    checkout::CheckoutError,
    executor::ReadFailure,
    flows::{
        accounts::RegisterError, carts::CartFlowError, checkout::CheckoutFlowError, credits::GrantError,
        items::ItemFlowError, returns::ReturnFlowError, shipments::DispatchError,
    },
};
use souk_domain::{
    account::AccountError, cart::CartError, credit::CreditError, inventory::InventoryError, item::ItemError,
    ledger::LedgerError, order::OrderError, promotion::PromotionError, returns::ReturnError,
    shipment::ShipmentError, synonyms::SynonymsError,
};
use souk_event_log::ReadError;
use souk_gateways::GatewayError;
use souk_projections::{QueryError, recommendations::RecommendationError, runner::RebuildError};
use souk_search::SearchError;
use souk_vault::{CreateConsumerError, RotateError, VaultError};

use crate::{
    problem::{FieldError, Kind, Problem},
    validation::MoneyBody,
};

impl<R: Into<Problem>> From<ExecuteError<R>> for Problem {
    fn from(error: ExecuteError<R>) -> Self {
        match error {
            ExecuteError::Refused(refusal) => refusal.into(),
            ExecuteError::Stale { .. } => Self::new(Kind::Stale),
            ExecuteError::KeyReused => Self::new(Kind::KeyReused),
            ExecuteError::Unavailable(cause) => Self::unavailable(cause),
            ExecuteError::Unreadable(cause) => Self::internal(cause),
        }
    }
}

impl From<ReadFailure> for Problem {
    fn from(failure: ReadFailure) -> Self {
        Self::unavailable(failure)
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Unavailable(_) => Self::unavailable(error),
            ReadError::Corrupt(_) => Self::internal(error),
        }
    }
}

impl From<VaultError> for Problem {
    fn from(error: VaultError) -> Self {
        match error {
            VaultError::Database(_) if error.is_unavailable() => Self::unavailable(error),
            VaultError::Forgotten(_) => Self::new(Kind::Conflict).detail("The person asked to be forgotten."),
            VaultError::HoldsAnotherAddress(_) => Self::new(Kind::Conflict).detail("Try again."),
            VaultError::Database(_)
            | VaultError::Migration(_)
            | VaultError::WrongMasterKey
            | VaultError::Unreadable(_)
            | VaultError::UnreadableSecret(_)
            | VaultError::TooLong
            | VaultError::Randomness(_)
            | VaultError::Password(_) => Self::internal(error),
        }
    }
}

impl From<CreateConsumerError> for Problem {
    fn from(error: CreateConsumerError) -> Self {
        let message = sentence(&error);
        match error {
            CreateConsumerError::KeyReused => Self::new(Kind::KeyReused),
            CreateConsumerError::TooMany => Self::new(Kind::Conflict).detail(message),
            CreateConsumerError::Vault(error) => error.into(),
        }
    }
}

impl From<RotateError> for Problem {
    fn from(error: RotateError) -> Self {
        match error {
            RotateError::Unknown | RotateError::Expired => {
                Self::new(Kind::SessionEnded).detail("Log in again.")
            }
            RotateError::Reused { .. } => Self::new(Kind::SessionEnded)
                .detail("The refresh token was used before, so the session was ended: log in again."),
            RotateError::Vault(error) => error.into(),
        }
    }
}

impl From<QueryError> for Problem {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Cursor => {
                Self::malformed_fields(vec![FieldError::new("cursor", "This is no cursor of this list.")])
            }
            QueryError::Building | QueryError::Unavailable(_) => Self::unavailable(error),
            QueryError::Failed(_) => Self::internal(error),
        }
    }
}

impl From<RecommendationError> for Problem {
    fn from(error: RecommendationError) -> Self {
        match error {
            RecommendationError::Book(_) => Self::unavailable(error),
            RecommendationError::Search(error) => error.into(),
        }
    }
}

impl From<SearchError> for Problem {
    fn from(error: SearchError) -> Self {
        match error {
            SearchError::Cursor => {
                Self::malformed_fields(vec![FieldError::new("cursor", "This is no cursor of this search.")])
            }
            SearchError::Facet(name) => Self::malformed_fields(vec![FieldError::new(
                "facets",
                format!("There is no facet {name:?}."),
            )]),
            SearchError::Locked | SearchError::Index(_) | SearchError::Io(_) => Self::unavailable(error),
            SearchError::Document(_) => Self::internal(error),
        }
    }
}

impl From<RebuildError> for Problem {
    fn from(error: RebuildError) -> Self {
        match error {
            RebuildError::Unknown(_) => Self::not_found("projector"),
            RebuildError::Stopped(_) => Self::internal(error),
            RebuildError::Query(error) => error.into(),
        }
    }
}

impl From<AccountError> for Problem {
    fn from(error: AccountError) -> Self {
        match error {
            AccountError::NotFound => Self::not_found("account"),
            AccountError::Suspended => Self::new(Kind::AccountSuspended),
            AccountError::Forgotten => Self::new(Kind::Conflict).detail("The person asked to be forgotten."),
        }
    }
}

impl From<RegisterError> for Problem {
    fn from(error: RegisterError) -> Self {
        match error {
            RegisterError::AddressTaken => Self::new(Kind::AddressTaken),
            RegisterError::Vault(error) => error.into(),
            RegisterError::Execute(error) => error.into(),
        }
    }
}

impl From<SynonymsError> for Problem {
    fn from(error: SynonymsError) -> Self {
        match error {
            SynonymsError::TooMany | SynonymsError::TooLong => Self::invalid("synonyms", sentence(&error)),
        }
    }
}

impl From<ItemError> for Problem {
    fn from(error: ItemError) -> Self {
        let message = sentence(&error);
        match error {
            ItemError::NotFound => Self::not_found("item"),
            ItemError::NoVariant | ItemError::DuplicateSku(_) | ItemError::OptionsFixed(_) => {
                Self::invalid("variants", message)
            }
            ItemError::PriceNotPositive => Self::invalid("price.amount", message),
            ItemError::MixedCurrencies => Self::invalid("price.currency", message),
        }
    }
}

impl From<CheckoutError> for Problem {
    fn from(error: CheckoutError) -> Self {
        match error {
            CheckoutError::NotFound => Self::not_found("checkout"),
            CheckoutError::NotParked
            | CheckoutError::NotByHand
            | CheckoutError::WasCharged
            | CheckoutError::Disputed => Self::new(Kind::Conflict).detail(sentence(&error)),
        }
    }
}

impl From<InventoryError> for Problem {
    fn from(error: InventoryError) -> Self {
        match error {
            InventoryError::NotFound => Self::not_found("SKU"),
            InventoryError::SkuTaken => Self::new(Kind::SkuTaken),
            InventoryError::Insufficient { available } => {
                Self::new(Kind::InsufficientStock).detail(sentence(&error)).with("available", available)
            }
            InventoryError::TooMuch => Self::invalid("change", sentence(&error)),
            InventoryError::NotReserved(_) => Self::new(Kind::Conflict).detail(sentence(&error)),
        }
    }
}

impl From<ItemFlowError> for Problem {
    fn from(error: ItemFlowError) -> Self {
        let message = sentence(&error);
        match error {
            ItemFlowError::NotFound => Self::not_found("item"),
            ItemFlowError::NotYours => Self::new(Kind::Forbidden).detail(message),
            ItemFlowError::SkuTaken(sku) => {
                Self::new(Kind::SkuTaken).detail(message).with("sku", sku.as_str())
            }
            ItemFlowError::PriceNeeded(_) => Self::invalid("price", message),
            ItemFlowError::NoSuchSku | ItemFlowError::SkuFixed => Self::invalid("sku", message),
            ItemFlowError::SoldInVariants(field) => Self::invalid(field, message),
            ItemFlowError::BadChange => Self::invalid("change", message),
            ItemFlowError::Item(error) => error.into(),
            ItemFlowError::Inventory(error) => error.into(),
        }
    }
}

impl From<CartError> for Problem {
    fn from(error: CartError) -> Self {
        let message = sentence(&error);
        match error {
            CartError::CheckedOut(order) => {
                Self::new(Kind::Conflict).detail(message).with("orderId", order.to_string())
            }
            CartError::Empty => Self::invalid("cartId", message),
            CartError::Changed => Self::new(Kind::Conflict).detail(message),
            CartError::TooManyLines => Self::invalid("itemId", message),
            CartError::TooMany => Self::invalid("quantity", message),
            CartError::WrongTotal => Self::internal(error),
        }
    }
}

impl From<CartFlowError> for Problem {
    fn from(error: CartFlowError) -> Self {
        let message = sentence(&error);
        match error {
            CartFlowError::NoSuchItem => Self::not_found("item"),
            CartFlowError::SkuNeeded | CartFlowError::NoSuchSku => Self::invalid("sku", message),
            CartFlowError::Withdrawn => Self::new(Kind::ItemWithdrawn),
            CartFlowError::TooLarge => Self::invalid("quantity", message),
            CartFlowError::Execute(error) => error.into(),
        }
    }
}

impl From<GatewayError> for Problem {
    fn from(error: GatewayError) -> Self {
        match error {
            GatewayError::Invalid { field, message } => Self::invalid(field, message),
            GatewayError::Unavailable(_) | GatewayError::Resting(_) | GatewayError::Unknown(_) => {
                Self::unavailable(error)
            }
        }
    }
}

impl From<CheckoutFlowError> for Problem {
    fn from(error: CheckoutFlowError) -> Self {
        let (message, field) = (sentence(&error), error.field());
        match error {
            CheckoutFlowError::NoSuchCart => Self::not_found("cart"),
            CheckoutFlowError::EmptyCart | CheckoutFlowError::MixedCurrencies => {
                Self::invalid("cartId", message)
            }
            CheckoutFlowError::Withdrawn(sku) => {
                Self::new(Kind::ItemWithdrawn).detail(message).with("sku", sku.as_str())
            }
            CheckoutFlowError::AmountChanged { total } => {
                let total = serde_json::to_value(MoneyBody::from(total)).unwrap_or_default();
                Self::new(Kind::AmountChanged)
                    .detail("Check out again with what it costs now.")
                    .with("total", total)
            }
            CheckoutFlowError::Coupon(_) | CheckoutFlowError::GiftCard(_) | CheckoutFlowError::Pricing(_) => {
                Self::invalid(field.unwrap_or("cartId"), message)
            }
            CheckoutFlowError::Payment(error) => error.into(),
            CheckoutFlowError::Vault(error) => error.into(),
            CheckoutFlowError::Cart(error) => error.into(),
        }
    }
}

impl From<OrderError> for Problem {
    fn from(error: OrderError) -> Self {
        let message = sentence(&error);
        match error {
            OrderError::NotFound => Self::not_found("order"),
            OrderError::TooLateToCancel => Self::new(Kind::TooLateToCancel),
            OrderError::BeingCancelled | OrderError::OutOfOrder { .. } => {
                Self::new(Kind::Conflict).detail(message)
            }
        }
    }
}

impl From<PromotionError> for Problem {
    fn from(error: PromotionError) -> Self {
        let message = sentence(&error);
        match error {
            PromotionError::NotFound => Self::not_found("promotion"),
            PromotionError::CodeTaken | PromotionError::NotClaimed(_) => {
                Self::new(Kind::Conflict).detail(message)
            }
            PromotionError::Percentage => Self::invalid("basisPoints", message),
            PromotionError::NotPositive => Self::invalid("amount", message),
            PromotionError::Period => Self::invalid("endsAt", message),
        }
    }
}

impl From<CreditError> for Problem {
    fn from(error: CreditError) -> Self {
        let message = sentence(&error);
        match error {
            CreditError::NotFound => Self::not_found("credit"),
            CreditError::NotPositive | CreditError::TooMuch => Self::invalid("amount.amount", message),
            CreditError::Currency => Self::invalid("amount.currency", message),
            CreditError::NotTheirs | CreditError::NotHeld(_) => Self::new(Kind::Conflict).detail(message),
        }
    }
}

impl From<GrantError> for Problem {
    fn from(error: GrantError) -> Self {
        match error {
            GrantError::Account(error) => error.into(),
            GrantError::Credit(error) => error.into(),
        }
    }
}

impl From<ShipmentError> for Problem {
    fn from(error: ShipmentError) -> Self {
        let message = sentence(&error);
        match error {
            ShipmentError::NotFound => Self::not_found("shipment"),
            ShipmentError::OutOfOrder(_) => Self::new(Kind::NotReady).detail(message),
            ShipmentError::DispatchedOtherwise | ShipmentError::Nothing => {
                Self::new(Kind::Conflict).detail(message)
            }
            ShipmentError::TooMany { left, .. } => {
                Self::new(Kind::Conflict).detail(message).with("left", left)
            }
            ShipmentError::NoSuchParcel(_) => Self::invalid("parcel", message),
        }
    }
}

impl From<ReturnError> for Problem {
    fn from(error: ReturnError) -> Self {
        let message = sentence(&error);
        match error {
            ReturnError::NotFound => Self::not_found("return"),
            ReturnError::Nothing | ReturnError::NotBought(_) => Self::invalid("lines", message),
            ReturnError::TooMany { left, sku } => {
                Self::new(Kind::Conflict).detail(message).with("left", left).with("sku", sku.as_str())
            }
            ReturnError::TooMuch { most } => {
                let most = serde_json::to_value(MoneyBody::from(most)).unwrap_or_default();
                Self::new(Kind::Conflict).detail(message).with("most", most)
            }
            ReturnError::Decided | ReturnError::NotParked | ReturnError::Undecided => {
                Self::new(Kind::Conflict).detail(message)
            }
        }
    }
}

impl From<ReturnFlowError> for Problem {
    fn from(error: ReturnFlowError) -> Self {
        let message = sentence(&error);
        match error {
            ReturnFlowError::NotCompleted(_) => Self::new(Kind::NotReady).detail(message),
            ReturnFlowError::NotOfOrder(_) | ReturnFlowError::Ambiguous(_) => Self::invalid("lines", message),
            ReturnFlowError::UnderWay | ReturnFlowError::NotAsked => {
                Self::new(Kind::Conflict).detail(message)
            }
            ReturnFlowError::Order(error) => error.into(),
            ReturnFlowError::Shipment(error) => error.into(),
            ReturnFlowError::Return(error) => error.into(),
            ReturnFlowError::Vault(error) => error.into(),
        }
    }
}

impl From<LedgerError> for Problem {
    fn from(error: LedgerError) -> Self {
        let message = sentence(&error);
        match error {
            LedgerError::AboveBalance { balance } => {
                let balance = serde_json::to_value(MoneyBody::from(balance)).unwrap_or_default();
                Self::new(Kind::Conflict).detail(message).with("balance", balance)
            }
            LedgerError::NoSuchPayout => Self::not_found("payout"),
            LedgerError::Decided => Self::new(Kind::Conflict).detail(message),
            LedgerError::Unbalanced => Self::internal(error),
        }
    }
}

impl From<DispatchError> for Problem {
    fn from(error: DispatchError) -> Self {
        let message = sentence(&error);
        match error {
            DispatchError::OrderNotReady(_) => Self::new(Kind::NotReady).detail(message),
            DispatchError::Execute(error) => error.into(),
        }
    }
}

/// The refusals of the domain are written to go on after a colon.
fn sentence(error: &impl ToString) -> String {
    let text = error.to_string();
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => format!("{}{}.", first.to_uppercase(), chars.as_str()),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use souk_domain::{Currency, Money};

    use super::*;

    #[test]
    fn the_status_list_of_the_contract() {
        let kind = |problem: Problem| problem.kind().facts().0.as_u16();
        assert_eq!(kind(ExecuteError::<ItemError>::Stale { actual: Some(3) }.into()), 412);
        assert_eq!(kind(ExecuteError::<ItemError>::KeyReused.into()), 422);
        assert_eq!(kind(ExecuteError::<ItemError>::Unavailable("log".into()).into()), 503);
        assert_eq!(kind(ItemFlowError::NotYours.into()), 403);
        assert_eq!(kind(CheckoutFlowError::NoSuchCart.into()), 404);
        assert_eq!(kind(CheckoutFlowError::MixedCurrencies.into()), 422);
        assert_eq!(
            kind(CheckoutFlowError::AmountChanged { total: Money::new(5, Currency::USD) }.into()),
            409
        );
        assert_eq!(kind(OrderError::TooLateToCancel.into()), 409);
        assert_eq!(kind(QueryError::Cursor.into()), 400);
        assert_eq!(kind(QueryError::Building.into()), 503);
        assert_eq!(kind(SearchError::Facet("x".into()).into()), 400);
    }

    #[test]
    fn an_empty_cart_and_bad_payment_details_name_their_field() {
        assert_eq!(Problem::from(CheckoutFlowError::EmptyCart).errors()[0].field, "cartId");
        let refused = GatewayError::invalid("paymentInfo.cardNo", "This is not a card number.");
        assert_eq!(
            Problem::from(CheckoutFlowError::Payment(refused)).errors()[0].field,
            "paymentInfo.cardNo"
        );
    }
}
