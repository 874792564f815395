//! The parts of what an order costs, as orders and quotes show them.

use serde::Serialize;
use souk_domain::{Money, pricing::Charges};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::validation::MoneyBody;

/// goods − discounts + shipping + tax = total; credits pay a part of it.
#[derive(Serialize, ToSchema)]
#[schema(as = Charges)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ChargesBody {
    pub(crate) discounts: Vec<DiscountBody>,
    pub(crate) shipping: MoneyBody,
    pub(crate) tax: MoneyBody,
    pub(crate) credits: Vec<CreditUseBody>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Discount)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DiscountBody {
    promotion_id: Uuid,
    code: Option<String>,
    amount: MoneyBody,
}

#[derive(Serialize, ToSchema)]
#[schema(as = CreditUse)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CreditUseBody {
    credit_id: Uuid,
    amount: MoneyBody,
}

impl ChargesBody {
    pub(crate) fn of(charges: Charges, total: Money) -> Self {
        let discounts = charges.discounts.into_iter().map(|discount| DiscountBody {
            promotion_id: discount.promotion_id.0,
            code: discount.code,
            amount: discount.amount.into(),
        });
        let credits = charges
            .credits
            .into_iter()
            .map(|credit| CreditUseBody { credit_id: credit.credit_id.0, amount: credit.amount.into() });
        let or_nothing = |money: Option<Money>| money.unwrap_or(total.with(0)).into();
        Self {
            discounts: discounts.collect(),
            shipping: or_nothing(charges.shipping),
            tax: or_nothing(charges.tax),
            credits: credits.collect(),
        }
    }
}
