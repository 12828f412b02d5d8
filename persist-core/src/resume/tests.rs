//! What is joined is proven to belong together; everything else is an error that says why.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use proptest::prelude::*;

use super::validator::Validator;
use super::{Content, ContentRange, NotResumable, Resume, ResumeError};
use crate::field::Fields;
use crate::method::Method;
use crate::status::StatusCode;

/// One field a line.
fn fields(text: &str) -> Fields {
    let mut fields = Fields::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let (name, value) = line.split_once(':').expect("name: value");
        fields.push(name.trim(), value.trim()).unwrap();
    }
    fields
}

fn begin(text: &str) -> Result<Resume, NotResumable> {
    let response = fields(text);
    Resume::begin(&Method::GET, &Fields::new(), StatusCode::OK, |name| response.get(name))
}

/// 400 of 1000 bytes of "v1" were read.
fn broken() -> Resume {
    let mut resume = begin("ETag: \"v1\"\nContent-Length: 1000").unwrap();
    resume.handle_content(400);
    resume
}

fn judge(resume: &mut Resume, status: StatusCode, text: &str) -> Result<Content, ResumeError> {
    let reply = fields(text);
    resume.judge(status, |name| reply.get(name))
}

#[test]
fn only_what_has_a_strong_validator_can_be_resumed() {
    for (text, validator) in [
        ("ETag: \"a\"", Some("\"a\"")),
        ("ETag: \"\"", Some("\"\"")),
        ("ETag: W/\"a\"", None),
        ("ETag: a", None),
        ("ETag: \"a\"b\"", None),
        // A weak tag is not made good by a date.
        ("ETag: W/\"a\"\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\nDate: Sun, 06 Nov 1994 08:49:38 GMT", None),
        (
            "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\nDate: Sun, 06 Nov 1994 08:49:38 GMT",
            Some("Sun, 06 Nov 1994 08:49:37 GMT"),
        ),
        ("Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\nDate: Sun, 06 Nov 1994 08:49:37 GMT", None),
        (
            "Last-Modified: Mon, 31 Oct 1994 23:59:59 GMT\nDate: Sun, 06 Nov 1994 00:00:00 GMT",
            Some("Mon, 31 Oct 1994 23:59:59 GMT"),
        ),
        (
            "Last-Modified: Sat, 31 Dec 1994 23:59:59 GMT\nDate: Sun, 01 Jan 1995 00:00:00 GMT",
            Some("Sat, 31 Dec 1994 23:59:59 GMT"),
        ),
        ("Last-Modified: Sunday, 06-Nov-94 08:49:37 GMT\nDate: Sun, 06 Nov 1994 08:49:38 GMT", None),
        ("Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT", None),
        ("", None),
    ] {
        let response = fields(text);
        let found = Validator::strong(|name| response.get(name));
        assert_eq!(found.as_ref().map(Validator::as_bytes), validator.map(str::as_bytes), "{text}");
    }
}

#[test]
fn what_cannot_be_resumed_says_why() {
    let tag = fields("ETag: \"a\"");
    let begin_with = |method: &Method, request: &str, status| {
        Resume::begin(method, &fields(request), status, |name| tag.get(name)).map(|_| ()).unwrap_err()
    };
    assert_eq!(begin_with(&Method::POST, "", StatusCode::OK), NotResumable::Method);
    assert_eq!(begin_with(&Method::HEAD, "", StatusCode::OK), NotResumable::Method);
    assert_eq!(begin_with(&Method::GET, "range: bytes=0-9", StatusCode::OK), NotResumable::OwnRange);
    assert_eq!(begin_with(&Method::GET, "", StatusCode::PARTIAL_CONTENT), NotResumable::Status);
    assert_eq!(begin("ETag: \"a\"\nAccept-Ranges: None").unwrap_err(), NotResumable::NoRanges);
    assert_eq!(begin("ETag: W/\"a\"").unwrap_err(), NotResumable::NoStrongValidator);
    assert!(begin("ETag: \"a\"\nAccept-Ranges: bytes").is_ok());
}

#[test]
fn the_question_names_the_place_and_the_validator() {
    let mut resume = broken();
    let question = resume.request_fields().unwrap();
    assert_eq!(question, fields("Range: bytes=400-\nIf-Range: \"v1\""));
    // With nothing read, it is simply asked again.
    let mut resume = begin("ETag: \"v1\"").unwrap();
    assert!(resume.request_fields().unwrap().is_empty());
}

#[test]
fn a_part_is_taken_only_if_it_is_the_rest_of_the_same_content() {
    let good = "ETag: \"v1\"\nContent-Range: bytes 400-999/1000";
    for (text, expected) in [
        (good, Ok(Content::Continues)),
        ("ETag: \"v1\"\nContent-Range: bytes 400-499/1000\nContent-Length: 100", Ok(Content::Continues)),
        ("ETag: \"v1\"\nContent-Range: bytes 400-999/*", Ok(Content::Continues)),
        ("ETag: \"v2\"\nContent-Range: bytes 400-999/1000", Err("has changed")),
        ("ETag: W/\"v1\"\nContent-Range: bytes 400-999/1000", Err("has changed")),
        ("Content-Range: bytes 400-999/1000", Err("has changed")),
        ("ETag: \"v1\"\nContent-Range: bytes 400-999/1001", Err("has changed")),
        ("ETag: \"v1\"\nContent-Encoding: gzip\nContent-Range: bytes 400-999/1000", Err("has changed")),
        ("ETag: \"v1\"\nContent-Range: bytes 0-999/1000", Err("does not follow")),
        ("ETag: \"v1\"\nContent-Range: bytes 401-999/1000", Err("does not follow")),
        ("ETag: \"v1\"\nContent-Range: bytes 400-399/1000", Err("does not follow")),
        ("ETag: \"v1\"\nContent-Range: bytes 400-1000/1000", Err("does not follow")),
        ("ETag: \"v1\"\nContent-Range: bytes 400-1000/*", Err("does not follow")),
        ("ETag: \"v1\"\nContent-Range: bytes 400-999/1000\nContent-Length: 599", Err("does not follow")),
        ("ETag: \"v1\"\nContent-Range: items 400-999/1000", Err("does not follow")),
        ("ETag: \"v1\"\nContent-Range: bytes */1000", Err("does not follow")),
        ("ETag: \"v1\"\nContent-Type: multipart/byteranges; boundary=x", Err("does not follow")),
        ("ETag: \"v1\"\nContent-Range: bytes 0-18446744073709551615/*\nContent-Length: 0", Err("does not follow")),
    ] {
        match (judge(&mut broken(), StatusCode::PARTIAL_CONTENT, text), expected) {
            (Ok(content), Ok(expected)) => assert_eq!(content, expected, "{text}"),
            (Err(error), Err(expected)) => assert!(error.to_string().contains(expected), "{text}: {error}"),
            (found, expected) => panic!("{text}: {found:?}, not {expected:?}"),
        }
    }
}

#[test]
fn the_whole_again_is_skipped_into_only_if_it_is_provably_the_same() {
    for (text, expected) in [
        ("ETag: \"v1\"\nContent-Length: 1000", Ok(Content::StartsOver { skip: 400 })),
        ("ETag: \"v1\"", Ok(Content::StartsOver { skip: 400 })),
        ("ETag: \"v2\"\nContent-Length: 1000", Err("has changed")),
        ("Content-Length: 1000", Err("has changed")),
        ("ETag: \"v1\"\nContent-Length: 999", Err("has changed")),
        ("ETag: \"v1\"\nContent-Encoding: br\nContent-Length: 1000", Err("has changed")),
    ] {
        match (judge(&mut broken(), StatusCode::OK, text), expected) {
            (Ok(content), Ok(expected)) => assert_eq!(content, expected, "{text}"),
            (Err(error), Err(expected)) => assert!(error.to_string().contains(expected), "{text}: {error}"),
            (found, expected) => panic!("{text}: {found:?}, not {expected:?}"),
        }
    }
    // With nothing given out, changed content is no harm: it is the content now.
    let mut resume = begin("ETag: \"v1\"\nContent-Length: 10").unwrap();
    assert_eq!(
        judge(&mut resume, StatusCode::OK, "ETag: \"v2\"\nContent-Length: 7"),
        Ok(Content::StartsOver { skip: 0 })
    );
    assert_eq!(resume.total(), Some(7));
    resume.handle_content(3);
    assert_eq!(resume.request_fields().unwrap(), fields("Range: bytes=3-\nIf-Range: \"v2\""));
}

#[test]
fn nothing_left_means_complete_only_if_the_length_is_just_that() {
    let unknown = || {
        let mut resume = begin("ETag: \"v1\"").unwrap(); // chunked: the total is not known
        resume.handle_content(400);
        resume
    };
    let end = StatusCode::RANGE_NOT_SATISFIABLE;
    assert_eq!(judge(&mut unknown(), end, "Content-Range: bytes */400"), Ok(Content::Complete));
    for text in ["Content-Range: bytes */399", "Content-Range: bytes */401", "ETag: \"v2\"\nContent-Range: bytes */400"]
    {
        let error = judge(&mut unknown(), end, text).unwrap_err();
        assert!(matches!(error, ResumeError::Changed { received: 400, .. }), "{text}: {error}");
    }
    assert_eq!(judge(&mut unknown(), end, ""), Err(ResumeError::Status(end)));
    let error = judge(&mut broken(), end, "Content-Range: bytes */400").unwrap_err();
    assert!(matches!(error, ResumeError::Changed { .. }), "1000 bytes had been announced");
}

#[test]
fn other_answers_are_given_back_as_they_are() {
    for status in [StatusCode::NOT_FOUND, StatusCode::SERVICE_UNAVAILABLE, StatusCode::NO_CONTENT] {
        assert_eq!(judge(&mut broken(), status, "ETag: \"v1\""), Err(ResumeError::Status(status)));
    }
    let text = ResumeError::Status(StatusCode::NOT_FOUND).to_string();
    assert_eq!(text, "the server answered 404 to the request for the rest");
    let mut unread = begin("ETag: \"v1\"").unwrap();
    let partial = judge(&mut unread, StatusCode::PARTIAL_CONTENT, "ETag: \"v1\"\nContent-Range: bytes 0-9/10");
    assert_eq!(partial, Err(ResumeError::Status(StatusCode::PARTIAL_CONTENT)), "nobody asked for a range");
}

#[test]
fn resumptions_without_a_byte_end() {
    let mut resume = broken();
    for _ in 0..3 {
        assert!(resume.request_fields().is_ok());
    }
    assert_eq!(resume.request_fields(), Err(ResumeError::Fruitless(3)));
    resume.handle_content(1);
    assert!(resume.request_fields().is_ok());
    resume.handle_content(599);
    assert_eq!(resume.request_fields(), Err(ResumeError::Complete));
}

/// What a server does, in answer to a request for the rest from `from`.
#[derive(Clone, Copy, Debug)]
enum Manner {
    Proper,
    /// Sends all of it, always.
    NoRanges,
    /// Sends the part whether or not the condition holds.
    NoIfRange,
    /// The same, and hides the validator.
    NoIfRangeNoTag,
    /// Counts from somewhere else.
    OffBy(u8),
    /// Sends only some of the part.
    Short(u8),
}

fn version(n: u8, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at as u8).wrapping_mul(7).wrapping_add(n.wrapping_mul(101))).collect()
}

/// The reply of a server that has this version now: status, fields, content.
fn reply(manner: Manner, n: u8, len: usize, question: &Fields) -> (StatusCode, String, Vec<u8>) {
    let content = version(n, len);
    let tag = alloc::format!("ETag: \"{n}\"");
    let whole = || (StatusCode::OK, alloc::format!("{tag}\nContent-Length: {len}"), content.clone());
    let text = |name| question.get(name).and_then(|value| value.to_str());
    let Some(range) = text("Range") else { return whole() };
    let from: usize = range["bytes=".len()..range.len() - 1].parse().unwrap();
    let holds = text("If-Range") == Some(&tag["ETag: ".len()..]);
    let (from, tag) = match manner {
        Manner::NoRanges => return whole(),
        Manner::Proper | Manner::Short(_) if !holds => return whole(),
        Manner::NoIfRangeNoTag => (from, String::new()),
        Manner::OffBy(by) => (from.saturating_sub(usize::from(by)), tag),
        _ => (from, tag),
    };
    if from >= len {
        return (StatusCode::RANGE_NOT_SATISFIABLE, alloc::format!("{tag}\nContent-Range: bytes */{len}"), Vec::new());
    }
    let to = if let Manner::Short(n) = manner { (from + 1 + usize::from(n)).min(len) } else { len };
    let text = alloc::format!("{tag}\nContent-Range: bytes {from}-{}/{len}", to - 1);
    (StatusCode::PARTIAL_CONTENT, text, content[from..to].to_vec())
}

fn manner() -> impl Strategy<Value = Manner> {
    prop_oneof![
        6 => Just(Manner::Proper),
        1 => Just(Manner::NoRanges),
        1 => Just(Manner::NoIfRange),
        1 => Just(Manner::NoIfRangeNoTag),
        1 => (1u8..9).prop_map(Manner::OffBy),
        2 => (0u8..30).prop_map(Manner::Short),
    ]
}

proptest! {
    #![proptest_config(crate::property_tests::config())]

    /// Whatever a server does: the caller has the beginning of one version, and the whole of it when told that it is complete.
    #[test]
    fn no_two_versions_are_ever_joined(
        len in 1usize..200,
        steps in prop::collection::vec((manner(), prop::bool::weighted(0.2), 0usize..120), 1..12),
    ) {
        let (mut now, mut have) = (0u8, Vec::new());
        let first = fields(&alloc::format!("ETag: \"0\"\nContent-Length: {len}"));
        let mut resume = Resume::begin(&Method::GET, &Fields::new(), StatusCode::OK, |name| first.get(name)).unwrap();
        for (manner, changes, breaks_after) in steps {
            now += u8::from(changes);
            let question = match resume.request_fields() {
                Ok(question) => question,
                Err(ResumeError::Complete) => {
                    prop_assert_eq!(have.len() as u64, resume.total().unwrap());
                    break;
                }
                Err(error) => {
                    prop_assert_eq!(error, ResumeError::Fruitless(3));
                    break;
                }
            };
            let (status, text, content) = reply(manner, now, len, &question);
            let answer = fields(&text);
            let skip = match resume.judge(status, |name| answer.get(name)) {
                Ok(Content::Continues) => 0,
                Ok(Content::StartsOver { skip }) => skip as usize,
                Ok(Content::Complete) => break,
                Err(_) => break,
            };
            let rest = &content[skip.min(content.len())..];
            let taken = &rest[..rest.len().min(breaks_after)];
            have.extend_from_slice(taken);
            resume.handle_content(taken.len() as u64);
        }
        prop_assert_eq!(resume.received(), have.len() as u64);
        prop_assert!((0..=now).any(|n| version(n, len).starts_with(&have)), "bytes of more than one version");
    }

    #[test]
    fn a_content_range_is_read_as_it_was_written(first: u64, last: u64, total in prop::option::of(any::<u64>())) {
        let end = total.map_or("*".to_string(), |total| total.to_string());
        let text = alloc::format!("bytes {first}-{last}/{end}");
        prop_assert_eq!(ContentRange::parse(text.as_bytes()), Some(ContentRange::Part { first, last, total }));
        prop_assert_eq!(ContentRange::parse(alloc::format!("{text}x").as_bytes()), None);
        prop_assert_eq!(ContentRange::parse(alloc::format!("bytes +{first}-{last}/*").as_bytes()), None);
    }
}
