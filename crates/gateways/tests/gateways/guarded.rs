//! Deadlines, retries and the circuit breaker, in virtual time.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use souk_gateways::{Booking, Carrier, GatewayError, Guarded, Limits};
use tokio::time::Instant;
use uuid::Uuid;

/// Answers as told, then well. Counts who asks.
#[derive(Clone, Default)]
struct Moody(Arc<(Mutex<VecDeque<Mood>>, AtomicU32)>);

#[derive(Clone, Copy)]
enum Mood {
    Well,
    No,
    Away,
    Silent,
}

impl Moody {
    fn will(&self, moods: &[Mood]) {
        self.0.0.lock().unwrap().extend(moods);
    }

    fn asked(&self) -> u32 {
        self.0.1.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl Carrier for Moody {
    async fn book(&self, _: Uuid, _: &str, _: Option<&str>) -> Result<Booking, GatewayError> {
        self.0.1.fetch_add(1, Ordering::Relaxed);
        let mood = self.0.0.lock().unwrap().pop_front();
        match mood {
            Some(Mood::Away) => Err(GatewayError::Unavailable("away".into())),
            Some(Mood::No) => Err(GatewayError::invalid("country", "no")),
            Some(Mood::Silent) => std::future::pending().await,
            Some(Mood::Well) | None => {
                Ok(Booking::Booked { carrier: "Camel".into(), booking_id: "1".into() })
            }
        }
    }

    async fn cancel(&self, _: Uuid) -> Result<(), GatewayError> {
        Ok(())
    }
}

fn limits() -> Limits {
    Limits { failures: 3, ..Limits::default() }
}

fn guarded(limits: Limits) -> (Moody, Guarded<Moody>) {
    let moody = Moody::default();
    (moody.clone(), Guarded::new("carrier", moody, limits, Arc::new(|| 1.0)))
}

async fn book(guarded: &Guarded<Moody>) -> Result<Booking, GatewayError> {
    guarded.book(Uuid::nil(), "GB", None).await
}

#[tokio::test(start_paused = true)]
async fn what_did_not_happen_is_tried_again_with_growing_pauses() {
    let (moody, guarded) = guarded(limits());
    moody.will(&[Mood::Away, Mood::Away, Mood::Well]);
    let start = Instant::now();
    assert!(book(&guarded).await.is_ok());
    assert_eq!(moody.asked(), 3);
    // The longest that chance may choose: 200 ms, and then 400.
    assert_eq!(start.elapsed(), Duration::from_millis(600));
}

#[tokio::test(start_paused = true)]
async fn what_may_have_happened_is_not_tried_again() {
    let (moody, guarded) = guarded(limits());
    moody.will(&[Mood::Silent]);
    let start = Instant::now();
    assert!(matches!(book(&guarded).await, Err(GatewayError::Unknown(_))));
    assert_eq!((moody.asked(), start.elapsed()), (1, limits().deadline));
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_fails_again_and_again_is_left_alone_and_probed_by_one() {
    let (moody, guarded) = guarded(Limits { retries: 0, ..limits() });
    let guarded = Arc::new(guarded);
    moody.will(&[Mood::Away; 3]);
    for _ in 0..3 {
        assert!(matches!(book(&guarded).await, Err(GatewayError::Unavailable(_))));
    }
    for _ in 0..100 {
        assert!(matches!(book(&guarded).await, Err(GatewayError::Resting(_))), "nobody is asked");
    }
    assert_eq!(moody.asked(), 3);

    // One probes, and it fails: a rest twice as long.
    moody.will(&[Mood::Silent]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let probe = tokio::spawn({
        let guarded = Arc::clone(&guarded);
        async move { book(&guarded).await }
    });
    tokio::task::yield_now().await;
    assert!(matches!(book(&guarded).await, Err(GatewayError::Resting(_))), "another one waits for the probe");
    assert!(matches!(probe.await.unwrap(), Err(GatewayError::Unknown(_))));
    assert_eq!(book(&guarded).await, Err(GatewayError::Resting(Duration::from_secs(2))));
    assert_eq!(moody.asked(), 4);

    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(book(&guarded).await.is_ok(), "it is back");
    moody.will(&[Mood::Away, Mood::Away, Mood::Well]);
    for _ in 0..3 {
        let _ = book(&guarded).await;
    }
    assert!(book(&guarded).await.is_ok(), "and the count began anew");
}

#[tokio::test(start_paused = true)]
async fn a_no_is_an_answer() {
    let (moody, guarded) = guarded(limits());
    moody.will(&[Mood::No; 10]);
    for _ in 0..10 {
        assert!(matches!(book(&guarded).await, Err(GatewayError::Invalid { .. })));
    }
    assert_eq!(moody.asked(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_nobody_waits_for_blocks_nobody() {
    let (moody, guarded) = guarded(Limits { retries: 0, ..limits() });
    moody.will(&[Mood::Away; 3]);
    for _ in 0..3 {
        let _ = book(&guarded).await;
    }
    moody.will(&[Mood::Silent]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(tokio::time::timeout(Duration::from_millis(10), book(&guarded)).await.is_err());
    assert!(book(&guarded).await.is_ok(), "the next one probes");
}
