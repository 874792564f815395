//! Who may do what. Clients name themselves with each call, by basic authentication; what a password is worth is asked of
//! an [`Authenticator`], and a right answer is remembered for a while, since telling takes a tenth of a second by design.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::STANDARD};
use moka::sync::Cache;
use tonic::{Extensions, metadata::MetadataMap, transport::server::TcpConnectInfo};

use crate::refusal::Refusal;

/// How long a password that was right is taken for right without another look, and rights that an account had, for its.
const REMEMBERED: Duration = Duration::from_mins(2);
/// Wrong passwords from one place within [`WINDOW`].
const FAILURES: u32 = 20;
const WINDOW: Duration = Duration::from_mins(1);
/// Entries of each memory at most.
const CAPACITY: u64 = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    pub read: bool,
    pub append: bool,
}

/// Passwords cannot be checked at the moment, and why.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct CannotTell(pub String);

#[async_trait]
pub trait Authenticator: Send + Sync + 'static {
    /// What this user may do; `None` if there is no such user, or the password is another.
    async fn rights(&self, user: &str, password: &str) -> Result<Option<Rights>, CannotTell>;
}

#[derive(Clone)]
pub enum Access {
    /// Anybody may do anything.
    Open,
    Checked(Arc<dyn Authenticator>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    Read,
    Append,
}

/// Stands before every call.
pub(crate) struct Gate {
    access: Access,
    allow_append: bool,
    /// By a hash of the header.
    known: Cache<[u8; 32], Rights>,
    failures: Cache<IpAddr, Arc<AtomicU32>>,
}

impl Gate {
    pub(crate) fn new(access: Access, allow_append: bool) -> Self {
        let known = Cache::builder().max_capacity(CAPACITY).time_to_live(REMEMBERED).build();
        let failures = Cache::builder().max_capacity(CAPACITY).time_to_live(WINDOW).build();
        Self { access, allow_append, known, failures }
    }

    pub(crate) async fn admit(
        &self,
        headers: &MetadataMap,
        extensions: &Extensions,
        wanted: Wanted,
    ) -> Result<(), Refusal> {
        let rights = match &self.access {
            Access::Open => Rights { read: true, append: true },
            Access::Checked(authenticator) => self.check(&**authenticator, headers, extensions).await?,
        };
        match wanted {
            Wanted::Read if !rights.read => {
                Err(Refusal::Denied("this account may not read the event log: ask for an analyst's".into()))
            }
            Wanted::Append if !self.allow_append => Err(Refusal::Denied(
                "this event server takes no appends: start it with --allow-append".into(),
            )),
            Wanted::Append if !rights.append => {
                Err(Refusal::Denied("only the service credential may append to the event log".into()))
            }
            Wanted::Read | Wanted::Append => Ok(()),
        }
    }

    async fn check(
        &self,
        authenticator: &dyn Authenticator,
        headers: &MetadataMap,
        extensions: &Extensions,
    ) -> Result<Rights, Refusal> {
        let header = headers.get("authorization").ok_or_else(|| {
            Refusal::Unauthenticated("this event server wants a user and a password".into())
        })?;
        let hash = *blake3::hash(header.as_bytes()).as_bytes();
        if let Some(rights) = self.known.get(&hash) {
            return Ok(rights);
        }
        let place = place(extensions);
        if place.is_some_and(|place| self.failed(place) >= FAILURES) {
            return Err(Refusal::Busy("too many wrong passwords from there: wait a minute".into()));
        }
        let (user, password) = header.to_str().ok().and_then(credentials).ok_or_else(|| {
            Refusal::Unauthenticated("this event server knows basic authentication alone".into())
        })?;
        match authenticator.rights(&user, &password).await {
            Ok(Some(rights)) => {
                self.known.insert(hash, rights);
                Ok(rights)
            }
            Ok(None) => {
                if let Some(place) = place {
                    self.failures.get_with(place, Arc::default).fetch_add(1, Ordering::Relaxed);
                }
                Err(Refusal::Unauthenticated("there is no such user, or the password is another".into()))
            }
            Err(CannotTell(why)) => {
                tracing::warn!(why, "the event server cannot check a password");
                Err(Refusal::Unavailable("passwords cannot be checked at the moment".into()))
            }
        }
    }

    fn failed(&self, place: IpAddr) -> u32 {
        self.failures.get(&place).map_or(0, |count| count.load(Ordering::Relaxed))
    }
}

/// Where a call comes from. Who has one IPv6 address has 2^64 of them.
fn place(extensions: &Extensions) -> Option<IpAddr> {
    let peer: SocketAddr = extensions.get::<TcpConnectInfo>()?.remote_addr()?;
    Some(match peer.ip().to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
        IpAddr::V4(ip) => ip.into(),
    })
}

/// The user and the password of a header `Basic …`.
fn credentials(header: &str) -> Option<(String, String)> {
    let (scheme, encoded) = header.split_once(' ')?;
    let text = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    scheme.eq_ignore_ascii_case("basic").then(|| (user.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Counting(AtomicU32);

    #[async_trait]
    impl Authenticator for Counting {
        async fn rights(&self, user: &str, password: &str) -> Result<Option<Rights>, CannotTell> {
            self.0.fetch_add(1, Ordering::Relaxed);
            if user == "away" {
                return Err(CannotTell("the database is away".into()));
            }
            let rights = Rights { read: user != "buyer", append: user == "service" };
            Ok((password == "right").then_some(rights))
        }
    }

    fn headers(credentials: Option<&str>) -> MetadataMap {
        let mut headers = MetadataMap::new();
        if let Some(credentials) = credentials {
            let header = format!("Basic {}", STANDARD.encode(credentials));
            headers.insert("authorization", header.parse().unwrap());
        }
        headers
    }

    fn from(place: [u8; 4]) -> Extensions {
        let mut extensions = Extensions::new();
        let remote_addr = Some(SocketAddr::from((place, 1)));
        extensions.insert(TcpConnectInfo { local_addr: None, remote_addr });
        extensions
    }

    fn code(result: Result<(), Refusal>) -> tonic::Code {
        result.map_or_else(|refusal| tonic::Status::from(refusal).code(), |()| tonic::Code::Ok)
    }

    #[tokio::test]
    async fn each_gets_what_it_may() {
        let gate = |allow| Gate::new(Access::Checked(Arc::new(Counting(AtomicU32::new(0)))), allow);
        let cases = [
            (None, Wanted::Read, true, tonic::Code::Unauthenticated),
            (Some("ann:wrong"), Wanted::Read, true, tonic::Code::Unauthenticated),
            (Some("ann"), Wanted::Read, true, tonic::Code::Unauthenticated),
            (Some("ann:right"), Wanted::Read, true, tonic::Code::Ok),
            (Some("ann:right"), Wanted::Append, true, tonic::Code::PermissionDenied),
            (Some("buyer:right"), Wanted::Read, true, tonic::Code::PermissionDenied),
            (Some("service:right"), Wanted::Append, true, tonic::Code::Ok),
            (Some("service:right"), Wanted::Append, false, tonic::Code::PermissionDenied),
            (Some("away:right"), Wanted::Read, true, tonic::Code::Unavailable),
        ];
        for (credentials, wanted, allow, expected) in cases {
            let result = gate(allow).admit(&headers(credentials), &Extensions::new(), wanted).await;
            assert_eq!(code(result), expected, "{credentials:?} {wanted:?} {allow}");
        }
        let open = Gate::new(Access::Open, true);
        assert_eq!(
            code(open.admit(&headers(None), &Extensions::new(), Wanted::Append).await),
            tonic::Code::Ok
        );
    }

    #[tokio::test]
    async fn a_right_password_is_checked_once_and_wrong_ones_are_limited() {
        let authenticator = Arc::new(Counting(AtomicU32::new(0)));
        let gate = Gate::new(Access::Checked(Arc::clone(&authenticator) as _), false);
        let (here, there) = (from([127, 0, 0, 1]), from([10, 0, 0, 1]));
        for _ in 0..3 {
            gate.admit(&headers(Some("ann:right")), &here, Wanted::Read).await.unwrap();
        }
        assert_eq!(authenticator.0.load(Ordering::Relaxed), 1);
        for _ in 0..FAILURES {
            let wrong = gate.admit(&headers(Some("ann:wrong")), &here, Wanted::Read).await;
            assert_eq!(code(wrong), tonic::Code::Unauthenticated);
        }
        assert_eq!(authenticator.0.load(Ordering::Relaxed), 1 + FAILURES);
        let blocked = gate.admit(&headers(Some("ben:right")), &here, Wanted::Read).await;
        assert_eq!(code(blocked), tonic::Code::ResourceExhausted);
        assert_eq!(authenticator.0.load(Ordering::Relaxed), 1 + FAILURES);
        gate.admit(&headers(Some("ann:right")), &here, Wanted::Read).await.unwrap();
        gate.admit(&headers(Some("ben:right")), &there, Wanted::Read).await.unwrap();
    }
}
