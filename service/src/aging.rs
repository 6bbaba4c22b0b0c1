//! A connection that ends when its time is over, whatever is in flight on it. It must not know what is said on it, or that it was
//! asked to close before.
//!
//! tonic asks clients to connect again at a connection's age, or cuts it after age and grace, but does not do both (0.14.9:
//! with `max_connection_age_grace` nobody is asked). So it does the first, and this the second.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};
use tonic::transport::server::Connected;

/// A connection and its end.
#[derive(Debug)]
pub(crate) struct Aging<C> {
    connection: C,
    /// `None` for a connection that may go on for ever.
    end: Option<Pin<Box<Sleep>>>,
}

impl<C> Aging<C> {
    /// It ends after so long.
    pub(crate) fn new(connection: C, longest: Option<Duration>) -> Self {
        Self {
            connection,
            end: longest.map(|longest| Box::pin(sleep(longest))),
        }
    }
}

impl<C: AsyncRead + Unpin> AsyncRead for Aging<C> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // A server reads all the time, so this wakes it too.
        if let Some(end) = &mut self.end
            && end.as_mut().poll(cx).is_ready()
        {
            let words = "calls went on for longer than MAX_CONNECTION_AGE and MAX_CONNECTION_AGE_GRACE";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, words)));
        }
        Pin::new(&mut self.connection).poll_read(cx, buffer)
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for Aging<C> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.connection.is_write_vectored()
    }
}

impl<C: Connected> Connected for Aging<C> {
    type ConnectInfo = C::ConnectInfo;

    fn connect_info(&self) -> C::ConnectInfo {
        self.connection.connect_info()
    }
}
