//! All promises: one line each, from which both the tests and [`CASES`] are made.

use futures::FutureExt;

use super::*;

#[doc(hidden)]
#[macro_export]
macro_rules! __each_case {
    ($($callback:tt)*) => {
        $($callback)*! {
            tables {
                unwritten_table_is_none "A table that was never written has no schema; that is no error."
                opening_creates_no_table "Opening a store writes nothing."
                closed_backend_refuses "Before `open` and after `close` every call gives `Closed`."
                closing_twice_is_fine "Closing twice is fine, and a closed backend can be opened again."
                schema_shows_what_was_written "`schema` gives every column, with the types in which `scan` returns them."
                tables_are_listed "`tables` names every table, as keys spell table names."
                dropped_table_is_gone "A dropped table has no schema and no rows; dropping it again is fine; others stay."
                table_can_change_after_drop "After a drop the table can be written with other columns and types."
                similar_keys_stay_apart "Features whose keys look alike when flattened never share rows: they get tables of their own, or the store refuses to open."
                long_keys_stay_apart "Keys of great length that differ only at their end have tables of their own, or are refused."
                location_is_shared "Several backends on one location see the same tables."
                rows_survive_reopening "What was written is there after the store is closed and opened again."
                type_string_is_registered "The backend is found in the registry by its type string, and is made from its settings."
                info_holds_still "A backend says the same of itself, open or not."
            }
        }
    };
}

macro_rules! cases {
    ($($group:ident { $($case:ident $promise:literal)* })*) => {
        /// All cases, by group.
        pub static CASES: &[Case] = &[
            $($(Case {
                group: stringify!($group),
                name: stringify!($case),
                promise: $promise,
                run: |bench| $group::$case(bench).boxed(),
            },)*)*
        ];
    };
}

__each_case!(cases);
