//! What an adapter asks of a handshake that makes one hop of a route: bytes in, bytes out, no socket and no clock.

use core::fmt;

use crate::exchange_error::BoxError;

/// A handshake with a proxy, from the first byte sent to the last one received.
///
/// A [`Router`](crate::Router) makes one for each [`Hop`](crate::Hop) that is no socket; adapters move its bytes. The contract: write what
/// [`transmit`](Self::transmit) gives and [`advance`](Self::advance), read and [`handle_input`](Self::handle_input), until it is done or
/// fails. Deadlines are the adapter's ([`DialConfig::handshake`](crate::DialConfig)).
///
/// It consumes its own bytes and no others: what is left of the input when it is done belongs to the stream beyond.
pub trait Tunnel: fmt::Debug + Send {
    /// Bytes to be written.
    fn transmit(&self) -> &[u8];

    /// The layer below accepted `n` of them.
    fn advance(&mut self, n: usize);

    /// What the proxy sent. Call after [`transmit`](Self::transmit) has nothing more to give.
    ///
    /// # Errors
    /// The tunnel was refused, or the proxy does not speak its protocol: the stream is of no use any more.
    fn handle_input(&mut self, input: &mut &[u8]) -> Result<TunnelStep, BoxError>;

    /// The proxy closed the stream before the handshake was done: what that means.
    fn handle_eof(&mut self) -> BoxError;
}

/// How far a handshake has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TunnelStep {
    /// Write what there is to write, then read more.
    Pending,
    /// The stream is the target's from here on, beginning with what is left of the input.
    Done,
}
