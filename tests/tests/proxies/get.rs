//! `persist get` through proxies that others wrote, to nginx behind them, with and without TLS: as the options say, and as the environment does.

use persist_tests::command::{persist, run_persist};
use persist_tests::folder::Folder;
use persist_tests::peers::origin::Origin;
use persist_tests::peers::proxy::{Kind, Proxy};
use persist_tests::process::run;

use crate::matrix::Trust;

#[test]
fn the_command_gets_everything_through_proxies_and_says_whose_fault_it_was_if_not() {
    let trust = Trust::new();
    let login = Some(("user", "tops-3cret"));
    let Some(origin) = Origin::start(&trust.certificate, &trust.key) else { return };
    let Some(http) = Proxy::start(Kind::Tinyproxy, login, None) else { return };
    let Some(socks) = Proxy::start(Kind::Microsocks, login, None) else { return };
    let folder = Folder::new();
    let roots = folder.write("roots.pem", &trust.root).display().to_string();

    let with = |scheme: &str, password: &str, at: &Proxy| format!("{scheme}://user:{password}@{}", at.address);
    let right = [with("http", "tops-3cret", &http), with("socks5h", "tops-3cret", &socks)];
    for (n, proxy) in right.iter().enumerate() {
        for scheme in ["http", "https"] {
            let options = ["get", "-s", "--cacert", &roots];
            let paths = [format!("/option/{n}/{scheme}"), format!("/again/{n}/{scheme}")];
            let urls = paths.each_ref().map(|path| origin.url(scheme, "localhost", path));
            let told = run(persist(options).args(["-x", proxy]).args(&urls));
            assert_eq!(told.code, Some(0), "{proxy} {scheme}: {}", told.stderr);
            assert_eq!(String::from_utf8_lossy(&told.stdout), paths.concat());

            let path = format!("/environment/{n}/{scheme}");
            let url = origin.url(scheme, "localhost", &path);
            let told = run(persist(options).arg(url).env(format!("{scheme}_proxy"), proxy));
            assert_eq!(told.code, Some(0), "{proxy} {scheme}: {}", told.stderr);
            assert_eq!(String::from_utf8_lossy(&told.stdout), path);
        }
    }

    let url = origin.url("https", "localhost", "/refused");
    let wrong = [(with("http", "tops-4cret", &http), 56), (with("socks5h", "tops-4cret", &socks), 97)];
    for (proxy, code) in wrong {
        let told = run_persist(["get", "-v", "--cacert", &roots, "-x", &proxy, &url]);
        assert_eq!(told.code, Some(code), "{}", told.stderr);
        assert!(told.stderr.contains("going through the proxy to localhost:"), "{}", told.stderr);
        assert!(!told.stderr.contains("cret") && !told.stderr.contains("dXNlcjp0b3Bz"), "{}", told.stderr);
    }
    // The proxy did its part, and the origin is not believed.
    let told = run_persist(["get", "-s", "-x", &right[0], &url]);
    assert_eq!(told.code, Some(60), "{}", told.stderr);
    assert!(!told.stderr.contains("the proxy"), "{}", told.stderr);

    let log = origin.log();
    assert_eq!(log.len(), 12, "{log:?}");
    assert!(log.iter().all(|seen| seen.proxy_fields.is_empty()), "{log:?}");
    // Both requests through a tunnel went over one connection.
    let connection = |path: &str| log.iter().find(|seen| seen.target == path).map(|seen| seen.connection);
    for path in ["0/https", "1/http", "1/https"] {
        assert_eq!(connection(&format!("/option/{path}")), connection(&format!("/again/{path}")), "{path}");
    }
}
