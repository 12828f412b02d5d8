//! The gates before a client's next request: whether one may be sent, and places that are reserved for later ones.

use super::event::Slot;
use super::half::{Half, Phase};
use super::{Client, Conn, Inbound};
use crate::config::Gate;
use crate::error::SendError;

impl Conn<Client> {
    /// Whether a request could be sent now.
    ///
    /// # Errors
    /// What [`send_request`](Self::send_request) would say.
    pub fn may_send(&self) -> Result<(), SendError> {
        self.gates()?;
        self.room_for_one()
    }

    /// Reserves a place. Each slot is followed by exactly one `send_request_in` or `release`.
    ///
    /// # Errors
    /// `Closed`, `Full`.
    pub fn reserve(&mut self) -> Result<Slot, SendError> {
        self.open()?;
        self.room_for_one()?;
        self.reserved += 1;
        Ok(Slot(()))
    }

    /// Gives a place back.
    pub fn release(&mut self, slot: Slot) {
        let Slot(()) = slot;
        self.reserved = self.reserved.saturating_sub(1);
        self.say_slots();
    }

    /// Whether another request may follow, at once or when there is room: none may once the connection [is closing](Self::is_closing), nor before that behind one
    /// that says `Connection: close` or was cut short, after the peer's last byte, or after a switch of protocols. A pool lends what may not to nobody.
    pub fn may_go_on(&self) -> bool {
        self.open().is_ok()
    }

    /// Whether to look at the stream before the next request: one non-blocking read, whose outcome is a [`Glance`](crate::Glance). Not while exchanges are under way, which will
    /// meet whatever comes, nor before the first.
    ///
    /// ```
    /// use persist_core::{BodyLen, Client, Config, Conn, Instant, Method, Next};
    /// use bytes::Buf;
    ///
    /// let now = Instant::ZERO;
    /// let mut conn = Conn::<Client>::new(Config::client(), now);
    /// assert!(!conn.is_look_due());
    /// # let host = persist_core::Field { name: persist_core::FieldName::from_static("Host"), value: persist_core::FieldValue::from_static("h") };
    /// conn.send_request(&Method::GET, "/", [host], BodyLen::Empty, now)?;
    /// let mut out = conn.transmit(now);
    /// out.advance(out.remaining());
    /// assert!(!conn.is_look_due());
    /// let mut input: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";
    /// while let Next::Event(_) = conn.next(&mut input, now)? {}
    /// assert!(conn.is_look_due());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_look_due(&self) -> bool {
        self.completed > 0 && self.is_idle()
    }

    fn open(&self) -> Result<(), SendError> {
        let closed =
            self.phase != Phase::Open || self.is_last_sent() || self.eof || matches!(self.inbound, Inbound::Switched);
        if closed { Err(SendError::Closed) } else { Ok(()) }
    }

    fn room_for_one(&self) -> Result<(), SendError> {
        let in_flight = self.in_flight();
        if in_flight >= self.config.pipelining.depth.max(1) as usize {
            Err(SendError::Full { in_flight })
        } else {
            Ok(())
        }
    }

    pub(super) fn gates(&self) -> Result<(), SendError> {
        self.open()?;
        let Some(newest) = self.queue.back() else { return Ok(()) };
        if !newest.sending.is_over() {
            return Err(SendError::BodyUnfinished);
        }
        let gates = &self.config.pipelining;
        let first = gates.behind_first == Gate::Closed && self.completed == 0;
        let peer = gates.to_this_peer == Gate::Closed || self.mishandled;
        if first || peer || newest.may_switch || self.outbox.len() > self.config.limits.outbox_bytes_max as usize {
            return Err(SendError::AnswerFirst);
        }
        // RFC 9112 §9.3.2: not behind a non-idempotent request, until its final status is known. One that is let through
        // stands at the back, so the newest tells.
        let unanswered = newest.receiving == Half::Idle;
        if gates.behind_non_idempotent == Gate::Closed && unanswered && !newest.method.is_idempotent() {
            return Err(SendError::AnswerFirst);
        }
        Ok(())
    }
}
