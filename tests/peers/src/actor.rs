//! How an actor and whoever measures it take turns: it says `ready` once everything is warm, waits for a line, works, says `done`, and waits
//! for the end of its input, so that its counters can be read at each step.

use std::io::{BufRead, Write, stdin, stdout};
use std::time::Instant;

use crate::Error;

/// Waits until it may begin.
pub fn ready() -> Result<Instant, Error> {
    say("ready")?;
    let mut line = String::new();
    stdin().lock().read_line(&mut line)?;
    Ok(Instant::now())
}

/// Tells how long the work took, and stays until it is let go.
pub fn done(since: Instant) -> Result<(), Error> {
    done_with(since, &[])
}

/// The same, with other figures behind it.
pub fn done_with(since: Instant, figures: &[String]) -> Result<(), Error> {
    let mut line = format!("done {}", since.elapsed().as_nanos());
    for figure in figures {
        line.push(' ');
        line.push_str(figure);
    }
    say(&line)?;
    let mut rest = String::new();
    stdin().lock().read_line(&mut rest)?;
    Ok(())
}

/// One line, at once.
pub fn say(line: &str) -> Result<(), Error> {
    let mut out = stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
