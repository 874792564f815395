//! Backups against real files, a real PostgreSQL, and places that fail.

#![expect(clippy::unwrap_used, reason = "tests say what they rely on by panicking")]

mod places;
mod world;

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use object_store::memory::InMemory;
use souk_backup::{
    BackupError, Store, anchors,
    follow::follow,
    manifest::Manifest,
    restore::{Accounts, Restore},
    ship::{Backup, Database, Source},
};
use souk_event_log::{EventLog, sqlite::verify};
use sqlx::PgConnection;
use tokio::{sync::oneshot, task::JoinHandle};

use places::Faulty;
use world::{World, wait_until};

const HOURLY: Duration = Duration::from_hours(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_restored_is_what_was_there() {
    let world = World::new().await;
    let people = world.register(3).await;
    world.fill(25_000).await;
    let gone = world.register(1).await;
    world.forget(gone[0].account).await;
    world.write_bank("a balance");

    let folder = tempfile::tempdir().unwrap();
    let store = Store::create(&folder.path().join("a/b").to_string_lossy()).unwrap();
    let mut steps = Vec::new();
    let mut backup = Backup::open(world.source(), store.clone()).await.unwrap();
    let manifest = backup.run(|step| steps.push(step)).await.unwrap();
    assert_eq!(manifest.events(), world.events().await.len() as u64);
    assert_eq!(manifest.vault.contents.subjects, 4);
    assert!(steps.len() > 3, "{steps:?}");
    let log = store.list("log").await.unwrap();
    assert_eq!(log.len(), 2, "{log:?}");
    assert_eq!(log[0], "00000000000000000000-00000000000000009999.ndjson.zst");
    assert_eq!(store.list("tail").await.unwrap().len(), 1);

    let restored = world.restored(&store).await;
    assert_eq!(restored.events().await, world.events().await);
    assert_eq!(verify(&restored.path(), 0, |_| ()).unwrap(), verify(&world.path(), 0, |_| ()).unwrap());
    assert_eq!(restored.read_bank(), "a balance");
    for person in &people {
        assert_eq!(restored.name_of(person).await, Some(person.name.clone()));
        assert!(restored.can_log_in(person).await);
    }
    assert_eq!(restored.name_of(&gone[0]).await, None);
    assert!(!restored.can_log_in(&gone[0]).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn again_only_what_is_new_is_written() {
    let world = World::new().await;
    world.register(1).await;
    world.fill(9_990).await;
    let place = Arc::new(Faulty::default());
    let store = Store::over(place.clone(), "somewhere");
    let run = async || {
        let before = place.written();
        Backup::open(world.source(), store.clone()).await.unwrap().run(|_| ()).await.unwrap();
        place.written() - before
    };
    run().await;
    let nothing_new = run().await;
    world.fill(50).await;
    run().await;
    assert_eq!(store.list("log").await.unwrap().len(), 1);
    assert_eq!(store.list("tail").await.unwrap().len(), 1);
    let long = place.list().into_iter().find(|name| name.starts_with("log/")).unwrap();
    world.fill(20).await;
    let before = place.writes_of(&long);
    let some_new = run().await;
    assert_eq!(place.writes_of(&long), before, "what is complete is not written again");
    assert!(some_new < 10, "{some_new} objects for 20 events, {nothing_new} for none");
    assert_eq!(store.list("vault").await.unwrap().len(), 1, "older copies are gone");
    assert_eq!(world.restored(&store).await.events().await, world.events().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interruption_at_any_write_leaves_the_backup_before_and_the_next_one_goes_on() {
    let world = World::new().await;
    world.register(1).await;
    world.fill(10_100).await;
    let place = Arc::new(Faulty::default());
    let store = Store::over(place.clone(), "somewhere");
    for round in 0..2 {
        let before = Manifest::read(&store).await.unwrap();
        let mut interruptions = 0;
        for allowed in 0.. {
            place.fail_after(Some(allowed));
            let done = match Backup::open(world.source(), store.clone()).await {
                Ok(mut backup) => backup.run(|_| ()).await.map(drop),
                Err(error) => Err(error),
            };
            place.fail_after(None);
            let after = Manifest::read(&store).await.unwrap();
            if done.is_ok() {
                break;
            }
            interruptions += 1;
            // Its last deed but for clearing away is to write the manifest.
            let events = world.events().await.len() as u64;
            let counted = after.as_ref().map(Manifest::events);
            assert!(after == before || counted == Some(events), "{after:?}");
            if allowed == 0 {
                if let Some(after) = &after {
                    let restored = world.restored(&store).await;
                    assert_eq!(restored.events().await.len() as u64, after.events());
                } else {
                    let error = Restore::open(store.clone()).await.err().unwrap().to_string();
                    assert!(error.contains("no backup was ever completed"), "{error}");
                }
            }
        }
        assert!(interruptions >= 4, "{interruptions} in round {round}");
        assert_eq!(world.restored(&store).await.events().await, world.events().await);
        world.register(1).await;
        world.fill(10_000).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_another_log_is_left_alone() {
    let (world, other) = (World::new().await, World::new().await);
    for world in [&world, &other] {
        world.register(1).await;
        world.fill(30).await;
    }
    let store = Store::over(Arc::new(InMemory::new()), "somewhere");
    Backup::open(world.source(), store.clone()).await.unwrap().run(|_| ()).await.unwrap();
    let refused = Backup::open(other.source(), store.clone()).await.err().unwrap();
    assert!(matches!(refused, BackupError::OtherLog(_)) && refused.is_final(), "{refused}");

    // A log that lost its end, as one that was restored from an older backup.
    world.fill(10).await;
    let older = world.restored(&store).await;
    Backup::open(world.source(), store.clone()).await.unwrap().run(|_| ()).await.unwrap();
    let refused = Backup::open(older.source(), store.clone()).await.err().unwrap();
    assert!(refused.to_string().contains("which the log has not"), "{refused}");

    // A vault that is not the one it was: its copy is all that is left of it.
    let source = Source { vault: other.source().vault, ..world.source() };
    let refused = Backup::open(source, store.clone()).await.unwrap().run(|_| ()).await.err().unwrap();
    assert!(matches!(refused, BackupError::OtherVault { .. }), "{refused}");
    assert_eq!(world.restored(&store).await.events().await, world.events().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_object_is_named() {
    let world = World::new().await;
    world.register(1).await;
    world.fill(10_100).await;
    let folder = tempfile::tempdir().unwrap();
    let store = Store::create(&folder.path().to_string_lossy()).unwrap();
    Backup::open(world.source(), store.clone()).await.unwrap().run(|_| ()).await.unwrap();
    let object = folder.path().join("log").join(&store.list("log").await.unwrap()[0]);
    let whole = std::fs::read(&object).unwrap();
    let lines = String::from_utf8(zstd::decode_all(&*whole).unwrap()).unwrap();
    let changed = zstd::encode_all(lines.replacen("\"n\":77,", "\"n\":78,", 1).as_bytes(), 1).unwrap();
    for damaged in [&whole[..whole.len() / 2], &changed, b""] {
        std::fs::write(&object, damaged).unwrap();
        let path = tempfile::tempdir().unwrap().keep().join("events.sqlite");
        let restore = Restore::open(store.clone()).await.unwrap();
        let error = restore.log(&path, |_| ()).await.unwrap_err().to_string();
        assert!(error.contains("log/0000"), "{error}");
    }
    std::fs::remove_file(&object).unwrap();
    let path = tempfile::tempdir().unwrap().keep().join("events.sqlite");
    let restore = Restore::open(store.clone()).await.unwrap();
    let error = restore.log(&path, |_| ()).await.unwrap_err().to_string();
    assert!(error.contains("no object holds the event at position 0"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_appended_follows_with_the_keys_it_needs() {
    let world = World::new().await;
    world.register(1).await;
    world.fill(300).await;
    let place = Arc::new(Faulty::default());
    let store = Store::over(place.clone(), "somewhere");
    let mut backup = Backup::open(world.source(), store.clone()).await.unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let following = tokio::spawn(async move {
        let stopped = async { drop(stopped.await) };
        follow(&mut backup, HOURLY, stopped, |_| ()).await
    });
    let complete = async || {
        let events = world.events().await.len() as u64;
        wait_until("the backup is complete", async || {
            Manifest::read(&store).await.unwrap().is_some_and(|manifest| manifest.events() == events)
        })
        .await;
    };
    complete().await;
    // Each of these is restored as it is, as if the follower had been killed now.
    for round in 0..5 {
        let people = world.register(2).await;
        world.fill(7).await;
        complete().await;
        let restored = world.restored(&store).await;
        assert_eq!(restored.events().await, world.events().await);
        for person in &people {
            assert_eq!(restored.name_of(person).await, Some(person.name.clone()), "round {round}");
            assert!(restored.can_log_in(person).await);
        }
    }
    assert!(store.list("vault").await.unwrap().len() > 1, "copies of accounts, over one whole copy");

    // The place is away for a while.
    place.fail_after(Some(0));
    let person = world.register(1).await.remove(0);
    world.forget(person.account).await;
    world.fill(12_000).await;
    wait_until("a write failed", async || place.failures() > 3).await;
    assert!(Manifest::read(&store).await.unwrap().unwrap().events() < 12_000);
    place.fail_after(None);
    complete().await;

    // What comes last before it is told to stop is not left behind.
    world.fill(5).await;
    stop.send(()).unwrap();
    following.await.unwrap().unwrap();
    let restored = world.restored(&store).await;
    assert_eq!(restored.events().await, world.events().await);
    assert_eq!(restored.name_of(&person).await, None);
    assert_eq!(store.list("vault").await.unwrap().len(), 1, "a whole copy at the end");
}

/// A follower in the background; it ends when what is returned first is sent or dropped.
fn followed(
    source: Source,
    store: &Store,
    whole_every: Duration,
) -> (oneshot::Sender<()>, JoinHandle<Result<(), BackupError>>) {
    let (stop, stopped) = oneshot::channel::<()>();
    let store = store.clone();
    let following = tokio::spawn(async move {
        let mut backup = Backup::open(source, store).await?;
        follow(&mut backup, whole_every, async { drop(stopped.await) }, |_| ()).await
    });
    (stop, following)
}

/// A vault that takes its time.
struct Slow(Arc<dyn Database>);

#[async_trait]
impl Database for Slow {
    async fn connect(&self) -> Result<PgConnection, String> {
        tokio::time::sleep(Duration::from_secs(3)).await;
        self.0.connect().await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_appended_follows_within_a_second_while_the_vault_is_copied() {
    let world = World::new().await;
    world.register(1).await;
    let store = Store::over(Arc::new(InMemory::new()), "somewhere");
    let source = Source { vault: Arc::new(Slow(world.source().vault)), ..world.source() };
    // As good as always one copy of the whole vault after the other.
    let (stop, following) = followed(source, &store, Duration::from_millis(100));
    let kept = async || Manifest::read(&store).await.unwrap().map_or(0, |manifest| manifest.events());
    wait_until("the first manifest", async || kept().await > 0).await;
    let mut took = Vec::new();
    for _ in 0..20 {
        world.fill(50).await;
        let (began, events) = (Instant::now(), world.log.head().await.unwrap().unwrap() + 1);
        wait_until("it is in the backup", async || kept().await >= events).await;
        took.push(began.elapsed());
    }
    took.sort_unstable();
    assert!(took[17] < Duration::from_secs(1), "{took:?}");
    stop.send(()).unwrap();
    following.await.unwrap().unwrap();
    assert_eq!(world.restored(&store).await.events().await, world.events().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_stops_at_a_vault_that_is_another() {
    let (world, other) = (World::new().await, World::new().await);
    let person = world.register(3).await.remove(0);
    let store = Store::over(Arc::new(InMemory::new()), "somewhere");
    let vault = Arc::new(Replaceable(Mutex::new(world.source().vault)));
    let source = Source { vault: Arc::clone(&vault) as Arc<dyn Database>, ..world.source() };
    let (_stop, following) = followed(source, &store, HOURLY);
    wait_until("the first manifest", async || Manifest::read(&store).await.unwrap().is_some()).await;
    *vault.0.lock().unwrap() = other.source().vault;
    world.register(1).await;
    let ended = following.await.unwrap();
    assert!(matches!(ended, Err(BackupError::OtherVault { .. })), "{ended:?}");
    let restored = world.restored(&store).await;
    assert_eq!(restored.name_of(&person).await, Some(person.name.clone()), "what was kept stays");
}

/// A vault that another is put in the place of.
struct Replaceable(Mutex<Arc<dyn Database>>);

#[async_trait]
impl Database for Replaceable {
    async fn connect(&self) -> Result<PgConnection, String> {
        let now = Arc::clone(&*self.0.lock().unwrap());
        now.connect().await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_small_shipments_become_few_objects() {
    let world = World::new().await;
    world.register(1).await;
    let store = Store::over(Arc::new(InMemory::new()), "somewhere");
    // Shipments without their pauses.
    for _ in 0..2 {
        world.fill(10).await;
        let mut backup = Backup::open(world.source(), store.clone()).await.unwrap();
        backup.run(|_| ()).await.unwrap();
        for _ in 0..70 {
            world.fill(1).await;
            backup.run(|_| ()).await.unwrap();
            let objects = store.list("tail").await.unwrap().len();
            assert!((1..=65).contains(&objects), "{objects}");
        }
    }
    assert_eq!(world.restored(&store).await.events().await, world.events().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn anchors_show_what_a_chain_cannot() {
    let (world, rewritten) = (World::new().await, World::new().await);
    let store = Store::over(Arc::new(InMemory::new()), "somewhere").folder("anchors");
    assert_eq!(anchors::head(&*world.log).await.unwrap(), None);
    for _ in 0..3 {
        world.fill(10).await;
        let head = anchors::head(&*world.log).await.unwrap().unwrap();
        anchors::publish(&store, &head, world::now()).await.unwrap();
        anchors::publish(&store, &head, world::now()).await.unwrap();
    }
    let anchors = anchors::read(&store).await.unwrap();
    assert_eq!(anchors.iter().map(|anchor| anchor.position).collect::<Vec<_>>(), [9, 19, 29]);
    let check = async |world: &World| {
        let broken = anchors::check(&*world.log, &anchors, |_| ()).await.unwrap();
        broken.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert!(check(&world).await.is_empty());
    rewritten.fill(15).await;
    assert_eq!(verify(&rewritten.path(), 0, |_| ()).unwrap().bad, None, "the chain alone is content");
    let broken = check(&rewritten).await;
    assert_eq!(broken.len(), 3, "{broken:?}");
    assert!(broken[0].starts_with("position 9 has changed: its hash was "), "{broken:?}");
    assert_eq!(broken[1], "position 19 is missing: the log ends at 14");
}

#[tokio::test]
async fn accounts_are_noted_as_the_log_tells_them() {
    let world = World::new().await;
    let people = world.register(2).await;
    world.forget(people[0].account).await;
    let mut accounts = Accounts::default();
    for event in world.events().await {
        accounts.note(&event);
    }
    assert_eq!(accounts.registered, [people[0].account, people[1].account]);
    assert_eq!(accounts.forgotten, [people[0].account]);
}

#[test]
fn places_are_folders_or_buckets() {
    for target in ["http://there", "s3://", "file:///tmp", "s3:///x"] {
        let error = Store::open(target).err().unwrap().to_string();
        assert!(error.contains("expected a folder, or s3://bucket/prefix"), "{error}");
    }
    assert!(Store::open("no/such/folder").err().unwrap().to_string().contains("no such folder"));
}
