//! What the market owes a seller, and paying it out.

use std::{collections::BTreeMap, sync::Arc};

use axum::{Json, extract::State, http::StatusCode, response::Response};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use souk_commands::flows::payouts::{self as flow, Payout};
use souk_domain::{
    Currency, Money,
    ledger::{CommissionRate, LedgerAccount, PayoutStatus, Posting},
};
use souk_projections::ledger::{self as view, EntryView, PayoutView};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    Api,
    answer::{self, acknowledged},
    auth::Seller,
    extract::{Body, CommandHead, MinPosition, Params},
    problem::{Problem, ProblemBody},
    validation::{MoneyBody, Validation},
};

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LedgerPage {
    /// What is owed, one amount per currency; below zero, what the seller owes.
    balances: Vec<MoneyBody>,
    /// All accounts, by currency; they sum to zero.
    accounts: Vec<AccountBalance>,
    entries: Vec<EntryBody>,
    next_cursor: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct AccountBalance {
    /// `clearing`, `sellerPayable`, `commission`, `payouts`, `chargebacks` or `losses`.
    #[schema(value_type = String)]
    account: LedgerAccount,
    amount: MoneyBody,
}

#[derive(Serialize, ToSchema)]
#[schema(as = LedgerEntry)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EntryBody {
    /// The place in the ledger.
    number: u64,
    at: DateTime<Utc>,
    /// `sale`, `refund`, `chargeback`, `chargebackWon`, `chargebackLost`, `payout`, `payoutSettled` or `payoutFailed`.
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    order_id: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payout_id: Option<String>,
    /// Of a sale: what of it was charged at which rate.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    commission: Vec<RateBody>,
    /// What each account gains; they sum to zero.
    postings: Vec<AccountBalance>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = CommissionRate)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RateBody {
    on: MoneyBody,
    /// Ten thousandths.
    basis_points: u32,
}

impl From<EntryView> for EntryBody {
    fn from(entry: EntryView) -> Self {
        let rate = |rate: CommissionRate| RateBody { on: rate.on.into(), basis_points: rate.basis_points };
        let posting =
            |posting: Posting| AccountBalance { account: posting.account, amount: posting.amount.into() };
        Self {
            number: entry.revision,
            at: entry.at,
            kind: entry.kind,
            order_id: entry.order_id.map(|id| id.0),
            payout_id: entry.payout_id.map(|id| id.to_string()),
            commission: entry.rates.into_iter().map(rate).collect(),
            postings: entry.postings.into_iter().map(posting).collect(),
        }
    }
}

fn accounts(balances: BTreeMap<Currency, BTreeMap<LedgerAccount, i64>>) -> Vec<AccountBalance> {
    let of_currency = |(currency, accounts): (Currency, BTreeMap<LedgerAccount, i64>)| {
        accounts.into_iter().map(move |(account, amount)| AccountBalance {
            account,
            amount: Money::new(amount, currency).into(),
        })
    };
    balances.into_iter().flat_map(of_currency).collect()
}

/// My ledger: what I am owed, and every entry that led there, newest first.
#[utoipa::path(get, path = "/v1/seller/ledger", tag = "Selling", security(("bearer" = [])),
    params(("cursor" = Option<String>, Query), ("size" = Option<u32>, Query), ("Souk-Min-Position" = Option<u64>, Header)),
    responses((status = 200, body = LedgerPage), (status = 403, body = ProblemBody), (status = 503, body = ProblemBody),
        (status = 400, body = ProblemBody)))]
pub(crate) async fn show(
    Seller(seller): Seller,
    State(api): State<Arc<Api>>,
    MinPosition(min): MinPosition,
    mut params: Params,
) -> Result<Json<LedgerPage>, Problem> {
    let (cursor, size) = params.page();
    params.finish()?;
    api.see(&[answer::view::LEDGER], min).await?;
    let page = view::entries(&api.pool, seller.account, cursor.as_deref(), size).await?;
    let accounts = accounts(view::balances(&api.pool, seller.account).await?);
    let payable = accounts.iter().filter(|balance| balance.account == LedgerAccount::SellerPayable);
    Ok(Json(LedgerPage {
        balances: payable.map(|balance| balance.amount.clone()).collect(),
        accounts,
        entries: page.rows.into_iter().map(EntryBody::from).collect(),
        next_cursor: page.next_cursor,
    }))
}

#[derive(Serialize, ToSchema)]
#[schema(as = Payout)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PayoutBody {
    /// The seller's id and the payout's own, joined by a hyphen.
    payout_id: String,
    seller_id: Uuid,
    amount: MoneyBody,
    /// `requested`, `settled` or `failed`.
    #[schema(value_type = String)]
    status: PayoutStatus,
    /// The bank's reference.
    #[serde(skip_serializing_if = "Option::is_none")]
    reference: Option<String>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    requested_at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<DateTime<Utc>>,
}

impl From<Payout> for PayoutBody {
    fn from(payout: Payout) -> Self {
        Self {
            payout_id: payout.payout_id.to_string(),
            seller_id: payout.payout_id.seller_id.0,
            amount: payout.amount.into(),
            status: payout.status,
            reference: None,
            reason: None,
            requested_at: None,
            ended_at: None,
        }
    }
}

impl From<PayoutView> for PayoutBody {
    fn from(payout: PayoutView) -> Self {
        let PayoutView { payout_id, amount, status, note, requested_at, ended_at } = payout;
        let (reference, reason) = if status == PayoutStatus::Failed { (None, note) } else { (note, None) };
        let requested_at = Some(requested_at);
        Self { reference, reason, requested_at, ended_at, ..Payout { payout_id, amount, status }.into() }
    }
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PayoutPage {
    pub(crate) payouts: Vec<PayoutBody>,
    pub(crate) next_cursor: Option<String>,
}

/// My payouts, newest first.
#[utoipa::path(get, path = "/v1/seller/payouts", tag = "Selling", security(("bearer" = [])),
    params(("cursor" = Option<String>, Query), ("size" = Option<u32>, Query), ("Souk-Min-Position" = Option<u64>, Header)),
    responses((status = 200, body = PayoutPage), (status = 403, body = ProblemBody), (status = 503, body = ProblemBody),
        (status = 400, body = ProblemBody)))]
pub(crate) async fn payouts(
    Seller(seller): Seller,
    State(api): State<Arc<Api>>,
    MinPosition(min): MinPosition,
    mut params: Params,
) -> Result<Json<PayoutPage>, Problem> {
    let (cursor, size) = params.page();
    params.finish()?;
    api.see(&[answer::view::LEDGER], min).await?;
    let page = view::payouts(&api.pool, Some(seller.account), None, cursor.as_deref(), size).await?;
    let payouts = page.rows.into_iter().map(PayoutBody::from).collect();
    Ok(Json(PayoutPage { payouts, next_cursor: page.next_cursor }))
}

#[derive(Deserialize, ToSchema)]
pub(crate) struct RequestPayout {
    #[schema(value_type = MoneyBody)]
    amount: Option<MoneyBody>,
}

/// Ask to be paid what I am owed, or a part of it.
#[utoipa::path(post, path = "/v1/seller/payouts", tag = "Selling", security(("bearer" = [])),
    request_body = RequestPayout, params(("Idempotency-Key" = Option<String>, Header)),
    responses((status = 201, body = PayoutBody), (status = 409, description = "That much is not owed.", body = ProblemBody),
        (status = 422, body = ProblemBody),
        (status = 403, body = ProblemBody)))]
pub(crate) async fn request_payout(
    Seller(seller): Seller,
    State(api): State<Arc<Api>>,
    head: CommandHead,
    body: Body<RequestPayout>,
) -> Result<Response, Problem> {
    let context = head.context(&api, Some(seller.account), &body.raw);
    let mut check = Validation::default();
    let amount = check.present("amount", body.value.amount);
    let amount = check.money("amount", amount);
    let Some(amount) = amount else { return Err(check.into()) };
    let market = Arc::clone(&api.market);
    let done =
        api.run(async move { flow::request(&market, &context, seller.account, amount).await }).await??;
    Ok(acknowledged(StatusCode::CREATED, done.position, PayoutBody::from(done.value)))
}
