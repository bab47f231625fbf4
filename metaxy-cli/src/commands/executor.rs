//! `metaxy executor`

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroUsize;
use std::path::PathBuf;

use metaxy_core::parse_bytes;
use metaxy_delta::cluster::{Executor, Place};

use crate::failure::Result;
use crate::output::note;

use super::Answer;

/// Runs an executor of a cluster that computes increments of Delta stores
///
/// It is an executor of Apache Ballista: it joins a scheduler, and reads tables with the credentials in its own
/// environment, such as AWS_ACCESS_KEY_ID. Whoever reaches its ports may use it: keep them inside a trusted network.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  metaxy executor --scheduler 127.0.0.1:50050\n  \
                        metaxy executor --scheduler 127.0.0.1:50050 --port 50061 --tasks 2 --memory 1GB")]
pub struct Args {
    /// The scheduler, by host and port
    #[arg(long, value_name = "HOST:PORT", value_parser = host_and_port)]
    scheduler: (String, u16),
    /// The IP address at which it listens; 0.0.0.0 is every one of this machine
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    bind: IpAddr,
    /// The port from which others read results; by default a free one
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    port: u16,
    /// The port at which it is given tasks; by default a free one
    #[arg(long, value_name = "PORT", default_value_t = 0, hide_default_value = true)]
    task_port: u16,
    /// The host by which the others reach it, if that is not the address at which it listens
    #[arg(long, value_name = "HOST")]
    advertise: Option<String>,
    /// The number of tasks that run at a time; by default that of the processors
    #[arg(long, value_name = "NUMBER")]
    tasks: Option<NonZeroUsize>,
    /// The memory of all tasks together, such as 4GB; by default most of what there is
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    memory: Option<usize>,
    /// The directory for results and for what does not fit into memory; by default a temporary one
    #[arg(long, value_name = "DIRECTORY")]
    work_dir: Option<PathBuf>,
}

fn host_and_port(text: &str) -> Result<(String, u16), String> {
    let text = text.strip_prefix("df://").unwrap_or(text);
    let parts = text.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    let parts = parts.filter(|(host, _)| !host.is_empty()).map(|(host, port)| (host.to_owned(), port));
    parts.ok_or_else(|| "write a host and a port, such as 127.0.0.1:50050".to_owned())
}

/// Runs the command until it is interrupted.
pub async fn run(args: Args) -> Result<Answer> {
    let place = Place { bind: args.bind, port: args.port, advertise: args.advertise };
    let mut executor = Executor::new(&place, args.task_port, args.scheduler).await?;
    if let Some(tasks) = args.tasks {
        executor = executor.tasks(tasks.get());
    }
    if let Some(bytes) = args.memory {
        executor = executor.memory(bytes as u64);
    }
    if let Some(directory) = args.work_dir {
        executor = executor.work_directory(directory);
    }
    note(format!("executor at {}:{} (Ctrl-C stops it when its tasks are done)", place.bind, executor.port()));
    executor.run().await?;
    Ok(Answer::Yes)
}
