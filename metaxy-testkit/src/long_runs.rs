//! The numbers of rounds of tests that can run longer than by default, each set by an environment variable.

/// The number of times that each test of [`crash`](crate::crash) kills its process.
pub const KILLS: &str = "METAXY_KILLS";
/// The number of seconds in which the case `faults::mixed_processes` stops and kills processes.
pub const MIXED_SECONDS: &str = "METAXY_MIXED_SECONDS";
/// The number of writes of each of the sixteen processes of the case `concurrency::many_processes_write`.
pub const PROCESS_WRITES: &str = "METAXY_PROCESS_WRITES";
/// The number of requests to the S3 server with a fault in Delta's test `s3_faults`.
pub const S3_FAULTS: &str = "METAXY_S3_FAULTS";
/// The number of times that the case `types::types_in_depth` generates columns.
pub const TYPE_ROUNDS: &str = "METAXY_TYPE_ROUNDS";

/// Returns the number in a variable, or the default.
///
/// # Panics
/// If the variable is not a number.
pub fn number<N: std::str::FromStr>(variable: &str, everyday: N) -> N {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable} is `{text}`, which is not a number")),
        Err(_) => everyday,
    }
}
