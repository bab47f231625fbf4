//! The scenarios of this crate, as the build script has found them.

include!(concat!(env!("OUT_DIR"), "/scenarios.rs"));
