//! Feeds recorded bytes to the core's machine and watches what it makes of them. The one place where `inspect`, its batch form and fuzz targets do so.

use std::collections::VecDeque;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;

use bytes::Buf as _;
use persist_core::{
    BodyLen, Client, CloseReason, Config, Conn, Disposition, Event, Failure, Field, FieldName, FieldValue, Fields,
    Instant, Leniency, Method, Next, ProtocolError, RequestHead, ResponseHead, Server, StatusCode, Ticket, Timeouts,
};

/// Which messages the bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// What a server reads.
    Request,
    /// What a client reads.
    Response,
}

/// How strictly heads are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Strictness {
    /// `Leniency::strict()`: nothing is tolerated.
    #[default]
    Strict,
    /// `Leniency::client()`: what cannot change framing is tolerated in responses.
    Client,
}

/// What is fed, and how.
#[derive(Clone, Debug)]
pub struct Recording<'a> {
    /// Which end reads it.
    pub role: Role,
    /// The bytes.
    pub input: &'a [u8],
    /// The peer closed after them.
    pub eof: bool,
    /// So many bytes at a time; all at once without.
    pub split: Option<NonZeroUsize>,
    /// Responses: the methods of the outstanding requests, in order.
    pub methods: Vec<Method>,
}

/// Something the machine saw in the input.
#[derive(Debug)]
pub struct Seen<'i> {
    /// In which exchange; `None` for what concerns the whole connection.
    pub exchange: Option<u64>,
    /// Where in the input it begins ...
    pub start: u64,
    /// ... and where the machine has read to.
    pub end: u64,
    /// What it is.
    pub what: What<'i>,
}

/// The events of a machine, those of both roles.
#[derive(Debug)]
pub enum What<'i> {
    /// An interim response.
    Interim(ResponseHead),
    /// A request began.
    Request(RequestHead, BodyLen),
    /// A final response began.
    Response(ResponseHead, BodyLen),
    /// Content, framing removed.
    Data(&'i [u8]),
    /// The message is complete.
    End(Option<Fields>),
    /// The exchange ended without completing.
    Ended(Box<Failure>),
    /// Another protocol begins.
    Switched,
    /// The connection is done.
    Closed(CloseReason),
}

/// What became of the input as a whole: the table in `docs/cli.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// At least one complete message, no error, nothing half-read.
    Accept,
    /// No error, but the input ends inside a message or holds none.
    Incomplete,
    /// An error before any complete message.
    Reject,
    /// Complete messages, then an error.
    PrefixThenReject,
}

/// Why the input was rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// It breaks the protocol.
    Protocol(ProtocolError),
    /// It ends in the middle of an exchange.
    Ended(Box<Failure>),
    /// The connection came to a bad end.
    Closed(CloseReason),
}

/// The judgement of a whole recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// In one word.
    pub outcome: Outcome,
    /// Complete messages, interim responses too.
    pub messages: u64,
    /// Whether the connection would not be used for another message.
    pub closed: bool,
    /// Why it was rejected.
    pub rejection: Option<Rejection>,
}

/// Feeds recordings to machines. Holds their configurations, so that a million small recordings share them.
#[derive(Clone, Debug)]
pub struct Replayer {
    server: Arc<Config>,
    client: Arc<Config>,
}

/// No time passes in a recording.
const NOW: Instant = Instant::ZERO;

const HOST: Field<'static> =
    Field { name: FieldName::from_static("Host"), value: FieldValue::from_static("example.com") };

impl Replayer {
    /// A replayer whose machines read heads so strictly, with default limits and no deadlines.
    pub fn new(strictness: Strictness) -> Self {
        let leniency = match strictness {
            Strictness::Strict => Leniency::strict(),
            Strictness::Client => Leniency::client(),
        };
        let configure = |mut config: Config| {
            config.leniency = leniency;
            config.timeouts = Timeouts::none();
            Arc::new(config)
        };
        let mut client = Config::client();
        client.pipelining.depth = u32::MAX;
        client.pipelining.behind_non_idempotent = persist_core::Gate::Open;
        Self { server: configure(Config::server()), client: configure(client) }
    }

    /// Feeds one recording to a fresh machine and shows `watch` each thing it sees, in order.
    pub fn replay(&self, recording: &Recording<'_>, watch: &mut dyn FnMut(Seen<'_>)) -> Verdict {
        match recording.role {
            Role::Request => {
                let conn = Conn::<Server>::new(Arc::clone(&self.server), NOW);
                Replay::new(conn, Answering { ticket: None }, watch).run(recording)
            }
            Role::Response => {
                let conn = Conn::<Client>::new(Arc::clone(&self.client), NOW);
                let asking = Asking { methods: recording.methods.iter().cloned().collect() };
                Replay::new(conn, asking, watch).run(recording)
            }
        }
    }
}

/// What this end does of its own accord while the recording plays.
trait Part {
    type Role: persist_core::Role;

    /// Before the first byte, and after each event.
    fn act(&mut self, conn: &mut Conn<Self::Role>);
    fn head(
        &mut self,
        conn: &mut Conn<Self::Role>,
        ticket: <Self::Role as persist_core::Role>::Ticket,
        head: <Self::Role as persist_core::Role>::Inbound,
        body: BodyLen,
    ) -> What<'static>;
    fn interim(head: <Self::Role as persist_core::Role>::Inbound) -> Option<What<'static>>;
    fn complete(&mut self, conn: &mut Conn<Self::Role>);
}

/// A server that answers every complete request with 200 and no content.
struct Answering {
    ticket: Option<Ticket>,
}

/// A client with these requests still to send; all of them go out before the first byte is read, unless a gate holds them back.
struct Asking {
    methods: VecDeque<Method>,
}

impl Part for Answering {
    type Role = Server;

    fn act(&mut self, _conn: &mut Conn<Server>) {}

    fn head(&mut self, conn: &mut Conn<Server>, ticket: Ticket, head: RequestHead, body: BodyLen) -> What<'static> {
        conn.want_body(ticket.id(), NOW);
        self.ticket = Some(ticket);
        What::Request(head, body)
    }

    fn interim(_head: RequestHead) -> Option<What<'static>> {
        None
    }

    fn complete(&mut self, conn: &mut Conn<Server>) {
        if let Some(ticket) = self.ticket.take() {
            // A refusal means that the exchange has ended already, which the events say.
            let _ = conn.send_response(ticket, StatusCode::OK, [], BodyLen::Empty, NOW);
        }
    }
}

impl Part for Asking {
    type Role = Client;

    fn act(&mut self, conn: &mut Conn<Client>) {
        while let Some(method) = self.methods.front() {
            let target = if *method == Method::CONNECT { "example.com:443" } else { "/" };
            match conn.send_request(method, target, [HOST], BodyLen::Empty, NOW) {
                Ok(_) => self.methods.pop_front(),
                Err(_) => break,
            };
        }
    }

    fn head(&mut self, _conn: &mut Conn<Client>, _ticket: (), head: ResponseHead, body: BodyLen) -> What<'static> {
        What::Response(head, body)
    }

    fn interim(head: ResponseHead) -> Option<What<'static>> {
        Some(What::Interim(head))
    }

    fn complete(&mut self, _conn: &mut Conn<Client>) {}
}

/// One recording being played.
struct Replay<'w, P: Part> {
    conn: Conn<P::Role>,
    part: P,
    watch: &'w mut dyn FnMut(Seen<'_>),
    /// Bytes of the input that lie before the piece being fed.
    base: u64,
    /// Where the last event ended.
    mark: u64,
    /// A message has begun and is not complete.
    inside: bool,
    /// Bytes other than empty lines have come since the last event.
    begun: bool,
    messages: u64,
    /// What follows are no messages.
    switched: bool,
    rejection: Option<Rejection>,
}

/// Whether the rest of the input is of interest.
#[derive(PartialEq, Eq)]
enum Flow {
    GoOn,
    Stop,
}

impl<'w, P: Part> Replay<'w, P> {
    fn new(conn: Conn<P::Role>, part: P, watch: &'w mut dyn FnMut(Seen<'_>)) -> Self {
        Self {
            conn,
            part,
            watch,
            base: 0,
            mark: 0,
            inside: false,
            begun: false,
            messages: 0,
            switched: false,
            rejection: None,
        }
    }

    fn run(mut self, recording: &Recording<'_>) -> Verdict {
        self.part.act(&mut self.conn);
        self.flush();
        let step = recording.split.map_or(recording.input.len().max(1), NonZeroUsize::get);
        let stopped = recording.input.chunks(step).any(|piece| self.feed(piece) == Flow::Stop);
        if recording.eof && !(stopped && self.rejection.is_some()) {
            self.conn.handle_eof(NOW);
            self.feed(&[]);
        }
        self.verdict(recording.eof)
    }

    fn feed(&mut self, piece: &[u8]) -> Flow {
        let mut rest = piece;
        loop {
            let next = self.conn.next(&mut rest, NOW);
            let read = piece.len() - rest.len();
            match next {
                Ok(Next::Event(event)) => self.see(event, piece, read),
                Ok(Next::NeedRead) => {
                    let since = usize::try_from(self.mark.saturating_sub(self.base)).unwrap_or(usize::MAX);
                    self.begun |= piece.iter().skip(since).any(|byte| !matches!(byte, b'\r' | b'\n'));
                    self.base += piece.len() as u64;
                    return Flow::GoOn;
                }
                Ok(Next::Paused) => return Flow::Stop,
                Err(error) => {
                    // The machine's own judgement, rather than the exchange that suffered from it.
                    self.rejection = Some(Rejection::Protocol(error));
                    return Flow::Stop;
                }
            }
            self.part.act(&mut self.conn);
            self.flush();
        }
    }

    /// `piece[..read]` is what the machine has read of the current piece.
    fn see(&mut self, event: Event<'_, P::Role>, piece: &[u8], read: usize) {
        let end = self.base + read as u64;
        let mut start = self.mark;
        let (id, what) = match event {
            Event::Interim { id, head } => {
                self.messages += 1;
                let Some(what) = P::interim(head) else { return };
                (Some(id), what)
            }
            Event::Head { id, ticket, head, body } => {
                self.inside = true;
                (Some(id), self.part.head(&mut self.conn, ticket, head, body))
            }
            Event::Data { id, data } => {
                // Lent from `piece`: its address tells where it lies, chunk framing around it or not.
                start = self.base + (data.as_ptr() as usize).wrapping_sub(piece.as_ptr() as usize) as u64;
                (Some(id), What::Data(data))
            }
            Event::End { id, trailers } => {
                self.inside = false;
                self.messages += 1;
                self.part.complete(&mut self.conn);
                (Some(id), What::End(trailers))
            }
            Event::Ended { id, failure } => {
                self.inside = false;
                if self.rejection.is_none() && is_error(&failure) {
                    self.rejection = Some(Rejection::Ended(failure.clone()));
                }
                (Some(id), What::Ended(failure))
            }
            Event::Switched { id } => {
                if std::mem::take(&mut self.inside) {
                    self.messages += 1;
                }
                self.switched = true;
                (Some(id), What::Switched)
            }
            Event::Closed(reason) => {
                if self.rejection.is_none() && !reason.is_graceful() {
                    self.rejection = Some(Rejection::Closed(reason.clone()));
                }
                (None, What::Closed(reason))
            }
            // About our own sending, which is not in the recording.
            _ => return,
        };
        (self.mark, self.begun) = (end, false);
        (self.watch)(Seen { exchange: id.map(|id| id.number()), start, end, what });
    }

    /// Everything we send is taken at once.
    fn flush(&mut self) {
        loop {
            let mut out = self.conn.transmit(NOW);
            let n = out.remaining();
            if n == 0 {
                break;
            }
            out.advance(n);
        }
        self.conn.poll_shutdown();
    }

    fn verdict(self, eof: bool) -> Verdict {
        let over = eof || self.switched || self.conn.is_closing() || self.conn.is_closed();
        let half_read = self.inside || (self.begun && !over);
        let outcome = match (&self.rejection, self.messages) {
            (Some(_), 0) => Outcome::Reject,
            (Some(_), _) => Outcome::PrefixThenReject,
            (None, 0) => Outcome::Incomplete,
            (None, _) if half_read => Outcome::Incomplete,
            (None, _) => Outcome::Accept,
        };
        let closed = over || self.rejection.is_some();
        Verdict { outcome, messages: self.messages, closed, rejection: self.rejection }
    }
}

/// A request that an earlier response's `close` left unanswered is nobody's fault; one that the peer's end left unanswered is.
fn is_error(failure: &Failure) -> bool {
    failure.disposition != Disposition::Declined
        && (failure.reason == CloseReason::PeerClosed || !failure.reason.is_graceful())
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Protocol(error) => error.fmt(f),
            Self::Ended(failure) => failure.reason.fmt(f),
            Self::Closed(reason) => reason.fmt(f),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Accept => "accept",
            Self::Incomplete => "incomplete",
            Self::Reject => "reject",
            Self::PrefixThenReject => "prefix-then-reject",
        })
    }
}
