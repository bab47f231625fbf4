//! All promises: one line each, from which both the tests and [`CASES`] are made.

use futures::FutureExt;

use super::*;

#[doc(hidden)]
#[macro_export]
macro_rules! __each_case {
    ($($callback:tt)*) => {
        $($callback)*! {
            tables {
                unwritten_table_is_none "A table that was never written has no schema; that is not an error."
                unwritten_table_cannot_be_scanned "Scanning a table that was never written, or was dropped, gives `FeatureNotFound`."
                opening_creates_no_table "Opening a store writes nothing."
                read_only_opening_creates_nothing "Opening for reading creates nothing: a location that does not exist still does not exist afterwards."
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
                secrets_stay_secret "No password, key or token shows in what a backend says of itself, in its `Debug` or in an error."
                maintenance_changes_no_row "`compact` and `vacuum` change no row, and do nothing if there is no table."
            }
            types {
                boolean "Values come back as they went in, null among them; or the write is refused by the column's name."
                int8 "Values come back as they went in, null among them; or the write is refused by the column's name."
                int16 "Values come back as they went in, null among them; or the write is refused by the column's name."
                int32 "Values come back as they went in, null among them; or the write is refused by the column's name."
                int64 "Values come back as they went in, null among them; or the write is refused by the column's name."
                uint8 "Values come back as they went in, null among them; or the write is refused by the column's name."
                uint16 "Values come back as they went in, null among them; or the write is refused by the column's name."
                uint32 "Values come back as they went in, null among them; or the write is refused by the column's name."
                uint64 "Values come back as they went in, null among them; or the write is refused by the column's name."
                float16 "Values come back as they went in, null among them; or the write is refused by the column's name."
                float32 "Values come back as they went in, null among them; or the write is refused by the column's name."
                float64 "Values come back as they went in, null among them; or the write is refused by the column's name."
                float64_special "Values come back as they went in, null among them; or the write is refused by the column's name."
                float32_special "Values come back as they went in, null among them; or the write is refused by the column's name."
                utf8 "Values come back as they went in, null among them; or the write is refused by the column's name."
                large_utf8 "Values come back as they went in, null among them; or the write is refused by the column's name."
                utf8_view "Values come back as they went in, null among them; or the write is refused by the column's name."
                binary "Values come back as they went in, null among them; or the write is refused by the column's name."
                large_binary "Values come back as they went in, null among them; or the write is refused by the column's name."
                binary_view "Values come back as they went in, null among them; or the write is refused by the column's name."
                fixed_size_binary "Values come back as they went in, null among them; or the write is refused by the column's name."
                date32 "Values come back as they went in, null among them; or the write is refused by the column's name."
                date64 "Values come back as they went in, null among them; or the write is refused by the column's name."
                time32_second "Values come back as they went in, null among them; or the write is refused by the column's name."
                time32_millisecond "Values come back as they went in, null among them; or the write is refused by the column's name."
                time64_microsecond "Values come back as they went in, null among them; or the write is refused by the column's name."
                time64_nanosecond "Values come back as they went in, null among them; or the write is refused by the column's name."
                timestamp_second "Values come back as they went in, null among them; or the write is refused by the column's name."
                timestamp_millisecond "Values come back as they went in, null among them; or the write is refused by the column's name."
                timestamp_microsecond "Values come back as they went in, null among them; or the write is refused by the column's name."
                timestamp_nanosecond "Values come back as they went in, null among them; or the write is refused by the column's name."
                timestamp_second_utc "Values come back as they went in, null among them; or the write is refused by the column's name."
                timestamp_millisecond_utc "Values come back as they went in, null among them; or the write is refused by the column's name."
                timestamp_microsecond_utc "Values come back as they went in, null among them; or the write is refused by the column's name."
                timestamp_nanosecond_utc "Values come back as they went in, null among them; or the write is refused by the column's name."
                timestamp_microsecond_offset "Values come back as they went in, null among them; or the write is refused by the column's name."
                timestamp_microsecond_zone "Values come back as they went in, null among them; or the write is refused by the column's name."
                duration "Values come back as they went in, null among them; or the write is refused by the column's name."
                duration_second "Values come back as they went in, null among them; or the write is refused by the column's name."
                duration_millisecond "Values come back as they went in, null among them; or the write is refused by the column's name."
                duration_nanosecond "Values come back as they went in, null among them; or the write is refused by the column's name."
                interval "Values come back as they went in, null among them; or the write is refused by the column's name."
                interval_year_month "Values come back as they went in, null among them; or the write is refused by the column's name."
                interval_day_time "Values come back as they went in, null among them; or the write is refused by the column's name."
                decimal128 "Values come back as they went in, null among them; or the write is refused by the column's name."
                decimal128_small "Values come back as they went in, null among them; or the write is refused by the column's name."
                decimal32 "Values come back as they went in, null among them; or the write is refused by the column's name."
                decimal64 "Values come back as they went in, null among them; or the write is refused by the column's name."
                decimal256 "Values come back as they went in, null among them; or the write is refused by the column's name."
                list_of_int "Values come back as they went in, null among them; or the write is refused by the column's name."
                list_of_float "Values come back as they went in, null among them; or the write is refused by the column's name."
                list_of_text "Values come back as they went in, null among them; or the write is refused by the column's name."
                list_of_struct "Values come back as they went in, null among them; or the write is refused by the column's name."
                list_of_list "Values come back as they went in, null among them; or the write is refused by the column's name."
                large_list "Values come back as they went in, null among them; or the write is refused by the column's name."
                list_view "Values come back as they went in, null among them; or the write is refused by the column's name."
                large_list_view "Values come back as they went in, null among them; or the write is refused by the column's name."
                fixed_size_list "Values come back as they went in, null among them; or the write is refused by the column's name."
                struct_flat "Values come back as they went in, null among them; or the write is refused by the column's name."
                struct_nested "Values come back as they went in, null among them; or the write is refused by the column's name."
                map "Values come back as they went in, null among them; or the write is refused by the column's name."
                dictionary "Values come back as they went in, null among them; or the write is refused by the column's name."
                dictionary_of_int "Values come back as they went in, null among them; or the write is refused by the column's name."
                run_end_encoded "Values come back as they went in, null among them; or the write is refused by the column's name."
                union "Values come back as they went in, null among them; or the write is refused by the column's name."
                every_type_in_every_other "Columns of generated types come back as they went in, by reads and increments, or are refused before anything is stored."
                types_in_depth "The same for types of two to four levels, at random."
                values_beyond_the_calendar "Times and dates at the ends of their types, most of which no calendar has, come back as they went in or are refused."
                nulls_of_no_type "What has no type yet, a column, list item or member of nulls, is left out of a new table, takes the type that comes later, and is null in a table that has one."
                many_categories "Dictionaries of many writes are read and resolved, however few categories their keys can number."
                structs_in_lists "Members of structs in lists are matched by name, whatever their order; one that is lacking is null, one that is new is added or refused."
                all_null "Values come back as they went in, null among them; or the write is refused by the column's name."
                struct_null_is_null "A null struct stays null; a struct of nulls stays a struct."
                ids_of_many_types "Numbers, dates, booleans and texts, empty ones too, serve as id columns."
                text_with_nul "A text that holds a NUL character comes back whole, or is refused and nothing is written."
                times_at_the_ends_of_their_range "The first and the last time of every type come back whole, or are refused and nothing is written."
                strange_member_names "Any text may name a member of a struct: it comes back whole, or is refused and nothing is written."
            }
            write {
                one_row "A row that is written is read back."
                system_columns_are_complete "Every system column is stored and read back: versions, times, the run's name."
                timestamps_keep_their_microseconds "Times are stored to the microsecond."
                no_columns_of_ones_own "Rows that have nothing but ids and versions can be written."
                empty_batches "Batches without rows write nothing and make no table, alone or among others."
                many_batches_are_one_write "The batches of one call are one write."
                later_write_wins "Of several writes of a sample the last one counts."
                null_overwrites_a_value "A null that is written later hides the earlier value."
                added_columns "A column that the table lacks is added, null in older rows; one that a write lacks is null."
                reordered_columns "Columns are matched by name, never by position."
                wider_type_for_an_old_column "Values of a wider type are stored if they fit; others come back whole or are refused."
                nulls_before_values "A column of which the first batch of a write knows nothing takes the type of a later one."
                incompatible_type_is_refused "A column of another kind than the table's is refused, and nothing is written."
                added_struct_members "A member that a struct column lacks is added, null in older rows."
                case_of_names_is_kept "Column names keep their case, and are found in that case alone."
                names_that_differ_in_case_only "Columns whose names differ in case only are two columns, or are refused."
                strange_names "Any text may name a column: quotes, Unicode, SQL's own words; or it is refused by name."
                bad_input_writes_nothing "A write that is wrong in one batch writes none."
                read_only_store_refuses "A store that is open for reading changes nothing."
                tables_are_not_made_unasked "If `auto_create_tables` is off, a missing table is an error."
                several_features_in_one_call "Several features are written with one time."
                given_data_versions_are_kept "Data versions that the user gives are stored; nulls among them are filled in."
                field_keys_of_several_parts "Fields whose keys have several parts, or dashes, keep their names inside the by-field columns."
                a_sample_twice_in_one_write "Two rows of one sample in one write are refused by the sample's id, or the last one is written, as the store is told."
                ids_that_are_ambiguous "NaN and -0.0, on whose equality storage systems disagree, are refused as ids."
                by_field_columns_that_are_maps "If `enable_map_datatype` is on, new tables have maps as by-field columns; versions and increments are those of structs, and stores without the setting write to them too."
                types_of_great_depth "Types of 32 levels come back whole; deeper ones are refused."
                features_do_not_mix "What happens to one feature leaves the others alone."
            }
            read {
                one_row_for_each_sample "A read gives the newest row of each sample."
                exactly_one_of_equals "Of rows with equal times exactly one comes."
                the_same_one_of_equals "Of 120,000 rows, two of each sample with equal times, the same ones come at every read, and an increment over them settles."
                newest_by_update_not_by_creation "Newest means last written, whatever the row says of its creation."
                filters_see_the_newest_row_only "Filters are asked of the newest row, after older ones are out."
                columns_come_as_asked "A read gives the columns that are asked for, in that order; filters may name others."
                no_columns_at_all "A read of no columns still gives the number of rows."
                empty_answers_have_a_schema "An answer without rows has its columns all the same."
                filters_have_three_values "Filters follow SQL: a row passes only if the filter is true, not if it is null."
                filters_on_every_kind_of_literal "Texts with quotes and Unicode, floats and times compare as they should."
                filters_inside_structs "A filter may name a member of a struct column."
                scans_keep_their_word "A scan has done what it says it has done, and brings the columns that the rest needs."
                several_filters_all_hold "Several filters hold together."
                unknown_filter_column "A filter that names an unknown column, or does not parse, is an error."
                several_id_columns "Samples with several id columns are told apart by all of them."
                many_rows_in_many_writes "Thousands of rows in several writes keep their newest."
            }
            deletes {
                softly_deleted_is_not_read "A softly deleted sample is not read, unless it is asked for; its rows stay."
                soft_delete_keeps_times "A soft delete changes only `metaxy_deleted_at`."
                deleting_everything "Without a filter everything goes, once."
                writing_again_revives "A sample that is written again after a deletion lives again."
                soft_delete_looks_at_the_newest_row "A deletion looks at the newest row, not at older ones."
                soft_delete_of_every_version "A soft delete of the feature history takes samples of other definitions too, whose fields were others."
                hard_delete_removes_rows "A hard delete removes all rows for which the filter is true, and counts them."
                hard_delete_spares_the_unknown "A hard delete leaves rows alone for which the filter is null."
                hard_delete_of_one_version "A hard delete keeps to the current feature version, unless told otherwise."
                hard_delete_of_everything_and_again "A table that has lost all its rows can be written again."
                named_samples_are_deleted "Samples that are named by rows are deleted, softly or for good, whatever the types of their ids."
                deleting_what_is_not_there "Deleting a feature that has no rows is an error; a filter that finds nothing is none."
            }
            history {
                sample_history "Every earlier row of a sample can be read."
                feature_history "Rows of other feature versions are history, and can be read as such."
                fields_of_other_definitions "A read shows the fields of its own definition, even in a table that has seen others."
                clock_that_goes_back "A clock that is set back does not make an older write win."
                clock_that_stands_still "Writes within one microsecond keep their order."
                rows_of_two_clocks "Of rows written under different clocks the one that was written last counts, however far behind its clock was."
                deletions_of_two_clocks "A deletion counts after writes of any clock, and a write after deletions of any; other tables keep their time."
                a_writer_of_a_late_clock "What a buffered writer with a late clock writes counts."
            }
            resolve {
                everything_is_new_at_first "If nothing has been processed, everything is new."
                nothing_changed "If nothing has changed, nothing has to be done."
                changed_added_and_removed "Changed samples are stale, added ones new, removed ones orphaned."
                columns_of_upstream_come_along "An increment brings the columns of its upstream features, nulls as nulls."
                a_deleted_result_is_new_again "A sample whose result was deleted is new again."
                a_new_definition_makes_all_new "Under a new feature version nothing has been processed yet."
                only_what_depends_on_a_change_is_stale "A change of one field makes only those features stale that depend on it."
                samples_of_a_root "The samples that are given for a root are compared with its rows."
                samples_of_another_kind_are_refused "Samples whose ids are of another kind than those in the table are refused; nothing is compared with them."
                filters_of_a_resolve "Filters of a resolve keep to the features that they are meant for."
                staleness_predicates "Rows for which a staleness predicate is true are stale."
                static_filters_and_renames "A dependency's columns are renamed, then filtered, then selected."
                joins_match_the_right_samples "Features with several dependencies join them by id, each side its own columns."
                optional_dependencies "A missing optional dependency keeps the sample, and counts as a change when it comes."
                a_thousand_changes_among_ten_thousand "Increments of thousands of samples are complete."
            }
            lineage {
                groups_of_samples "A group changes when one of its samples does, is added, or goes."
                parts_of_samples "The parts of a sample are compared with it as one."
                the_last_part_of_a_write_counts "Of the parts of a sample that were written together one counts for all, with every engine."
                groups_come_whole "The rows of a group are given together, and portions of an increment divide no group."
                orphans_are_deleted_as_they_come "What an increment calls orphaned is deleted by its rows, softly or for good, whatever the lineage."
                children_are_replaced "Children that are made again with fewer of them leave none of the former ones behind, in one step."
                parents_without_children "A parent that was processed and has no children is new no longer; no reader sees its marker."
                groups_of_nothing "Samples without a group are none of the group 0, and match no result; a result without a group is orphaned."
            }
            fallback {
                chains_of_one_to_four "In a chain of up to four stores the first that has a feature serves all of it."
                chains_in_depth "The same where each store is the fallback of the one before."
                as_primary_of_another_kind "The same with fallbacks of another kind."
                as_fallback_of_another_kind "The same as fallback of another kind of store."
                deleted_rows_do_not_come_back "What is deleted in the primary does not come back from a fallback."
                rows_are_never_mixed "Rows of a primary and its fallback are never mixed."
                an_emptied_feature_is_empty "A feature whose last row is deleted is empty, not absent: no fallback answers instead."
                upstream_from_anywhere_results_from_here "A resolve takes upstream rows from wherever they are, and current rows from its own store alone."
                fallbacks_are_never_written "Nothing that is done to a primary changes its fallback."
                one_hash_algorithm_for_all "A chain of stores that hash differently is refused."
                copying_between_stores "Rows copied from store to store keep all their versions and times."
                copying_again "A copy that is made again sends what has changed since, deletions too, and nothing twice."
            }
            read_only {
                reading_leaves_no_trace "Opening and reading change no file, and leave none behind."
                reading_works_without_write_access "A store opens for reading without write access to its files and their directories."
            }
            concurrency {
                tasks_write_at_once "Many tasks may write through one store at once, and no row is lost."
                tasks_write_different_columns "Writes that add columns at the same time all succeed."
                stores_write_at_once "Two stores may write to one location at once; if there can be one writer only, the second gets an error."
                writes_and_deletes_at_once "Writes and deletions at the same time lose no row and bring none back."
                readers_see_whole_writes "A reader sees all of a write or nothing of it."
                a_stream_shows_one_state "A stream shows one state of its table, whatever happens while it is read."
                many_streams_are_held "A hundred streams that are started and not read on block no other call, and each ends with the state with which it started."
                a_half_read_stream_keeps_its_state "A stream of which a part has been read goes on with the state with which it started, after writes, deletions and compactions."
                an_open_stream_blocks_nothing "Streams that are not read to their end block no write, no other read, and no closing."
                a_table_that_comes_and_goes "While a table is written and dropped over and over, every call finds it whole, finds none, or says that the same call may succeed later."
            }
            processes {
                a_second_process_reads "Another process reads what this one has written."
                many_processes_write "Sixteen processes may write at once, and no row is lost or written twice."
            }
            faults {
                dropped_write_is_whole "A write that is dropped half way is there as a whole, or not at all."
                dropped_delete_is_whole "A deletion that is dropped half way has happened as a whole, or not at all."
                dropped_drop_is_whole "A table whose removal is dropped half way is there as a whole, or not at all."
                dropped_reads_leave_nothing_behind "Reads and resolves that are dropped half way change nothing and hold nothing."
                dropped_open_can_be_tried_again "An opening that is dropped half way can be tried again."
                half_read_stream "A stream may be dropped before its end."
                a_store_that_is_dropped_open "A store may be dropped without being closed."
                failed_changes_are_whole "A write, deletion or removal that fails at any touch of the backend has happened as a whole or not at all, and its caller hears of it."
                failed_reads_are_errors "A read or resolve that fails at any touch of the backend is an error, never a shorter answer."
                slow_calls_show_no_half "However slow the backend is, readers see whole writes, in their order."
                a_killed_process_tears_no_write "What a process has written is there after it was killed; what it was writing is there as a whole, or not at all."
                mixed_processes "Processes that write, delete, compact, read and resolve at once, while some are stopped and killed, lose no write and bring none back."
            }
            oracle {
                random_histories "On random definitions and histories the store answers as the oracle does, after every step."
            }
            limits {
                text_of_ten_megabytes "A text may have ten megabytes."
                long_ids "Ids may have thousands of characters."
                two_hundred_columns "A table may have two hundred columns."
                a_hundred_thousand_rows "A write may have a hundred thousand rows."
                many_tiny_writes "Thousands of writes of one row each are read back whole; fewer, at least 200, if they take long."
                long_lists "A list may have thousands of items."
                fifty_features "A store may hold many features."
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
