//! Which proxy the environment names for a URL: the same as curl's choice, but for what docs/proxy.md says.

use std::collections::BTreeMap;
use std::process::Command;

use persist_proxy::Proxies;
use persist_tests::peers::installed;
use persist_tests::process::{RefusingPort, run};
use persist_tests::script::always_replies;

/// `A` and `B` in the values stand for two proxies, `N` in a URL or a value for the port of the origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    Direct,
    A,
    B,
}

use Choice::{A, B, Direct};

type Row = (&'static [(&'static str, &'static str)], &'static str, Choice);

/// Where curl chooses the same.
const SAME: &[Row] = &[
    (&[], "http://x.example:N/", Direct),
    (&[("http_proxy", "http://A")], "http://x.example:N/", A),
    (&[("http_proxy", "A")], "http://x.example:N/", A),
    (&[("http_proxy", "http://A")], "https://x.example:N/", Direct),
    (&[("https_proxy", "http://A")], "https://x.example:N/", A),
    (&[("https_proxy", "http://A")], "http://x.example:N/", Direct),
    (&[("HTTPS_PROXY", "http://A")], "https://x.example:N/", A),
    (&[("HTTPS_PROXY", "http://A"), ("https_proxy", "http://B")], "https://x.example:N/", B),
    (&[("HTTPS_PROXY", "http://A"), ("https_proxy", "")], "https://x.example:N/", A),
    (&[("all_proxy", "http://A")], "http://x.example:N/", A),
    (&[("ALL_PROXY", "http://A")], "https://x.example:N/", A),
    (&[("all_proxy", "http://B"), ("ALL_PROXY", "http://A")], "https://x.example:N/", B),
    (&[("all_proxy", "http://A"), ("http_proxy", "http://B")], "http://x.example:N/", B),
    (&[("all_proxy", "http://A"), ("http_proxy", "http://B")], "https://x.example:N/", A),
    (&[("all_proxy", "http://A"), ("http_proxy", "")], "http://x.example:N/", A),
    (&[("HTTP_PROXY", "http://A"), ("REQUEST_METHOD", "GET")], "http://x.example:N/", Direct),
    (&[("all_proxy", "http://A"), ("no_proxy", "*")], "http://x.example:N/", Direct),
    (&[("all_proxy", "http://A"), ("NO_PROXY", "*")], "https://x.example:N/", Direct),
    (&[("all_proxy", "http://A"), ("NO_PROXY", "*"), ("no_proxy", "y")], "http://x.example:N/", A),
    (&[("all_proxy", "http://A"), ("NO_PROXY", "*"), ("no_proxy", "")], "http://x.example:N/", Direct),
    (&[("all_proxy", "http://A"), ("no_proxy", "x.example")], "http://x.example:N/", Direct),
    (&[("all_proxy", "http://A"), ("no_proxy", "X.Example")], "http://x.example:N/", Direct),
    (&[("all_proxy", "http://A"), ("no_proxy", "example")], "http://x.example:N/", Direct),
    (&[("all_proxy", "http://A"), ("no_proxy", ".x.example")], "http://x.example:N/", Direct),
    (&[("all_proxy", "http://A"), ("no_proxy", ".x.example")], "http://y.x.example:N/", Direct),
    (&[("all_proxy", "http://A"), ("no_proxy", "x.example")], "http://badx.example:N/", A),
    (&[("all_proxy", "http://A"), ("no_proxy", "y.x.example")], "http://x.example:N/", A),
    (&[("all_proxy", "http://A"), ("no_proxy", "x.example.")], "http://x.example:N/", Direct),
    (&[("all_proxy", "http://A"), ("no_proxy", "a b,x.example")], "http://x.example:N/", Direct),
    (&[("all_proxy", "http://A"), ("no_proxy", "a x.example,c")], "http://x.example:N/", Direct),
    (&[("all_proxy", "http://A"), ("no_proxy", "exa*ple")], "http://x.example:N/", A),
    (&[("all_proxy", "http://A"), ("no_proxy", "127.1.2.3")], "http://127.1.2.3:N/", Direct),
    (&[("all_proxy", "http://A"), ("no_proxy", "127.1.2.3")], "http://127.1.2.30:N/", A),
    (&[("all_proxy", "http://A"), ("no_proxy", "2.3")], "http://127.1.2.3:N/", A),
    (&[("all_proxy", "http://A"), ("no_proxy", "127.1.0.0/16")], "http://127.1.2.3:N/", Direct),
    (&[("all_proxy", "http://A"), ("no_proxy", "127.2.0.0/16")], "http://127.1.2.3:N/", A),
    (&[("all_proxy", "http://A"), ("no_proxy", "127.1.0.0/33")], "http://127.1.2.3:N/", A),
    (&[("all_proxy", "http://A"), ("no_proxy", "::1")], "http://[::1]:N/", Direct),
    (&[("all_proxy", "http://A"), ("no_proxy", "127.0.0.1")], "http://localhost:N/", A),
];

/// Where curl 7.88 chooses otherwise, and why we do not: docs/proxy.md has each.
const OURS: &[Row] = &[
    (&[("HTTP_PROXY", "http://A")], "http://x.example:N/", A),
    (&[("all_proxy", "http://A"), ("no_proxy", "y,*")], "http://x.example:N/", Direct),
    (&[("all_proxy", "http://A"), ("no_proxy", "*.example")], "http://x.example:N/", Direct),
    (&[("all_proxy", "http://A"), ("no_proxy", "x.example:N")], "http://x.example:N/", Direct),
    (&[("all_proxy", "http://A"), ("no_proxy", "x.example:1")], "http://x.example:N/", A),
    (&[("all_proxy", "http://A"), ("no_proxy", "127.1.2.3:N")], "http://127.1.2.3:N/", Direct),
    (&[("all_proxy", "http://A"), ("no_proxy", "[::1]")], "http://[::1]:N/", Direct),
    (&[("all_proxy", "http://A"), ("no_proxy", "[::1]:N")], "http://[::1]:N/", Direct),
    (&[("all_proxy", "http://A"), ("no_proxy", "::/127")], "http://[::1]:N/", Direct),
    (&[("all_proxy", "http://A"), ("no_proxy", "0.0.0.0/0")], "http://127.1.2.3:N/", Direct),
];

/// The row with its letters filled in.
fn filled(row: &Row, proxies: [&str; 2], port: u16) -> (BTreeMap<String, String>, String) {
    let port = format!(":{port}");
    let fill = |text: &str| match text.strip_prefix("http://").unwrap_or(text) {
        "A" => text.replace('A', proxies[0]),
        "B" => text.replace('B', proxies[1]),
        _ => text.replace(":N", &port),
    };
    (row.0.iter().map(|(name, value)| ((*name).to_owned(), fill(value))).collect(), fill(row.1))
}

fn ours(variables: &BTreeMap<String, String>, url: &str, [a, _]: [&str; 2]) -> Choice {
    let proxies = Proxies::from_variables(|name| variables.get(name).cloned()).expect("the variables name proxies");
    match proxies.proxy_for(&url.parse().expect("a destination")) {
        None => Direct,
        Some(proxy) if proxy.to_string() == format!("http://{a}") => A,
        Some(_) => B,
    }
}

#[test]
fn the_environment_is_read_as_documented() {
    let proxies = ["10.0.0.1:3128", "10.0.0.2:3128"];
    for row in SAME.iter().chain(OURS) {
        let (variables, url) = filled(row, proxies, 8080);
        assert_eq!(ours(&variables, &url, proxies), row.2, "{row:?}");
    }
}

#[test]
fn curl_reads_the_environment_in_the_same_way() {
    let Some(curl) = installed("curl") else { return };
    // Each answers with its own status, to a request and to `CONNECT` alike.
    let [a, b] = [
        always_replies(b"HTTP/1.1 401 A\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
        always_replies(b"HTTP/1.1 402 B\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
    ];
    let (names, origin) = ([a.to_string(), b.to_string()], RefusingPort::new());
    for row in SAME {
        let (variables, url) = filled(row, [&names[0], &names[1]], origin.address.port());
        let mut command = Command::new(&curl);
        // Every name leads to the port that refuses, so that nothing leaves this machine.
        let everywhere = format!("*:{}:127.0.0.1", origin.address.port());
        command.args(["-q", "-s", "-o", "/dev/null", "-m", "20", "-w", "%{http_code} %{http_connect}", "--resolve"]);
        let said = run(command.arg(everywhere).arg(&url).env_clear().envs(&variables));
        let text = String::from_utf8(said.stdout).expect("curl's words are ours");
        let chosen = match (said.code, text.contains("401"), text.contains("402")) {
            (_, true, false) => A,
            (_, false, true) => B,
            (Some(7), false, false) => Direct,
            _ => panic!("{row:?}: curl exits with {:?} and says {text:?} {}", said.code, said.stderr),
        };
        assert_eq!(chosen, row.2, "{row:?}: curl says {text:?}");
    }
}
