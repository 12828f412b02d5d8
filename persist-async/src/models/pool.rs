//! The pool of a client and the tasks that share it: leases, waiters that leave, dials that fail, and the upkeep.

use std::sync::Arc;

use async_trait::async_trait;
use persist_core::{BackoffConfig, ClientConfig, Config, Destination, OnFresh, Phase, Request, Response, Timeouts};
use shuttle::future::{block_on, spawn};

use super::pipe::{Pipe, pipe};
use super::{below, check, poll_times};
use crate::client::Client;
use crate::dial::{Connector, DialTimer, Dialer};
use crate::error::{Error, Result};
use crate::server_conn::ServerConn;
use crate::stream::Stream;
use crate::sync::Mutex;

/// Dials pipes to servers that answer with the target; one dial in `fails` does not succeed.
struct Pipes {
    fails: usize,
    serving: Arc<Mutex<Vec<shuttle::future::JoinHandle<()>>>>,
}

impl std::fmt::Debug for Pipes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pipes")
    }
}

async fn serve(far: Pipe) {
    let mut config = Config::server();
    config.timeouts = Timeouts::none();
    let conn = ServerConn::with_config(far, config);
    while let Ok(Some(received)) = conn.read().await {
        let target = received.head.target().to_owned();
        let _ = received.responder.send(Response::ok(), target).await;
    }
}

#[async_trait]
impl Dialer for Pipes {
    async fn dial(&self, _: &Destination, _: &mut DialTimer) -> Result<Stream> {
        shuttle::future::yield_now().await;
        if self.fails > 0 && below(self.fails) == 0 {
            return Err(Error::new(Phase::Connect, "nobody is there"));
        }
        let (near, far) = pipe(400);
        self.serving.lock().expect("no panic").push(spawn(serve(far)));
        Ok(Stream::new(near))
    }
}

struct Pool {
    client: Client,
    serving: Arc<Mutex<Vec<shuttle::future::JoinHandle<()>>>>,
}

impl Pool {
    fn new(most: u32, fails: usize) -> Self {
        let mut config = ClientConfig::default();
        (config.pool.per_destination_max, config.pool.idle_per_destination_max) = (most, most);
        config.conn.timeouts = Timeouts::none();
        (config.dial.resolve, config.dial.connect, config.dial.handshake, config.dial.total) = (None, None, None, None);
        (config.pool.idle_timeout, config.pool.age_max, config.wait_timeout) = (None, None, None);
        config.pool.backoff = BackoffConfig::none();
        config.retry.on_fresh = OnFresh::GiveUp;
        let serving = Arc::new(Mutex::new(Vec::new()));
        let dialer = Pipes { fails, serving: serving.clone() };
        let connector = Connector::new(&config).with_dialer(Arc::new(dialer));
        Self { client: Client::with_connector(config, connector).expect("no contradiction"), serving }
    }

    /// The client is gone, and with it, in time, every connection.
    async fn ends(self) {
        drop(self.client);
        loop {
            let Some(served) = self.serving.lock().expect("no panic").pop() else { return };
            served.await.expect("no panic");
        }
    }
}

async fn asks(client: &Client, n: usize) -> Result<()> {
    let mut reply = client.send(Request::get(format!("http://model/{n}")), ()).await?;
    assert_eq!(reply.body.bytes(100).await.expect("its content"), format!("/{n}"), "another's reply");
    Ok(())
}

#[test]
fn a_connection_goes_round_among_those_who_wait_though_some_leave() {
    check(|| {
        block_on(async {
            let pool = Pool::new(1, 0);
            let asking: Vec<_> = (0..4)
                .map(|n| {
                    let client = pool.client.clone();
                    spawn(async move {
                        if n >= 2 {
                            // While it waits, dials, or has the connection.
                            drop(poll_times(asks(&client, n), below(6)).await);
                        } else {
                            asks(&client, n).await.expect("a reply");
                        }
                    })
                })
                .collect();
            for asked in asking {
                asked.await.expect("no panic");
            }
            pool.ends().await;
        });
    });
}

#[test]
fn a_dial_that_fails_is_told_to_whoever_waits_for_it() {
    check(|| {
        block_on(async {
            let pool = Pool::new(2, 1);
            let asking: Vec<_> = (0..3)
                .map(|n| {
                    let client = pool.client.clone();
                    spawn(async move { asks(&client, n).await.expect_err("nobody is there") })
                })
                .collect();
            for asked in asking {
                assert_eq!(asked.await.expect("no panic").phase(), Phase::Connect);
            }
            pool.ends().await;
        });
    });
}

#[test]
fn what_requests_leave_behind_is_kept_by_one_upkeep_or_the_next() {
    check(|| {
        block_on(async {
            let pool = Pool::new(1, 0);
            let keeping = spawn({
                let client = pool.client.clone();
                async move {
                    for _ in 0..2 {
                        let _ = poll_times(client.upkeep(), below(4)).await;
                    }
                }
            });
            let asking: Vec<_> = (0..2)
                .map(|n| {
                    let client = pool.client.clone();
                    spawn(async move { drop(poll_times(asks(&client, n), below(8)).await) })
                })
                .collect();
            for asked in asking {
                asked.await.expect("no panic");
            }
            keeping.await.expect("no panic");
            // There is one connection: whoever comes next gets it only once it was drained.
            asks(&pool.client, 9).await.expect("a reply");
            pool.ends().await;
        });
    });
}
