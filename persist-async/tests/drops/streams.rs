//! Streams that hand out bytes: upgraded connections, and those that outlive their connections. No byte is lost, and none is there twice.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use persist_async::persist_core::Destination;
use persist_async::{
    ClientConn, Connector, DialTimer, Dialer, Error, PersistentStream, PersistentStreamConfig, Response, ServerConn,
    StatusCode, Stream, async_trait,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};

use super::{Seed, get, poll_times, seeds};

/// Far longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

/// So many bytes, which are never the same for long.
fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut dice = Seed(seed);
    (0..len).map(|_| dice.below(256) as u8).collect()
}

/// Sends all of `ours` and receives what `theirs` says, by reads and writes of which many are dropped. Nothing that was pending was written or read.
/// False if the peer has gone before the end.
async fn trade(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    (ours, theirs): (&[u8], &[u8]),
    mut dice: Seed,
) -> bool {
    let (mut sent, mut received) = (0, 0);
    while sent < ours.len() || received < theirs.len() {
        let polls = 1 + dice.below(3);
        if sent < ours.len() {
            let upto = (sent + 1 + dice.below(700) as usize).min(ours.len());
            if let Some(taken) = poll_times(stream.write(&ours[sent..upto]), polls).await {
                let Ok(taken) = taken else { return false };
                sent += taken;
            }
            let _ = poll_times(stream.flush(), polls).await;
        }
        let mut piece = vec![0; 1 + dice.below(700) as usize];
        if received < theirs.len()
            && let Some(read) = poll_times(stream.read(&mut piece), polls).await
        {
            let Ok(1..) = read else { return false };
            let read = read.expect("checked above");
            assert!(piece[..read] == theirs[received..received + read], "at {received}");
            received += read;
        }
    }
    stream.flush().await.is_ok()
}

/// An upgrade whose futures may be dropped on both ends, and the streams that come of it.
async fn upgrade_at_random(seed: u64) -> bool {
    let mut dice = Seed(seed);
    let (near, far) = tokio::io::duplex(16 + dice.below(300) as usize);
    let [upgrade_polls, send_polls] = [0; 2].map(|_| if dice.below(4) == 0 { 1 + dice.below(4) } else { u32::MAX });
    let (up, down) = (bytes(seed, 9_000), bytes(!seed, 11_000));
    let theirs = (up.clone(), down.clone());
    let server = tokio::spawn(async move {
        let conn = ServerConn::new(far);
        let Ok(Some(received)) = conn.read().await else { return false };
        let response = Response::new(StatusCode::SWITCHING_PROTOCOLS).field("Upgrade", "echo").expect("a field");
        match poll_times(received.responder.upgrade(response), upgrade_polls).await {
            Some(Ok(hijacked)) => trade(hijacked.into_stream(), (&theirs.1, &theirs.0), Seed(seed ^ 0x5e)).await,
            Some(Err(_)) | None => false,
        }
    });
    let client = async move {
        let conn = ClientConn::new(near);
        let request = get("/").field("Connection", "upgrade").and_then(|request| request.field("Upgrade", "echo"));
        match poll_times(conn.send(request.expect("fields"), ()), send_polls).await {
            Some(Ok(reply)) if reply.head.status() == StatusCode::SWITCHING_PROTOCOLS => {
                drop(reply);
                trade(conn.into_stream().expect("it is over to us"), (&up, &down), Seed(seed ^ 0xc1)).await
            }
            // Without its response there is nothing to take over: what became of it is said, or nobody asked.
            Some(Ok(reply)) => panic!("seed {seed}: {reply:?}"),
            Some(Err(_)) | None => false,
        }
    };
    let both = tokio::time::timeout(LONG, async { (client.await, server.await.expect("no panic")) });
    let (client, server) = both.await.unwrap_or_else(|_| panic!("seed {seed}: it hangs"));
    assert_eq!(client, server, "seed {seed}: whoever has a stream has a peer, unless that was dropped");
    client
}

#[tokio::test]
async fn an_upgraded_stream_loses_nothing_to_dropped_reads_and_writes() {
    let mut upgraded = 0;
    let seeds = seeds(0..60);
    let count = seeds.end - seeds.start;
    for seed in seeds {
        upgraded += u64::from(upgrade_at_random(seed).await);
    }
    assert!(upgraded > count / 4 && upgraded < count, "{upgraded} of {count}: both ways are tried");
}

/// Dials pipes to an echo of whole lines that ends after some of them, and notes what it heard on each.
#[derive(Debug)]
struct Echo {
    heard: Arc<Mutex<Vec<Vec<u8>>>>,
    dice: Mutex<u64>,
}

#[async_trait]
impl Dialer for Echo {
    async fn dial(&self, _: &Destination, _: &mut DialTimer) -> Result<Stream, Error> {
        let mut dice = {
            let mut last = self.dice.lock().expect("no panic");
            *last += 1;
            Seed(*last)
        };
        for _ in 0..dice.below(4) {
            tokio::task::yield_now().await;
        }
        let (near, far) = tokio::io::duplex(8 + dice.below(200) as usize);
        tokio::spawn(echo(far, self.heard.clone(), 1 + dice.below(40)));
        Ok(Stream::new(near))
    }
}

/// Gives each line back, until there were so many.
async fn echo(mut far: DuplexStream, heard: Arc<Mutex<Vec<Vec<u8>>>>, mut lines: u32) {
    let mine = {
        let mut heard = heard.lock().expect("no panic");
        heard.push(Vec::new());
        heard.len() - 1
    };
    let mut line = Vec::new();
    while lines > 0 {
        let Ok(byte) = far.read_u8().await else { return };
        heard.lock().expect("no panic")[mine].push(byte);
        line.push(byte);
        if byte == b'\n' {
            if far.write_all(&line).await.is_err() {
                return;
            }
            line.clear();
            lines -= 1;
        }
    }
}

/// The numbers of the lines in `bytes`, each whole; what is behind the last line end was cut off.
fn numbers(bytes: &[u8], seed: u64) -> Vec<usize> {
    let upto = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let lines = bytes[..upto].split_inclusive(|byte| *byte == b'\n');
    lines
        .map(|line| {
            let text = String::from_utf8_lossy(line);
            let number = text.split(' ').next().and_then(|number| number.parse().ok());
            let number = number.unwrap_or_else(|| panic!("seed {seed}: {text:?}"));
            assert_eq!(line, message(number), "seed {seed}: a message that is not whole");
            number
        })
        .collect()
}

fn message(number: usize) -> Vec<u8> {
    format!("{number} {}\n", "x".repeat(number * 7 % 90)).into_bytes()
}

/// Lines go out and come back over connections that end now and then, by reads and writes of which many are dropped.
async fn converse_at_random(seed: u64) {
    let mut dice = Seed(seed);
    let heard = Arc::new(Mutex::new(Vec::new()));
    let dialer = Echo { heard: heard.clone(), dice: seed.wrapping_mul(1_000).into() };
    let mut config = PersistentStreamConfig::default();
    config.session.backoff.first = Duration::from_millis(1);
    config.session.backoff.max = Duration::from_millis(4);
    let connector = Connector::of_parts(config.dial, config.socket).with_dialer(Arc::new(dialer));
    let stream = PersistentStream::with_config("http://echo".parse().expect("a destination"), config);
    let mut stream = stream.expect("no contradiction").with_connector(connector);
    let (mut next, mut rest) = (0, message(0));
    // What came back, cut where a connection ended.
    let mut back = vec![Vec::new()];
    while next < 200 {
        let polls = 1 + dice.below(4);
        if dice.below(2) == 0 {
            match poll_times(stream.write(&rest), polls).await {
                Some(Ok(n)) => drop(rest.drain(..n)),
                Some(Err(_)) => {
                    // Whatever had left of this message is lost with its connection: on to the next.
                    rest.clear();
                    back.push(Vec::new());
                }
                None => {}
            }
            if rest.is_empty() {
                next += 1;
                rest = message(next);
            }
        } else {
            let mut piece = [0; 50];
            match poll_times(stream.read(&mut piece), polls).await {
                Some(Ok(n)) if n > 0 => back.last_mut().expect("one").extend_from_slice(&piece[..n]),
                Some(_) => back.push(Vec::new()),
                None => {}
            }
        }
    }
    let heard = heard.lock().expect("no panic");
    let numbers_of = |parts: &[Vec<u8>]| parts.iter().flat_map(|part| numbers(part, seed)).collect::<Vec<_>>();
    for (name, said) in [("the peer heard", numbers_of(&heard)), ("came back", numbers_of(&back))] {
        assert!(said.is_sorted_by(|first, second| first < second), "seed {seed}: {name} {said:?}");
        assert!(said.len() > 50, "seed {seed}: {name} {}", said.len());
    }
    assert!(heard.len() > 2, "seed {seed}: connections end");
}

#[tokio::test]
async fn a_persistent_stream_repeats_nothing_and_cuts_no_message_but_the_last_of_a_connection() {
    for seed in seeds(0..40) {
        tokio::time::timeout(LONG, converse_at_random(seed)).await.unwrap_or_else(|_| panic!("seed {seed}: it hangs"));
    }
}
