//! What PostgreSQL alone has to show: types, settings, errors, TLS, poolers, networks that fail, many
//! writers, a server that dies.

mod errors;
mod evolution;
mod logs;
mod network;
mod newest;
mod pooler;
mod python;
mod settings;
mod sizes;
mod support;
mod tls;
mod types;
mod values;
mod writers;
