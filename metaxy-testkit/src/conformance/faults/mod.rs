//! Faults: a failure during a call leaves the store as if the call had not been made, or as if it had succeeded, and no
//! failure is returned as a result.

mod dropped;
mod injected;
mod killed;
mod mixed;

pub(super) use dropped::{
    a_dropped_delete_is_atomic, a_dropped_open_can_be_repeated, a_dropped_table_removal_is_atomic,
    a_dropped_write_is_atomic, a_store_dropped_without_closing, a_stream_dropped_before_its_end,
    dropped_reads_hold_nothing,
};
pub(super) use injected::{failed_changes_are_atomic, failed_reads_are_errors, slow_calls_are_atomic};
pub(super) use killed::writes_of_a_killed_process_are_atomic;
pub(super) use mixed::mixed_processes;
