//! The goods that invoices speak of: one item per stock code, one variant per price, with the stock they will need.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use futures::{StreamExt, stream};
use souk_commands::{
    Context, Market,
    flows::{
        imports::{self, Need},
        items::{self, Caller, NewItem, NewVariant},
        revision::{self, ItemPatch},
    },
};
use souk_domain::{
    AccountId, Currency, ItemId, Money, Sku, SkuId,
    item::{Details, ItemState, Listing},
};
use uuid::Uuid;

use super::{
    WIDE, context,
    sheet::{Code, SaleInvoice, Sheet},
};
use crate::{import::product::item_id, progress::Progress};

pub(super) struct Goods {
    pub(super) seller: AccountId,
    /// By code and price in pennies.
    sold: HashMap<(usize, i64), Sold>,
}

/// What is sold of one code at one price.
#[derive(Clone)]
pub(super) struct Sold {
    pub(super) item_id: ItemId,
    pub(super) sku_id: SkuId,
    pub(super) sku: Sku,
    pub(super) name: Arc<str>,
}

impl Goods {
    /// Lists what is not listed, and receives what the invoices that are wanted need beyond what is there.
    pub(super) async fn stock(
        market: &Arc<Market>,
        seller: AccountId,
        sheet: &Sheet,
        wanted: impl Fn(&SaleInvoice) -> bool,
    ) -> anyhow::Result<Self> {
        let mut needs: Vec<BTreeMap<i64, u64>> = sheet.codes.iter().map(|_| BTreeMap::new()).collect();
        let wanted: Vec<_> = sheet.invoices.iter().filter(|invoice| wanted(invoice)).collect();
        for line in wanted.iter().flat_map(|invoice| &invoice.lines) {
            *needs[line.code].entry(line.pennies).or_default() += u64::from(line.quantity);
        }
        let since = wanted.iter().map(|invoice| invoice.date).min();
        let progress = Progress::new("goods", sheet.codes.len() as u64);
        let each = sheet.codes.iter().zip(needs).enumerate().map(|(index, (code, needs))| {
            let market = Arc::clone(market);
            let plan = Plan::of(seller, code, needs, since);
            let stocked = tokio::spawn(async move { plan.carry_out(&market).await });
            async move { (index, stocked.await) }
        });
        let mut stocked = stream::iter(each).buffer_unordered(WIDE);
        let mut sold = HashMap::new();
        while let Some((code, prices)) = stocked.next().await {
            let name = || format!("stock code {}", sheet.codes[code].text);
            sold.extend(prices?.with_context(name)?.into_iter().map(|(pennies, one)| ((code, pennies), one)));
            progress.add(1);
        }
        progress.finish();
        Ok(Self { seller, sold })
    }

    pub(super) fn find(&self, code: usize, pennies: i64) -> anyhow::Result<&Sold> {
        self.sold.get(&(code, pennies)).context("a price that no variant has")
    }
}

impl Sold {
    pub(super) fn need(&self, seller: AccountId, quantity: u64) -> Need {
        Need { item_id: self.item_id, seller, sku_id: self.sku_id, sku: self.sku.clone(), quantity }
    }
}

/// What is to be there of one stock code.
struct Plan {
    seller: AccountId,
    item_id: ItemId,
    code: String,
    name: Arc<str>,
    /// In pennies, the most common one first; none of a code that never had a price.
    prices: Vec<i64>,
    needs: BTreeMap<i64, u64>,
    context: Context,
}

impl Plan {
    fn of(seller: AccountId, code: &Code, needs: BTreeMap<i64, u64>, since: Option<DateTime<Utc>>) -> Self {
        let item_id = item_id(seller, &code.text);
        Self {
            seller,
            item_id,
            code: code.text.clone(),
            name: code.name().into(),
            prices: code.prices().collect(),
            needs,
            context: context(Uuid::new_v5(&item_id.0, b"import"), since),
        }
    }

    async fn carry_out(self, market: &Market) -> anyhow::Result<Vec<(i64, Sold)>> {
        if self.prices.is_empty() {
            return Ok(vec![]);
        }
        let listing = market.aggregates.items.read(self.item_id, ItemState::clone).await?.value;
        let mut sold = Vec::with_capacity(self.prices.len());
        let mut missing = Vec::new();
        for (index, pennies) in self.prices.iter().enumerate() {
            let (sku, listed) = self.sku(listing.as_ref(), *pennies, index == 0)?;
            let one = Sold {
                item_id: self.item_id,
                sku_id: SkuId::of(self.seller, &sku),
                sku,
                name: Arc::clone(&self.name),
            };
            // Also where nothing is needed: it says whose SKU it is.
            let quantity = self.needs.get(pennies).copied().unwrap_or(0);
            imports::receive_missing(market, &self.context, one.need(self.seller, quantity)).await?;
            if !listed {
                missing.push(variant(&one.sku, *pennies));
            }
            sold.push((*pennies, one));
        }
        match listing {
            None => self.list(market, missing).await?,
            Some(_) if !missing.is_empty() => {
                let patch = ItemPatch { variants: missing, ..ItemPatch::default() };
                // Another step than the listing's, and another one for each set of prices.
                let context = self.context.step(&format!("{:?}", self.prices));
                let seller = Caller::Seller(self.seller);
                revision::revise(market, &context, self.item_id, seller, None, patch).await?;
            }
            Some(_) => {}
        }
        Ok(sold)
    }

    /// The variant of that price, and whether it is listed.
    fn sku(&self, listing: Option<&Listing>, pennies: i64, usual: bool) -> anyhow::Result<(Sku, bool)> {
        let variants = listing.map_or(&[][..], |listing| &listing.variants);
        if let Some(variant) =
            variants.iter().find(|variant| variant.price == Money::new(pennies, Currency::GBP))
        {
            return Ok((variant.sku.clone(), true));
        }
        let text =
            if usual && listing.is_none() { self.code.clone() } else { format!("{}/{pennies}", self.code) };
        let sku = Sku::parse(&text)?;
        let listed = variants.iter().any(|variant| variant.sku == sku);
        Ok((sku, listed))
    }

    async fn list(&self, market: &Market, variants: Vec<NewVariant>) -> anyhow::Result<()> {
        let details = Details {
            name: self.name.to_string(),
            category: vec!["Online Retail".to_owned()],
            ..Details::default()
        };
        let item = NewItem {
            item_id: Some(self.item_id),
            seller_id: self.seller,
            sku: Sku::parse(&self.code)?,
            details,
            price: None,
            quantity: None,
            variants,
        };
        items::list(market, &self.context, item).await?;
        Ok(())
    }
}

fn variant(sku: &Sku, pennies: i64) -> NewVariant {
    let price = format!("{}.{:02}", pennies / 100, pennies % 100);
    NewVariant {
        sku: sku.clone(),
        options: BTreeMap::from([("price".to_owned(), price)]),
        price: Some(Money::new(pennies, Currency::GBP)),
        quantity: None,
        images: None,
    }
}
