//! `persist inspect`, as a program: what it prints, and how it exits.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

/// Runs `persist inspect` with these arguments and this on standard input.
fn inspect(arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_persist"))
        .arg("inspect")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().expect("the program ends");
    // It may end without having read everything.
    let _ = writer.join().expect("the writer does not panic");
    output
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("the output is UTF-8")
}

fn lines(output: &Output) -> Vec<Value> {
    text(output).lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
}

const TWO_REQUESTS: &[u8] =
    b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\nhello world\nGET / HTTP/1.1\r\nHost: b\r\n\r\n";

#[test]
fn events_stand_one_a_line_with_their_place_in_the_input() {
    let output = inspect(&["--role", "request"], TWO_REQUESTS);
    assert_eq!(
        text(&output),
        r#"       0  request   #0 POST /a HTTP/1.1 (12 bytes of content) [Host: a] [Content-Length: 12]
      49  data      #0 12 bytes "hello world\n"
      61  end       #0
      61  request   #1 GET / HTTP/1.1 (no content) [Host: b]
      88  end       #1
accept: 2 complete messages, the connection is open for another
"#
    );
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn splitting_the_input_changes_only_how_the_content_arrives() {
    let whole = lines(&inspect(&["--role", "request", "--format", "json"], TWO_REQUESTS));
    let split = lines(&inspect(&["--role", "request", "--format", "json", "--split", "1"], TWO_REQUESTS));
    let without_data =
        |lines: &[Value]| -> Vec<Value> { lines.iter().filter(|line| line["event"] != "data").cloned().collect() };
    assert_eq!(without_data(&whole), without_data(&split));
    assert_eq!(split.iter().filter(|line| line["event"] == "data").count(), 12);
}

#[test]
fn a_rejection_is_explained_with_clause_place_bytes_and_risk() {
    let output = inspect(
        &["--role", "request"],
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    );
    let text = text(&output);
    for part in [
        "reject: 0 complete messages, the connection is done\n\nrejected: ",
        "\n  clause  RFC 9112 §6.3 rule 3\n",
        "\n  offset  ",
        "00000030  ",
        "^^",
        "\n  risk    ",
        "the next request",
        "\n  answer  400, then close\n",
    ] {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn the_explanation_is_in_the_json_form_too() {
    let output = inspect(
        &["--role", "response", "--format", "json", "--eof"],
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhel",
    );
    let lines = lines(&output);
    let verdict = lines.last().expect("there is a verdict");
    assert_eq!(verdict["outcome"], "reject");
    assert_eq!(verdict["rejection"]["offset"], 41);
    assert_eq!(verdict["rejection"]["clause"], "RFC 9112 §8");
    assert_eq!(verdict["rejection"]["status"], Value::Null, "a client answers nothing");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_prefix_of_a_message_is_incomplete() {
    let output = inspect(&["--role", "request"], b"GET / HTTP/1.1\r\nHost: a\r\n");
    assert_eq!(text(&output), "incomplete: 0 complete messages, the connection is open for another\n");
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn the_method_decides_whether_a_response_has_content() {
    let response = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    assert_eq!(inspect(&["--role", "response", "--method", "HEAD"], response).status.code(), Some(0));
    assert_eq!(inspect(&["--role", "response"], response).status.code(), Some(3));
}

#[test]
fn after_a_tunnel_is_open_no_message_follows() {
    let output = inspect(&["--role", "request"], b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n\x16\x03\x01");
    let text = text(&output);
    assert!(text.contains("  switched  #0\n"), "{text}");
    assert!(text.ends_with("accept: 1 complete message, the connection is done\n"), "{text}");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn leniency_is_for_those_who_ask_for_it() {
    let folded = b"HTTP/1.1 204 No Content\r\nA: b\r\n c\r\n\r\n";
    assert_eq!(inspect(&["--role", "response"], folded).status.code(), Some(1));
    let output = inspect(&["--role", "response", "--leniency", "client"], folded);
    assert!(text(&output).contains("[A: b c]"), "{}", text(&output));
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_batch_answers_each_line_in_order_and_in_the_form_promised() {
    let cases = [
        // "GET / HTTP/1.1\r\nHost: a\r\n\r\n" twice, one byte at a time, with an unknown key.
        json!({"name": "two", "role": "request", "split": 1, "expect": "accept",
            "input_b64": "R0VUIC8gSFRUUC8xLjENCkhvc3Q6IGENCg0KR0VUIC8gSFRUUC8xLjENCkhvc3Q6IGENCg0K"}),
        // "HTTP/1.1 103 E\r\n\r\nHTTP/1.1 200 OK\r\n\r\nhi" until the peer closes.
        json!({"name": {"any": ["JSON"]}, "role": "response", "eof": true,
            "input_b64": "SFRUUC8xLjEgMTAzIEUNCg0KSFRUUC8xLjEgMjAwIE9LDQoNCmhp"}),
        // "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n" twice, for HEAD and GET.
        json!({"name": "methods", "role": "response", "ctx": {"request_methods": ["HEAD", "GET"]}, "input_b64":
            "SFRUUC8xLjEgMjAwIE9LDQpDb250ZW50LUxlbmd0aDogNQ0KDQpIVFRQLzEuMSAyMDAgT0sNCkNvbnRlbnQtTGVuZ3RoOiA1DQoNCg=="}),
        json!({"role": "request", "input_b64": "", "eof": true}),
        json!({"name": "silent", "role": "response", "input_b64": "", "eof": true}),
    ];
    let input: String = cases.iter().map(|case| format!("{case}\n")).collect();
    let output = inspect(&["--batch"], input.as_bytes());
    let mut answers = lines(&output);
    let error = answers[4]["error"].take();
    assert_eq!(
        answers,
        [
            json!({"name": "two", "role": "request", "outcome": "accept", "n_messages": 2, "bodies_b64": ["", ""],
                "closed": false, "error": null}),
            json!({"name": {"any": ["JSON"]}, "role": "response", "outcome": "accept", "n_messages": 2,
                "bodies_b64": ["", "aGk="], "closed": true, "error": null}),
            json!({"name": "methods", "role": "response", "outcome": "incomplete", "n_messages": 1, "bodies_b64": [""],
                "closed": false, "error": null}),
            json!({"name": null, "role": "request", "outcome": "incomplete", "n_messages": 0, "bodies_b64": [],
                "closed": true, "error": null}),
            json!({"name": "silent", "role": "response", "outcome": "reject", "n_messages": 0, "bodies_b64": [],
                "closed": true, "error": null}),
        ]
    );
    assert!(error.is_string(), "{error}");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_line_that_is_no_case_is_answered_as_such_and_the_others_go_on() {
    let input = b"nonsense\n\n{\"name\": \"n\", \"role\": \"proxy\", \"input_b64\": \"\"}\n{\"name\": \"b\", \"role\": \"request\", \"input_b64\": \"*\"}\n{\"name\": \"s\", \"role\": \"request\", \"input_b64\": \"\", \"split\": 0}\n{\"role\": \"request\", \"input_b64\": \"\"}";
    let output = inspect(&["--batch"], input);
    let answers = lines(&output);
    let outcomes: Vec<_> = answers.iter().map(|answer| (answer["name"].clone(), answer["outcome"].clone())).collect();
    assert_eq!(
        outcomes,
        [
            (Value::Null, json!("invalid")),
            (json!("n"), json!("invalid")),
            (json!("b"), json!("invalid")),
            (json!("s"), json!("invalid")),
            (Value::Null, json!("incomplete")),
        ]
    );
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let output = inspect(&["--role", "request", "/nowhere/capture"], b"");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.starts_with("persist inspect: reading /nowhere/capture: "), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    assert_eq!(output.status.code(), Some(26));
}
