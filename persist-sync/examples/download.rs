//! Downloads into a file, over as many connections as it takes: `cargo run -p persist-sync --example download -- http://127.0.0.1:8080/large FILE`.

use std::error::Error;
use std::fs::File;
use std::io;
use std::path::Path;

use persist_sync::{Client, Request};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [url, file] = &args[..] else { return Err("usage: download URL FILE".into()) };
    println!("{}", download(url, Path::new(file))?);
    Ok(())
}

/// Says how it went. If this fails, what the file holds is a true beginning.
pub fn download(url: &str, file: &Path) -> Result<String, Box<dyn Error>> {
    let mut body = Client::new().download(Request::get(url))?;
    if !body.head().status().is_success() {
        return Err(format!("the server says {}", body.head().status().as_u16()).into());
    }
    if let Some(why) = body.not_resumable() {
        eprintln!("if it breaks off, that is the end: {why}");
    }
    io::copy(&mut body, &mut File::create(file)?)?;
    Ok(format!("{} bytes, {} resumptions", body.received(), body.resumptions()))
}
