//! Increments on a cluster.
