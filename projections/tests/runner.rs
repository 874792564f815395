//! What the runner promises: the same content however it is interrupted, generations side by side, and one projector's
//! trouble staying its own.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use serde_json::json;
use souk_domain::{PromotionId, promotion::PromotionEvent, testing::examples::promotion_created};
use souk_event_log::{Filter, Recorded, StreamName};
use souk_projections::{
    Projections, Projector, ProjectorState, ProjectorStatus, Timeout, orders, read_models,
    runner::{ApplyError, RebuildError},
};
use sqlx::PgConnection;
use support::{Ending, Offer, PATIENCE, World, account, order_id};
use tokio::sync::Notify;

#[tokio::test(flavor = "multi_thread")]
async fn dropped_views_come_back_the_same() {
    let world = World::new().await;
    let projections = world.start();
    let position = world.history(30).await;
    world.settle(&projections, position).await;
    projections.shutdown().await;
    let before = world.dump().await;
    assert!(before.len() > 100, "{} rows", before.len());

    world.drop_views().await;
    let projections = world.start();
    world.settle(&projections, position).await;
    projections.shutdown().await;
    assert_eq!(world.dump().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn views_dropped_under_a_running_projector_come_back() {
    let world = World::new().await;
    let projections = world.start();
    let position = world.history(10).await;
    world.settle(&projections, position).await;
    let before = world.dump().await;
    world.drop_views().await;
    // The next events run into what is gone.
    let position = world.register(account(999), souk_domain::account::Role::Buyer).await;
    let position =
        world.buy(order_id(999), account(999), &[&Offer::nth(0)], Ending::Paying).await.max(position);
    let position = world.list(&Offer::nth(20)).await.max(position);
    let promotion = StreamName::new("promotion", PromotionId::of_code("SPRING"));
    let created = PromotionEvent::from(promotion_created());
    let position = world.append(promotion, vec![created]).await.max(position);
    let position = world.searched("spout", 0, &Offer::nth(0)).await.max(position);
    let position = world.after(order_id(998), account(999), &Offer::nth(0)).await.max(position);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !all_at(&projections, position).await {
        assert!(tokio::time::Instant::now() < deadline, "{:#?}", projections.status().await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let after = world.dump().await;
    let stock = |row: &&String| !row.starts_with("stock ");
    assert!(before.iter().filter(stock).all(|row| after.contains(row)));
    projections.shutdown().await;
}

async fn all_at(projections: &Projections, position: u64) -> bool {
    let statuses = projections.status().await;
    read_models().iter().all(|model| {
        statuses.iter().any(|it| it.name == model.name() && it.served && it.position >= Some(position))
    })
}

/// However often it is cut off in the middle, what it has written fits its checkpoint.
#[test]
fn killed_at_any_moment_it_resumes_to_the_same_content() {
    let runtime =
        || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let main = runtime();
    let (world, position, straight) = main.block_on(async {
        let world = World::new().await;
        let position = world.history(500).await;
        let projections = world.start();
        world.settle(&projections, position).await;
        projections.shutdown().await;
        let straight = world.dump().await;
        world.drop_views().await;
        (world, position, straight)
    });
    let (mut kills, mut written) = (0, 0);
    loop {
        let doomed = runtime();
        let projections = doomed.block_on(async { world.start_with(slowed()) });
        let finished = doomed.block_on(async {
            let progress = async {
                loop {
                    let positions: u64 =
                        projections.status().await.iter().filter_map(|status| status.position).sum();
                    if positions > written || all_at(&projections, position).await {
                        written = positions;
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            tokio::time::timeout(PATIENCE, progress).await.expect("progress");
            tokio::time::sleep(Duration::from_millis(kills * 3 % 20)).await;
            all_at(&projections, position).await
        });
        // As a crash would: every task stops where it stands.
        doomed.shutdown_background();
        if finished {
            break;
        }
        kills += 1;
    }
    assert!(kills >= 3, "cut off {kills} times");
    main.block_on(async {
        let projections = world.start();
        world.settle(&projections, position).await;
        projections.shutdown().await;
        assert_eq!(world.dump().await, straight);
    });
}

/// The read models, each taking its time after it has written and before it commits.
fn slowed() -> Vec<Arc<dyn Projector>> {
    read_models().into_iter().map(|inner| Arc::new(Slowed(inner)) as Arc<dyn Projector>).collect()
}

struct Slowed(Arc<dyn Projector>);

#[async_trait]
impl Projector for Slowed {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn version(&self) -> u32 {
        self.0.version()
    }

    fn filter(&self) -> Filter {
        self.0.filter()
    }

    fn migration(&self) -> &'static str {
        self.0.migration()
    }

    async fn apply(&self, tables: &mut PgConnection, events: &[Arc<Recorded>]) -> Result<(), ApplyError> {
        self.0.apply(tables, events).await?;
        sqlx::query("SELECT pg_sleep(0.02)").execute(tables).await?;
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_cannot_be_applied_stops_its_projector_alone() {
    let world = World::new().await;
    let projections = world.start();
    let position = world.history(5).await;
    world.settle(&projections, position).await;
    let poison =
        world.append_raw(StreamName::new("item", Offer::nth(9).id), "ItemTeleported", json!({})).await;
    // Applied: what came before it. Not applied, here alone: what comes after.
    let last = world.buy(order_id(77), account(1), &[&Offer::nth(0)], Ending::Completed).await;
    for name in ["stock", "orders", "seller_orders", "accounts", "checkouts"] {
        projections.wait_for(name, last, PATIENCE).await.unwrap();
    }
    let stopped =
        status_when(&projections, "catalogue", |status| status.state == ProjectorState::Stopped).await;
    let error = stopped.error.unwrap();
    assert!(error.contains(&format!("event {poison} (ItemTeleported")), "{error}");
    assert!(error.contains("upgrade"), "{error}");
    assert!(stopped.position < Some(poison));
    assert!(stopped.lag_events > 0 && stopped.served);
    assert_eq!(projections.wait_for("catalogue", last, Duration::from_millis(50)).await, Err(Timeout));
    let items: i64 =
        sqlx::query_scalar("SELECT count(*) FROM views.items").fetch_one(&world.pool).await.unwrap();
    assert_eq!(items, 5, "what came before the event is there, and still answers");
    let (state, written): (String, Option<String>) =
        sqlx::query_as("SELECT state, error FROM views.projections WHERE name = 'catalogue'")
            .fetch_one(&world.pool)
            .await
            .unwrap();
    assert_eq!((&*state, written), ("stopped", Some(error)));
    projections.shutdown().await;

    // Starting again tries again, and finds the same.
    let projections = world.start();
    status_when(&projections, "catalogue", |status| status.state == ProjectorState::Stopped).await;
    // A rebuild too; what is served stays.
    let rebuilt = projections.rebuild_and_wait("catalogue", |_| ()).await;
    assert!(matches!(rebuilt, Err(RebuildError::Stopped(_))), "{rebuilt:?}");
    let items: i64 =
        sqlx::query_scalar("SELECT count(*) FROM views.items").fetch_one(&world.pool).await.unwrap();
    assert_eq!(items, 5);
    projections.shutdown().await;
}

async fn status_when(
    projections: &Projections,
    name: &str,
    wanted: impl Fn(&ProjectorStatus) -> bool,
) -> ProjectorStatus {
    let found = async {
        loop {
            let statuses = projections.status().await;
            if let Some(status) = statuses.into_iter().find(|status| status.name == name && wanted(status)) {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, found).await.expect("that status")
}

/// Counts events by type; the second version has a column more, and waits to be let through.
struct Tally {
    version: u32,
    gate: Option<Arc<Notify>>,
    fail: Arc<AtomicBool>,
}

impl Tally {
    fn of(version: u32) -> Self {
        Self { version, gate: None, fail: Arc::default() }
    }
}

#[async_trait]
impl Projector for Tally {
    fn name(&self) -> &'static str {
        "tally"
    }

    fn version(&self) -> u32 {
        self.version
    }

    fn filter(&self) -> Filter {
        Filter::categories(["order"])
    }

    fn migration(&self) -> &'static str {
        match self.version {
            1 => "CREATE TABLE tally (event_type text PRIMARY KEY, events bigint NOT NULL)",
            _ => {
                "CREATE TABLE tally (event_type text PRIMARY KEY, events bigint NOT NULL, version int DEFAULT 2);
                 CREATE TABLE tally_extra (n int)"
            }
        }
    }

    async fn apply(&self, tables: &mut PgConnection, events: &[Arc<Recorded>]) -> Result<(), ApplyError> {
        if let Some(gate) = &self.gate {
            gate.notified().await;
        }
        for event in events {
            sqlx::query(
                "INSERT INTO tally AS t (event_type, events) VALUES ($1, 1)
                 ON CONFLICT (event_type) DO UPDATE SET events = t.events + 1",
            )
            .bind(&*event.event_type)
            .execute(&mut *tables)
            .await?;
        }
        if self.fail.load(Ordering::Relaxed) {
            sqlx::query("SELECT 1 / 0").execute(&mut *tables).await?;
        }
        Ok(())
    }
}

async fn tally(world: &World) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT coalesce(sum(events), 0)::bigint FROM views.tally")
        .fetch_one(&world.pool)
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_and_checkpoint_come_together_or_not_at_all() {
    let world = World::new().await;
    let fail = Arc::new(AtomicBool::new(false));
    let projector = Tally { fail: Arc::clone(&fail), ..Tally::of(1) };
    let projections = world.start_with(vec![Arc::new(projector)]);
    let first = world.place(order_id(1), account(1), vec![Offer::nth(0).line(1)]).await;
    projections.wait_for("tally", first, PATIENCE).await.unwrap();
    fail.store(true, Ordering::Relaxed);
    world.place(order_id(2), account(1), vec![Offer::nth(0).line(1)]).await;
    let stopped = status_when(&projections, "tally", |status| status.state == ProjectorState::Stopped).await;
    assert_eq!(stopped.position, Some(first));
    assert!(stopped.error.as_ref().is_some_and(|error| error.contains("division by zero")), "{stopped:?}");
    assert_eq!(tally(&world).await.unwrap(), 1, "what was written before the failure is undone");
    fail.store(false, Ordering::Relaxed);
    projections.shutdown().await;

    let projections = world.start_with(vec![Arc::new(Tally::of(1))]);
    let status = status_when(&projections, "tally", |status| status.position > Some(first)).await;
    assert_eq!((status.state, status.error), (ProjectorState::Active, None));
    assert_eq!(tally(&world).await.unwrap(), 2);
    projections.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_takes_over_without_a_moment_without_an_answer() {
    let world = Arc::new(World::new().await);
    let old = world.start_with(vec![Arc::new(Tally::of(1))]);
    for n in 0..20 {
        world.place(order_id(n), account(1), vec![Offer::nth(0).line(1)]).await;
    }
    let head = world.log.head().await.unwrap().unwrap();
    old.wait_for("tally", head, PATIENCE).await.unwrap();

    // A reader that asks all the time, on prepared statements and not, and must never see less than before.
    let done = Arc::new(AtomicBool::new(false));
    let reader = tokio::spawn({
        let (world, done) = (Arc::clone(&world), Arc::clone(&done));
        async move {
            let (mut least, mut answers) = (20, 0);
            while !done.load(Ordering::Relaxed) {
                let seen = tally(&world).await.expect("an answer at any moment");
                assert!(seen >= least, "{seen} after {least}");
                (least, answers) = (seen, answers + 1);
            }
            answers
        }
    });

    let gate = Arc::new(Notify::new());
    let second = Tally { gate: Some(Arc::clone(&gate)), ..Tally::of(2) };
    let new = world.start_with(vec![Arc::new(second)]);
    let building = status_when(&new, "tally", |status| status.version == 2).await;
    assert_eq!((building.state, building.served), (ProjectorState::Building, false));
    // While the new one is held up, the old one is served and kept up to date by the program that knows it.
    let more = world.place(order_id(100), account(1), vec![Offer::nth(0).line(1)]).await;
    old.wait_for("tally", more, PATIENCE).await.unwrap();
    assert_eq!(tally(&world).await.unwrap(), 21);
    let feed = tokio::spawn({
        let world = Arc::clone(&world);
        async move {
            for n in 200..300 {
                world.place(order_id(n), account(1), vec![Offer::nth(0).line(1)]).await;
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
    });
    let opener = tokio::spawn(async move {
        loop {
            gate.notify_one();
            tokio::task::yield_now().await;
        }
    });
    let served = status_when(&new, "tally", |status| status.version == 2 && status.served).await;
    assert_eq!(served.state, ProjectorState::Active);
    feed.await.unwrap();
    let head = world.log.head().await.unwrap().unwrap();
    new.wait_for("tally", head, PATIENCE).await.unwrap();
    done.store(true, Ordering::Relaxed);
    assert!(reader.await.unwrap() > 10);
    assert_eq!(tally(&world).await.unwrap(), 121);
    let version: i32 =
        sqlx::query_scalar("SELECT max(version) FROM views.tally").fetch_one(&world.pool).await.unwrap();
    assert_eq!(version, 2, "what is served has the new shape");
    sqlx::query("SELECT n FROM views.tally_extra").fetch_all(&world.pool).await.unwrap();

    // The older program sees that it is replaced, and reads what the newer one writes.
    let more = world.place(order_id(400), account(1), vec![Offer::nth(0).line(1)]).await;
    old.wait_for("tally", more, PATIENCE).await.unwrap();
    let generations: Vec<i32> =
        sqlx::query_scalar("SELECT version FROM views.projections WHERE name = 'tally'")
            .fetch_all(&world.pool)
            .await
            .unwrap();
    assert_eq!(generations, [2]);
    opener.abort();
    new.shutdown().await;
    old.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_gives_the_same_while_the_old_one_answers() {
    let world = Arc::new(World::new().await);
    let projections = world.start();
    let position = world.history(40).await;
    world.settle(&projections, position).await;
    let before = world.dump().await;
    let done = Arc::new(AtomicBool::new(false));
    let reader = tokio::spawn({
        let (world, done) = (Arc::clone(&world), Arc::clone(&done));
        async move {
            while !done.load(Ordering::Relaxed) {
                let order = orders::order(&world.pool, order_id(2)).await.expect("an answer at any moment");
                assert!(order.is_some(), "an order that was there is there");
            }
        }
    });
    for model in read_models() {
        let mut told = 0;
        projections.rebuild_and_wait(model.name(), |_| told += 1).await.unwrap();
        assert!(told > 0, "progress is told");
    }
    done.store(true, Ordering::Relaxed);
    reader.await.unwrap();
    assert_eq!(world.dump().await, before);
    let generations: Vec<i32> = sqlx::query_scalar("SELECT generation FROM views.projections WHERE served")
        .fetch_all(&world.pool)
        .await
        .unwrap();
    assert_eq!(generations, vec![2; read_models().len()]);
    let unknown = projections.rebuild("nonsense").await;
    assert!(matches!(unknown, Err(RebuildError::Unknown(_))), "{unknown:?}");
    projections.shutdown().await;
    let schemas: i64 = sqlx::query_scalar("SELECT count(*) FROM pg_namespace WHERE nspname ~ '^views_'")
        .fetch_one(&world.pool)
        .await
        .unwrap();
    assert_eq!(schemas, read_models().len() as i64, "old generations are gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_processes_one_writes_and_both_can_ask() {
    let world = World::new().await;
    let one = world.start();
    let position = world.history(5).await;
    world.settle(&one, position).await;
    let two = world.start();
    let only_asks = world.start_with(Vec::new());
    for asked in [&two, &only_asks] {
        asked.wait_for("orders", position, PATIENCE).await.unwrap();
        assert_eq!(asked.wait_for("orders", position + 1, Duration::from_millis(50)).await, Err(Timeout));
        assert_eq!(asked.status().await.len(), read_models().len());
    }
    // A request from elsewhere reaches the one that writes.
    only_asks.rebuild_and_wait("stock", |_| ()).await.unwrap();
    let again = |status: &ProjectorStatus| status.served && status.generation == 2;
    status_when(&one, "stock", again).await;
    // When the writer ends, the one that waits goes on.
    one.shutdown().await;
    let position = world.buy(order_id(50), account(1), &[&Offer::nth(0)], Ending::Completed).await;
    world.settle(&two, position).await;
    world.settle(&only_asks, position).await;
    two.shutdown().await;
    only_asks.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_is_made_again() {
    let world = World::new().await;
    let projections = world.start();
    let position = world.history(5).await;
    world.settle(&projections, position).await;
    let killed: i64 = sqlx::query_scalar(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
         WHERE datname = current_database() AND application_name = 'souk projector'",
    )
    .fetch_one(&world.pool)
    .await
    .unwrap();
    assert!(killed >= 6, "{killed}");
    let position = world.buy(order_id(60), account(1), &[&Offer::nth(0)], Ending::Completed).await;
    world.settle(&projections, position).await;
    assert!(orders::order(&world.pool, order_id(60)).await.unwrap().is_some());
    projections.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_of_another_log_is_built_anew() {
    let mut world = World::new().await;
    let projections = world.start();
    let position = world.history(10).await;
    world.settle(&projections, position).await;
    projections.shutdown().await;
    // The log was restored to an earlier state.
    world.log = support::memory_log();
    let position = world.history(3).await;
    let projections = world.start();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while orders::order(&world.pool, order_id(9)).await.unwrap().is_some() {
        assert!(tokio::time::Instant::now() < deadline, "{:#?}", projections.status().await);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    world.settle(&projections, position).await;
    assert!(orders::order(&world.pool, order_id(2)).await.unwrap().is_some());
    projections.shutdown().await;
}
