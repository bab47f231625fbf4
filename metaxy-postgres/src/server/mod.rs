//! What PostgreSQL alone has.

pub(crate) mod connect;
pub(crate) mod conninfo;
pub(crate) mod held;
pub(crate) mod liveness;
pub(crate) mod newest;
