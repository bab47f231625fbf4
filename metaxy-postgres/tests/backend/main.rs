//! What PostgreSQL alone has to show: types, errors, many writers, a server that dies.

mod errors;
mod evolution;
mod support;
mod types;
mod writers;
