//! What PostgreSQL alone has to show: types, settings, errors, TLS, many writers, a server that dies.

mod errors;
mod evolution;
mod settings;
mod support;
mod tls;
mod types;
mod writers;
