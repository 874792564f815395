//! Connections: only so many, and from one place a part of them. One more is closed at once.

use std::{
    io,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{Stream, TryStreamExt, future::ready};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tonic::transport::server::{Connected, TcpConnectInfo, TcpIncoming};

use crate::{access::place_of, shares::Shares};

pub(crate) struct Connection {
    stream: TcpStream,
    /// Of all, and of those from one place.
    _held: [OwnedSemaphorePermit; 2],
}

pub(crate) fn accept(
    listener: TcpListener,
    most: usize,
    from_one_place: usize,
) -> impl Stream<Item = io::Result<Connection>> {
    let (all, places) = (Arc::new(Semaphore::new(most)), Shares::new(from_one_place));
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    incoming.try_filter_map(move |stream| ready(Ok(counted(stream, &all, &places))))
}

fn counted(stream: TcpStream, all: &Arc<Semaphore>, places: &Shares<IpAddr>) -> Option<Connection> {
    let place = place_of(stream.peer_addr().ok()?.ip());
    let from_there = places.of(place).try_acquire_owned().ok();
    let held = from_there.zip(Arc::clone(all).try_acquire_owned().ok());
    if held.is_none() {
        tracing::warn!(%place, "too many connections to the event server: one is closed");
    }
    held.map(|(from_there, of_all)| Connection { stream, _held: [from_there, of_all] })
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
