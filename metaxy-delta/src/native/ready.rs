//! Whether a cluster can take a query: a scheduler answers, and has executors.

use std::time::Duration;

use metaxy_core::{Error, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::scheduler::SchedulerAddress;

/// The time for a connection and an answer.
const ANSWER: Duration = Duration::from_secs(5);
/// The time for executors to join.
const JOIN: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_millis(250);
/// The bytes in which the status of an answer is looked for.
const STATUS: usize = 64;

/// Waits until a cluster can take a query.
///
/// # Errors
/// [`Error::Unreachable`] if no scheduler answers in seconds, or if it has no executor.
pub(super) async fn wait(address: &SchedulerAddress) -> Result<()> {
    let unreachable = |reason: String| Error::unreachable(format!("the scheduler {address}"), reason);
    let start = Instant::now();
    loop {
        let asked = timeout(ANSWER, status(address)).await.map_err(|_| {
            let hint = "check `scheduler`, and whether `metaxy scheduler` runs there";
            unreachable(format!("no answer within {} seconds; {hint}", ANSWER.as_secs()))
        })?;
        match asked.map_err(|error| {
            unreachable(format!("{error}; check `scheduler`, and start a scheduler there with `metaxy scheduler`"))
        })? {
            Some(200) => return Ok(()),
            Some(503) if start.elapsed() < JOIN => sleep(PAUSE).await,
            Some(503) => {
                let hint = "start one with `metaxy executor --scheduler HOST:PORT`";
                return Err(unreachable(format!("no executor has joined it; {hint}")));
            }
            _ => {
                return Err(unreachable("what answers there is no scheduler of Ballista 55; check `scheduler`".into()));
            }
        }
    }
}

/// Returns the status of a scheduler; `None` if the answer is not one of HTTP.
async fn status(address: &SchedulerAddress) -> std::io::Result<Option<u16>> {
    let socket = address.socket();
    let mut stream = TcpStream::connect(&socket).await?;
    let request = format!("GET /readyz HTTP/1.1\r\nHost: {socket}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    while answer.len() < STATUS && stream.read_buf(&mut answer).await? > 0 {}
    let line = String::from_utf8_lossy(&answer);
    let status = line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.split_whitespace().next());
    Ok(status.and_then(|status| status.parse().ok()))
}
