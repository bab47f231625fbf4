//! The backend's own behaviour: types, settings, errors, TLS, poolers, network failures, concurrent writers, and server
//! crashes.

mod errors;
mod evolution;
mod logs;
mod network;
mod newest;
mod notifications;
mod pooler;
mod positions;
mod python;
mod settings;
mod sizes;
mod support;
mod tls;
mod types;
mod values;
mod writers;
