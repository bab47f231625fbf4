//! `metaxy scheduler`

use std::net::{IpAddr, Ipv4Addr};

use metaxy_delta::cluster::{Place, Scheduler};

use crate::failure::{Failure, Result};
use crate::output::note;

use super::Answer;

/// Runs the scheduler of a cluster that computes increments of Delta stores
///
/// It is a scheduler of Apache Ballista. Stores use it by the setting `scheduler`, and executors join it with `metaxy
/// executor`. Whoever reaches its port may use it: keep it inside a trusted network.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  metaxy scheduler\n  metaxy scheduler --bind 0.0.0.0 --advertise 127.0.0.1 --port 50060"
)]
pub struct Args {
    /// The IP address at which it listens; 0.0.0.0 is every one of this machine
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    bind: IpAddr,
    /// The port; 0 takes a free one
    #[arg(long, default_value_t = 50050)]
    port: u16,
    /// The host by which the others reach it, if that is not the address at which it listens
    #[arg(long, value_name = "HOST")]
    advertise: Option<String>,
}

/// Runs the command until it is interrupted.
pub async fn run(args: Args) -> Result<Answer> {
    let Args { bind, port, advertise } = args;
    let scheduler = Scheduler::bind(&Place { bind, port, advertise }).await?;
    note(format!("scheduler = \"{}\" (Ctrl-C stops it)", scheduler.url()));
    tokio::select! {
        ended = scheduler.run() => ended?,
        asked = interrupted() => asked?,
    }
    Ok(Answer::Yes)
}

/// Waits until the process is interrupted or told to end.
async fn interrupted() -> Result<()> {
    let failed = |error| Failure::io("wait for signals", error);
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut end = signal(SignalKind::terminate()).map_err(failed)?;
        tokio::select! {
            interrupted = tokio::signal::ctrl_c() => interrupted.map_err(failed),
            _ = end.recv() => Ok(()),
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await.map_err(failed)
}
