//! Which proxy the environment names for a URL: the same as curl's choice, but for what docs/proxy.md says.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use persist_proxy::Proxies;
use persist_tests::peers::installed;
use persist_tests::process::{RefusingPort, run};
use persist_tests::script::always_replies;
use persist_tests::seeded::Random;

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

/// Variables and a URL with their letters filled in.
fn filled(variables: &[(&str, &str)], url: &str, proxies: [&str; 2], port: u16) -> (BTreeMap<String, String>, String) {
    let port = format!(":{port}");
    let fill = |text: &str| match text.strip_prefix("http://").unwrap_or(text) {
        "A" => text.replace('A', proxies[0]),
        "B" => text.replace('B', proxies[1]),
        _ => text.replace(":N", &port),
    };
    (variables.iter().map(|(name, value)| ((*name).to_owned(), fill(value))).collect(), fill(url))
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
        let (variables, url) = filled(row.0, row.1, proxies, 8080);
        assert_eq!(ours(&variables, &url, proxies), row.2, "{row:?}");
    }
}

/// curl, two proxies, and a port where origins would be.
struct Curl {
    program: PathBuf,
    proxies: [String; 2],
    origin: RefusingPort,
}

impl Curl {
    fn new() -> Option<Self> {
        let program = installed("curl")?;
        // Each answers with its own status, to a request and to `CONNECT` alike.
        let proxies = [
            always_replies(b"HTTP/1.1 401 A\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
            always_replies(b"HTTP/1.1 402 B\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
        ];
        Some(Self { program, proxies: proxies.map(|proxy| proxy.to_string()), origin: RefusingPort::new() })
    }

    fn proxies(&self) -> [&str; 2] {
        [&self.proxies[0], &self.proxies[1]]
    }

    fn filled(&self, variables: &[(&str, &str)], url: &str) -> (BTreeMap<String, String>, String) {
        filled(variables, url, self.proxies(), self.origin.address.port())
    }

    fn choice(&self, variables: &BTreeMap<String, String>, url: &str) -> Choice {
        let mut command = Command::new(&self.program);
        // Every name leads to the port that refuses, so that nothing leaves this machine.
        let everywhere = format!("*:{}:127.0.0.1", self.origin.address.port());
        command.args(["-q", "-s", "-o", "/dev/null", "-m", "20", "-w", "%{http_code} %{http_connect}", "--resolve"]);
        let said = run(command.arg(everywhere).arg(url).env_clear().envs(variables));
        let text = String::from_utf8(said.stdout).expect("curl's words are ours");
        match (said.code, text.contains("401"), text.contains("402")) {
            (_, true, false) => A,
            (_, false, true) => B,
            (Some(7), false, false) => Direct,
            _ => panic!("{variables:?} {url}: curl exits with {:?} and says {text:?} {}", said.code, said.stderr),
        }
    }
}

#[test]
fn curl_reads_the_environment_in_the_same_way() {
    let Some(curl) = Curl::new() else { return };
    for row in SAME {
        let (variables, url) = curl.filled(row.0, row.1);
        assert_eq!(curl.choice(&variables, &url), row.2, "{row:?}");
    }
}

/// Spellings that curl reads as we do; the others stand in `OURS`.
const ENTRIES: [&str; 20] = [
    "x.example",
    ".x.example",
    "y.x.example",
    "example",
    ".example",
    "EXAMPLE",
    "badx.example",
    "x.example.",
    "x",
    "e",
    "127.1.2.3",
    "127.1.0.0/16",
    "127.0.0.0/8",
    "127.1.2.2/31",
    "127.9.9.9/32",
    "10.0.0.0/8",
    "2.3",
    "::1",
    "::2",
    "localhost",
];

const HOSTS: [&str; 10] = [
    "x.example",
    "X.Example",
    "y.x.example",
    "z.y.x.example",
    "badx.example",
    "example",
    "127.1.2.3",
    "127.9.9.9",
    "[::1]",
    "localhost",
];

/// Any variables, any host.
fn drawn(random: &mut Random) -> (Vec<(&'static str, String)>, String) {
    let mut variables = Vec::new();
    for name in ["http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
        let value = random.pick(&[None, None, Some(""), Some("http://A"), Some("http://B"), Some("A")]);
        variables.extend(value.map(|value| (name, value.to_owned())));
    }
    for name in ["no_proxy", "NO_PROXY"] {
        let value = match random.below(6) {
            0 | 1 => continue,
            2 => random.pick(&["", "*"]).to_owned(),
            _ => {
                let between = random.pick(&[",", ", ", " ", ",,", " ,"]);
                let entries: Vec<_> = (0..=random.below(3)).map(|_| random.pick(&ENTRIES)).collect();
                entries.join(between)
            }
        };
        variables.push((name, value));
    }
    let url = format!("{}://{}:N/", random.pick(&["http", "https"]), random.pick(&HOSTS));
    (variables, url)
}

#[test]
#[ignore = "starts curl a thousand times: `cargo xtask test --full`"]
fn curl_and_we_choose_alike_whatever_the_environment() {
    let Some(curl) = Curl::new() else { return };
    let mut random = Random::new(9);
    let mut chosen = BTreeMap::new();
    for _ in 0..1000 {
        let (variables, url) = drawn(&mut random);
        let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let (filled, url) = curl.filled(&variables, &url);
        let choice = curl.choice(&filled, &url);
        assert_eq!(ours(&filled, &url, curl.proxies()), choice, "{variables:?} {url}");
        *chosen.entry(format!("{choice:?}")).or_insert(0) += 1;
    }
    // Each of the choices came often, or the table shows nothing.
    assert!(chosen.len() == 3 && chosen.values().all(|&count| count > 100), "{chosen:?}");
}
