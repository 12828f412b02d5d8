//! A session with a Redis server that survives its connections: `cargo run --example redis -- 127.0.0.1:6379`.

use std::error::Error;
use std::io::{BufRead, BufReader, Write};

use persist_sync::{Greeting, PersistentStream};

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:6379".into());
    for answer in talk(&address)? {
        println!("{answer}");
    }
    Ok(())
}

/// Stores a value, has the server end the connection, and goes on as if nothing had happened. Gives the server's answers.
pub fn talk(address: &str) -> Result<Vec<String>, Box<dyn Error + Send + Sync>> {
    let redis = PersistentStream::new(format!("http://{address}").parse()?).on_connect(greet);
    let mut answers = vec![
        ask(&redis, "SET greeting hello")?,
        ask(&redis, "CLIENT GETNAME")?,
        ask(&redis, "QUIT")?, // the server says OK, and closes
    ];
    // The end is told once: whoever waited for an answer would have to decide whether to ask again. Nobody did.
    let end = BufReader::new(&redis).read_line(&mut String::new())?;
    assert_eq!(end, 0);
    answers.push(ask(&redis, "GET greeting")?); // dials, and greets
    answers.push(ask(&redis, "CLIENT GETNAME")?);
    answers.push(format!("{} connections to {redis}", redis.connections()));
    Ok(answers)
}

/// What makes a connection a session: here its name, elsewhere a password or subscriptions.
fn greet(greeting: &mut Greeting<'_>) -> Result<(), Box<dyn Error + Send + Sync>> {
    greeting.write_all(b"CLIENT SETNAME example\r\n")?;
    let mut answer = String::new();
    BufReader::new(greeting).read_line(&mut answer)?;
    if answer == "+OK\r\n" { Ok(()) } else { Err(format!("redis answered {answer:?}").into()) }
}

/// One command, one answer; nothing is sent ahead, so the reader never holds bytes of another answer.
fn ask(mut redis: &PersistentStream, command: &str) -> std::io::Result<String> {
    redis.write_all(format!("{command}\r\n").as_bytes())?;
    let mut reader = BufReader::new(redis);
    let mut answer = String::new();
    reader.read_line(&mut answer)?;
    if answer.starts_with('$') {
        answer.clear();
        reader.read_line(&mut answer)?;
    }
    Ok(answer.trim_end().to_owned())
}
