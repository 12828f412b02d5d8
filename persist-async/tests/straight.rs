//! Content that is read straight to where it is wanted, together with what is behind it.

use std::io;

use persist_async::persist_core::Gate;
use persist_async::{Body, ClientConn, Config, Disposition, Incoming, Request};
use tokio::io::AsyncReadExt;
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::task::yield_now;

/// How a body is read.
#[derive(Clone, Copy, Debug)]
enum By {
    Chunk,
    Read,
}

/// Content of which no two pieces nearby are alike.
fn content(len: usize) -> Vec<u8> {
    (0..len as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// A chunked message with trailers, and for each of its bytes how much content is in front of it.
fn chunked(sizes: &[usize]) -> (Vec<u8>, Vec<usize>) {
    let all = content(sizes.iter().sum());
    let (mut message, mut before, mut at) = (Vec::new(), Vec::new(), 0);
    let mut frame = |bytes: &[u8], at: usize| {
        message.extend_from_slice(bytes);
        before.resize(message.len(), at);
    };
    frame(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 0);
    for &size in sizes {
        frame(format!("{size:x}\r\n").as_bytes(), at);
        for _ in 0..size {
            frame(&all[at..=at], at);
            at += 1;
        }
        frame(b"\r\n", at);
    }
    frame(b"0\r\nSum: 1\r\n\r\n", at);
    (message, before)
}

/// What is read of a body, and whether it came to its end.
async fn read(body: &mut Incoming, by: By) -> (Vec<u8>, bool) {
    let mut heard = Vec::new();
    let mut buf = vec![0; 100_000];
    loop {
        let came = match by {
            By::Chunk => match body.chunk().await {
                Ok(piece) => Ok(piece.inspect(|piece| heard.extend_from_slice(piece)).is_some()),
                Err(error) => {
                    assert_eq!(error.disposition(), Some(Disposition::ReplyPartial), "{error}");
                    Err(io::ErrorKind::Other.into())
                }
            },
            By::Read => body.read(&mut buf).await.map(|n| {
                heard.extend_from_slice(&buf[..n]);
                n > 0
            }),
        };
        match came {
            Ok(true) => {}
            Ok(false) => return (heard, true),
            Err(_) => return (heard, false),
        }
    }
}

/// Two requests are written; `pieces` come for them, each once the last was taken, and then the end. The first body, whether it ended, the number
/// of its trailers, and the second.
async fn hear(by: By, pieces: [&[u8]; 2]) -> (Vec<u8>, bool, usize, Option<Vec<u8>>) {
    let (near, mut far): (DuplexStream, DuplexStream) = tokio::io::duplex(1 << 20);
    let mut config = Config::client();
    (config.pipelining.depth, config.pipelining.behind_first) = (2, Gate::Open);
    let conn = ClientConn::with_config(near, config);
    let request = Request::get("/").field("Host", "a").expect("a field");
    let first = conn.write(&request, Body::empty()).await.expect("room");
    let second = conn.write(&request, Body::empty()).await.expect("room");
    let says = async {
        for piece in pieces {
            far.write_all(piece).await.expect("room");
            for _ in 0..20 {
                yield_now().await;
            }
        }
        drop(far);
    };
    let hears = async {
        let mut reply = conn.read(first).await.expect("a head");
        let (heard, ended) = read(&mut reply.body, by).await;
        let trailers = reply.body.trailers().map_or(0, |trailers| trailers.len());
        drop(reply);
        let second = match conn.read(second).await {
            Ok(mut reply) => Some(read(&mut reply.body, by).await.0),
            Err(_) => None,
        };
        (heard, ended, trailers, second)
    };
    tokio::join!(hears, says).0
}

const SIZES: [usize; 5] = [70_000, 20_000, 65_536, 3, 40_000];

/// Where to cut a message of [`SIZES`]: around each end of a chunk, nearer to it than what is read behind content, and farther.
fn cuts(before: &[usize]) -> Vec<usize> {
    let mut end = 0;
    let mut cuts = Vec::new();
    for size in SIZES {
        end += size;
        let at = before.partition_point(|&content| content < end);
        cuts.extend([200, 130, 129, 128, 127, 64].into_iter().flat_map(|away| [at - away, at + away.min(20)]));
        cuts.extend(at - 10..=at + 12);
    }
    cuts.retain(|&cut| cut < before.len());
    cuts
}

#[tokio::test]
async fn nothing_behind_content_is_lost_wherever_it_is_cut() {
    let (mut message, before) = chunked(&SIZES);
    message.extend_from_slice(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nbehind");
    let expected = (content(SIZES.iter().sum()), true, 1, Some(b"behind".to_vec()));
    for by in [By::Chunk, By::Read] {
        for cut in cuts(&before) {
            let (first, rest) = message.split_at(cut);
            assert!(hear(by, [first, rest]).await == expected, "{by:?}, cut at {cut}");
        }
    }
}

#[tokio::test]
async fn all_content_in_front_of_an_end_or_of_a_violation_is_heard_and_then_which_it_was() {
    let (message, before) = chunked(&SIZES);
    let all = content(SIZES.iter().sum());
    for by in [By::Chunk, By::Read] {
        for cut in cuts(&before) {
            let came = hear(by, [&message[..cut], b""]).await;
            assert!(came == (all[..before[cut]].to_vec(), false, 0, None), "{by:?}, the end at {cut}");
        }
        for end in [70_000, 155_536] {
            let at = before.partition_point(|&content| content < end);
            let broken = [&message[..at], b"\r\nzz\r\nsmuggled"].concat();
            let came = hear(by, [&broken, b""]).await;
            assert!(came == (all[..end].to_vec(), false, 0, None), "{by:?}, a violation behind {end}");
        }
    }
}
