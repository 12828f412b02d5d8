//! Rendered lines say the same, and steer the same, as the fields that they were made from.

use alloc::string::String;
use alloc::vec::Vec;

use super::*;

const ALL: &str =
    "Host: a\r\nExpect: 100-Continue\r\nUpgrade: x\r\nConnection: TE , upgrade,Close\r\nDate: now\r\nSERVER: me\r\n";

fn listed(lines: FieldLines<'_>) -> Fields {
    let mut fields = Fields::new();
    lines.iter().for_each(|field| fields.push_field(field));
    fields
}

fn written(fields: impl HeadFields) -> (Vec<u8>, Notes) {
    let mut out = Vec::new();
    let notes = fields.write(&mut out);
    (out, notes)
}

#[test]
fn lines_fields_and_iterators_write_the_same_bytes_and_steer_alike() {
    const LINES: FieldLines<'static> = FieldLines::from_static(ALL);
    let fields = listed(LINES);
    assert_eq!(fields.lines(), LINES);
    assert_eq!(written(LINES), written(&fields));
    let (bytes, mut notes) = written(fields.iter());
    assert_eq!(bytes, ALL.as_bytes());
    // An iterator is not asked about what a stamp would add.
    notes.flags |= Notes::DATE | Notes::SERVER;
    assert_eq!(notes, LINES.notes());
    let said =
        [Notes::EXPECT_CONTINUE, Notes::UPGRADE, Notes::CONNECTION_UPGRADE, Notes::CLOSE, Notes::DATE, Notes::SERVER];
    assert!(said.iter().all(|flag| notes.say(*flag)) && !notes.say(Notes::KEEP_ALIVE));
    assert_eq!(notes.hosts(), 1);
}

#[test]
fn joined_fields_stand_in_their_order_and_add_up() {
    const HOST: FieldLines<'static> = FieldLines::from_static("Host: a\r\n");
    let close = listed(FieldLines::from_static("Connection: close\r\n"));
    let (bytes, notes) = written(HOST.and(HOST.and(&close)));
    assert_eq!(bytes, b"Host: a\r\nHost: a\r\nConnection: close\r\n");
    assert_eq!((notes.hosts(), notes.say(Notes::CLOSE)), (2, true));
    assert_eq!(written(FieldLines::EMPTY.and([])), (Vec::new(), Notes::default()));
}

#[test]
fn framing_fields_are_found_in_every_form() {
    for (line, name) in
        [("content-length: 1\r\n", "content-length"), ("Transfer-Encoding: chunked\r\n", "transfer-encoding")]
    {
        let line: &'static str = String::from(line).leak();
        let lines = FieldLines::from_static(line);
        let fields = listed(lines);
        for notes in [written(lines).1, written(&fields).1, written(fields.iter()).1, written(lines.and([])).1] {
            assert_eq!(notes.without_framing(), Err(SendError::FramingField(name)));
        }
    }
}

#[test]
fn text_that_is_no_list_of_lines_is_refused() {
    for text in [
        "Name: value",
        "Name: value\n",
        "Name: value\r\n\r\n",
        "Name:value\r\n",
        "Name : value\r\n",
        ": value\r\n",
        "Name: a\nb\r\n",
        "Name: value \r\n",
        "Name:  value\r\n",
        "Name: a\rb\r\n",
        "Name: a\r\nb\r\n",
        "Name\r\n",
        "\r\n",
        "Name: a\u{7f}\r\n",
    ] {
        let panicked = std::panic::catch_unwind(|| FieldLines::from_static(text)).is_err();
        assert!(panicked, "{text:?} was taken");
    }
    assert_eq!(
        FieldLines::from_static("Empty: \r\n").iter().next().map(|field| field.value.as_bytes()),
        Some(&b""[..])
    );
    assert_eq!(FieldLines::from_static(""), FieldLines::EMPTY);
}

#[test]
fn debug_shows_no_value() {
    let lines = FieldLines::from_static("Authorization: Basic c2VjcmV0\r\n");
    assert_eq!(alloc::format!("{lines:?}"), "{Authorization: 14}");
}

extern crate std;
