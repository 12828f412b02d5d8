//! Whoever connects first wins, in paused time.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::*;

/// What an address does.
#[derive(Clone, Copy)]
enum Does {
    Connects(Duration),
    Refuses,
    Nothing,
}

/// The winner, and who was tried when (milliseconds from the start).
async fn race(addresses: &[(&str, Does)]) -> (io::Result<SocketAddr>, Vec<(String, u128)>) {
    let table: Vec<(SocketAddr, Does)> =
        addresses.iter().map(|(address, does)| (address.parse().expect("an address"), *does)).collect();
    let start = tokio::time::Instant::now();
    let tried = Arc::new(Mutex::new(Vec::new()));
    let log = tried.clone();
    let won = first(table.iter().map(|(address, _)| *address).collect(), HappyEyeballsConfig::rfc(), |address| {
        log.lock().expect("no panic").push((address.to_string(), start.elapsed().as_millis()));
        let does = table.iter().find(|(known, _)| *known == address).expect("one of them").1;
        async move {
            match does {
                Does::Connects(after) => tokio::time::sleep(after).await,
                Does::Refuses => return Err(io::ErrorKind::ConnectionRefused.into()),
                Does::Nothing => std::future::pending().await,
            }
            Ok(address)
        }
    })
    .await;
    let tried = tried.lock().expect("no panic").clone();
    (won, tried)
}

const V6: &str = "[2001:db8::1]:80";
const V4: &str = "192.0.2.1:80";
const OTHER_V4: &str = "192.0.2.2:80";

#[tokio::test(start_paused = true)]
async fn a_silent_ipv6_address_costs_a_quarter_of_a_second() {
    let (won, tried) = race(&[(V6, Does::Nothing), (V4, Does::Connects(Duration::from_millis(5)))]).await;
    assert_eq!(won.expect("connected").to_string(), V4);
    let tried: Vec<_> = tried.iter().map(|(address, _)| address.as_str()).collect();
    assert_eq!(tried, [V6, V4]);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_makes_the_next_attempt_begin_at_once() {
    let (won, tried) =
        race(&[(V6, Does::Refuses), (V4, Does::Refuses), (OTHER_V4, Does::Connects(Duration::ZERO))]).await;
    assert_eq!(won.expect("connected").to_string(), OTHER_V4);
    assert!(tried.iter().all(|(_, at)| *at == 0), "{tried:?}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_first_address_may_still_win() {
    let (won, tried) = race(&[(V6, Does::Connects(Duration::from_millis(300))), (V4, Does::Nothing)]).await;
    assert_eq!(won.expect("connected").to_string(), V6);
    assert_eq!(tried.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn all_failures_are_told_each_with_its_address() {
    let (won, _) = race(&[(V6, Does::Refuses), (V4, Does::Refuses)]).await;
    let error = won.expect_err("nobody connects");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    let text = error.to_string();
    assert!(text.contains(V6) && text.contains(V4), "{text}");
    assert!(error.get_ref().is_some_and(|inner| inner.is::<ConnectFailures>()));
    let (won, _) = race(&[(V4, Does::Refuses)]).await;
    assert!(won.expect_err("nobody connects").get_ref().is_none(), "one address: its own error, as it is");
    let (won, _) = race(&[]).await;
    assert_eq!(won.expect_err("no address").kind(), io::ErrorKind::NotFound);
}
