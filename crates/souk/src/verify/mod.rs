//! `souk verify`: proves stock, money and views against the event log, beside a running server or without one.
//!
//! The log is read once, in its order. Each view is compared with what the log comes to at exactly the position that the
//! view has; all of them are read from one snapshot of PostgreSQL, taken when every view has what the log held at the start.

mod bank;
mod report;
mod views;

use std::{path::PathBuf, sync::Arc};

use anyhow::bail;
use futures::StreamExt;
use souk_audit::Audit;
use souk_event_log::{Direction, EventLog, Filter, Position};

use self::{report::Report, views::Snapshot};
use crate::{
    cli::VerifyArgs,
    config::{Config, EventLogChoice},
    data_dir::DataDir,
    progress::Progress,
    wiring::{Site, open_log},
};

/// Between two looks at how far we are.
const STEP: u64 = 4_096;

pub(crate) async fn run(config: Config, args: VerifyArgs) -> anyhow::Result<()> {
    let data = DataDir::new(&config.data_dir);
    if config.event_log == EventLogChoice::Sqlite && !data.log().is_file() {
        bail!("there is no event log at {}", data.log().display());
    }
    let report = if args.log_only {
        let log = open_log(config.event_log, data).await?;
        let mut audit = Audit::default();
        let head = log.head().await?;
        read(&*log, &mut audit, head, None).await?;
        Report::of(audit)
    } else {
        let bank = config.sandbox_bank.clone().unwrap_or_else(|| data.bank());
        let site = Site::enter(&config, "souk verify").await?;
        let projections = site.project();
        let result = all(&site, bank).await;
        projections.shutdown().await;
        site.leave().await?;
        result?
    };
    report.print(args.json);
    match report.findings.count {
        0 => Ok(()),
        1 => bail!("1 finding"),
        count => bail!("{count} findings"),
    }
}

async fn all(site: &Site, bank: PathBuf) -> anyhow::Result<Report> {
    let log = Arc::clone(site.log());
    let mut audit = Audit::default();
    let Some(head) = log.head().await? else { return Ok(Report::of(audit)) };
    let mut snapshot = Snapshot::at(site.pool(), head).await?;
    let end = snapshot.end().max(head);
    read(&*log, &mut audit, Some(end), Some(&mut snapshot)).await?;
    snapshot.compare_rest(&mut audit).await?;
    let mut report = Report::of(audit);
    report.views = snapshot.compared();
    if bank.is_file() {
        report.compare_bank(&bank)?;
    }
    Ok(report)
}

/// Up to the position (inclusive), with a stop wherever a view is.
async fn read(
    log: &dyn EventLog,
    audit: &mut Audit,
    end: Option<Position>,
    mut snapshot: Option<&mut Snapshot>,
) -> anyhow::Result<()> {
    let Some(end) = end else { return Ok(()) };
    let progress = Progress::new("events", end + 1);
    let mut events = log.read_all(0, Filter::all(), Direction::Forward, usize::MAX);
    while let Some(event) = events.next().await {
        let event = event?;
        if event.position > end {
            break;
        }
        if let Some(snapshot) = &mut snapshot {
            snapshot.compare_before(event.position, audit).await?;
        }
        audit.take(&event);
        if audit.events.is_multiple_of(STEP) {
            progress.set(event.position + 1);
        }
    }
    progress.finish();
    Ok(())
}
