//! The returns of an order, as they were.

use std::collections::BTreeSet;

use souk_domain::{
    AccountId, Decider, OrderId, ReturnsId,
    returns::{ReturnEvent, Returns},
};
use souk_event_log::{At, StreamName};
use souk_projections::returns::{ReturnView, told};

use super::{Step, replay};
use crate::{Api, problem::Problem};

/// To these sellers; oldest first.
pub(crate) async fn returns(
    api: &Api,
    order_id: OrderId,
    sellers: &BTreeSet<AccountId>,
    until: At,
) -> Result<Vec<ReturnView>, Problem> {
    let mut views = Vec::new();
    for &seller_id in sellers {
        let mut events = Vec::new();
        let stream = StreamName::new(Returns::CATEGORY, ReturnsId { order_id, seller_id });
        replay(api, stream, until, |step: Step<ReturnEvent>| events.push((step.event, step.at))).await?;
        views.extend(told(events));
    }
    views.sort_by_key(|view| (view.requested_at, view.return_id.to_string()));
    Ok(views)
}
