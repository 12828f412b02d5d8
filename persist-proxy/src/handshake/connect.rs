//! `CONNECT`: the connection machine itself, used for one exchange.

use bytes::Buf;
use persist_core::{
    BodyLen, Client, Config, Conn, Credentials, Event, Field, FieldName, FieldValue, Fields, Host, Instant, Method,
    Next, ResponseHead, StatusCode, Timeouts, TunnelStep,
};

use super::{Challenge, HandshakeError, InvalidHandshake, Out, Refusal};

/// How much of the content of a refusal is kept. 16 KiB: an error page, not a download.
pub const REFUSAL_BODY_BYTES_MAX: usize = 16 * 1024;

/// A user and a password, as Basic joins them. In Base64 it is a third more.
const CREDENTIALS_BYTES_MAX: usize = 4096;

/// Time does not matter here: every deadline is the caller's.
const NOW: Instant = Instant::ZERO;

#[derive(Debug)]
pub(super) struct Connect {
    conn: Conn<Client>,
    pub(super) out: Out,
    refusal: Option<(Box<Refusal>, Vec<Challenge>)>,
}

impl Connect {
    pub(super) fn new(
        host: &Host,
        port: u16,
        credentials: Option<&Credentials>,
        fields: &Fields,
    ) -> Result<Self, InvalidHandshake> {
        let mut config = Config::client();
        config.timeouts = Timeouts::none();
        let mut conn = Conn::<Client>::new(config, NOW);
        let target = format!("{host}:{port}");
        check_fields(true, fields)?;
        // A field of the caller's (a token, another scheme) stands in for Basic.
        let credentials = credentials.filter(|_| fields.get("Proxy-Authorization").is_none());
        let authorization = credentials.map(basic).transpose()?;
        let own = [("Host", Some(&target)), ("Proxy-Authorization", authorization.as_ref())];
        let own = own.iter().filter_map(|(name, value)| {
            let value = FieldValue::new((*value)?.as_bytes()).ok()?;
            Some(Field { name: FieldName::new(name).ok()?, value })
        });
        conn.send_request(&Method::CONNECT, &target, own.chain(fields.iter()), BodyLen::Empty, NOW)
            .map_err(|_| InvalidHandshake::Fields("the connection does not take them"))?;
        let mut transmit = conn.transmit(NOW);
        let head = transmit.copy_to_bytes(transmit.remaining()).to_vec();
        Ok(Self { conn, out: Out::new(head), refusal: None })
    }

    pub(super) fn handle_input(&mut self, input: &mut &[u8]) -> Result<TunnelStep, HandshakeError> {
        loop {
            match self.conn.next(input, NOW) {
                Ok(Next::Event(Event::Switched { .. })) => return Ok(TunnelStep::Done),
                Ok(Next::Event(Event::Head { head, .. })) if !head.status().is_success() => self.refused(&head),
                Ok(Next::Event(Event::Data { data, .. })) => {
                    if self.keep(data) {
                        return Err(self.refuse());
                    }
                }
                Ok(Next::Event(Event::End { .. })) if self.refusal.is_some() => return Err(self.refuse()),
                Ok(Next::Event(Event::Closed(_))) => return Err(self.handle_eof()),
                Ok(Next::Event(_)) => {}
                Ok(Next::NeedRead) => return Ok(TunnelStep::Pending),
                Ok(Next::Paused) => return Err(HandshakeError::Over),
                Err(error) => return Err(HandshakeError::Protocol(error)),
            }
        }
    }

    pub(super) fn handle_eof(&mut self) -> HandshakeError {
        match (&mut self.refusal, self.conn.error()) {
            (Some((refusal, _)), _) => {
                // Without framing the content ends here; with it, some is missing.
                self.conn.handle_eof(NOW);
                refusal.body_is_cut |= self.conn.close_reason().is_some_and(|reason| !reason.is_graceful());
                self.refuse()
            }
            (None, Some(error)) => HandshakeError::Protocol(error.clone()),
            (None, None) => HandshakeError::Closed { waiting_for: "its answer to CONNECT" },
        }
    }

    fn refused(&mut self, head: &ResponseHead) {
        let challenges = head.fields().filter(|field| field.name.is("proxy-authenticate"));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let challenges = challenges.map(|field| Challenge { text: text(field.value.as_bytes()) }).collect();
        let reason = text(head.reason());
        let refusal = Refusal { status: head.status(), reason, body: Vec::new(), body_is_cut: false };
        self.refusal = Some((Box::new(refusal), challenges));
    }

    /// Keeps content of a refusal. Whether it is more than is kept.
    fn keep(&mut self, data: &[u8]) -> bool {
        let Some((refusal, _)) = &mut self.refusal else { return false };
        let room = REFUSAL_BODY_BYTES_MAX - refusal.body.len();
        refusal.body.extend_from_slice(&data[..room.min(data.len())]);
        refusal.body_is_cut = data.len() > room;
        refusal.body_is_cut
    }

    fn refuse(&mut self) -> HandshakeError {
        match self.refusal.take() {
            None => HandshakeError::Over,
            Some((refusal, challenges)) if refusal.status == StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                HandshakeError::AuthenticationRequired { challenges, refusal }
            }
            Some((refusal, _)) if matches!(refusal.status.as_u16(), 502..=504) => {
                HandshakeError::TargetUnreachable { refusal }
            }
            Some((refusal, _)) => HandshakeError::Refused { refusal },
        }
    }
}

/// Fields that would change what the handshake means.
const RESERVED: [&str; 8] =
    ["Host", "Connection", "Content-Length", "Transfer-Encoding", "Expect", "Upgrade", "Trailer", "TE"];

/// Whether a proxy takes these fields of the caller's.
pub(crate) fn check_fields(is_http: bool, fields: &Fields) -> Result<(), InvalidHandshake> {
    match fields.iter().find(|field| RESERVED.iter().any(|reserved| field.name.is(reserved))) {
        Some(_) => Err(InvalidHandshake::Fields("one of them is the handshake's own to write")),
        None if !is_http && !fields.is_empty() => Err(InvalidHandshake::Fields("SOCKS has none")),
        None => Ok(()),
    }
}

/// RFC 7617 §2.
pub(crate) fn basic(credentials: &Credentials) -> Result<String, InvalidHandshake> {
    use base64::Engine;
    let Credentials { user, password } = credentials;
    let control = user.chars().chain(password.chars()).any(char::is_control);
    if control || user.contains(':') {
        return Err(InvalidHandshake::Credentials);
    }
    let len = user.len() + 1 + password.len();
    if len > CREDENTIALS_BYTES_MAX {
        return Err(InvalidHandshake::CredentialsLength { len });
    }
    let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    Ok(format!("Basic {encoded}"))
}
