//! Features of PostgreSQL without a counterpart in the other backends.

pub(crate) mod connect;
pub(crate) mod conninfo;
pub(crate) mod held;
pub(crate) mod liveness;
pub(crate) mod newest;
pub(crate) mod notifications;
pub(crate) mod position;
