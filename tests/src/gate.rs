//! A way to a server that can be shut: what the server says after so many bytes waits until it is opened again.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::AbortHandle,
};

pub struct Gate {
    address: String,
    shared: Arc<Shared>,
    running: AbortHandle,
}

struct Shared {
    to: String,
    /// Bytes that still pass.
    left: AtomicUsize,
    opened: Notify,
}

impl Gate {
    /// Open, to the server at this address.
    pub async fn to(address: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let shared = Arc::new(Shared {
            to: address.into(),
            left: AtomicUsize::new(usize::MAX),
            opened: Notify::new(),
        });
        let address = listener.local_addr().unwrap().to_string();
        let running = tokio::spawn(accept(listener, Arc::clone(&shared))).abort_handle();
        Self { address, shared, running }
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    /// Lets so many bytes pass from now on, and no more.
    pub fn shut_after(&self, bytes: usize) {
        self.shared.left.store(bytes, Ordering::SeqCst);
    }

    pub fn open(&self) {
        self.shared.left.store(usize::MAX, Ordering::SeqCst);
        self.shared.opened.notify_waiters();
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.running.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let (client, _) = listener.accept().await.unwrap();
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            // A server that is away is a connection that ends.
            let Ok(server) = TcpStream::connect(&shared.to).await else { return };
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            tokio::select! {
                () = pass(from_client, to_server, None) => {}
                () = pass(from_server, to_client, Some(&shared)) => {}
            }
        });
    }
}

/// Until either end is gone.
async fn pass(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, gate: Option<&Shared>) {
    let mut block = vec![0; 4_096];
    loop {
        let Ok(length @ 1..) = from.read(&mut block).await else { return };
        if let Some(gate) = gate {
            let take = |left: usize| left.checked_sub(length);
            loop {
                // Listens before it looks, so that no opening is missed.
                let opened = gate.opened.notified();
                if gate.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok() {
                    break;
                }
                opened.await;
            }
        }
        if to.write_all(&block[..length]).await.is_err() {
            return;
        }
    }
}
