//! Numbers that make a test go on for longer than everyday runs have time for, each set by an environment variable.

/// How many times each test of [`crash`](crate::crash) kills its process.
pub const KILLS: &str = "METAXY_KILLS";
/// How many seconds the case `faults::mixed_processes` stops and kills processes.
pub const MIXED_SECONDS: &str = "METAXY_MIXED_SECONDS";
/// How many writes each of the sixteen processes of the case `concurrency::many_processes_write` makes.
pub const PROCESS_WRITES: &str = "METAXY_PROCESS_WRITES";
/// How many requests to the S3 server meet a fault in Delta's test `s3_faults`.
pub const S3_FAULTS: &str = "METAXY_S3_FAULTS";
/// How many times the case `types::types_in_depth` generates columns.
pub const TYPE_ROUNDS: &str = "METAXY_TYPE_ROUNDS";

/// Returns the number that a variable is set to, or the one of an everyday run.
///
/// # Panics
/// Where it is set to something else than a number.
pub fn number<N: std::str::FromStr>(variable: &str, everyday: N) -> N {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable} is `{text}`, which is no number")),
        Err(_) => everyday,
    }
}
