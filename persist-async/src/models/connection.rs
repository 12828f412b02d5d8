//! One connection and the tasks that share it, at either end.

use std::future::Future;
use std::sync::{Arc, Mutex};

use persist_core::{Config, Gate, Overlap, Request, Response, StateEvent, StatusCode};
use shuttle::future::{block_on, spawn};

use super::pipe::{Pipe, pipe};
use super::{below, check, poll_times};
use crate::client_conn::ClientConn;
use crate::date::Stamp;
use crate::link::{Link, fresh};
use crate::server::attended;
use crate::server_conn::{Received, ServerConn};

/// No deadlines: time stands still.
fn config(mut config: Config) -> Config {
    config.timeouts = persist_core::Timeouts::none();
    config.pipelining.depth = 3;
    config.pipelining.behind_non_idempotent = Gate::Open;
    config.pipelining.overlap = Overlap::Any;
    config
}

fn get(target: impl ToString) -> Request {
    Request::get(target.to_string()).field("Host", "model").expect("a field")
}

/// Answers with the target.
async fn answer(received: Received) {
    let target = received.head.target().to_owned();
    let _ = received.responder.send(Response::ok(), target).await;
}

async fn asks(conn: &ClientConn<Pipe>, target: &str) {
    let mut reply = conn.send(get(target), ()).await.expect("a reply");
    assert_eq!(reply.body.bytes(100).await.expect("its content"), target, "another's reply");
}

/// A server's end without a task: whoever waits drives.
async fn serve(far: Pipe) {
    let conn = ServerConn::with_config(far, config(Config::server()));
    while let Ok(Some(received)) = conn.read().await {
        answer(received).await;
    }
}

#[test]
fn replies_reach_whoever_asked_whoever_drives_and_whoever_leaves() {
    check(|| {
        block_on(async {
            let (near, far) = pipe(30 + 50 * below(3));
            let server = spawn(serve(far));
            let conn = Arc::new(ClientConn::with_config(near, config(Config::client())));
            let asking: Vec<_> = (0..3)
                .map(|n| {
                    let conn = conn.clone();
                    spawn(async move {
                        let target = format!("/{n}");
                        if n == 2 {
                            let polls = below(5);
                            drop(poll_times(conn.send(get(&target), ()), polls).await);
                        } else {
                            asks(&conn, &target).await;
                        }
                    })
                })
                .collect();
            for asked in asking {
                asked.await.expect("no panic");
            }
            drop(conn);
            server.await.expect("no panic");
        });
    });
}

#[test]
fn a_body_that_another_task_reads_comes_and_the_turn_to_send_goes_round() {
    check(|| {
        block_on(async {
            let (near, far) = pipe(60);
            let server = spawn(serve(far));
            let mut one = config(Config::client());
            one.pipelining.depth = 1;
            let conn = Arc::new(ClientConn::with_config(near, one));
            let asking: Vec<_> = (0..3)
                .map(|n| {
                    let conn = conn.clone();
                    spawn(async move {
                        let target = format!("/{n}/{}", "x".repeat(60));
                        let mut reply = conn.send(get(&target), ()).await.expect("a reply");
                        let reading = spawn(async move { reply.body.bytes(100).await.expect("its content") });
                        assert_eq!(reading.await.expect("no panic"), target, "another's reply");
                    })
                })
                .collect();
            for asked in asking {
                asked.await.expect("no panic");
            }
            drop(conn);
            server.await.expect("no panic");
        });
    });
}

#[test]
fn answers_that_other_tasks_give_leave_without_a_task_behind_the_connection() {
    check(|| {
        block_on(async {
            let (near, far) = pipe(400);
            let server = spawn(async move {
                let conn = ServerConn::with_config(far, config(Config::server()));
                let mut answering = Vec::new();
                while let Ok(Some(received)) = conn.read().await {
                    answering.push(spawn(answer(received)));
                }
                for answered in answering {
                    answered.await.expect("no panic");
                }
            });
            let conn = Arc::new(ClientConn::with_config(near, config(Config::client())));
            let asking: Vec<_> = (0..2)
                .map(|n| {
                    let conn = conn.clone();
                    spawn(async move { asks(&conn, &format!("/{n}")).await })
                })
                .collect();
            for asked in asking {
                asked.await.expect("no panic");
            }
            drop(conn);
            server.await.expect("no panic");
        });
    });
}

#[test]
fn answers_that_other_tasks_give_leave_with_the_task_of_a_server() {
    check(|| {
        block_on(async {
            let (near, far) = pipe(400);
            let stamp = Arc::new(Stamp::new(None));
            let link = Link::with_task(fresh(Arc::new(config(Config::server()))), far, None, Vec::new(), stamp);
            // Each answer is another task's, which the handler waits for; or the handler leaves it to that task and is done.
            let handler = |received: Received| {
                let answering = spawn(answer(received));
                let waits = below(2) == 0;
                async move {
                    if waits {
                        answering.await.expect("no panic");
                    }
                }
            };
            let server = spawn(attended(link, handler, 2));
            let conn = Arc::new(ClientConn::with_config(near, config(Config::client())));
            let asking: Vec<_> = (0..2)
                .map(|n| {
                    let conn = conn.clone();
                    spawn(async move { asks(&conn, &format!("/{n}")).await })
                })
                .collect();
            for asked in asking {
                asked.await.expect("no panic");
            }
            drop(conn);
            server.await.expect("no panic");
        });
    });
}

/// A server whose task is dropped at some time, `answer` being another task's; and what a client gets there for `request`.
fn desert<F>(request: Request, body: String, answer: impl Fn(Received) -> F + Copy + Send + Sync + 'static)
where
    F: Future<Output = ()> + Send + 'static,
{
    check(move || {
        let (request, body) = (request.clone(), body.clone());
        block_on(async move {
            let (near, far) = pipe(10 + 30 * below(4));
            let stamp = Arc::new(Stamp::new(None));
            let link = Link::with_task(fresh(Arc::new(config(Config::server()))), far, None, Vec::new(), stamp);
            let answering = Arc::new(Mutex::new(Vec::new()));
            let handler = {
                let answering = answering.clone();
                move |received: Received| {
                    answering.lock().expect("no panic").push(spawn(answer(received)));
                    std::future::ready(())
                }
            };
            let server = spawn(async move {
                let _ = poll_times(attended(link, handler, 2), below(12)).await;
            });
            let conn = ClientConn::with_config(near, config(Config::client()));
            if let Ok(mut reply) = conn.send(request, body).await {
                let _ = reply.body.bytes(100).await;
            }
            drop(conn);
            server.await.expect("no panic");
            let answering = std::mem::take(&mut *answering.lock().expect("no panic"));
            for answered in answering {
                answered.await.expect("no panic");
            }
        });
    });
}

#[test]
fn a_server_whose_task_is_dropped_leaves_nobody_waiting() {
    let request = Request::post("/").field("Host", "model").expect("a field");
    desert(request, "x".repeat(90), |mut received| async move {
        if let Ok(content) = received.body.bytes(100).await {
            let _ = received.responder.send(Response::ok(), content).await;
        }
    });
}

#[test]
fn a_connection_that_was_granted_another_protocol_needs_no_task() {
    let protocol = |fields: Request| fields.field("Connection", "upgrade")?.field("Upgrade", "model");
    desert(protocol(get("/")).expect("fields"), String::new(), |received| async move {
        let switching = Response::new(StatusCode::SWITCHING_PROTOCOLS).field("Upgrade", "model").expect("a field");
        let switching = switching.field("Connection", "upgrade").expect("a field");
        drop(received.responder.upgrade(switching).await);
    });
}

#[test]
fn the_end_is_told_to_everybody_who_listens_and_is_the_last() {
    check(|| {
        block_on(async {
            let (near, far) = pipe(400);
            let server = spawn(serve(far));
            let conn = Arc::new(ClientConn::with_config(near, config(Config::client())));
            let listening: Vec<_> = (0..2)
                .map(|_| {
                    let mut events = conn.events();
                    spawn(async move {
                        let mut last = None;
                        loop {
                            // A wait that is dropped loses nothing.
                            let Some(event) = poll_times(events.wait(), 1 + below(3)).await else {
                                match events.wait().await {
                                    Some(event) => last = Some(event),
                                    None => return last,
                                }
                                continue;
                            };
                            match event {
                                Some(event) => last = Some(event),
                                None => return last,
                            }
                        }
                    })
                })
                .collect();
            let asking = spawn({
                let conn = conn.clone();
                async move { drop(conn.send(get("/"), ()).await) }
            });
            let ending = spawn({
                let conn = conn.clone();
                async move { conn.abort() }
            });
            ending.await.expect("no panic");
            asking.await.expect("no panic");
            for told in listening {
                let last = told.await.expect("no panic");
                assert!(matches!(last, Some(StateEvent::Closed(_))), "{last:?}");
            }
            drop(conn);
            server.await.expect("no panic");
        });
    });
}
