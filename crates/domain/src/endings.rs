//! How what orders had held of something scarce has ended: stock, coupons, credit.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::OrderId;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Ending {
    Rejected,
    Released,
    Committed,
}

/// The latest endings, so that a late or repeated command finds how its reservation ended. Commands that cross each other
/// do so within milliseconds, in which a hot SKU sees a few hundred endings; who waited longer with a reservation looks
/// first whether it is still wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "VecDeque<(OrderId, Ending)>", into = "VecDeque<(OrderId, Ending)>")]
pub(crate) struct Endings {
    by_order: BTreeMap<OrderId, Ending>,
    oldest_first: VecDeque<OrderId>,
}

const ENDINGS_KEPT: usize = 10_000;

impl Endings {
    pub(crate) fn of(&self, order: OrderId) -> Option<Ending> {
        self.by_order.get(&order).copied()
    }

    pub(crate) fn remember(&mut self, order: OrderId, ending: Ending) {
        if self.by_order.insert(order, ending).is_none() {
            self.oldest_first.push_back(order);
        }
        if self.oldest_first.len() > ENDINGS_KEPT
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.by_order.remove(&oldest);
        }
    }
}

impl From<VecDeque<(OrderId, Ending)>> for Endings {
    fn from(pairs: VecDeque<(OrderId, Ending)>) -> Self {
        Self {
            oldest_first: pairs.iter().map(|(order, _)| *order).collect(),
            by_order: pairs.into_iter().collect(),
        }
    }
}

impl From<Endings> for VecDeque<(OrderId, Ending)> {
    fn from(ended: Endings) -> Self {
        ended.oldest_first.iter().filter_map(|order| Some((*order, *ended.by_order.get(order)?))).collect()
    }
}
