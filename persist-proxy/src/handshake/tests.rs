//! Handshakes against good, bad and hostile proxies: every reply whole, byte by byte, and cut off at every byte.

use persist_core::{Credentials, Fields, Host, TunnelStep};

use super::{Challenge, Handshake, HandshakeError, InvalidHandshake, Socks4Error, Socks5Error};

fn host(text: &str) -> Host {
    text.parse().expect("a host")
}

pub(super) fn login() -> Credentials {
    Credentials { user: "user".into(), password: "secret".into() }
}

pub(super) fn connect() -> Handshake {
    Handshake::connect(&host("example.com"), 443, None, &Fields::new()).expect("can be sent")
}

pub(super) fn socks4() -> Handshake {
    Handshake::socks4a(&host("example.com"), 80, None).expect("can be sent")
}

pub(super) fn socks5(credentials: Option<&Credentials>) -> Handshake {
    Handshake::socks5(&host("example.com"), 80, credentials).expect("can be sent")
}

fn sent(handshake: &mut Handshake) -> Vec<u8> {
    let bytes = handshake.transmit().to_vec();
    handshake.advance(bytes.len());
    bytes
}

/// Feeds `input` in pieces of `step` bytes; returns the outcome and what was left.
pub(super) fn run(
    handshake: &mut Handshake,
    mut input: &[u8],
    step: usize,
) -> (Result<TunnelStep, HandshakeError>, Vec<u8>) {
    let mut given: Vec<u8> = Vec::new();
    loop {
        sent(handshake);
        let mut rest = &given[..];
        let before = rest.len();
        let progress = handshake.handle_input(&mut rest);
        let left = rest.len();
        given.drain(..before - left);
        let (piece, later) = input.split_at(step.min(input.len()));
        match progress {
            Ok(TunnelStep::Pending) if !handshake.transmit().is_empty() => {}
            Ok(TunnelStep::Pending) if !piece.is_empty() => {
                given.extend_from_slice(piece);
                input = later;
            }
            _ => {
                given.extend_from_slice(input);
                return (progress, given);
            }
        }
    }
}

/// Whole and byte by byte, the outcome and what is left are the same; cut off anywhere before its end, the handshake fails.
fn check(make: impl Fn() -> Handshake, reply: &[u8], expected: &Result<TunnelStep, HandshakeError>) {
    let beyond = b"the tunnel's own";
    let input = [reply, beyond].concat();
    for step in [1, 2, 3, input.len()] {
        let (outcome, left) = run(&mut make(), &input, step);
        assert_eq!(&outcome, expected, "in pieces of {step}");
        if expected.is_ok() {
            assert_eq!(left, beyond, "in pieces of {step}");
        }
    }
    if expected.is_ok() {
        for cut in 0..reply.len() {
            let mut handshake = make();
            assert_eq!(run(&mut handshake, &reply[..cut], reply.len()).0, Ok(TunnelStep::Pending), "cut at {cut}");
            assert!(matches!(handshake.handle_eof(), HandshakeError::Closed { .. }), "cut at {cut}");
        }
    }
}

#[test]
fn connect_takes_any_2xx_of_either_version_and_skips_interim_responses() {
    let replies: [&[u8]; 4] = [
        b"HTTP/1.1 200 Connection established\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nProxy-Agent: tiny\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\nContent-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200\r\n\r\n",
    ];
    for reply in replies {
        check(connect, reply, &Ok(TunnelStep::Done));
    }
}

#[test]
fn connect_says_where_to_and_who_we_are() {
    let mut fields = Fields::new();
    fields.push("User-Agent", "x").expect("a field");
    let mut handshake = Handshake::connect(&host("[::1]"), 443, Some(&login()), &fields).expect("can be sent");
    let expected = "CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\nProxy-Authorization: Basic dXNlcjpzZWNyZXQ=\r\nUser-Agent: x\r\n\r\n";
    assert_eq!(sent(&mut handshake), expected.as_bytes());
}

#[test]
fn a_407_keeps_its_challenges_and_its_body() {
    let reply = b"HTTP/1.1 407 Auth\r\nProxy-Authenticate: Basic realm=\"x\"\r\nProxy-Authenticate: Digest a=b\r\nContent-Length: 4\r\n\r\nwho?";
    let (outcome, _) = run(&mut connect(), reply, 1);
    let Err(HandshakeError::AuthenticationRequired { challenges, refusal }) = outcome else { panic!("{outcome:?}") };
    assert_eq!(challenges.iter().map(Challenge::scheme).collect::<Vec<_>>(), ["Basic", "Digest"]);
    assert_eq!((refusal.status.as_u16(), &refusal.body[..], refusal.body_is_cut), (407, &b"who?"[..], false));
}

#[test]
fn a_proxy_that_cannot_reach_the_target_is_told_from_one_that_refuses() {
    let answer = |status: u16| {
        let reply = format!("HTTP/1.1 {status} x\r\nContent-Length: 4\r\n\r\nwhy?");
        run(&mut connect(), reply.as_bytes(), 5).0.expect_err("no tunnel")
    };
    for (status, targets, credentials) in [
        (400, false, false),
        (401, false, true),
        (403, false, false),
        (407, false, true),
        (500, false, false),
        (502, true, false),
        (503, true, false),
        (504, true, false),
    ] {
        let error = answer(status);
        assert_eq!((error.is_targets(), error.wants_credentials()), (targets, credentials), "{error}");
        assert_eq!(error.refusal().map(|refusal| &refusal.body[..]), Some(&b"why?"[..]), "{error}");
    }
    assert_eq!(answer(503).to_string(), "the proxy cannot reach the target: 503 x");
    // Neither an interim response for ever, nor a switch to another protocol than was asked for, nor a redirection is a tunnel.
    for reply in
        ["HTTP/1.1 100 x\r\n\r\n".repeat(100), "HTTP/1.1 101 x\r\nUpgrade: y\r\nConnection: upgrade\r\n\r\n".to_owned()]
    {
        let error = run(&mut connect(), reply.as_bytes(), 7).0.expect_err("no tunnel");
        assert!(matches!(error, HandshakeError::Protocol(_)), "{error}");
    }
    assert!(matches!(answer(302), HandshakeError::Refused { .. }));
}

#[test]
fn a_field_of_the_callers_stands_in_for_basic_credentials() {
    let mut fields = Fields::new();
    fields.push("proxy-authorization", "Bearer t").expect("a field");
    let mut handshake = Handshake::connect(&host("a"), 1, Some(&login()), &fields).expect("can be sent");
    assert_eq!(sent(&mut handshake), b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nproxy-authorization: Bearer t\r\n\r\n");
}

#[test]
fn an_answer_that_comes_before_the_question_is_not_taken() {
    let early: [(Handshake, &[u8]); 3] =
        [(connect(), b"HTTP/1.1 200 x\r\n\r\n"), (socks4(), &[0, 90, 0, 0, 0, 0, 0, 0]), (socks5(None), &[5, 0])];
    for (mut handshake, mut input) in early {
        let whole = input;
        handshake.advance(handshake.transmit().len() - 1);
        assert_eq!(handshake.handle_input(&mut input), Ok(TunnelStep::Pending), "{handshake:?}");
        assert_eq!(input, whole, "{handshake:?}");
    }
    // Both replies of SOCKS 5 at once: the second waits until the request has been sent.
    let mut handshake = socks5(None);
    sent(&mut handshake);
    let mut input: &[u8] = &[5, 0, 5, 0, 0, 1, 1, 2, 3, 4, 0, 80, b'x'];
    assert_eq!(handshake.handle_input(&mut input), Ok(TunnelStep::Pending));
    assert_eq!((input.len(), handshake.transmit().is_empty()), (11, false));
    sent(&mut handshake);
    assert_eq!(handshake.handle_input(&mut input), Ok(TunnelStep::Done));
    assert_eq!(input, b"x");
}

#[test]
fn a_refusal_without_framing_ends_with_the_stream_and_a_long_one_is_cut() {
    let mut handshake = connect();
    assert_eq!(run(&mut handshake, b"HTTP/1.0 403 Filtered\r\n\r\nno", 1).0, Ok(TunnelStep::Pending));
    let HandshakeError::Refused { refusal } = handshake.handle_eof() else { panic!("not refused") };
    assert_eq!(
        (refusal.to_string().as_str(), &refusal.body[..], refusal.body_is_cut),
        ("403 Filtered", &b"no"[..], false)
    );

    let mut handshake = connect();
    run(&mut handshake, b"HTTP/1.1 502 x\r\nContent-Length: 9\r\n\r\nno", 1).0.expect("not complete");
    let HandshakeError::TargetUnreachable { refusal } = handshake.handle_eof() else { panic!("not refused") };
    assert!(refusal.body_is_cut);

    let endless = [b"HTTP/1.1 502 x\r\n\r\n".to_vec(), vec![b'x'; 100_000]].concat();
    let Err(HandshakeError::TargetUnreachable { refusal }) = run(&mut connect(), &endless, 4096).0 else {
        panic!("not refused")
    };
    assert_eq!((refusal.body.len(), refusal.body_is_cut), (super::REFUSAL_BODY_BYTES_MAX, true));
}

#[test]
fn a_proxy_that_speaks_something_else_is_told_apart() {
    assert!(matches!(run(&mut connect(), b"SSH-2.0-x\r\n", 1).0, Err(HandshakeError::Protocol(_))));
    let garbage = |outcome| matches!(outcome, Err(HandshakeError::Garbage { byte: b'H', .. }));
    assert!(garbage(run(&mut socks4(), b"HTTP/1.1 400 Bad\r\n\r\n", 1).0));
    assert!(garbage(run(&mut socks5(None), b"HTTP/1.1 400 Bad\r\n\r\n", 1).0));
}

#[test]
fn socks4_asks_by_address_or_by_name_and_knows_every_code() {
    let mut by_address = Handshake::socks4a(&host("10.1.2.3"), 443, Some(&login())).expect("can be sent");
    assert_eq!(sent(&mut by_address), b"\x04\x01\x01\xbb\x0a\x01\x02\x03user\0");
    assert_eq!(sent(&mut socks4()), b"\x04\x01\x00\x50\0\0\0\x01\0example.com\0");
    check(socks4, &[0, 90, 1, 2, 3, 4, 5, 6], &Ok(TunnelStep::Done));
    let codes = [
        (91, Socks4Error::Rejected),
        (92, Socks4Error::NoIdentd),
        (93, Socks4Error::UserMismatch),
        (7, Socks4Error::Unknown(7)),
    ];
    for (code, error) in codes {
        check(socks4, &[0, code, 0, 0, 0, 0, 0, 0], &Err(error.into()));
    }
}

#[test]
fn socks5_asks_by_every_type_of_address() {
    let ask = |text: &str| {
        let mut handshake = Handshake::socks5(&host(text), 258, None).expect("can be sent");
        assert_eq!(sent(&mut handshake), [5, 1, 0]);
        assert_eq!(handshake.handle_input(&mut &[5, 0][..]), Ok(TunnelStep::Pending));
        sent(&mut handshake)
    };
    assert_eq!(ask("10.1.2.3"), [5, 1, 0, 1, 10, 1, 2, 3, 1, 2]);
    assert_eq!(ask("ab.c"), [&[5, 1, 0, 3, 4][..], b"ab.c", &[1, 2]].concat());
    assert_eq!(ask("[::1]"), [&[5, 1, 0, 4][..], &[0; 15], &[1, 1, 2]].concat());
}

#[test]
fn socks5_takes_every_type_of_bound_address_and_leaves_what_follows() {
    let bound: [&[u8]; 4] = [
        &[1, 1, 2, 3, 4, 0, 80],
        &[3, 2, b'a', b'b', 0, 80],
        &[3, 0, 0, 80],
        &[4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 80],
    ];
    for address in bound {
        check(|| socks5(None), &[&[5, 0, 5, 0, 0], address].concat(), &Ok(TunnelStep::Done));
        check(|| socks5(Some(&login())), &[&[5, 2, 1, 0, 5, 0, 0], address].concat(), &Ok(TunnelStep::Done));
    }
}

#[test]
fn socks5_sends_the_password_only_when_asked_for_it() {
    let mut handshake = socks5(Some(&login()));
    assert_eq!(sent(&mut handshake), [5, 2, 0, 2]);
    handshake.handle_input(&mut &[5, 2][..]).expect("goes on");
    assert_eq!(sent(&mut handshake), b"\x01\x04user\x06secret");
    let rejected = handshake.handle_input(&mut &[1, 1][..]);
    assert_eq!(rejected, Err(HandshakeError::CredentialsRejected { status: 1 }));

    let mut handshake = socks5(Some(&login()));
    sent(&mut handshake);
    handshake.handle_input(&mut &[5, 0][..]).expect("goes on");
    assert!(sent(&mut handshake).starts_with(&[5, 1, 0]));
}

#[test]
fn socks5_refusals_are_told_apart_even_when_cut_short() {
    let codes = [
        Socks5Error::General,
        Socks5Error::NotAllowed,
        Socks5Error::NetworkUnreachable,
        Socks5Error::HostUnreachable,
        Socks5Error::ConnectionRefused,
        Socks5Error::TtlExpired,
        Socks5Error::CommandNotSupported,
        Socks5Error::AddressNotSupported,
        Socks5Error::Unknown(9),
    ];
    for (code, error) in (1..).zip(codes) {
        check(|| socks5(None), &[5, 0, 5, code], &Err(error.into()));
    }
    assert!(Socks5Error::HostUnreachable.is_targets() && !Socks5Error::General.is_targets());
    check(|| socks5(None), &[5, 0xff], &Err(HandshakeError::NoAcceptableMethod { with_password: false }));
    let unoffered = run(&mut socks5(None), &[5, 2], 1).0;
    assert!(matches!(unoffered, Err(HandshakeError::Garbage { byte: 2, .. })), "{unoffered:?}");
}

#[test]
fn what_cannot_be_sent_is_refused_before_a_byte_is() {
    let credentials = |user: &str, password: &str| Credentials { user: user.into(), password: password.into() };
    let name = host("a");
    let connect = |credentials: &Credentials| Handshake::connect(&name, 1, Some(credentials), &Fields::new()).err();
    assert_eq!(connect(&credentials("a\r\nX: y", "")), Some(InvalidHandshake::Credentials));
    assert_eq!(connect(&credentials("a:b", "c")), Some(InvalidHandshake::Credentials));
    assert_eq!(connect(&credentials("a", "b\n")), Some(InvalidHandshake::Credentials));
    let too_long = "x".repeat(4096);
    let len = too_long.len() + 2;
    assert_eq!(connect(&credentials("u", &too_long)), Some(InvalidHandshake::CredentialsLength { len }));
    assert_eq!(connect(&credentials("u", &too_long[2..])), None);
    let long = "x".repeat(256);
    let socks5 = |credentials: &Credentials| Handshake::socks5(&name, 1, Some(credentials)).err();
    assert_eq!(socks5(&credentials(&long, "p")), Some(InvalidHandshake::UserLength { len: 256 }));
    assert_eq!(socks5(&credentials("u", &long)), Some(InvalidHandshake::PasswordLength { len: 256 }));
    assert_eq!(socks5(&credentials("", "p")), Some(InvalidHandshake::UserLength { len: 0 }));
    assert_eq!(socks5(&credentials("u", "")), None, "some proxies know users only");
    assert_eq!(socks5(&credentials("a\r\nb", "p")), Some(InvalidHandshake::Credentials));
    assert_eq!(socks5(&credentials("u", "a\nb")), Some(InvalidHandshake::Credentials));
    let socks4 = |host: &Host, credentials: &Credentials| Handshake::socks4a(host, 1, Some(credentials)).err();
    assert_eq!(socks4(&name, &credentials("a\0b", "")), Some(InvalidHandshake::Credentials));
    assert_eq!(socks4(&name, &credentials(&long, "")), Some(InvalidHandshake::UserLength { len: 256 }));
    assert_eq!(socks4(&host("[::1]"), &credentials("a", "")), Some(InvalidHandshake::Ipv6));
    let mut framing = Fields::new();
    framing.push("Content-Length", "5").expect("a field");
    assert!(matches!(Handshake::connect(&name, 1, None, &framing), Err(InvalidHandshake::Fields(_))));
}

#[test]
fn no_error_shows_a_credential() {
    // One that a proxy echoes in its page stays in the page.
    let echo = b"HTTP/1.1 403 No\r\nContent-Length: 28\r\n\r\nBasic dXNlcjpzZWNyZXQ=secret";
    let mut handshake = Handshake::connect(&host("a"), 1, Some(&login()), &Fields::new()).expect("can be sent");
    let refused = run(&mut handshake, echo, 9).0.expect_err("no tunnel");
    let rejected = run(&mut socks5(Some(&login())), &[5, 2, 1, 1], 1).0.expect_err("no tunnel");
    let long = Credentials { user: "secret".repeat(99), password: "secret\n".into() };
    let unsendable = [
        Handshake::connect(&host("a"), 1, Some(&long), &Fields::new()).expect_err("cannot be sent"),
        Handshake::socks4a(&host("a"), 1, Some(&long)).expect_err("cannot be sent"),
        Handshake::socks5(&host("a"), 1, Some(&long)).expect_err("cannot be sent"),
    ];
    let shown = format!("{refused} {refused:?} {rejected} {rejected:?} {unsendable:?} {}", unsendable[1]);
    for secret in ["secret", "dXNlcjpzZWNyZXQ", "115, 101, 99"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[test]
fn no_credential_is_shown() {
    let shown = format!(
        "{:?} {:?} {:?}",
        socks5(Some(&login())),
        { Handshake::connect(&host("a"), 1, Some(&login()), &Fields::new()).expect("can be sent") },
        Handshake::socks4a(&host("a"), 1, Some(&login()))
    );
    assert!(!shown.contains("secret") && !shown.contains("c2VjcmV0") && !shown.contains("115, 101, 99"), "{shown}");
}
