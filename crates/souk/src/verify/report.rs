//! What came of it, for people or as one JSON object.

use std::path::Path;

use chrono::{DateTime, Utc};
use serde::Serialize;
use souk_audit::{Audit, Finding, Findings, Summary};
use souk_domain::OrderId;
use souk_event_log::Position;

use super::bank;
use crate::progress::grouped;

pub(super) struct Report {
    pub(super) findings: Findings,
    /// Each view with the position at which it was compared.
    pub(super) views: Vec<(&'static str, Position)>,
    /// Charges in the books of the sandbox's bank.
    charges: Option<u64>,
    summary: Summary,
    parked: Vec<Parked>,
    audit: Audit,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Parked {
    order_id: OrderId,
    since: DateTime<Utc>,
    effect: String,
    reason: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Json<'a> {
    events: u64,
    head: Option<Position>,
    #[serde(flatten)]
    summary: &'a Summary,
    views: Vec<View>,
    bank_charges: Option<u64>,
    parked: &'a [Parked],
    /// The first thousand.
    findings: &'a [Finding],
    findings_count: u64,
}

#[derive(Serialize)]
struct View {
    name: &'static str,
    position: Position,
}

impl Report {
    pub(super) fn of(mut audit: Audit) -> Self {
        let summary = audit.finish();
        let parked = audit
            .parked()
            .into_iter()
            .map(|(order_id, parked)| Parked {
                order_id,
                since: parked.since,
                effect: parked.effect.clone(),
                reason: parked.reason.clone(),
            })
            .collect();
        let findings = std::mem::take(&mut audit.findings);
        Self { findings, views: vec![], charges: None, summary, parked, audit }
    }

    pub(super) fn compare_bank(&mut self, path: &Path) -> anyhow::Result<()> {
        self.charges = bank::compare(path, &self.audit, &mut self.findings)?;
        Ok(())
    }

    pub(super) fn print(&self, as_json: bool) {
        if as_json {
            let views = self.views.iter().map(|&(name, position)| View { name, position }).collect();
            let json = Json {
                events: self.audit.events,
                head: self.audit.head(),
                summary: &self.summary,
                views,
                bank_charges: self.charges,
                parked: &self.parked,
                findings: &self.findings.kept,
                findings_count: self.findings.count,
            };
            println!("{}", serde_json::json!(json));
            return;
        }
        let Summary { skus, orders, completed, cancelled, in_flight, money } = &self.summary;
        println!("log      {} events, up to {}", grouped(self.audit.events), position(self.audit.head()));
        println!("stock    {} SKUs", grouped(*skus));
        println!(
            "orders   {}: {} completed, {} cancelled, {} on their way, {} of these parked",
            grouped(*orders),
            grouped(*completed),
            grouped(*cancelled),
            grouped(*in_flight),
            grouped(self.parked.len() as u64)
        );
        for (currency, flow) in money {
            println!(
                "money    {currency}: {} charged, {} given back, {} of both by hand, {} disputed (minor units)",
                flow.charged, flow.refunded, flow.by_hand, flow.disputed
            );
        }
        for (name, at) in &self.views {
            println!("view     {name} at {at}");
        }
        if let Some(charges) = self.charges {
            println!("bank     {} charges", grouped(charges));
        }
        for parked in &self.parked {
            println!(
                "parked   order-{} since {}, for {}: {}",
                parked.order_id, parked.since, parked.effect, parked.reason
            );
        }
        for finding in &self.findings.kept {
            println!("finding  {} at {}: {}", finding.stream, position(finding.position), finding.problem);
        }
        match self.findings.count - self.findings.kept.len() as u64 {
            0 if self.findings.count == 0 => println!("everything adds up"),
            0 => {}
            more => println!("finding  … and {} more", grouped(more)),
        }
    }
}

fn position(position: Option<Position>) -> String {
    position.map_or_else(|| "-".to_owned(), |position| position.to_string())
}
