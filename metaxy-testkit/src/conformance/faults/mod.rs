//! Faults: whatever goes wrong in the middle of a call leaves the store as if the call had not been made, or as if it
//! had succeeded, and no failure is read as an answer.

mod dropped;
mod injected;
mod killed;
mod mixed;

pub(super) use dropped::{
    a_store_that_is_dropped_open, dropped_delete_is_whole, dropped_drop_is_whole, dropped_open_can_be_tried_again,
    dropped_reads_leave_nothing_behind, dropped_write_is_whole, half_read_stream,
};
pub(super) use injected::{failed_changes_are_whole, failed_reads_are_errors, slow_calls_show_no_half};
pub(super) use killed::a_killed_process_tears_no_write;
pub(super) use mixed::mixed_processes;
