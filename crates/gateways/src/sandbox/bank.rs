//! The sandbox behind both ports. Each attempt waits as long as the script says, then does its work in the writer's
//! transaction, where its attempts are counted too.

use std::{path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use souk_domain::{AccountId, Money, payment::PaymentMethod};
use uuid::Uuid;

use super::{
    OpenError, Script, Step, details,
    ledger::{Answer, Ledger},
    script::Rule,
    writer::Writer,
};
use crate::{
    Booking, BuyerAction, Cancellation, Carrier, Charge, GatewayError, PaymentDetails, PaymentGateway,
    Purchase,
};

/// A bank and a carrier that exist on this machine alone. Clones share one bank.
#[derive(Clone)]
pub struct SandboxBank(Arc<Inner>);

struct Inner {
    writer: Writer,
    script: Script,
    clock: Box<dyn Fn() -> DateTime<Utc> + Send + Sync>,
}

impl SandboxBank {
    /// Opens the file, or makes it. Blocks: meant for the start of a program.
    pub fn open(
        path: &Path,
        script: Script,
        clock: impl Fn() -> DateTime<Utc> + Send + Sync + 'static,
    ) -> Result<Self, OpenError> {
        Ok(Self(Arc::new(Inner { writer: Writer::open(path)?, script, clock: Box::new(clock) })))
    }

    /// What is in the buyer's wallet, in minor units.
    pub async fn balance(&self, buyer: AccountId) -> Result<i64, GatewayError> {
        let now = (self.0.clock)();
        self.0.writer.run(move |db| Ledger { db, now }.balance(buyer)).await
    }

    /// Plays the buyer before his bank: confirms a charge that waits for it, or refuses to. What became of the charge;
    /// `None` if there is none.
    pub async fn answer(&self, charge_id: &str, confirm: bool) -> Result<Option<Charge>, GatewayError> {
        let (now, charge_id) = ((self.0.clock)(), charge_id.to_owned());
        self.0.writer.run(move |db| Ledger { db, now }.answer(&charge_id, confirm)).await
    }

    /// One attempt at a step, as the script wants it. `work` is told whether to refuse.
    async fn attempt<T: Send + 'static>(
        &self,
        step: Step,
        key: Uuid,
        work: impl FnOnce(&Ledger<'_>, bool) -> Answer<T> + Send + 'static,
    ) -> Result<T, GatewayError> {
        let rule = self.0.script.rule(step);
        if rule.delay_ms > 0 {
            tokio::time::sleep(Duration::from_millis(rule.delay_ms)).await;
        }
        let now = (self.0.clock)();
        let scripted = move |db: &rusqlite::Connection| {
            let ledger = Ledger { db, now };
            match turn(rule, step, key, &ledger)? {
                Turn::Well => work(&ledger, rule.refuse),
                Turn::Fails => Ok(Err(GatewayError::Unavailable(format!("the script says so, at {step}")))),
                Turn::Lost => Ok(Err(unknown(step))),
                // An answer that says "not possible" is hidden as well: nobody hears it.
                Turn::Unseen => work(&ledger, rule.refuse).map(|_| Err(unknown(step))),
            }
        };
        self.0.writer.run(scripted).await?
    }
}

enum Turn {
    Well,
    Fails,
    Lost,
    Unseen,
}

fn turn(rule: Rule, step: Step, key: Uuid, ledger: &Ledger<'_>) -> rusqlite::Result<Turn> {
    if !rule.counts_attempts() {
        return Ok(Turn::Well);
    }
    let attempt = u64::from(ledger.count_attempt(step.name(), key)?);
    let failed = u64::from(rule.fail_first);
    let lost = failed + u64::from(rule.unknown_lost);
    let unseen = lost + u64::from(rule.unknown_first);
    Ok(match attempt {
        attempt if attempt <= failed => Turn::Fails,
        attempt if attempt <= lost => Turn::Lost,
        attempt if attempt <= unseen => Turn::Unseen,
        _ => Turn::Well,
    })
}

fn unknown(step: Step) -> GatewayError {
    GatewayError::Unknown(format!("the script says so, at {step}"))
}

#[async_trait]
impl PaymentGateway for SandboxBank {
    async fn tokenize(
        &self,
        key: Uuid,
        buyer: AccountId,
        details: &PaymentDetails,
    ) -> Result<PaymentMethod, GatewayError> {
        // Only what may be kept goes on from here.
        let kept = details::check(details, (self.0.clock)());
        let refused = details::refused_field(details);
        self.attempt(Step::Tokenize, key, move |ledger, refuse| match kept {
            Ok(_) if refuse => {
                Ok(Err(GatewayError::invalid(refused, "The sandbox was told to refuse this.")))
            }
            Ok(kept) => ledger.tokenize(key, buyer, &kept),
            Err(invalid) => Ok(Err(invalid)),
        })
        .await
    }

    async fn charge(&self, purchase: &Purchase) -> Result<Charge, GatewayError> {
        let Purchase { key, method, amount, .. } = purchase.clone();
        self.attempt(Step::Charge, key, move |ledger, refuse| ledger.charge(key, &method, amount, refuse))
            .await
    }

    async fn find(&self, purchase: &Purchase) -> Result<Option<Charge>, GatewayError> {
        let key = purchase.key;
        self.attempt(Step::Find, key, move |ledger, _| ledger.find(key)).await
    }

    async fn cancel(&self, purchase: &Purchase) -> Result<Cancellation, GatewayError> {
        let key = purchase.key;
        self.attempt(Step::Cancel, key, move |ledger, _| ledger.cancel(key)).await
    }

    async fn refund(&self, key: Uuid, charge_id: &str, amount: Money) -> Result<String, GatewayError> {
        let charge_id = charge_id.to_owned();
        self.attempt(Step::Refund, key, move |ledger, _| ledger.refund(key, &charge_id, amount)).await
    }

    async fn action(&self, charge_id: &str) -> Result<Option<BuyerAction>, GatewayError> {
        let (now, asked) = ((self.0.clock)(), charge_id.to_owned());
        let waits = self.0.writer.run(move |db| Ledger { db, now }.waits(&asked)).await?;
        Ok(waits.then(|| BuyerAction::Redirect { url: format!("/v1/sandbox/charges/{charge_id}") }))
    }
}

#[async_trait]
impl Carrier for SandboxBank {
    async fn book(&self, key: Uuid, country: &str, _address: Option<&str>) -> Result<Booking, GatewayError> {
        let country = country.to_owned();
        self.attempt(Step::Book, key, move |ledger, refuse| {
            let refusal = match country.as_str() {
                _ if refuse => Some("The sandbox was told to refuse this."),
                "AQ" => Some("Nobody delivers to Antarctica."),
                _ => None,
            };
            ledger.book(key, &country, refusal)
        })
        .await
    }

    async fn cancel(&self, key: Uuid) -> Result<(), GatewayError> {
        self.attempt(Step::CancelBooking, key, move |ledger, _| ledger.cancel_booking(key)).await
    }
}
