//! `souk views`: how far each view is, and building one again. Beside a server the server does the building, and tells of
//! its search index, which nobody else can look into; without one this command does it.

use std::time::{Duration, Instant};

use anyhow::bail;
use serde_json::{Value, json};
use souk_gateways::sandbox::Script;
use souk_projections::runner::BESIDE;
use tokio::time::sleep;

use crate::{
    cli::ViewsCommand,
    config::{Config, Roles},
    progress::{Progress, grouped},
    wiring::{Site, Workers},
};

/// How long it may take until whoever writes a view begins to build it again.
const TAKEN_UP: Duration = Duration::from_secs(10);

const NOBODY: Roles = Roles { api: false, process: false, project: false, search: false };

pub(crate) async fn run(config: Config, command: ViewsCommand) -> anyhow::Result<()> {
    let site = Site::enter(&config, "souk views").await?;
    let market = site.market(Script::default()).await?;
    let roles = match &command {
        ViewsCommand::Status { .. } => NOBODY,
        ViewsCommand::Rebuild { name } if BESIDE.contains(&&**name) => Roles { search: true, ..NOBODY },
        ViewsCommand::Rebuild { .. } => Roles { project: true, ..NOBODY },
    };
    let workers = site.follow(&market, roles).await?;
    let result = match command {
        ViewsCommand::Status { json } => show(&workers, json).await,
        ViewsCommand::Rebuild { name } => rebuild(&workers, &name).await,
    };
    workers.stop().await;
    drop(market);
    site.leave().await?;
    result
}

async fn show(workers: &Workers, as_json: bool) -> anyhow::Result<()> {
    let statuses = workers.statuses().await?;
    if as_json {
        println!("{}", json!({ "projections": statuses }));
        return Ok(());
    }
    println!("view             version generation state         position     behind");
    for status in &statuses {
        let number = |name: &str| status[name].as_u64().map_or_else(|| "-".to_owned(), grouped);
        let text = |name: &str| status[name].as_str().unwrap_or_default().to_owned();
        println!(
            "{:<16} {:>7} {:>10} {:<9} {:>12} {:>10}",
            text("name"),
            number("version"),
            number("generation"),
            text("state"),
            number("position"),
            number("lagEvents")
        );
        if let Some(error) = status["error"].as_str() {
            println!("    {error}");
        }
    }
    Ok(())
}

async fn rebuild(workers: &Workers, name: &str) -> anyhow::Result<()> {
    let began = Instant::now();
    let progress = Progress::new(name, 0);
    let before = newest(&workers.statuses().await?, name);
    workers.projections.rebuild(name).await?;
    loop {
        let statuses = workers.statuses().await?;
        let new = statuses.iter().find(|status| is(status, name) && status["generation"].as_u64() > before);
        if let Some(status) = new {
            let count = |name: &str| status[name].as_u64().map_or(0, |position| position + 1);
            progress.set_total(count("head"));
            progress.set(count("position"));
            match status["state"].as_str() {
                Some("active") if status["served"] == true => break,
                Some("stopped") => {
                    bail!("the rebuild stopped: {}", status["error"].as_str().unwrap_or_default())
                }
                _ => {}
            }
        } else if began.elapsed() > TAKEN_UP {
            bail!("nobody has begun to build {name}: does a server with the role for it run?");
        }
        sleep(Duration::from_millis(100)).await;
    }
    progress.finish();
    println!("{name} was built again in {:.1} s", began.elapsed().as_secs_f64());
    Ok(())
}

fn is(status: &Value, name: &str) -> bool {
    status["name"] == name
}

fn newest(statuses: &[Value], name: &str) -> Option<u64> {
    statuses.iter().filter(|status| is(status, name)).filter_map(|status| status["generation"].as_u64()).max()
}
