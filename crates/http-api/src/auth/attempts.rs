//! How often somebody may fail to log in. Only failures count; what counts is forgotten after a minute, and there is only
//! so much memory for it.

use std::{
    convert::Infallible,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use axum::{
    extract::{ConnectInfo, FromRequestParts},
    http::request::Parts,
};
use moka::sync::Cache;

const WINDOW: Duration = Duration::from_mins(1);
/// Counters at most.
const CAPACITY: u64 = 100_000;
/// Failures a window, for one account from one place, for one account, from one place.
const LIMITS: [u32; 3] = [10, 100, 1_000];

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Both(String, Option<IpAddr>),
    Account(String),
    Place(IpAddr),
}

pub(crate) struct Attempts(Cache<Key, Arc<AtomicU32>>);

impl Default for Attempts {
    fn default() -> Self {
        Self(Cache::builder().max_capacity(CAPACITY).time_to_live(WINDOW).build())
    }
}

impl Attempts {
    pub(crate) fn is_blocked(&self, email: &str, origin: Origin) -> bool {
        let counted = |key| self.0.get(&key).map_or(0, |count| count.load(Ordering::Relaxed));
        keys(email, origin)
            .into_iter()
            .zip(LIMITS)
            .any(|(key, limit)| key.is_some_and(|key| counted(key) >= limit))
    }

    pub(crate) fn failed(&self, email: &str, origin: Origin) {
        for key in keys(email, origin).into_iter().flatten() {
            self.0.get_with(key, Arc::default).fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn keys(email: &str, Origin(place): Origin) -> [Option<Key>; 3] {
    let email = email.to_owned();
    [Some(Key::Both(email.clone(), place)), Some(Key::Account(email)), place.map(Key::Place)]
}

/// Where a request comes from, as far as the connection tells.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin(Option<IpAddr>);

impl<S: Send + Sync> FromRequestParts<S> for Origin {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip());
        Ok(Self(peer.map(neighbourhood)))
    }
}

impl Origin {
    pub(crate) fn place(self) -> Option<IpAddr> {
        self.0
    }
}

/// Who has one IPv6 address has 2^64 of them.
fn neighbourhood(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
        IpAddr::V4(ip) => ip.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_fails_too_often_is_blocked() {
        let attempts = Attempts::default();
        let (here, there) = (Origin(Some([127, 0, 0, 1].into())), Origin(Some([10, 0, 0, 1].into())));
        for _ in 0..LIMITS[0] {
            assert!(!attempts.is_blocked("a@b", here));
            attempts.failed("a@b", here);
        }
        assert!(attempts.is_blocked("a@b", here));
        assert!(!attempts.is_blocked("a@b", there), "who guesses elsewhere does not lock the owner out");
        assert!(!attempts.is_blocked("other@b", here));
    }

    #[test]
    fn neighbours_are_one() {
        let ip = |text: &str| neighbourhood(text.parse().unwrap());
        assert_eq!(ip("2001:db8:1:2::3"), ip("2001:db8:1:2:ffff::"));
        assert_ne!(ip("2001:db8:1:2::3"), ip("2001:db8:1:3::3"));
        assert_eq!(ip("::ffff:10.0.0.1"), ip("10.0.0.1"));
    }
}
