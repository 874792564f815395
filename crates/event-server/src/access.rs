//! Who may do what. Clients name themselves with each call, by basic authentication; what a password is worth is asked of
//! an [`Authenticator`], and a right answer is remembered for a while, since telling takes a tenth of a second by design.
//!
//! Wrong passwords are limited, by place and by account. A try counts from before it is looked at, so that many at once
//! are no way around. Who was right within a day does not guess, and is not in the way of those who do.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::STANDARD};
use moka::sync::Cache;
use tokio::sync::Mutex;
use tonic::{
    Extensions,
    codegen::http::{HeaderMap, HeaderValue, header::AUTHORIZATION},
    transport::server::TcpConnectInfo,
};

use crate::refusal::Refusal;

/// How long who was right once may come again without being taken for one who guesses.
const FAMILIAR: Duration = Duration::from_hours(24);
/// Wrong passwords within [`WINDOW`], from one place, and for one account from all places together.
const FROM_ONE_PLACE: u32 = 20;
const FOR_ONE_ACCOUNT: u32 = 100;
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

    /// The account that a user's name means, however it is written: what one account may do at once, and how often its
    /// password may be wrong, is kept by it. `None` if the password is too long to be guessed, so that nobody locks the
    /// account out by trying.
    fn account(&self, user: &str) -> Option<String> {
        Some(user.to_owned())
    }
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

/// Who was let in.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) rights: Rights,
    pub(crate) account: Arc<str>,
    /// By which it is asked again; nobody is asked where access is open.
    header: Option<HeaderValue>,
}

#[derive(Clone, Copy)]
struct Known {
    rights: Rights,
    since: Instant,
}

#[derive(PartialEq, Eq, Hash)]
enum Guesser {
    Place(IpAddr),
    Account(String),
}

/// Stands before every call.
pub(crate) struct Gate {
    access: Access,
    allow_append: bool,
    /// How long a password that was right is taken for right without another look, and rights for its.
    remembered: Duration,
    /// By a hash of the header, as are the turns.
    known: Cache<[u8; 32], Known>,
    /// Calls that come together with one header wait for one look at it.
    turns: Cache<[u8; 32], Arc<Mutex<()>>>,
    failures: Cache<Guesser, Arc<AtomicU32>>,
}

impl Gate {
    pub(crate) fn new(access: Access, allow_append: bool, remembered: Duration) -> Self {
        let known = Cache::builder().max_capacity(CAPACITY).time_to_live(FAMILIAR).build();
        let turns = Cache::builder().max_capacity(CAPACITY).time_to_live(WINDOW).build();
        let failures = Cache::builder().max_capacity(CAPACITY).time_to_live(WINDOW).build();
        Self { access, allow_append, remembered, known, turns, failures }
    }

    pub(crate) fn remembered(&self) -> Duration {
        self.remembered
    }

    pub(crate) async fn admit(
        &self,
        headers: &HeaderMap,
        extensions: &Extensions,
        wanted: Wanted,
    ) -> Result<Caller, Refusal> {
        let caller = match &self.access {
            Access::Open => {
                Caller { rights: Rights { read: true, append: true }, account: "".into(), header: None }
            }
            Access::Checked(authenticator) => {
                let header = headers.get(AUTHORIZATION).ok_or_else(|| {
                    Refusal::Unauthenticated("this event server wants a user and a password".into())
                })?;
                self.check(&**authenticator, header, place(extensions)).await?
            }
        };
        self.permit(caller.rights, wanted)?;
        Ok(caller)
    }

    /// Lets who was let in stay, or not.
    pub(crate) async fn admit_again(&self, caller: &Caller, wanted: Wanted) -> Result<(), Refusal> {
        let (Access::Checked(authenticator), Some(header)) = (&self.access, &caller.header) else {
            return Ok(());
        };
        let caller = self.check(&**authenticator, header, None).await?;
        self.permit(caller.rights, wanted)
    }

    fn permit(&self, rights: Rights, wanted: Wanted) -> Result<(), Refusal> {
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
        header: &HeaderValue,
        place: Option<IpAddr>,
    ) -> Result<Caller, Refusal> {
        let (user, password) = header.to_str().ok().and_then(credentials).ok_or_else(|| {
            Refusal::Unauthenticated("this event server knows basic authentication alone".into())
        })?;
        let account = authenticator.account(&user);
        let hash = *blake3::hash(header.as_bytes()).as_bytes();
        let rights = if let Some(rights) = self.fresh(&hash) {
            rights
        } else {
            let turn = self.turns.get_with(hash, Arc::default);
            let _turn = turn.lock().await;
            let guessers = [place.map(Guesser::Place), account.clone().map(Guesser::Account)];
            self.ask(authenticator, (&user, &password), hash, guessers).await?
        };
        let account = account.unwrap_or(user).into();
        Ok(Caller { rights, account, header: Some(header.clone()) })
    }

    fn fresh(&self, hash: &[u8; 32]) -> Option<Rights> {
        let known = self.known.get(hash)?;
        (known.since.elapsed() < self.remembered).then_some(known.rights)
    }

    /// Asks, unless a call that came just before has done so.
    async fn ask(
        &self,
        authenticator: &dyn Authenticator,
        (user, password): (&str, &str),
        hash: [u8; 32],
        guessers: [Option<Guesser>; 2],
    ) -> Result<Rights, Refusal> {
        if let Some(rights) = self.fresh(&hash) {
            return Ok(rights);
        }
        let counted = if self.known.contains_key(&hash) { Vec::new() } else { self.count(guessers)? };
        match authenticator.rights(user, password).await {
            Ok(Some(rights)) => {
                give_back(&counted);
                self.known.insert(hash, Known { rights, since: Instant::now() });
                Ok(rights)
            }
            Ok(None) => {
                self.known.invalidate(&hash);
                Err(Refusal::Unauthenticated("there is no such user, or the password is another".into()))
            }
            Err(CannotTell(why)) => {
                give_back(&counted);
                tracing::warn!(why, "the event server cannot check a password");
                Err(Refusal::Unavailable("passwords cannot be checked at the moment".into()))
            }
        }
    }

    /// Counts a try as wrong until it turns out not to be.
    fn count(&self, guessers: [Option<Guesser>; 2]) -> Result<Vec<Arc<AtomicU32>>, Refusal> {
        let mut counted = Vec::new();
        for guesser in guessers.into_iter().flatten() {
            let (limit, whose) = match guesser {
                Guesser::Place(_) => (FROM_ONE_PLACE, "from there"),
                Guesser::Account(_) => (FOR_ONE_ACCOUNT, "for this account"),
            };
            let count = self.failures.get_with(guesser, Arc::default);
            let before = count.fetch_add(1, Ordering::Relaxed);
            counted.push(count);
            if before >= limit {
                give_back(&counted);
                return Err(Refusal::Busy(format!("too many wrong passwords {whose}: wait a minute")));
            }
        }
        Ok(counted)
    }
}

fn give_back(counted: &[Arc<AtomicU32>]) {
    for count in counted {
        count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Where a caller is. Who has one IPv6 address has 2^64 of them.
pub(crate) fn place_of(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
        IpAddr::V4(ip) => ip.into(),
    }
}

fn place(extensions: &Extensions) -> Option<IpAddr> {
    let peer: SocketAddr = extensions.get::<TcpConnectInfo>()?.remote_addr()?;
    Some(place_of(peer.ip()))
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

    const LONG: Duration = Duration::from_mins(1);

    #[derive(Default)]
    struct Counting(AtomicU32);

    #[async_trait]
    impl Authenticator for Counting {
        async fn rights(&self, user: &str, password: &str) -> Result<Option<Rights>, CannotTell> {
            self.0.fetch_add(1, Ordering::Relaxed);
            // It takes its time.
            tokio::task::yield_now().await;
            if user == "away" {
                return Err(CannotTell("the database is away".into()));
            }
            let rights = Rights { read: user != "buyer", append: user == "service" };
            Ok((password == "right").then_some(rights))
        }
    }

    fn checked(authenticator: &Arc<Counting>, allow_append: bool) -> Gate {
        Gate::new(Access::Checked(Arc::clone(authenticator) as _), allow_append, LONG)
    }

    fn headers(credentials: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Some(credentials) = credentials {
            let header = format!("Basic {}", STANDARD.encode(credentials));
            headers.insert(AUTHORIZATION, header.parse().unwrap());
        }
        headers
    }

    fn from(place: [u8; 4]) -> Extensions {
        let mut extensions = Extensions::new();
        let remote_addr = Some(SocketAddr::from((place, 1)));
        extensions.insert(TcpConnectInfo { local_addr: None, remote_addr });
        extensions
    }

    fn code(result: Result<Caller, Refusal>) -> tonic::Code {
        result.map_or_else(|refusal| tonic::Status::from(refusal).code(), |_| tonic::Code::Ok)
    }

    #[tokio::test]
    async fn each_gets_what_it_may() {
        let gate = |allow| checked(&Arc::default(), allow);
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
        let open = Gate::new(Access::Open, true, LONG);
        assert_eq!(
            code(open.admit(&headers(None), &Extensions::new(), Wanted::Append).await),
            tonic::Code::Ok
        );
    }

    #[tokio::test]
    async fn a_right_password_is_checked_once_and_wrong_ones_are_limited() {
        let authenticator = Arc::<Counting>::default();
        let gate = checked(&authenticator, false);
        let (here, there) = (from([127, 0, 0, 1]), from([10, 0, 0, 1]));
        for _ in 0..3 {
            gate.admit(&headers(Some("ann:right")), &here, Wanted::Read).await.unwrap();
        }
        assert_eq!(authenticator.0.load(Ordering::Relaxed), 1);
        for _ in 0..FROM_ONE_PLACE {
            let wrong = gate.admit(&headers(Some("ann:wrong")), &here, Wanted::Read).await;
            assert_eq!(code(wrong), tonic::Code::Unauthenticated);
        }
        assert_eq!(authenticator.0.load(Ordering::Relaxed), 1 + FROM_ONE_PLACE);
        let blocked = gate.admit(&headers(Some("ben:right")), &here, Wanted::Read).await;
        assert_eq!(code(blocked), tonic::Code::ResourceExhausted);
        assert_eq!(authenticator.0.load(Ordering::Relaxed), 1 + FROM_ONE_PLACE);
        gate.admit(&headers(Some("ann:right")), &here, Wanted::Read).await.unwrap();
        gate.admit(&headers(Some("ben:right")), &there, Wanted::Read).await.unwrap();
    }
    /// How often the authenticator was asked about 200 wrong passwords at once.
    async fn asked(place: impl Fn(u8) -> Extensions, user: impl Fn(u8) -> String) -> u32 {
        let authenticator = Arc::<Counting>::default();
        let gate = checked(&authenticator, false);
        let tries = (0..200).map(|n| {
            let (headers, place) = (headers(Some(&format!("{}:wrong{n}", user(n)))), place(n));
            let gate = &gate;
            async move { gate.admit(&headers, &place, Wanted::Read).await }
        });
        assert!(futures::future::join_all(tries).await.iter().all(Result::is_err));
        authenticator.0.load(Ordering::Relaxed)
    }

    #[tokio::test]
    async fn wrong_passwords_at_once_are_limited_by_place_and_by_account() {
        let here = |_| from([127, 0, 0, 1]);
        assert_eq!(asked(here, |n| format!("user{n}")).await, FROM_ONE_PLACE);
        let anywhere = |n| from([10, 0, 0, n]);
        assert_eq!(asked(anywhere, |_| "ann".into()).await, FOR_ONE_ACCOUNT);
        assert_eq!(asked(anywhere, |n| format!("user{n}")).await, 200);
    }

    #[tokio::test]
    async fn calls_that_come_together_are_one_look_and_no_guesses() {
        let authenticator = Arc::<Counting>::default();
        let gate = checked(&authenticator, false);
        let (headers, here) = (headers(Some("ann:right")), from([127, 0, 0, 1]));
        let calls = (0..200).map(|_| gate.admit(&headers, &here, Wanted::Read));
        assert!(futures::future::join_all(calls).await.iter().all(Result::is_ok));
        assert_eq!(authenticator.0.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn who_was_right_before_is_let_in_whatever_others_try() {
        let authenticator = Arc::<Counting>::default();
        let gate = Gate { remembered: Duration::ZERO, ..checked(&authenticator, false) };
        let here = from([127, 0, 0, 1]);
        let ann = gate.admit(&headers(Some("ann:right")), &here, Wanted::Read).await.unwrap();
        for n in 0..=FROM_ONE_PLACE {
            let _ = gate.admit(&headers(Some(&format!("ann:wrong{n}"))), &here, Wanted::Read).await;
        }
        let ben = gate.admit(&headers(Some("ben:right")), &here, Wanted::Read).await;
        assert_eq!(code(ben), tonic::Code::ResourceExhausted);
        gate.admit(&headers(Some("ann:right")), &here, Wanted::Read).await.unwrap();
        gate.admit_again(&ann, Wanted::Read).await.unwrap();
        assert!(gate.admit_again(&ann, Wanted::Append).await.is_err());
    }
}
