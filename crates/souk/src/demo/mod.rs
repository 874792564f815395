//! `souk demo`: a market with something in it. Goods of its own, two sellers, a buyer, an admin and an analyst, and
//! orders placed over HTTP that end in each way. Started again on the same data it finds all that and adds nothing.

mod orders;

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use futures::{StreamExt, stream};
use serde::Deserialize;
use serde_json::json;
use souk_commands::{
    Context, Market,
    flows::accounts::{self, Registration},
};
use souk_domain::{AccountId, account::Role};
use souk_gateways::sandbox::Script;
use uuid::Uuid;

use crate::{
    client::Client,
    config::{Config, ConfigError},
    import::{
        catalog::{self, Came},
        product::Product,
    },
    progress::{Progress, grouped},
    serve::{Server, Signals},
};

const GOODS: &str = include_str!("goods.ndjson");
const NAMESPACE: Uuid = Uuid::from_u128(0x736f_756b_2d64_656d_8f72_7421_2d76_3100);
/// Goods on their way at once.
const IN_FLIGHT: usize = 64;
/// The sandbox's carrier takes his time, so that an order can be watched, and cancelled, on its way.
const SCRIPT: &str = r#"{ "book": { "delayMs": 1500 } }"#;

#[derive(Clone, Copy, PartialEq, Eq)]
struct Person {
    name: &'static str,
    display_name: &'static str,
    role: Role,
}

const BUYER: Person = Person { name: "buyer", display_name: "Robin Example", role: Role::Buyer };
const SELLERS: [Person; 2] = [
    Person { name: "harbour", display_name: "Harbour Street Goods", role: Role::Seller },
    Person { name: "meridian", display_name: "Meridian Outfitters", role: Role::Seller },
];
const ADMIN: Person = Person { name: "admin", display_name: "Market admin", role: Role::Admin };
const ANALYST: Person = Person { name: "analyst", display_name: "Market analyst", role: Role::Analyst };

const EVERYBODY: [Person; 5] = [BUYER, SELLERS[0], SELLERS[1], ADMIN, ANALYST];

pub(crate) async fn run(config: Config, catalog: Vec<PathBuf>) -> anyhow::Result<()> {
    ensure!(
        config.serve.roles == crate::config::Roles::ALL,
        ConfigError::new("--roles", "the demo takes all of them")
    );
    let script = match &config.serve.sandbox {
        Some(file) => Script::read(file).map_err(|error| ConfigError::new("--sandbox", error))?,
        None => Script::parse(SCRIPT)?,
    };
    let signals = Signals::listen()?;
    let server = tokio::select! {
        server = Server::start(&config, "souk demo", script) => server?,
        () = signals.first.cancelled() => return Ok(()),
    };
    let filled = tokio::select! {
        filled = fill(&server, &catalog) => filled,
        () = signals.first.cancelled() => Ok(()),
    };
    if filled.is_ok() {
        signals.first.cancelled().await;
    }
    server.drain().await.and(filled)
}

async fn fill(server: &Server, catalog: &[PathBuf]) -> anyhow::Result<()> {
    let market = &server.market;
    let address = server.address().context("the demo has no API")?;
    let base = format!("http://{address}");
    for person in EVERYBODY {
        person.register(market).await.with_context(|| person.email())?;
    }
    let listed = goods(market).await?;
    eprintln!("{} goods listed by two sellers", grouped(listed));
    if !catalog.is_empty() {
        let imported = catalog::import(market, catalog, None).await?;
        eprintln!(
            "{} goods from files, {} were there",
            grouped(imported.listed()),
            grouped(imported.already())
        );
    }
    server.workers.catch_up().await?;

    let client = Client::new(&base)?;
    let buyer = client.sign_in(&BUYER.email(), &BUYER.password(market)).await?;
    let placed = orders::place(&buyer).await?;
    let analyst = client.sign_in(&ANALYST.email(), &ANALYST.password(market)).await?;

    println!();
    println!("Souk is open at {base} (a page to try it: {base}/docs). Press Ctrl-C to close it.");
    println!();
    for person in EVERYBODY {
        let role = format!("{:?}", person.role).to_lowercase();
        println!("  {role:<9} {:<26} {}", person.email(), person.password(market));
    }
    println!();
    println!("Orders of {}:", BUYER.email());
    for order in &placed {
        let how = order
            .reason
            .as_deref()
            .map_or_else(|| order.status.clone(), |reason| format!("{} ({reason})", order.status));
        println!("  {}  {how}", order.id);
    }
    let shown = placed.iter().find(|order| order.status == "completed").or(placed.first());
    let order = shown.map(|order| order.id).unwrap_or_default();
    let item = orders::headphones();
    let (buyer, analyst) = (&buyer.token, &analyst.token);
    let line = json!({ "itemId": item, "sku": orders::HEADPHONES_SKU, "quantity": 1 });
    println!();
    println!("To go on with (the log-ins in these lines are good for 15 minutes):");
    println!();
    println!("# search, with the brands there are");
    println!("curl -s '{base}/v1/items?term=headphones&facets=brand&size=3'");
    println!("# one item, with its variants and what is in stock");
    println!("curl -s '{base}/v1/items/{item}'");
    println!("# put it into the buyer's cart");
    println!(
        "curl -s -X PATCH '{base}/v1/cart' -H 'Content-Type: application/json' -H 'Authorization: Bearer {buyer}' -d '{line}'"
    );
    println!("# an order, with its timeline");
    println!("curl -s '{base}/v1/orders/{order}' -H 'Authorization: Bearer {buyer}'");
    println!("# every event of that order, as the analyst reads them");
    println!("curl -s '{base}/v1/events?stream=order-{order}' -H 'Authorization: Bearer {analyst}'");
    println!();
    Ok(())
}

impl Person {
    fn id(self) -> AccountId {
        AccountId(Uuid::new_v5(&NAMESPACE, self.name.as_bytes()))
    }

    fn email(self) -> String {
        format!("{}@souk.example", self.name)
    }

    /// Nobody can guess it who has not the market's key, and it stays the same from start to start.
    fn password(self, market: &Market) -> String {
        let mac = market.vault.mac("souk demo password", self.name.as_bytes());
        let letters = b"abcdefghjkmnpqrstuvwxyz23456789";
        let letter = |byte: &u8| char::from(letters[usize::from(*byte) % letters.len()]);
        mac.chunks_exact(4)
            .take(3)
            .map(|part| part.iter().map(letter).collect())
            .collect::<Vec<String>>()
            .join("-")
    }

    async fn register(self, market: &Market) -> anyhow::Result<()> {
        let id = self.id();
        let registration = Registration {
            account_id: id,
            email: self.email(),
            password: self.password(market),
            display_name: self.display_name.to_owned(),
            role: self.role,
        };
        accounts::register(market, &Context::new(Uuid::new_v5(&id.0, b"register"), "demo"), registration)
            .await?;
        Ok(())
    }
}

/// The seller of each of the demo's own goods stands beside it.
#[derive(Deserialize)]
struct Sold {
    seller: String,
}

async fn goods(market: &Arc<Market>) -> anyhow::Result<u64> {
    let lines: Vec<&'static str> = GOODS.lines().collect();
    let progress = Progress::new("goods", lines.len() as u64);
    let each = lines.into_iter().map(|line| {
        let market = Arc::clone(market);
        async move {
            let (seller, product) = good(line)?;
            catalog::list(&market, seller, Ok(product))
                .await
                .map_err(|reason| anyhow::anyhow!("{reason}: {line}"))
        }
    });
    let mut listing = stream::iter(each).buffer_unordered(IN_FLIGHT);
    let mut there = 0;
    while let Some(came) = listing.next().await {
        match came? {
            Came::Listed | Came::Already => there += 1,
        }
        progress.add(1);
        // So that progress is seen: without it this takes a blink.
        if there % 16 == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    progress.finish();
    Ok(there)
}

fn good(line: &str) -> anyhow::Result<(AccountId, Product)> {
    let Sold { seller } = serde_json::from_str(line)?;
    let seller = if seller == "a" { SELLERS[0] } else { SELLERS[1] };
    Ok((seller.id(), Product::from_json(line)?))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashMap, HashSet};

    use super::*;

    #[test]
    fn the_goods_are_a_catalogue() {
        let (mut ids, mut skus, mut categories, mut variants) =
            (HashSet::new(), HashSet::new(), BTreeSet::new(), 0);
        for line in GOODS.lines() {
            let (seller, product) = good(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            categories.insert(product.category()[0].clone());
            let item = product.into_item(seller).unwrap_or_else(|error| panic!("{error}: {line}"));
            assert!(ids.insert(item.item_id), "{line}");
            assert!(!item.details.description.is_empty() && item.details.brand.is_some(), "{line}");
            for sku in item.variants.iter().map(|variant| &variant.sku).chain([&item.sku]) {
                assert!(skus.insert((seller, sku.clone())), "{sku} stands twice");
            }
            variants += item.variants.len();
        }
        assert!((150..=300).contains(&ids.len()), "{}", ids.len());
        assert!(categories.len() >= 10, "{categories:?}");
        assert!(variants > 150, "{variants}");
    }

    #[test]
    fn the_orders_find_their_goods() {
        let listed: HashMap<Uuid, Vec<String>> = GOODS
            .lines()
            .filter_map(|line| {
                let (seller, product) = good(line).ok()?;
                let item = product.into_item(seller).ok()?;
                let skus = item.variants.iter().map(|variant| variant.sku.to_string()).collect();
                Some((item.item_id?.0, skus))
            })
            .collect();
        for (item, sku) in orders::wanted() {
            let skus = listed.get(&item).unwrap_or_else(|| panic!("{item} is not listed"));
            match sku {
                Some(sku) => assert!(skus.iter().any(|known| known == sku), "{sku} is none of {skus:?}"),
                None => assert!(skus.len() < 2, "which of {skus:?}?"),
            }
        }
    }

    #[test]
    fn the_script_is_one() {
        assert_eq!(Script::parse(SCRIPT).expect("a script").book.delay_ms, 1_500);
    }
}
