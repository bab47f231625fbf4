//! `metaxy mcp`

mod read;
mod server;

use rmcp::ServiceExt;
use rmcp::transport::stdio;

use crate::context::Context;
use crate::failure::{Failure, Result};

use super::Answer;

/// Serves features and rows to AI assistants by the Model Context Protocol, over stdin and stdout
///
/// It has the tools of the Python package: get_config, list_features, get_feature, list_stores, get_store and
/// get_metadata. Nothing is written. Configuration and feature files are read at every call, so that changes are seen.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  metaxy mcp < /dev/null\n\nAn assistant starts it itself: configure the command `metaxy` \
                        with the argument `mcp`."
)]
pub struct Args {}

/// Runs the command until its input ends.
pub async fn run(context: &Context) -> Result<Answer> {
    let failure = |error: String| Failure::io("serve the Model Context Protocol", std::io::Error::other(error));
    let server = server::Server::new(context.clone());
    match server.serve(stdio()).await {
        Ok(running) => drop(running.waiting().await.map_err(|error| failure(error.to_string()))?),
        // The input has ended before a client introduced itself.
        Err(rmcp::service::ServerInitializeError::ConnectionClosed(_)) => {}
        Err(error) => return Err(failure(error.to_string())),
    }
    Ok(Answer::Yes)
}
