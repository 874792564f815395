//! `souk import invoices`: a year of another shop, replayed through the command side. Stock codes become items of one
//! seller, with the stock that the invoices will need received first; each sale invoice becomes a cart and a checkout of
//! its customer, settled by invoice, at the invoice's prices and date; returns go back into stock.
//!
//! A stock code was sold at many prices. Each price is a variant of the item: the code itself at the most common one, and
//! `85123A/295` at 2.95. So every order line carries the price that was paid, and the money adds up to the penny.

mod goods;
mod sheet;
mod tally;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::Path,
    sync::Arc,
    time::Instant,
};

use anyhow::{Context as _, ensure};
use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt, stream};
use souk_commands::{
    Context, Market,
    checkout::Process,
    flows::{accounts, checkout::Address, imports, orders},
};
use souk_domain::{
    AccountId, Currency, Money, OrderId,
    account::{Role, Standing},
    order::OrderLine,
    order::OrderStatus,
};
use souk_event_log::{Direction, Filter};
use souk_gateways::sandbox::Script;
use souk_recommendations::Purchase;
use uuid::Uuid;

use self::{
    goods::Goods,
    sheet::{SaleInvoice, Sheet},
    tally::Outcome,
};
use super::{
    NAMESPACE,
    ends::{self, End, Ends},
    file,
};
use crate::{
    config::{Config, Roles},
    progress::Progress,
    wiring::Site,
};

const SELLER: &str = "Online Retail";
/// Checkouts on their way at once.
const IN_FLIGHT: usize = 200;
/// Everything else that is on its way at once.
const WIDE: usize = 256;

pub(crate) async fn run(config: Config, path: &Path) -> anyhow::Result<()> {
    let began = Instant::now();
    let reading = Progress::new("reading", 0);
    let reader = file::open(path)?;
    let sheet = Sheet::read(reader, |rows| reading.set(rows)).with_context(|| path.display().to_string())?;
    reading.finish();

    let site = Site::enter(&config, "souk import invoices").await?;
    let market = site.market(Script::default()).await?;
    let workers =
        site.follow(&market, Roles { api: false, process: true, project: true, search: true }).await?;
    let result = import(&market, sheet).await;
    let result = match result {
        Ok(outcome) => match workers.catch_up().await {
            Ok(()) => tally::check(&market, site.pool(), outcome).await,
            Err(error) => Err(error),
        },
        Err(error) => Err(error),
    };
    workers.stop().await;
    drop(market);
    site.leave().await?;
    result?.print(began.elapsed())
}

/// The sales alone, in the order of their time, for whoever wants to learn from them without a market. Who is not named is
/// nobody's repeated customer.
pub(crate) fn purchases(path: &Path) -> anyhow::Result<Vec<Purchase>> {
    let reading = Progress::new("reading", 0);
    let reader = file::open(path)?;
    let sheet = Sheet::read(reader, |rows| reading.set(rows)).with_context(|| path.display().to_string())?;
    reading.finish();
    let item = |code: usize| Uuid::new_v5(&NAMESPACE, sheet.codes[code].text.as_bytes());
    let purchase = |invoice: &SaleInvoice| Purchase {
        buyer: match &invoice.customer {
            Some(customer) => account(Some(customer)).0,
            None => command("invoice", &invoice.number),
        },
        items: invoice.lines.iter().map(|line| item(line.code)).collect(),
        at: invoice.date,
    };
    let mut purchases: Vec<Purchase> = sheet.invoices.iter().map(purchase).collect();
    purchases.sort_by_key(|purchase| purchase.at);
    Ok(purchases)
}

async fn import(market: &Arc<Market>, sheet: Sheet) -> anyhow::Result<Outcome> {
    let ends = Ends::follow(&market.log, market.log.head().await?);
    let seller = seller(market, &sheet).await?;
    customers(market, &sheet).await?;
    let before = imported_before(market, &ends, &sheet).await?;
    let goods = Goods::stock(market, seller, &sheet, |invoice| !before.contains_key(&invoice.number)).await?;
    let mut outcome = Outcome::default();
    for invoice in &sheet.invoices {
        if let Some((order, end)) = before.get(&invoice.number) {
            outcome.count(invoice, *order, *end, false);
        }
    }
    place(market, &ends, &goods, &sheet, &before, &mut outcome).await?;
    take_back(market, &goods, &sheet, &mut outcome).await?;
    outcome.sheet = sheet;
    Ok(outcome)
}

async fn seller(market: &Market, sheet: &Sheet) -> anyhow::Result<AccountId> {
    let seller = AccountId(Uuid::new_v5(&NAMESPACE, b"invoices/seller"));
    let first = sheet.invoices.iter().map(|invoice| invoice.date).min();
    let context = context(Uuid::new_v5(&seller.0, b"register"), first);
    accounts::register_without_login(market, &context, seller, SELLER, Role::Seller).await?;
    Ok(seller)
}

/// Accounts without a password; invoices without a customer share one.
async fn customers(market: &Arc<Market>, sheet: &Sheet) -> anyhow::Result<()> {
    let mut first_seen: HashMap<Option<&str>, DateTime<Utc>> = HashMap::new();
    for invoice in &sheet.invoices {
        let seen = first_seen.entry(invoice.customer.as_deref()).or_insert(invoice.date);
        *seen = invoice.date.min(*seen);
    }
    let progress = Progress::new("customers", first_seen.len() as u64);
    // All keys in a few statements instead of one each.
    let people: Vec<_> = first_seen.keys().map(|customer| account(*customer)).collect();
    for people in people.chunks(1_000) {
        market.vault.ensure_keys(people).await?;
    }
    let each = first_seen.into_iter().map(|(customer, since)| {
        let (market, account, name) = (Arc::clone(market), account(customer), name(customer));
        tokio::spawn(async move {
            if accounts::find(&market, account).await?.value.standing == Standing::Unknown {
                let context = context(Uuid::new_v5(&account.0, b"register"), Some(since));
                accounts::register_without_login(&market, &context, account, &name, Role::Buyer).await?;
            }
            anyhow::Ok(())
        })
    });
    let mut registered = stream::iter(each).buffer_unordered(WIDE);
    while let Some(done) = registered.next().await {
        done??;
        progress.add(1);
    }
    progress.finish();
    Ok(())
}

/// By number: what an earlier import placed, and how it ended. What is still on its way is waited for.
async fn imported_before(
    market: &Arc<Market>,
    ends: &Ends,
    sheet: &Sheet,
) -> anyhow::Result<BTreeMap<String, (OrderId, End)>> {
    let each = sheet.invoices.iter().map(|invoice| {
        let (market, ends) = (Arc::clone(market), ends.clone());
        let (buyer, number) = (account(invoice.customer.as_deref()), invoice.number.clone());
        let look = tokio::spawn(async move {
            let Some(order) = imports::imported(&market, buyer, &number).await? else {
                return anyhow::Ok(None);
            };
            Ok(Some((number, (order, end(&market, &ends, order).await?))))
        });
        async { look.await? }
    });
    let found: Vec<_> = stream::iter(each).buffer_unordered(WIDE).try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}

async fn end(market: &Market, ends: &Ends, order: OrderId) -> anyhow::Result<End> {
    let known = orders::find(market, order).await?.value;
    match known.map(|order| (order.status, order.reason)) {
        Some((OrderStatus::Completed, _)) => Ok(End::Completed),
        Some((OrderStatus::Cancelled, reason)) => Ok(End::Cancelled(reason.map_or("unknown", ends::name))),
        _ => {
            let parked =
                |process: &Option<Process>| process.as_ref().is_some_and(|process| process.parked.is_some());
            let parked = market.aggregates.checkouts.read(order, parked).await?.value;
            if parked { Ok(End::Parked) } else { ends.of(order).await }
        }
    }
}

async fn place(
    market: &Arc<Market>,
    ends: &Ends,
    goods: &Goods,
    sheet: &Sheet,
    before: &BTreeMap<String, (OrderId, End)>,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    let progress = Progress::new("invoices", (sheet.invoices.len() - before.len()) as u64);
    let new = sheet.invoices.iter().filter(|invoice| !before.contains_key(&invoice.number));
    let each = new.map(|invoice| {
        let (market, ends) = (Arc::clone(market), ends.clone());
        let context = context(command("invoice", &invoice.number), Some(invoice.date));
        let command = order_of(goods, invoice);
        let placed = tokio::spawn(async move {
            let placed = imports::invoice(&market, &context, command?).await?;
            anyhow::Ok((placed.order_id, ends.of(placed.order_id).await?))
        });
        async move { (invoice, placed.await) }
    });
    let mut placed = stream::iter(each).buffer_unordered(IN_FLIGHT);
    while let Some((invoice, placed)) = placed.next().await {
        match placed? {
            Ok((order, end)) => outcome.count(invoice, order, end, true),
            Err(error) => outcome.refuse(invoice, &error),
        }
        progress.add(1);
    }
    progress.finish();
    Ok(())
}

fn order_of(goods: &Goods, invoice: &SaleInvoice) -> anyhow::Result<imports::Invoice> {
    let lines = invoice.lines.iter().map(|line| {
        let sold = goods.find(line.code, line.pennies)?;
        Ok(OrderLine {
            item_id: sold.item_id,
            seller_id: goods.seller,
            sku_id: sold.sku_id,
            sku: sold.sku.clone(),
            name: sold.name.to_string(),
            quantity: line.quantity,
            unit_price: Money::new(line.pennies, Currency::GBP),
        })
    });
    let customer = invoice.customer.as_deref();
    Ok(imports::Invoice {
        number: invoice.number.clone(),
        buyer: account(customer),
        lines: lines.collect::<anyhow::Result<_>>()?,
        // The file has nothing but the country.
        address: Address {
            name: name(customer),
            line1: "not in the import".to_owned(),
            line2: None,
            city: "not in the import".to_owned(),
            region: None,
            postal_code: "-".to_owned(),
            country: invoice.country.clone(),
        },
    })
}

/// Streams remember their latest commands only, so what was taken back before is looked up in the log.
async fn take_back(
    market: &Arc<Market>,
    goods: &Goods,
    sheet: &Sheet,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    let before = commands_of_receipts(market).await?;
    let progress = Progress::new("returns", sheet.returns.len() as u64);
    let new = sheet.returns.iter().filter_map(|returned| {
        let command = command("return", &format!("{}/{}", returned.invoice, returned.row));
        (!before.contains(&command)).then_some((returned, command))
    });
    let each = new.map(|(returned, command)| {
        let market = Arc::clone(market);
        let context = context(command, Some(returned.date));
        let need = sheet.codes[returned.code]
            .price_of_return(returned.pennies)
            .context("nothing was sold under the code")
            .and_then(|pennies| goods.find(returned.code, pennies))
            .map(|sold| sold.need(goods.seller, returned.quantity.into()));
        let reason = format!("return {}", returned.invoice);
        tokio::spawn(async move { anyhow::Ok(imports::take_back(&market, &context, need?, reason).await?) })
    });
    let mut taken = stream::iter(each).buffer_unordered(WIDE);
    while let Some(done) = taken.next().await {
        done??;
        outcome.returns_new += 1;
        progress.add(1);
    }
    progress.finish();
    Ok(())
}

async fn commands_of_receipts(market: &Market) -> anyhow::Result<HashSet<Uuid>> {
    let filter =
        Filter { event_types: vec!["StockReceived".to_owned()], ..Filter::categories(["inventory"]) };
    let mut receipts = market.log.read_all(0, filter, Direction::Forward, usize::MAX);
    let mut commands = HashSet::new();
    while let Some(receipt) = receipts.next().await {
        commands.extend(receipt?.metadata().command_id);
    }
    Ok(commands)
}

fn account(customer: Option<&str>) -> AccountId {
    let name = customer
        .map_or_else(|| "invoices/guest".to_owned(), |customer| format!("invoices/customer/{customer}"));
    AccountId(Uuid::new_v5(&NAMESPACE, name.as_bytes()))
}

fn name(customer: Option<&str>) -> String {
    customer.map_or_else(|| "Guest".to_owned(), |customer| format!("Customer {customer}"))
}

fn command(kind: &str, name: &str) -> Uuid {
    Uuid::new_v5(&NAMESPACE, format!("{kind}/{name}").as_bytes())
}

fn context(command: Uuid, occurred_at: Option<DateTime<Utc>>) -> Context {
    Context { occurred_at, ..Context::new(command, "import") }
}

/// The import went wrong in a way that its figures show.
fn must(holds: bool, what: &str) -> anyhow::Result<()> {
    ensure!(holds, "the figures do not add up: {what}");
    Ok(())
}
