//! What follows a completed order.
//!
//! - [`bookkeeper`] writes the ledgers of the sellers: sales, refunds, chargebacks;
//! - [`returns`] carries out what an accepted return leads to: stock, money, the end;
//! - [`commissions`] says what the market takes of a sale;
//! - `follower` is how both follow the log and take up again after a crash.

mod bookkeeper;
mod commissions;
mod follower;
mod returns;

use std::{path::PathBuf, sync::Arc};

use tokio_util::sync::CancellationToken;

pub use commissions::{Commissions, CommissionsError};

use crate::Market;
use bookkeeper::Bookkeeper;
use returns::ReturnProcess;

#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub commissions: Commissions,
    /// Where it is noted how far the log was followed, and what was left to do.
    pub notes: Option<PathBuf>,
}

/// Bookkeeper and return process together.
pub struct AfterSales {
    market: Arc<Market>,
    settings: Settings,
}

impl AfterSales {
    pub fn new(market: Arc<Market>, settings: Settings) -> Arc<Self> {
        Arc::new(Self { market, settings })
    }

    /// Until told to stop. May be run again afterwards.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let notes = |name: &str| self.settings.notes.as_ref().map(|folder| folder.join(name));
        let bookkeeper = Bookkeeper::new(Arc::clone(&self.market), self.settings.commissions.clone());
        let returns = ReturnProcess::new(Arc::clone(&self.market));
        let log = &self.market.log;
        futures::future::join(
            follower::run(log, bookkeeper, notes("bookkeeper.json"), &stop),
            follower::run(log, Arc::clone(&returns), notes("returns.json"), &stop),
        )
        .await;
        returns.finish().await;
    }
}
