//! What is in the files: commits, rebuilds, restarts, crashes, damage, earlier formats.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use souk_search::{Origin, Query, SearchError, SearchIndex};

use crate::{Market, counts, facet, id, item, lamp, place, reopen, sku_id, term};

#[test]
fn stock_survives_a_restart() {
    let Market { directory, index, writer } = Market::new([item(1, "Lamp"), item(2, "Lamp")]);
    index.availability().set(sku_id(2), 3);
    index.availability().save(7).unwrap();
    drop((index, writer));
    let index = reopen(directory.path());
    assert_eq!(*index.origin(), Origin::Opened);
    assert_eq!(index.availability().position(), Some(7));
    let found = index.search(&Query { in_stock: Some(true), ..Query::default() }).unwrap();
    assert_eq!(found.hits.iter().map(|hit| hit.item_id).collect::<Vec<_>>(), [id(2)]);
}

#[test]
fn changes_show_at_the_commit_and_not_before() {
    let mut market = Market::new([item(1, "Lamp")]);
    let mut cheaper = market.index.get(id(1)).unwrap().unwrap();
    assert_eq!(cheaper, item(1, "Lamp"));
    cheaper.price = 1;
    market.writer.upsert(cheaper.clone()).unwrap();
    assert_eq!(market.writer.pending(), 1);
    assert_eq!(market.find(&Query::default()).hits[0].price, 100);
    market.writer.commit(2).unwrap();
    assert_eq!((market.index.position(), market.index.len(), market.writer.pending()), (Some(2), 1, 0));
    assert_eq!(market.find(&Query::default()).hits[0].price, 1);
    assert_eq!(market.index.get(id(1)).unwrap(), Some(cheaper));

    market.writer.delete(id(1));
    market.writer.delete(id(2));
    market.writer.commit(3).unwrap();
    assert_eq!(market.index.get(id(1)).unwrap(), None);
    assert_eq!(market.find(&Query::default()).total, 0);
    assert!(matches!(market.index.writer(), Err(SearchError::Locked)));
}

#[test]
fn a_rebuild_is_served_all_at_once() {
    let mut market = Market::new([item(1, "Lamp"), item(2, "Lamp")]);
    market.index.availability().set(sku_id(2), 1);
    market.writer.upsert(item(3, "Never committed")).unwrap();
    market.writer.clear().unwrap();
    market.writer.upsert(item(2, "Lamp")).unwrap();
    market.writer.upsert(item(4, "Lamp")).unwrap();
    assert_eq!(market.set(&Query::default()), BTreeSet::from([1, 2]));
    market.writer.commit(5).unwrap();
    assert_eq!(market.set(&Query::default()), BTreeSet::from([2, 4]));
    assert_eq!(market.set(&Query { in_stock: Some(true), ..Query::default() }), BTreeSet::from([2]));
}

#[test]
fn what_was_not_committed_is_gone_after_a_crash_and_the_position_says_so() {
    let Market { directory, index, mut writer } = Market::new([item(1, "Lamp")]);
    writer.commit(41).unwrap();
    writer.upsert(item(2, "Lamp")).unwrap();
    drop((index, writer));
    let index = reopen(directory.path());
    assert_eq!((index.position(), index.len()), (Some(41), 1));
    let mut writer = index.writer().unwrap();
    writer.upsert(item(3, "Lamp")).unwrap();
    writer.commit(42).unwrap();
    index.availability().set(sku_id(3), 1);
    let in_stock = index.search(&Query { in_stock: Some(true), ..Query::default() }).unwrap();
    assert_eq!(in_stock.hits.iter().map(|hit| hit.item_id).collect::<Vec<_>>(), [id(3)]);
}

#[test]
fn a_damaged_index_is_replaced_by_an_empty_one() {
    type Damage = fn(&Path);
    let damages: [Damage; 4] = [
        |index| fs::write(index.join("meta.json"), "{ torn").unwrap(),
        |index| fs::remove_file(index.join("meta.json")).unwrap(),
        |index| {
            let meta = fs::read_to_string(index.join("meta.json")).unwrap();
            fs::write(index.join("meta.json"), meta.replace("format\\\":", "format\\\":9")).unwrap();
        },
        |index| {
            let mut files = fs::read_dir(index).unwrap().map(|entry| entry.unwrap().path());
            let store = files.find(|path| path.extension().is_some_and(|end| end == "store")).unwrap();
            let mut bytes = fs::read(&store).unwrap();
            bytes[0] ^= 1;
            fs::write(store, bytes).unwrap();
        },
    ];
    for (number, damage) in damages.into_iter().enumerate() {
        let Market { directory, index, writer } = Market::new([item(1, "Lamp")]);
        drop((index, writer));
        damage(&place(directory.path()));
        let index = reopen(directory.path());
        assert!(matches!(index.origin(), Origin::Recreated(_)), "damage {number}: {:?}", index.origin());
        assert_eq!((index.position(), index.len()), (None, 0), "damage {number}");
        let mut writer = index.writer().unwrap();
        writer.upsert(item(1, "Lamp")).unwrap();
        writer.commit(9).unwrap();
        assert_eq!(index.len(), 1);
    }
}

#[test]
fn an_index_is_ready_once_it_is_whole_and_stays_so() {
    let Market { directory, index, mut writer } = Market::new([item(1, "Lamp")]);
    assert!(!index.is_ready(), "there may be more to come");
    drop((index, writer));
    let index = reopen(directory.path());
    assert_eq!((index.position(), index.is_ready()), (Some(1), false), "a crash does not make it whole");
    writer = index.writer().unwrap();
    writer.commit_whole(Some(2)).unwrap();
    assert!(index.is_ready());
    writer.commit(3).unwrap();
    drop((index, writer));
    assert!(reopen(directory.path()).is_ready());
    // Of nothing nothing is missing.
    let empty = tempfile::tempdir().unwrap();
    let index = reopen(empty.path());
    index.writer().unwrap().commit_whole(None).unwrap();
    assert!(index.is_ready());
}

#[test]
fn an_index_of_an_earlier_format_answers_until_the_new_one_is_whole() {
    let Market { directory, index, mut writer } =
        Market::new([lamp(1, "Lumen", "Red"), lamp(2, "Glow", "Red")]);
    writer.commit_whole(Some(7)).unwrap();
    drop((index, writer));
    let now = place(directory.path());
    let before = now.with_file_name("index");
    fs::rename(&now, &before).unwrap();
    let meta = fs::read_to_string(before.join("meta.json")).unwrap();
    // Formats before the fourth did not say whether they were whole.
    let meta = meta.replace("format\\\":4", "format\\\":3").replace(",\\\"whole\\\":true", "");
    assert!(meta.contains("{\\\"format\\\":3,\\\"position\\\":7}"), "{meta}");
    fs::write(before.join("meta.json"), meta).unwrap();

    let query = Query { brand: vec!["Lumen".to_owned()], facets: vec!["brand".to_owned()], ..term("lamp") };
    let looks_as_ever = |index: &Arc<SearchIndex>| {
        let hits = index.search(&query).unwrap();
        assert_eq!((hits.total, index.len(), index.suggest("lum", 5).len()), (1, 2, 1));
        assert_eq!(facet(&hits, "brand"), counts(&[("Glow", 1), ("Lumen", 1)]));
        assert!(index.is_ready());
    };
    let index = reopen(directory.path());
    assert_eq!((index.origin(), index.position(), index.shown_position()), (&Origin::Beside, None, Some(7)));
    looks_as_ever(&index);
    let mut writer = index.writer().unwrap();
    writer.upsert(lamp(1, "Lumen", "Red")).unwrap();
    writer.commit(3).unwrap();
    looks_as_ever(&index);
    assert!(!index.is_whole());
    // A crash in the middle.
    drop((index, writer));
    let index = reopen(directory.path());
    assert_eq!((index.position(), index.shown_position()), (Some(3), Some(7)));
    looks_as_ever(&index);
    let mut writer = index.writer().unwrap();
    writer.upsert(lamp(2, "Glow", "Red")).unwrap();
    writer.upsert(lamp(3, "Glow", "Red")).unwrap();
    writer.commit_whole(Some(9)).unwrap();
    assert!(index.is_whole() && index.shown_position() == Some(9) && index.len() == 3 && !before.exists());
    drop((index, writer));
    let index = reopen(directory.path());
    assert_eq!((index.origin(), index.len(), index.is_ready()), (&Origin::Opened, 3, true));
}
