//! What the machines write, whatever they are asked to: heads that read back, framed once, and only where framing may stand.

use bytes::Buf;
use persist_core::{
    BodyLen, Client, Config, Conn, Event, Field, FieldName, FieldValue, Instant, Method, Next, Role, SendError, Server,
    StatusCode, Ticket,
};

const NOW: Instant = Instant::ZERO;
const LENGTHS: [BodyLen; 5] =
    [BodyLen::Empty, BodyLen::Length(0), BodyLen::Length(3), BodyLen::Chunked, BodyLen::UntilClose];

const fn field(name: &'static str, value: &'static str) -> Field<'static> {
    Field { name: FieldName::from_static(name), value: FieldValue::from_static(value) }
}

const HOST: Field<'static> = field("Host", "example.com:443");

fn written<R: Role>(conn: &mut Conn<R>) -> String {
    let mut transmit = conn.transmit(NOW);
    let bytes = transmit.copy_to_bytes(transmit.remaining());
    String::from_utf8(bytes.to_vec()).expect("heads of these tests are ASCII")
}

fn methods() -> Vec<Method> {
    let names = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "PROPFIND"];
    names.iter().map(|name| Method::new(name).expect("a token")).collect()
}

fn target(method: &Method) -> &'static str {
    if *method == Method::CONNECT { "example.com:443" } else { "/a?b" }
}

/// The head that a client writes.
fn request(method: &Method, body: BodyLen, fields: &[Field<'static>]) -> Result<String, SendError> {
    let mut client = Conn::<Client>::new(Config::client(), NOW);
    let fields = [&[HOST], fields].concat();
    client.send_request(method, target(method), fields, body, NOW)?;
    Ok(written(&mut client))
}

/// A server that has read such a request, and its ticket.
fn asked(method: &Method, version: &str) -> (Conn<Server>, Ticket) {
    let mut server = Conn::<Server>::new(Config::server(), NOW);
    let head = format!("{method} {} HTTP/{version}\r\nHost: a\r\n\r\n", target(method));
    let mut input = head.as_bytes();
    let mut ticket = None;
    while let Next::Event(event) = server.next(&mut input, NOW).expect("well-formed") {
        if let Event::Head { ticket: given, .. } = event {
            ticket = Some(given);
        }
    }
    (server, ticket.expect("a request"))
}

/// The head that a server writes; `None` if it refuses to.
fn response(
    method: &Method,
    version: &str,
    status: StatusCode,
    body: BodyLen,
    fields: &[Field<'static>],
) -> Option<String> {
    let (mut server, ticket) = asked(method, version);
    let fields = fields.iter().copied();
    if status.is_interim() && status != StatusCode::SWITCHING_PROTOCOLS {
        server.send_interim(&ticket, status, fields, NOW).ok()?;
    } else {
        server.send_response(ticket, status, fields, body, NOW).ok()?;
    }
    Some(written(&mut server))
}

fn statuses() -> impl Iterator<Item = StatusCode> {
    [100, 102, 103, 199, 200, 201, 204, 205, 206, 299, 304, 400, 404, 407, 500, 599, 999]
        .into_iter()
        .map(|code| StatusCode::new(code).expect("a status code"))
}

/// Splits a head into its first line and field lines, which must be spelled as the grammar has them.
#[track_caller]
fn lines(head: &str) -> (&str, Vec<(&str, &str)>) {
    let text = head.strip_suffix("\r\n\r\n").unwrap_or_else(|| panic!("no empty line at the end of {head:?}"));
    let mut lines = text.split("\r\n");
    let first = lines.next().unwrap_or_default();
    assert!(!text.replace("\r\n", "").contains(['\r', '\n']), "CR or LF alone in {head:?}");
    let fields = lines.map(|line| {
        let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("{line:?} in {head:?}"));
        assert!(FieldName::new(name).is_ok() && FieldValue::new(value.as_bytes()).is_ok(), "{line:?}");
        (name, value)
    });
    (first, fields.collect())
}

fn framing<'h>(fields: &[(&'h str, &'h str)]) -> (Vec<&'h str>, Vec<&'h str>) {
    let all = |wanted: &str| {
        let same = |(name, _): &&(&str, &str)| name.eq_ignore_ascii_case(wanted);
        fields.iter().filter(same).map(|(_, value)| *value).collect::<Vec<_>>()
    };
    (all("content-length"), all("transfer-encoding"))
}

#[test]
fn a_written_head_is_one_that_we_read() {
    for method in methods() {
        for body in LENGTHS {
            let head = request(&method, body, &[field("X-Y", "a\tb")]).expect("a request");
            let (first, fields) = lines(&head);
            assert_eq!(first, format!("{method} {} HTTP/1.1", target(&method)));
            assert_eq!(fields[..2], [("Host", "example.com:443"), ("X-Y", "a\tb")]);
            let mut server = Conn::<Server>::new(Config::server(), NOW);
            let mut input = head.as_bytes();
            let event = server.next(&mut input, NOW).expect("what we write is well-formed");
            let Next::Event(Event::Head { head, .. }) = event else { panic!("{event:?}") };
            assert_eq!((head.method(), head.fields().count()), (&method, fields.len()));
        }
    }
    for status in statuses() {
        let head = response(&Method::GET, "1.1", status, BodyLen::Empty, &[]).expect("a response");
        let (first, _) = lines(&head);
        assert_eq!(first, format!("HTTP/1.1 {status} {}", status.reason()), "the space stays without a reason");
    }
}

#[test]
fn no_message_is_framed_twice_or_where_it_may_not_be() {
    for method in methods() {
        for body in LENGTHS {
            let head = request(&method, body, &[]).expect("a request");
            let (lengths, codings) = framing(&lines(&head).1);
            assert!(lengths.len() + codings.len() <= 1, "{head}");
            match body {
                BodyLen::Length(length) => assert_eq!(lengths, [length.to_string()], "{head}"),
                // A request cannot end with its connection.
                BodyLen::Chunked | BodyLen::UntilClose => assert_eq!(codings, ["chunked"], "{head}"),
                BodyLen::Empty => assert!(codings.is_empty() && lengths.iter().all(|length| *length == "0"), "{head}"),
            }
        }
    }
    for method in methods() {
        for (version, status) in
            ["1.0", "1.1"].iter().flat_map(|version| statuses().map(move |status| (version, status)))
        {
            for body in LENGTHS {
                let Some(head) = response(&method, version, status, body, &[]) else { continue };
                let (lengths, codings) = framing(&lines(&head).1);
                let case = format!("{method} {version} {status} {body:?}: {head}");
                assert!(lengths.len() + codings.len() <= 1, "{case}");
                let tunnel = method == Method::CONNECT && status.is_success();
                if status.is_interim() || status == StatusCode::NO_CONTENT || tunnel {
                    assert!(lengths.is_empty() && codings.is_empty(), "{case}");
                }
                if *version == "1.0" {
                    assert!(codings.is_empty(), "{case}");
                }
                assert!(codings.iter().all(|coding| *coding == "chunked"), "{case}");
            }
        }
    }
}

#[test]
fn framing_fields_of_the_callers_are_refused() {
    for (name, value) in
        [("Content-Length", "3"), ("transfer-ENCODING", "gzip, chunked"), ("Transfer-Encoding", "chunked")]
    {
        let own = Field { name: FieldName::new(name).expect("a token"), value: FieldValue::from_static(value) };
        for body in [BodyLen::Empty, BodyLen::Length(3), BodyLen::Chunked] {
            let refused = request(&Method::POST, body, &[own]).expect_err("the machine writes these itself");
            assert!(matches!(refused, SendError::FramingField(_)), "{refused}");
            assert_eq!(response(&Method::GET, "1.1", StatusCode::OK, body, &[own]), None);
        }
    }
}
