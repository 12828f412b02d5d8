//! The crate's examples, run: each is a program that fails if what it shows does not hold.

#[path = "../examples/own_pool.rs"]
#[allow(unreachable_pub, dead_code, reason = "a program elsewhere")]
mod own_pool;

#[tokio::test]
async fn a_pool_of_the_users_own_lives_on_state_events() {
    let server = persist_async::Server::bind("127.0.0.1:0").await.expect("a port");
    let (address, handle) = (server.local_addr().expect("TCP"), server.handle());
    let serving = tokio::spawn(server.serve(|received| async move {
        let target = received.head.target().to_owned();
        received.responder.send(persist_async::Response::ok(), target).await
    }));
    let pool = own_pool::Pool::new(address, 8);
    for _ in 0..3 {
        let asked = (0..100).map(async |n| {
            let request = persist_async::Request::get(format!("/{n}")).field("Host", "localhost").expect("a field");
            let mut reply = pool.send(request, ()).await.expect("a reply");
            assert_eq!(reply.body.bytes(100).await.expect("its content"), format!("/{n}"));
        });
        futures_util::future::join_all(asked).await;
    }
    let connections = pool.connections();
    assert!(connections > 0 && handle.stats().accepted <= 300 && handle.stats().traffic.reused > 0, "{connections}");
    handle.shutdown(std::time::Duration::from_secs(60));
    serving.await.expect("no panic").expect("no error");
    while pool.connections() > 0 {
        tokio::task::yield_now().await;
    }
}

#[test]
fn a_pool_of_the_users_own_takes_sixty_lines() {
    let lines = include_str!("../examples/own_pool.rs").lines().count();
    assert!(lines <= 60, "{lines}");
}

#[test]
fn the_pool_of_the_users_own_is_a_program_that_runs() {
    own_pool::main().expect("it runs");
}

#[cfg(target_os = "linux")]
#[path = "../examples/per_core.rs"]
#[allow(unreachable_pub, dead_code, reason = "a program elsewhere")]
mod per_core;

#[cfg(target_os = "linux")]
#[test]
fn servers_of_several_threads_share_a_port() {
    let (address, cores) = per_core::start("127.0.0.1:0".parse().expect("an address"), 3).expect("started");
    let answers: std::collections::BTreeSet<String> = (0..64).map(|_| ask(address, "GET /").expect("served")).collect();
    assert_eq!(answers.into_iter().collect::<Vec<_>>(), ["core 0\n", "core 1\n", "core 2\n"]);
    cores.iter().for_each(|core| core.handle.shutdown(std::time::Duration::from_secs(60)));
    let served = cores.into_iter().map(|core| core.thread.join().expect("no panic").expect("no error").connections);
    assert_eq!(served.sum::<u64>(), 64);
}

#[cfg(unix)]
#[path = "../examples/restart.rs"]
#[allow(unreachable_pub, dead_code, reason = "a program elsewhere")]
mod restart;

/// Set in a process that another test starts to play a part.
#[cfg(unix)]
const CHILD: &str = "PERSIST_TEST_CHILD";

/// Run by the next test, as a process of its own, which starts itself again.
#[cfg(unix)]
#[test]
#[ignore = "run by another test"]
fn restart_itself() {
    if std::env::var_os(CHILD).is_none() {
        return; // as one of all ignored tests it has nobody to serve, and would wait for ever
    }
    restart::main().expect("it runs");
}

#[cfg(unix)]
#[test]
fn a_restart_with_the_listening_socket_refuses_nobody() {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};
    use std::sync::atomic::{AtomicBool, Ordering};
    let mut first = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "restart_itself", "--ignored", "--nocapture"])
        .env(CHILD, "1")
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child");
    // Read on to its end: the child must find somebody to speak to.
    let mut lines = BufReader::new(first.stdout.take().expect("piped")).lines();
    let told = lines.by_ref().map_while(Result::ok).find_map(|line| Some(line.split_once("ready on ")?.1.to_owned()));
    let address: std::net::SocketAddr = told.expect("it says where").parse().expect("an address");
    // Whatever happens here, whoever serves there is told to end.
    struct End(std::net::SocketAddr);
    impl Drop for End {
        fn drop(&mut self) {
            let _ = ask(self.0, "POST /end");
        }
    }
    let end = End(address);
    let over = AtomicBool::new(false);
    let (before, told, ended, after) = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        match ask(address, "GET /") {
                            Ok(_) => {}
                            // Its request came just when the old process closed what it took for idle: that happens to any client at any time.
                            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
                            Err(error) => assert!(error.to_string().is_empty(), "never refused, never cut: {error}"),
                        }
                    }
                })
            })
            .collect();
        let before = ask(address, "GET /");
        let told = ask(address, "POST /restart");
        let rest = lines.count();
        let ended = first.wait().map(|status| status.success() && rest > 0);
        let after = ask(address, "GET /");
        over.store(true, Ordering::Relaxed);
        clients.into_iter().for_each(|client| client.join().expect("all were served"));
        (before, told, ended, after)
    });
    assert!(told.as_ref().is_ok_and(|told| told.ends_with(" goes on\n")), "{told:?}");
    assert!(ended.expect("it is waited for"), "the old process ends well");
    assert_ne!(before.expect("served"), after.expect("served"), "another process answers");
    drop(end);
}

/// Sends a request on a connection of its own; the content of the reply.
fn ask(address: std::net::SocketAddr, request: &str) -> std::io::Result<String> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address)?;
    write!(stream, "{request} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")?;
    let mut heard = String::new();
    stream.read_to_string(&mut heard)?;
    let content = heard.split_once("\r\n\r\n").filter(|(head, _)| head.starts_with("HTTP/1.1 200 "));
    content.map(|(_, content)| content.to_owned()).ok_or_else(|| std::io::Error::other(heard.clone()))
}
