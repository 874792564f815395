//! `souk views`: how far each view is, and building one again. Beside a server the server does the building; without one
//! this command does.

use std::time::Instant;

use serde_json::json;
use souk_gateways::sandbox::Script;
use souk_projections::{ProjectorState, ProjectorStatus, search::SearchProjector};

use crate::{
    cli::ViewsCommand,
    config::{Config, Roles},
    progress::{Progress, grouped},
    wiring::{Site, Workers},
};

const NOBODY: Roles = Roles { api: false, process: false, project: false, search: false };

pub(crate) async fn run(config: Config, command: ViewsCommand) -> anyhow::Result<()> {
    let site = Site::enter(&config, "souk views").await?;
    let market = site.market(Script::default()).await?;
    let roles = match &command {
        ViewsCommand::Status { .. } => NOBODY,
        ViewsCommand::Rebuild { name } if name == SearchProjector::NAME => Roles { search: true, ..NOBODY },
        ViewsCommand::Rebuild { .. } => Roles { project: true, ..NOBODY },
    };
    let workers = site.follow(&market, roles).await?;
    let result = match command {
        ViewsCommand::Status { json } => status(&workers, json).await,
        ViewsCommand::Rebuild { name } => rebuild(&workers, &name).await,
    };
    workers.stop().await;
    drop(market);
    site.leave().await?;
    result
}

async fn status(workers: &Workers, as_json: bool) -> anyhow::Result<()> {
    let statuses = workers.projections.status().await;
    if as_json {
        println!("{}", json!({ "projections": statuses }));
        return Ok(());
    }
    println!(
        "{:<16} {:>7} {:>10} {:<9} {:>12} {:>10}",
        "view", "version", "generation", "state", "position", "behind"
    );
    for status in &statuses {
        let position = status.position.map_or_else(|| "-".to_owned(), grouped);
        println!(
            "{:<16} {:>7} {:>10} {:<9} {position:>12} {:>10}",
            status.name,
            status.version,
            status.generation,
            state(status),
            grouped(status.lag_events)
        );
        if let Some(error) = &status.error {
            println!("    {error}");
        }
    }
    Ok(())
}

fn state(status: &ProjectorStatus) -> &'static str {
    match status.state {
        ProjectorState::Building => "building",
        ProjectorState::Active => "active",
        ProjectorState::Stopped => "stopped",
    }
}

async fn rebuild(workers: &Workers, name: &str) -> anyhow::Result<()> {
    let began = Instant::now();
    let progress = Progress::new(name, 0);
    workers
        .projections
        .rebuild_and_wait(name, |status| {
            progress.set_total(status.head.map_or(0, |head| head + 1));
            progress.set(status.position.map_or(0, |position| position + 1));
        })
        .await?;
    progress.finish();
    println!("{name} was built again in {:.1} s", began.elapsed().as_secs_f64());
    Ok(())
}
