//! A log, a vault, and a sender over both, quick enough for tests.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};
use futures::FutureExt;
use souk_domain::AccountId;
use souk_event_log::{Clock, EventLog, Expected, MemoryLog, NewEvent, Position, StreamName};
use souk_local_postgres::{TestDatabase, TestPostgres};
use souk_vault::{Consumer, MasterKey, NewConsumer, Vault, Whose};
use souk_webhooks::{Pace, Parts, Reach, Webhooks, testing::Received};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub(crate) const PACE: Pace = Pace {
    first_delay: Duration::from_millis(20),
    longest_delay: Duration::from_millis(200),
    give_up_after: Duration::from_hours(3 * 24),
    timeout: Duration::from_secs(15),
    poll: Duration::from_millis(10),
    owner_holds: Duration::from_millis(100),
};
pub(crate) const IMPATIENT: Pace = Pace { timeout: Duration::from_millis(400), ..PACE };

pub(crate) const ANN: AccountId = AccountId(Uuid::from_u128(1));
pub(crate) const BOB: AccountId = AccountId(Uuid::from_u128(2));

pub(crate) struct Site {
    pub(crate) log: MemoryLog,
    pub(crate) vault: Vault,
    /// In seconds, what the sender's clock is ahead of the real one.
    ahead: Arc<AtomicI64>,
    /// Who may not read events.
    pub(crate) out: Arc<Mutex<HashSet<AccountId>>>,
    ids: AtomicU64,
    _database: TestDatabase,
}

/// A sender at work; it ends with this.
pub(crate) struct Sender {
    stop: CancellationToken,
    running: JoinHandle<()>,
}

impl Sender {
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        (&mut self.running).await.expect("it ends well");
    }

    /// As a process that is killed: nothing more is noted.
    pub(crate) async fn crash(mut self) {
        self.running.abort();
        assert!((&mut self.running).await.expect_err("it is aborted").is_cancelled());
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Site {
    pub(crate) async fn open() -> Self {
        let database = TestPostgres::shared().await.database().await;
        let vault = Vault::open(database.pool().await, MasterKey::new([7; 32])).await.expect("opened");
        let ahead = Arc::new(AtomicI64::new(0));
        Self {
            log: MemoryLog::new(clock(&ahead)),
            vault,
            ahead,
            out: Arc::default(),
            ids: AtomicU64::new(1),
            _database: database,
        }
    }

    pub(crate) fn now(&self) -> DateTime<Utc> {
        clock(&self.ahead)()
    }

    pub(crate) fn advance(&self, by: TimeDelta) {
        self.ahead.fetch_add(by.num_seconds(), Ordering::SeqCst);
    }

    pub(crate) fn send(&self) -> Sender {
        self.send_as(Reach::Anywhere, PACE)
    }

    pub(crate) fn send_as(&self, reach: Reach, pace: Pace) -> Sender {
        let out = Arc::clone(&self.out);
        let webhooks = Webhooks::new(Parts {
            log: Arc::new(self.log.clone()),
            vault: self.vault.clone(),
            owners: Arc::new(move |account| {
                let allowed = !out.lock().expect("unpoisoned").contains(&account);
                async move { Ok(allowed) }.boxed()
            }),
            reach,
            pace,
            clock: clock(&self.ahead),
        });
        let (stop, webhooks) = (CancellationToken::new(), webhooks.expect("a client"));
        Sender { running: tokio::spawn(webhooks.run(stop.clone())), stop }
    }

    fn id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::SeqCst)
    }

    pub(crate) async fn append(&self, stream: &str, event_type: &str) -> Position {
        let id = self.id();
        let event = NewEvent {
            id: Uuid::from_u128(u128::from(id)),
            event_type: event_type.into(),
            data: format!(r#"{{ "number": {id} }}"#).into_bytes(),
            metadata: b"{}".to_vec().into(),
        };
        let stream = StreamName::parse(stream).expect("a name");
        self.log.append(&stream, Expected::Any, vec![event]).await.expect("appended").position
    }

    /// So many events, taking turns on so many streams.
    pub(crate) async fn fill(&self, events: u64, streams: u64) -> Position {
        let mut last = 0;
        for number in 0..events {
            last = self.append(&format!("order-{}", number % streams), "Counted").await;
        }
        last
    }

    /// A webhook of Ann's for every event; answers its id and its secret.
    pub(crate) async fn subscribe(&self, url: &str) -> (Uuid, String) {
        self.subscribe_to(url, |consumer| consumer).await
    }

    pub(crate) async fn subscribe_to(
        &self,
        url: &str,
        how: impl FnOnce(NewConsumer) -> NewConsumer,
    ) -> (Uuid, String) {
        let id = Uuid::from_u128(1_000_000 + u128::from(self.id()));
        let new = how(NewConsumer {
            id,
            owner: ANN,
            name: "test".into(),
            stream: None,
            categories: vec![],
            types: vec![],
            position: None,
            webhook_url: Some(url.into()),
            fingerprint: None,
        });
        let (_, secret) = self.vault.create_consumer(new, self.now()).await.expect("created");
        (id, secret.expect("a secret").as_text().to_string())
    }

    pub(crate) async fn consumer(&self, id: Uuid) -> Consumer {
        self.vault.consumer(id, Whose::Everybodys).await.expect("read").expect("there")
    }

    /// Waits until the consumer is as wanted.
    pub(crate) async fn until(&self, id: Uuid, wanted: impl Fn(&Consumer) -> bool) -> Consumer {
        let began = Instant::now();
        loop {
            let consumer = self.consumer(id).await;
            if wanted(&consumer) {
                return consumer;
            }
            assert!(began.elapsed() < Duration::from_secs(30), "it stays {consumer:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn clock(ahead: &Arc<AtomicI64>) -> Clock {
    let ahead = Arc::clone(ahead);
    #[expect(clippy::disallowed_methods, reason = "time passes in a test of pauses")]
    Arc::new(move || Utc::now() + TimeDelta::seconds(ahead.load(Ordering::SeqCst)))
}

/// Each event that was taken came before the next of its stream was so much as sent, and none is missing.
#[track_caller]
pub(crate) fn assert_whole_and_in_order(received: &[Received], events: u64) {
    let mut taken: HashMap<&str, Vec<u64>> = HashMap::new();
    for request in received {
        let stream = taken.entry(request.stream()).or_default();
        let revision = request.body["revision"].as_u64().expect("a revision");
        assert!(
            revision <= stream.len() as u64,
            "revision {revision} of {} was sent after {:?}",
            request.stream(),
            stream.last()
        );
        if request.is_delivered() && revision == stream.len() as u64 {
            stream.push(revision);
        }
    }
    assert_eq!(taken.values().map(Vec::len).sum::<usize>() as u64, events);
}
