//! `souk import catalog`: goods from files, each through the command that sellers use. Many are under way at once, so
//! that one commit of the log takes many.

use std::{
    collections::BTreeMap,
    io::BufRead,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use anyhow::{Context as _, bail};
use futures::{StreamExt, stream};
use souk_commands::{
    Context, Market,
    flows::{accounts, items},
};
use souk_domain::{
    AccountId,
    account::{Role, Standing},
    item::ItemState,
};
use souk_gateways::sandbox::Script;
use uuid::Uuid;

use super::{
    NAMESPACE, file,
    product::{Product, ProductError},
};
use crate::{
    config::{Config, Roles},
    progress::{Progress, grouped},
    wiring::Site,
};

/// Items on their way at once.
const IN_FLIGHT: usize = 256;
/// Refused lines that are shown one by one.
const SHOWN: usize = 20;

pub(crate) async fn run(config: Config, files: &[PathBuf], seller: Option<Uuid>) -> anyhow::Result<()> {
    for path in files {
        // Before anything is started.
        file::open(path)?;
    }
    let began = Instant::now();
    let site = Site::enter(&config, "souk import catalog").await?;
    let market = site.market(Script::default()).await?;
    let views =
        site.follow(&market, Roles { api: false, process: false, project: true, search: true }).await?;
    let result = import(&market, files, seller.map(AccountId)).await;
    let caught_up = match &result {
        Ok(_) => views.catch_up().await,
        Err(_) => Ok(()),
    };
    views.stop().await;
    drop(market);
    site.leave().await?;
    result?.print(began);
    caught_up
}

/// What became of the lines of all files.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    listed: u64,
    already: u64,
    refused: Vec<Refused>,
}

#[derive(Debug)]
struct Refused {
    file: String,
    line: u64,
    reason: String,
}

pub(crate) enum Came {
    Listed,
    Already,
}

/// As [`run`], in a market that is there.
pub(crate) async fn import(
    market: &Arc<Market>,
    files: &[PathBuf],
    seller: Option<AccountId>,
) -> anyhow::Result<Summary> {
    let mut summary = Summary::default();
    for path in files {
        let seller = match seller {
            Some(seller) => existing_seller(market, seller).await?,
            None => own_seller(market, path).await?,
        };
        import_file(market, path, seller, &mut summary).await?;
    }
    Ok(summary)
}

async fn import_file(
    market: &Arc<Market>,
    path: &Path,
    seller: AccountId,
    summary: &mut Summary,
) -> anyhow::Result<()> {
    let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let progress = Progress::new(&name, 0);
    let mut outcomes = stream::iter(lines(path)?)
        .map(|(line, product)| {
            let market = Arc::clone(market);
            // A task each, so that both reading the file and deciding have a core.
            tokio::spawn(async move { (line, list(&market, seller, product).await) })
        })
        .buffer_unordered(IN_FLIGHT);
    while let Some(outcome) = outcomes.next().await {
        let (line, outcome) = outcome.context("listing an item")?;
        match outcome {
            Ok(Came::Listed) => summary.listed += 1,
            Ok(Came::Already) => summary.already += 1,
            Err(reason) => summary.refused.push(Refused { file: name.clone(), line, reason }),
        }
        progress.add(1);
    }
    progress.finish();
    Ok(())
}

pub(crate) async fn list(
    market: &Market,
    seller: AccountId,
    product: Result<Product, ProductError>,
) -> Result<Came, String> {
    let item = product.and_then(|product| product.into_item(seller)).map_err(|error| error.to_string())?;
    let Some(item_id) = item.item_id else { return Err("the item has no id".to_owned()) };
    let known = market.aggregates.items.read(item_id, ItemState::is_some).await;
    if known.map_err(|error| error.to_string())?.value {
        return Ok(Came::Already);
    }
    let context = Context::new(Uuid::new_v5(&item_id.0, b"import"), "import");
    items::list(market, &context, item).await.map(|_| Came::Listed).map_err(|error| error.to_string())
}

type Lines = Box<dyn Iterator<Item = (u64, Result<Product, ProductError>)> + Send>;

/// Every line with its number, the first being 1; empty ones are passed over.
fn lines(path: &Path) -> anyhow::Result<Lines> {
    let reader = file::open(path)?;
    if file::is_csv(path) {
        let mut reader = file::csv_reader(reader);
        let header = reader.headers().with_context(|| path.display().to_string())?.clone();
        if !header.iter().any(|name| name.trim() == "title" || name.trim() == "name") {
            bail!("{}: the first line names no column `title`", path.display());
        }
        return Ok(Box::new(reader.into_records().enumerate().map(move |(index, record)| {
            let product = match &record {
                Ok(record) => Product::from_csv(&header, record),
                Err(error) => Err(ProductError::Csv(error.to_string())),
            };
            let line = record.ok().and_then(|record| record.position().map(csv::Position::line));
            (line.unwrap_or(index as u64 + 2), product)
        })));
    }
    Ok(Box::new(reader.lines().enumerate().filter_map(|(index, line)| {
        let product = match line {
            Ok(line) if line.trim().is_empty() => return None,
            Ok(line) => Product::from_json(&line),
            Err(error) => Err(ProductError::Json(error.to_string())),
        };
        Some((index as u64 + 1, product))
    })))
}

async fn existing_seller(market: &Market, seller: AccountId) -> anyhow::Result<AccountId> {
    let account = accounts::find(market, seller).await?.value;
    if account.standing != Standing::Active || !account.roles.contains(&Role::Seller) {
        bail!("--seller {seller}: there is no such seller");
    }
    Ok(seller)
}

/// The account that sells what is in a file; the same for a file of the same name.
async fn own_seller(market: &Market, path: &Path) -> anyhow::Result<AccountId> {
    let name = file::stem(path);
    let seller = AccountId(Uuid::new_v5(&NAMESPACE, format!("catalogue/{name}").as_bytes()));
    let context = Context::new(Uuid::new_v5(&seller.0, b"register"), "import");
    let display_name = format!("Imported catalogue {name}");
    accounts::register_without_login(market, &context, seller, &display_name, Role::Seller).await?;
    Ok(seller)
}

impl Summary {
    fn print(&self, began: Instant) {
        let rows = self.listed + self.already + self.refused.len() as u64;
        println!("{} products read in {:.1} s", grouped(rows), began.elapsed().as_secs_f64());
        println!("  listed           {:>10}", grouped(self.listed));
        println!("  already there    {:>10}", grouped(self.already));
        println!("  refused          {:>10}", grouped(self.refused.len() as u64));
        let mut reasons: BTreeMap<&str, u64> = BTreeMap::new();
        for refused in &self.refused {
            *reasons.entry(&refused.reason).or_default() += 1;
        }
        for (reason, count) in reasons {
            println!("    {:>8}  {reason}", grouped(count));
        }
        let mut refused: Vec<_> = self.refused.iter().collect();
        refused.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
        for Refused { file, line, reason } in refused.iter().take(SHOWN) {
            println!("    {file}, line {line}: {reason}");
        }
        if refused.len() > SHOWN {
            println!("    and {} more", grouped((refused.len() - SHOWN) as u64));
        }
    }

    pub(crate) fn listed(&self) -> u64 {
        self.listed
    }

    pub(crate) fn already(&self) -> u64 {
        self.already
    }
}
