//! An item with its stock, as they were.

use souk_commands::flows::items::StockLevel;
use souk_domain::{
    Decider, ItemId, SkuId,
    inventory::{Inventory, InventoryEvent, InventoryState},
    item::{Item, ItemEvent, ItemState},
};
use souk_event_log::{At, StreamName};
use souk_projections::catalogue::ItemRow;

use super::{Step, replay};
use crate::{Api, items::Stock, problem::Problem};

/// None: it was not listed by then.
pub(crate) async fn item(api: &Api, id: ItemId, until: At) -> Result<Option<(ItemRow, Stock)>, Problem> {
    let (mut state, mut revision, mut times) = (ItemState::None, 0, None);
    replay(api, StreamName::new(Item::CATEGORY, id), until, |step: Step<ItemEvent>| {
        state = Item::evolve(state.take(), &step.event);
        revision = step.revision;
        let (listed_at, _) = times.unwrap_or((step.at, step.at));
        times = Some((listed_at, step.at));
    })
    .await?;
    let (Some(listing), Some((listed_at, revised_at))) = (state, times) else { return Ok(None) };
    let mut stock = Stock::new();
    for variant in &listing.variants {
        stock.insert(variant.sku_id, level(api, variant.sku_id, until).await?);
    }
    Ok(Some((ItemRow { item_id: id, listing, revision, listed_at, revised_at }, stock)))
}

async fn level(api: &Api, sku: SkuId, until: At) -> Result<StockLevel, Problem> {
    let mut state = InventoryState::default();
    replay(api, StreamName::new(Inventory::CATEGORY, sku), until, |step: Step<InventoryEvent>| {
        state = Inventory::evolve(std::mem::take(&mut state), &step.event);
    })
    .await?;
    Ok(StockLevel { on_hand: state.on_hand, reserved: state.reserved, available: state.available() })
}
