//! Chunked bodies: what is decoded, what is rejected and where, whole and in pieces.

use alloc::string::String;
use alloc::vec::Vec;

use super::*;

/// The content, the trailers once the body is complete, and how many bytes of input were left.
type Decode = (Vec<u8>, Option<Option<Fields>>, usize);

/// The content, the trailers, and how many bytes were left, or the error; for input that comes in pieces of `size` bytes.
fn decode_cut(bytes: &[u8], size: usize, limits: &Limits) -> Result<Decode, ProtocolError> {
    let mut decoder = Decoder::default();
    let mut content = Vec::new();
    for (n, piece) in bytes.chunks(size).enumerate() {
        let mut input = piece;
        loop {
            let offset = (n * size + piece.len() - input.len()) as u64;
            match decoder.decode(&mut input, offset, limits)? {
                Decoded::Data(data) => {
                    assert!(!data.is_empty());
                    content.extend_from_slice(data);
                }
                Decoded::NeedRead => break assert!(input.is_empty(), "all input is consumed"),
                Decoded::End(trailers) => {
                    let left = bytes.len() - n * size - (piece.len() - input.len());
                    return Ok((content, Some(trailers), left));
                }
            }
        }
    }
    Ok((content, None, 0))
}

#[track_caller]
fn verdict_within(bytes: &[u8], limits: &Limits) -> String {
    let verdict = |size| match decode_cut(bytes, size, limits) {
        Ok((content, None, _)) => alloc::format!("{} ...", content.escape_ascii()),
        Ok((content, Some(trailers), left)) => alloc::format!("{} {trailers:?} {left} left", content.escape_ascii()),
        Err(error) => alloc::format!("{:?} at {}", error.cause(), error.offset()),
    };
    let whole = verdict(bytes.len());
    for size in 1..bytes.len() {
        assert_eq!(verdict(size), whole, "cut into pieces of {size} bytes: {}", bytes.escape_ascii());
    }
    whole
}

#[track_caller]
fn verdict(bytes: &[u8]) -> String {
    verdict_within(bytes, &Limits::default())
}

#[test]
fn chunks_become_content_and_the_rest_stays() {
    assert_eq!(verdict(b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\nGET"), "hello world None 3 left");
    assert_eq!(verdict(b"0\r\n\r\n"), " None 0 left");
    assert_eq!(verdict(b"000000000000000000000000A\r\n0123456789\r\n0000\r\n\r\n"), "0123456789 None 0 left");
    assert_eq!(verdict(b"5\r\nhel"), "hel ...");
    assert_eq!(verdict(b"5\r\nhello\r\n0\r\n\r"), "hello ...");
}

#[test]
fn extensions_are_skipped_by_their_grammar() {
    assert_eq!(verdict(b"5;a=b;c=\"d;\\\" e\";f\r\nhello\r\n0;z\r\n\r\n"), "hello None 0 left");
    assert_eq!(verdict(b"5 ;\ta = b ; c\t= \"\"\r\nhello\r\n0 ; z\r\n\r\n"), "hello None 0 left");
    for (bytes, expected) in [
        (&b"5;\r\nhello"[..], "InvalidChunkExt { byte: 13 } at 2"),
        (b"5;;a\r\n", "InvalidChunkExt { byte: 59 } at 2"),
        (b"5;=b\r\n", "InvalidChunkExt { byte: 61 } at 2"),
        (b"5;a=\r\n", "InvalidChunkExt { byte: 13 } at 4"),
        (b"5;a=b c\r\n", "InvalidChunkExt { byte: 99 } at 6"),
        (b"5;a b\r\n", "InvalidChunkExt { byte: 98 } at 4"),
        (b"5;a \r\n", "InvalidChunkExt { byte: 13 } at 4"),
        (b"5;a=\"b\"c\r\n", "InvalidChunkExt { byte: 99 } at 7"),
        (b"5;a=\"b\r\n\"\r\n", "InvalidChunkExt { byte: 13 } at 6"),
        (b"5;a\x00\r\n", "InvalidChunkExt { byte: 0 } at 3"),
        (b"5;a=\"\x7f\"\r\n", "InvalidChunkExt { byte: 127 } at 5"),
        (b"5;a\rb\r\n", "BareCr at 4"),
        (b"5;a\nhello\r\n", "BareLf at 3"),
        (b"5;a=\"\n", "BareLf at 5"),
    ] {
        assert_eq!(verdict(bytes), expected, "{}", bytes.escape_ascii());
    }
}

#[test]
fn sizes_are_hexadecimal_digits_and_nothing_else() {
    for (bytes, expected) in [
        (&b"0x5\r\n"[..], "InvalidChunkSize { byte: 120 } at 1"),
        (b"+5\r\n", "InvalidChunkSize { byte: 43 } at 0"),
        (b" 5\r\n", "InvalidChunkSize { byte: 32 } at 0"),
        (b"\r\n", "InvalidChunkSize { byte: 13 } at 0"),
        (b"5_0\r\n", "InvalidChunkSize { byte: 95 } at 1"),
        (b"5 \r\n", "InvalidChunkExt { byte: 13 } at 2"),
        (b"5\nhello", "InvalidChunkSize { byte: 10 } at 1"),
        (b"5\r\rhello", "BareCr at 2"),
        (b"10000000000000005\r\n", "ChunkSizeOverflow at 16"),
        (b"5\r\nhelloX\r\n", "ChunkOverrun { byte: 88 } at 8"),
        (b"5\r\nhello\n0\r\n", "ChunkOverrun { byte: 10 } at 8"),
        (b"5\r\nhello\rX", "ChunkOverrun { byte: 88 } at 9"),
    ] {
        assert_eq!(verdict(bytes), expected, "{}", bytes.escape_ascii());
    }
    assert_eq!(verdict(b"fFfFfFfFfFfFfFfF\r\nab"), "ab ...");
}

#[test]
fn trailers_are_fields_of_their_own() {
    assert_eq!(verdict(b"1\r\na\r\n0\r\nX-A: b\r\nx-a:c \r\n\r\nrest"), "a Some({X-A: 1, x-a: 1}) 4 left");
    for (bytes, expected) in [
        (&b"0\r\nContent-Length: 9\r\n\r\n"[..], "ForbiddenTrailer(\"content-length\") at 19"),
        (b"0\r\nX: y\r\ntransfer-encoding: chunked\r\n\r\n", "ForbiddenTrailer(\"transfer-encoding\") at 28"),
        (b"0\r\nHost: a\r\n\r\n", "ForbiddenTrailer(\"host\") at 9"),
        (b"0\r\nX A: b\r\n\r\n", "InvalidFieldName { byte: 32 } at 4"),
        (b"0\r\nX: b\n\r\n", "BareLf at 7"),
        (b"0\r\nX: b\0\r\n\r\n", "InvalidFieldValue { byte: 0 } at 7"),
        (b"0\r\nX: b\r\n y\r\n\r\n", "ObsFold at 9"),
        (b"0\r\n X: b\r\n\r\n", "SpaceBeforeFields at 3"),
        (b"0\r\n\n", "BareLf at 3"),
        (b"0\r\nXX", " ..."),
    ] {
        assert_eq!(verdict(bytes), expected, "{}", bytes.escape_ascii());
    }
}

#[test]
fn limits_hold_for_extensions_zeros_and_trailers() {
    let limits = Limits { chunk_ext_bytes_max: 4, trailer_bytes_max: 8, fields_max: 1, ..Limits::default() };
    assert_eq!(verdict_within(b"1;ab\r\nx\r\n0;ab\r\n", &limits), "ChunkExtTooLarge { limit: 4 } at 11");
    assert_eq!(verdict_within(b"000000000000\r\n", &limits), "ChunkExtTooLarge { limit: 4 } at 5");
    assert_eq!(verdict_within(b"0\r\nA:b\r\n\r\n", &limits), " Some({A: 1}) 0 left");
    assert_eq!(verdict_within(b"0\r\nAbc:b\r\n\r\n", &limits), "TrailerTooLarge { limit: 8 } at 11");
    let limits = Limits { trailer_bytes_max: 100, ..limits };
    assert_eq!(verdict_within(b"0\r\nA:b\r\nC:d\r\n\r\n", &limits), "TooManyFields { limit: 1 } at 8");
}

#[test]
fn data_may_be_taken_past_the_decoder() {
    let mut decoder = Decoder::default();
    let mut input = &b"5\r\n"[..];
    assert_eq!(decoder.window(), 0);
    assert!(matches!(decoder.decode(&mut input, 0, &Limits::default()), Ok(Decoded::NeedRead)));
    assert_eq!(decoder.window(), 5);
    decoder.skip(4);
    let mut input = &b"o\r\n0\r\n\r\n"[..];
    assert!(matches!(decoder.decode(&mut input, 7, &Limits::default()), Ok(Decoded::Data(b"o"))));
    assert_eq!(decoder.window(), 0);
    assert!(matches!(decoder.decode(&mut input, 8, &Limits::default()), Ok(Decoded::End(None))));
}

#[test]
fn a_decoder_is_small() {
    assert!(size_of::<Decoder>() <= 32, "{}", size_of::<Decoder>());
}
