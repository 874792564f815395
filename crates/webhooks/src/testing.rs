//! A receiver for tests, of webhooks as a partner would write it: over a socket, checking signatures by itself, and as
//! unreliable as it is told to be.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use parking_lot::Mutex;
use serde_json::Value;
use sha2::Sha256;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, split},
    net::TcpListener,
    sync::Notify,
    time::sleep,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

const PATIENCE: Duration = Duration::from_secs(30);

/// Of a receiver on 127.0.0.1 that nobody trusts by itself; it is worth nothing anywhere else.
pub const CERTIFICATE: &str = include_str!("../testing/certificate.pem");
const KEY: &str = include_str!("../testing/key.pem");

/// What the receiver answers.
#[derive(Clone, Debug)]
pub enum Reply {
    Status(u16),
    /// With a line of the answer's head.
    With(u16, &'static str),
    /// After so long.
    Slowly(Duration, u16),
    /// The connection ends without an answer.
    HangUp,
}

/// One request.
#[derive(Clone, Debug)]
pub struct Received {
    /// By their names in lower case.
    pub headers: HashMap<String, String>,
    pub text: String,
    pub body: Value,
    pub at: Instant,
    /// None as long as it is not answered.
    pub answered: Option<u16>,
}

impl Received {
    pub fn id(&self) -> &str {
        &self.headers["webhook-id"]
    }

    pub fn position(&self) -> u64 {
        self.body["position"].as_u64().unwrap()
    }

    pub fn stream(&self) -> &str {
        self.body["stream"].as_str().unwrap()
    }

    pub fn is_delivered(&self) -> bool {
        self.answered.is_some_and(|status| (200..300).contains(&status))
    }

    /// Whether one of the signatures was made with the secret.
    pub fn is_signed_with(&self, secret: &str) -> bool {
        let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
        mac.update(format!("{}.{}.{}", self.id(), self.headers["webhook-timestamp"], self.text).as_bytes());
        let expected = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
        self.headers["webhook-signature"].split(' ').any(|signature| signature == expected)
    }
}

type Decide = Box<dyn Fn(usize, &Received) -> Reply + Send + Sync>;

pub struct Receiver {
    scheme: &'static str,
    address: SocketAddr,
    shared: Arc<Shared>,
    _stop: DropGuard,
}

struct Shared {
    received: Mutex<Vec<Received>>,
    changed: Notify,
    reply: Decide,
}

impl Receiver {
    /// What it answers is decided for each request, which are numbered from 0.
    pub async fn start(reply: impl Fn(usize, &Received) -> Reply + Send + Sync + 'static) -> Self {
        Self::listen("http", None, reply).await
    }

    /// As [`Self::start`], over TLS, with [`CERTIFICATE`].
    pub async fn start_tls(reply: impl Fn(usize, &Received) -> Reply + Send + Sync + 'static) -> Self {
        let certificate = CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(KEY.as_bytes()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        Self::listen("https", Some(TlsAcceptor::from(Arc::new(config))), reply).await
    }

    async fn listen(
        scheme: &'static str,
        tls: Option<TlsAcceptor>,
        reply: impl Fn(usize, &Received) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared =
            Arc::new(Shared { received: Mutex::default(), changed: Notify::new(), reply: Box::new(reply) });
        let stop = CancellationToken::new();
        let (until, work) = (stop.clone(), Arc::clone(&shared));
        tokio::spawn(async move {
            let connections = TaskTracker::new();
            while let Some(Ok((connection, _))) = until.run_until_cancelled(listener.accept()).await {
                let (until, work, tls) = (until.clone(), Arc::clone(&work), tls.clone());
                let serving = async move {
                    match tls {
                        Some(tls) => work.serve(tls.accept(connection).await.ok()?).await,
                        None => work.serve(connection).await,
                    }
                };
                connections.spawn(async move { until.run_until_cancelled(serving).await });
            }
        });
        Self { scheme, address, shared, _stop: stop.drop_guard() }
    }

    pub fn url(&self) -> String {
        format!("{}://{}/hooks", self.scheme, self.address)
    }

    /// Every request so far, in the order in which they came.
    pub fn received(&self) -> Vec<Received> {
        self.shared.received.lock().clone()
    }

    /// Waits until what came is as wanted.
    #[track_caller]
    pub fn until(&self, wanted: impl Fn(&[Received]) -> bool) -> impl Future<Output = Vec<Received>> {
        let caller = std::panic::Location::caller();
        async move {
            let began = Instant::now();
            loop {
                let changed = self.shared.changed.notified();
                let received = self.received();
                if wanted(&received) {
                    return received;
                }
                let left = PATIENCE.saturating_sub(began.elapsed());
                assert!(
                    tokio::time::timeout(left, changed).await.is_ok(),
                    "{caller}: {} requests came, of which {} were answered well",
                    received.len(),
                    received.iter().filter(|one| one.is_delivered()).count()
                );
            }
        }
    }
}

impl Shared {
    /// Requests of one connection, one after the other.
    async fn serve(&self, connection: impl AsyncRead + AsyncWrite) -> Option<()> {
        let (input, mut output) = split(connection);
        let mut input = BufReader::new(input);
        loop {
            let mut lines = Vec::new();
            loop {
                let mut line = String::new();
                input.read_line(&mut line).await.ok().filter(|read| *read > 0)?;
                match line.trim_end() {
                    "" => break,
                    line => lines.push(line.to_owned()),
                }
            }
            assert!(lines[0].starts_with("POST /hooks HTTP/1.1"), "{lines:?}");
            let headers: HashMap<_, _> = lines[1..]
                .iter()
                .map(|line| {
                    line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned()))
                })
                .collect::<Option<_>>()?;
            let mut text = vec![0; headers["content-length"].parse().ok()?];
            input.read_exact(&mut text).await.ok()?;
            let text = String::from_utf8(text).expect("a text");
            let body = serde_json::from_str(&text).expect("JSON");
            let request = Received { headers, text, body, at: Instant::now(), answered: None };
            let number = {
                let mut received = self.received.lock();
                received.push(request.clone());
                received.len() - 1
            };
            self.changed.notify_waiters();
            let (status, header) = match (self.reply)(number, &request) {
                Reply::Status(status) => (status, String::new()),
                Reply::With(status, header) => (status, format!("{header}\r\n")),
                Reply::Slowly(time, status) => {
                    sleep(time).await;
                    (status, String::new())
                }
                Reply::HangUp => return None,
            };
            self.received.lock()[number].answered = Some(status);
            self.changed.notify_waiters();
            let length = if header.starts_with("content-length") { "" } else { "content-length: 2\r\n" };
            let answer = format!("HTTP/1.1 {status} As told\r\n{length}{header}\r\nok");
            output.write_all(answer.as_bytes()).await.ok()?;
        }
    }
}
