//! How much of what people bought next the book had said, beside what always saying the most popular would have.
//!
//! Purchases are split by time: those of the first part are only learnt; each of the rest is asked about before it is learnt,
//! as a shop lives through it, or never learnt at all ([`Learning`]). Three questions, each answered with ten items:
//!
//! - *related*: of one item of an order, the others in it ([`Book::together`]);
//! - *cart*: of all items of an order but one, that one ([`Book::taste`] of nobody);
//! - *home*: of what a buyer bought before, what his order holds that he had never bought. What he had bought is passed
//!   over in every answer.
//!
//! Recall@10 is the share of what was looked for that is among the ten, as a mean over all questions.

use std::collections::{BTreeMap, BTreeSet};

use chrono::TimeDelta;
use uuid::Uuid;

use crate::{Book, BookError, Change, Purchase};

const TEN: usize = 10;
/// Items of an order that are asked about at most, evenly spread: an order of a thousand counts as one.
const ASKED: usize = 3;
/// When an order counts half for what is popular lately, in days.
const LATELY: f64 = 7.0;
/// Candidates that are looked at before what the buyer had is passed over.
const DEEP: usize = 500;

/// Whether what was asked about is learnt then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learning {
    GoesOn,
    Stops,
}

/// Means over all questions of a kind.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Recall {
    pub questions: usize,
    pub souk: f64,
    /// Sold in the most orders of all before.
    pub popular: f64,
    /// The same with an order counting half after a week.
    pub popular_lately: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Report {
    pub learnt: usize,
    pub asked: usize,
    pub related: Recall,
    pub cart: Recall,
    pub home: Recall,
}

/// Fills the book, which is empty, with the purchases up to this share of their time, and asks it about the rest. The
/// purchases come in the order of their time.
pub fn recall(
    book: &Book,
    purchases: &[Purchase],
    share: f64,
    learning: Learning,
    mut progress: impl FnMut(usize),
) -> Result<Report, BookError> {
    let mut report = Report::default();
    let (Some(first), Some(last)) = (purchases.first(), purchases.last()) else { return Ok(report) };
    let learnt = (last.at - first.at).num_milliseconds() as f64 * share;
    let split = first.at + TimeDelta::milliseconds(learnt as i64);
    let mut known = Known::default();
    for (n, purchase) in purchases.iter().enumerate() {
        progress(n);
        let ask = purchase.at >= split;
        if ask {
            report.asked += 1;
            report.ask(book, &known, purchase)?;
        }
        if !ask || learning == Learning::GoesOn {
            report.learnt += usize::from(!ask);
            known.learn(purchase);
            book.apply(&[Change::Bought(purchase.clone())], n as u64)?;
        }
    }
    for recall in [&mut report.related, &mut report.cart, &mut report.home] {
        let questions = recall.questions.max(1) as f64;
        recall.souk /= questions;
        recall.popular /= questions;
        recall.popular_lately /= questions;
    }
    Ok(report)
}

impl Report {
    fn ask(&mut self, book: &Book, known: &Known, purchase: &Purchase) -> Result<(), BookError> {
        let items: BTreeSet<Uuid> = purchase.items.iter().copied().collect();
        let list: Vec<Uuid> = items.iter().copied().collect();
        if list.len() > 1 {
            for asked in (0..ASKED.min(list.len())).map(|nth| list[nth * list.len() / ASKED.min(list.len())])
            {
                let given = BTreeSet::from([asked]);
                let others: BTreeSet<Uuid> = items.difference(&given).copied().collect();
                let picks = book.together(asked, TEN)?;
                let said = picks.iter().map(|pick| pick.item);
                self.related.count(known, said, &others, &given);
                let cart: Vec<Uuid> = others.iter().copied().collect();
                let picks = book.taste(None, &cart, purchase.at, TEN)?.picks;
                self.cart.count(known, picks.iter().map(|pick| pick.item), &given, &others);
            }
        }
        let Some(had) = known.had.get(&purchase.buyer) else { return Ok(()) };
        let new: BTreeSet<Uuid> = items.difference(had).copied().collect();
        if !new.is_empty() {
            let picks = book.taste(Some(purchase.buyer), &[], purchase.at, DEEP)?.picks;
            let said = picks.iter().map(|pick| pick.item).filter(|item| !had.contains(item));
            self.home.count(known, said, &new, had);
        }
        Ok(())
    }
}

impl Recall {
    fn count(
        &mut self,
        known: &Known,
        mut said: impl Iterator<Item = Uuid>,
        wanted: &BTreeSet<Uuid>,
        given: &BTreeSet<Uuid>,
    ) {
        let share = |said: &mut dyn Iterator<Item = Uuid>| {
            said.take(TEN).filter(|item| wanted.contains(item)).count() as f64 / wanted.len() as f64
        };
        self.questions += 1;
        self.souk += share(&mut said);
        self.popular += share(&mut known.most_popular(|item| item.orders, given));
        self.popular_lately += share(&mut known.most_popular(|item| item.lately, given));
    }
}

/// What is needed to say the most popular, and to know what was bought before.
#[derive(Default)]
struct Known {
    items: BTreeMap<Uuid, Popularity>,
    had: BTreeMap<Uuid, BTreeSet<Uuid>>,
}

#[derive(Clone, Copy, Default)]
struct Popularity {
    orders: f64,
    /// On a scale that grows with time.
    lately: f64,
}

impl Known {
    fn learn(&mut self, purchase: &Purchase) {
        let days = purchase.at.timestamp() as f64 / 86_400.0 - 14_610.0;
        let had = self.had.entry(purchase.buyer).or_default();
        for item in purchase.items.iter().collect::<BTreeSet<_>>() {
            let popularity = self.items.entry(*item).or_default();
            popularity.orders += 1.0;
            popularity.lately += (days / LATELY).clamp(-1_000.0, 1_000.0).exp2();
            had.insert(*item);
        }
    }

    fn most_popular(
        &self,
        by: impl Fn(&Popularity) -> f64,
        without: &BTreeSet<Uuid>,
    ) -> impl Iterator<Item = Uuid> {
        let mut items: Vec<(f64, Uuid)> = self
            .items
            .iter()
            .filter(|(item, _)| !without.contains(item))
            .map(|(item, popularity)| (by(popularity), *item))
            .collect();
        let order = |a: &(f64, Uuid), b: &(f64, Uuid)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        if items.len() > TEN {
            items.select_nth_unstable_by(TEN, order);
            items.truncate(TEN);
        }
        items.sort_unstable_by(order);
        items.into_iter().map(|(_, item)| item)
    }
}
