//! All promises, one line each, from which the tests and [`CASES`] are generated.

use futures::FutureExt;

use super::*;

#[doc(hidden)]
#[macro_export]
macro_rules! __each_case {
    ($($callback:tt)*) => {
        $($callback)*! {
            tables {
                unwritten_table_is_none "A table that was never written has no schema; that is not an error."
                unwritten_table_cannot_be_scanned "A scan of a table that was never written, or was dropped, returns `FeatureNotFound`."
                opening_creates_no_table "Opening a store writes nothing."
                read_only_opening_creates_nothing "Opening for reading creates nothing: a missing location is still missing afterwards."
                closed_backend_refuses "Before `open` and after `close` every call returns `Closed`."
                closing_twice "A second close does nothing, and a closed backend can be opened again."
                schema_shows_what_was_written "`schema` has every column, with the types of `scan`."
                tables_are_listed "`tables` returns the name of every table, as its key spells it."
                dropped_table_is_gone "A dropped table has no schema and no rows; a second drop does nothing; other tables are not affected."
                table_can_change_after_drop "After a drop the table can be written with other columns and types."
                similar_keys_have_separate_tables "Features whose keys look the same when flattened have separate tables, or the store refuses to open."
                long_keys_have_separate_tables "Very long keys that differ only at their end have separate tables, or are refused."
                location_is_shared "Several backends on one location read the same tables."
                rows_survive_reopening "Rows are still stored after the store is closed and opened again."
                type_string_is_registered "The registry finds the backend by its type string, and creates it from its settings."
                info_does_not_change "The information of a backend is the same before and after it is opened."
                secrets_are_masked "No password, key or token is shown in the information of a backend, its `Debug` form or an error."
                maintenance_changes_no_row "`compact` and `vacuum` change no row, and do nothing if there is no table."
            }
            positions {
                every_change_moves_the_position "A position after a write, a delete or a new table is none that was returned before, unless the backend cannot tell."
                changes_of_others_move_the_position "So do the changes of other stores on the same location."
                features_that_were_up_to_date "An increment that was empty is computed again after a change of any table, by whichever store."
            }
            since {
                every_change "An increment since a checkpoint is the increment from all rows, after every kind of change."
                other_stores_and_maintenance "So it is after other stores have written, compacted and vacuumed, and after the store was opened again."
                samples_that_change_their_group "A sample that changes its group changes both groups."
                appended_rows "What was appended after a position includes every row that was, unless the backend cannot tell."
                other_options "An increment with other options has nothing to do with those before."
                remembered_by_the_store "An open store remembers the checkpoints of its increments, by their options."
                a_directory_of_checkpoints "So does a directory, of which damaged files are ignored."
                random_histories "Random histories give the same increments since every earlier state as from all rows."
            }
            watching {
                an_increment_for_each_change "A watched feature gives an increment at the start and after each change, by whichever store."
            }
            types {
                boolean "Values, including nulls, are read back unchanged, or the write is refused with the name of the column."
                int8 "Values, including nulls, are read back unchanged, or the write is refused with the name of the column."
                int16 "Values, including nulls, are read back unchanged, or the write is refused with the name of the column."
                int32 "Values, including nulls, are read back unchanged, or the write is refused with the name of the column."
                int64 "Values, including nulls, are read back unchanged, or the write is refused with the name of the column."
                uint8 "Values, including nulls, are read back unchanged, or the write is refused with the name of the column."
                uint16 "Values, including nulls, are read back unchanged, or the write is refused with the name of the column."
                uint32 "Values, including nulls, are read back unchanged, or the write is refused with the name of the column."
                uint64 "Values, including nulls, are read back unchanged, or the write is refused with the name of the column."
                float16 "Values, including nulls, are read back unchanged, or the write is refused with the name of the column."
                float32 "Values, including nulls, are read back unchanged, or the write is refused with the name of the column."
                float64 "Values, including nulls, are read back unchanged, or the write is refused with the name of the column."
                float64_special "Values, including nulls, are read back unchanged, or the write is refused with the name of the column."
                float32_special "Values, including nulls, are read back unchanged, or the write is refused with the name of the column."
                utf8 "Values, including nulls, are read back unchanged, or the write is refused with the name of the column."
                large_utf8 "Values, including nulls, are read back unchanged, or the write is refused with the name of the column."
                utf8_view "Values, including nulls, are read back unchanged, or the write is refused with the name of the column."
                binary "Values, including nulls, are read back unchanged, or the write is refused with the name of the column."
                large_binary "Values, including nulls, are read back unchanged, or the write is refused with the name of the column."
                binary_view "Values, including nulls, are read back unchanged, or the write is refused with the name of the column."
                fixed_size_binary "Values, including nulls, are read back unchanged, or the write is refused with the name of the column."
                date32 "Values, including nulls, are read back unchanged, or the write is refused with the name of the column."
                date64 "Values, including nulls, are read back unchanged, or the write is refused with the name of the column."
                time32_second "Values, including nulls, are read back unchanged, or the write is refused with the name of the column."
                time32_millisecond "Values, including nulls, are read back unchanged, or the write is refused with the name of the column."
                time64_microsecond "Values, including nulls, are read back unchanged, or the write is refused with the name of the column."
                time64_nanosecond "Values, including nulls, are read back unchanged, or the write is refused with the name of the column."
                timestamp_second "Values, including nulls, are read back unchanged, or the write is refused with the name of the column."
                timestamp_millisecond "Values, including nulls, are read back unchanged, or the write is refused with the name of the column."
                timestamp_microsecond "Values, including nulls, are read back unchanged, or the write is refused with the name of the column."
                timestamp_nanosecond "Values, including nulls, are read back unchanged, or the write is refused with the name of the column."
                timestamp_second_utc "Values, including nulls, are read back unchanged, or the write is refused with the name of the column."
                timestamp_millisecond_utc "Values, including nulls, are read back unchanged, or the write is refused with the name of the column."
                timestamp_microsecond_utc "Values, including nulls, are read back unchanged, or the write is refused with the name of the column."
                timestamp_nanosecond_utc "Values, including nulls, are read back unchanged, or the write is refused with the name of the column."
                timestamp_microsecond_offset "Values, including nulls, are read back unchanged, or the write is refused with the name of the column."
                timestamp_microsecond_zone "Values, including nulls, are read back unchanged, or the write is refused with the name of the column."
                duration "Values, including nulls, are read back unchanged, or the write is refused with the name of the column."
                duration_second "Values, including nulls, are read back unchanged, or the write is refused with the name of the column."
                duration_millisecond "Values, including nulls, are read back unchanged, or the write is refused with the name of the column."
                duration_nanosecond "Values, including nulls, are read back unchanged, or the write is refused with the name of the column."
                interval "Values, including nulls, are read back unchanged, or the write is refused with the name of the column."
                interval_year_month "Values, including nulls, are read back unchanged, or the write is refused with the name of the column."
                interval_day_time "Values, including nulls, are read back unchanged, or the write is refused with the name of the column."
                decimal128 "Values, including nulls, are read back unchanged, or the write is refused with the name of the column."
                decimal128_small "Values, including nulls, are read back unchanged, or the write is refused with the name of the column."
                decimal32 "Values, including nulls, are read back unchanged, or the write is refused with the name of the column."
                decimal64 "Values, including nulls, are read back unchanged, or the write is refused with the name of the column."
                decimal256 "Values, including nulls, are read back unchanged, or the write is refused with the name of the column."
                list_of_int "Values, including nulls, are read back unchanged, or the write is refused with the name of the column."
                list_of_float "Values, including nulls, are read back unchanged, or the write is refused with the name of the column."
                list_of_text "Values, including nulls, are read back unchanged, or the write is refused with the name of the column."
                list_of_struct "Values, including nulls, are read back unchanged, or the write is refused with the name of the column."
                list_of_list "Values, including nulls, are read back unchanged, or the write is refused with the name of the column."
                large_list "Values, including nulls, are read back unchanged, or the write is refused with the name of the column."
                list_view "Values, including nulls, are read back unchanged, or the write is refused with the name of the column."
                large_list_view "Values, including nulls, are read back unchanged, or the write is refused with the name of the column."
                fixed_size_list "Values, including nulls, are read back unchanged, or the write is refused with the name of the column."
                struct_flat "Values, including nulls, are read back unchanged, or the write is refused with the name of the column."
                struct_nested "Values, including nulls, are read back unchanged, or the write is refused with the name of the column."
                map "Values, including nulls, are read back unchanged, or the write is refused with the name of the column."
                dictionary "Values, including nulls, are read back unchanged, or the write is refused with the name of the column."
                dictionary_of_int "Values, including nulls, are read back unchanged, or the write is refused with the name of the column."
                run_end_encoded "Values, including nulls, are read back unchanged, or the write is refused with the name of the column."
                union "Values, including nulls, are read back unchanged, or the write is refused with the name of the column."
                every_type_in_every_other "Columns of generated types are read back unchanged, by reads and increments, or are refused before anything is stored."
                types_in_depth "The same for random types of two to four levels."
                values_beyond_the_calendar "Times and dates at the ends of their types, most of which are in no calendar, are read back unchanged or refused."
                columns_without_a_type "A column, list item or member with only nulls has no type yet: it is left out of a new table, takes the type of later values, and is null in a table that has it."
                many_categories "Dictionaries of many writes are read and resolved, however few categories their keys can number."
                structs_in_lists "Members of structs in lists are matched by name, in any order; a missing one is null, a new one is added or refused."
                all_null "Values, including nulls, are read back unchanged, or the write is refused with the name of the column."
                struct_null_is_null "A null struct stays null; a struct of nulls stays a struct."
                ids_of_many_types "Numbers, dates, booleans and texts, including empty ones, can be id columns."
                text_with_nul "A text with a NUL character is read back unchanged, or is refused and nothing is written."
                times_at_the_ends_of_their_range "The first and the last time of every type are read back unchanged, or are refused and nothing is written."
                strange_member_names "Any text can be the name of a struct member: it is read back unchanged, or is refused and nothing is written."
            }
            write {
                one_row "A written row is read back."
                system_columns_are_complete "Every system column is stored and read back: versions, times, the name of the run."
                timestamps_keep_their_microseconds "Times are stored with microseconds."
                rows_without_user_columns "Rows with only ids and versions can be written."
                empty_batches "Batches without rows write nothing and create no table, alone or among others."
                many_batches_are_one_write "The batches of one call are one write."
                later_write_wins "Of several writes of a sample the last one counts."
                null_overwrites_a_value "A later null replaces an earlier value."
                added_columns "A column that the table lacks is added, null in older rows; one that a write lacks is null."
                reordered_columns "Columns are matched by name, never by position."
                wider_type_for_an_old_column "Values of a wider type are stored if they fit; others are read back unchanged or refused."
                nulls_before_values "A column with only nulls in the first batch of a write takes the type of a later batch."
                incompatible_type_is_refused "A column of another kind than the table's is refused, and nothing is written."
                added_struct_members "A member that a struct column lacks is added, null in older rows."
                case_of_names_is_kept "Column names keep their case, and are found only in that case."
                names_that_differ_in_case_only "Columns whose names differ only in case are two columns, or are refused."
                strange_names "Any text can be the name of a column: quotes, Unicode, SQL keywords; or it is refused by name."
                bad_input_writes_nothing "A write with an invalid batch writes no batch."
                read_only_store_refuses "A store that is open for reading changes nothing."
                tables_are_not_created_if_forbidden "If `auto_create_tables` is off, a missing table is an error."
                several_features_in_one_call "Several features are written with one time."
                given_data_versions_are_kept "Data versions that the user gives are stored; nulls among them are computed."
                field_keys_of_several_parts "Fields whose keys have several parts, or dashes, keep their names in the by-field columns."
                a_sample_twice_in_one_write "Two rows of one sample in one write are refused with the sample's id, or the last one is written, depending on the store's setting."
                ids_that_are_ambiguous "NaN and -0.0, on whose equality storage systems disagree, are refused as ids."
                by_field_columns_that_are_maps "If `enable_map_datatype` is on, new tables have maps as by-field columns; versions and increments are those of structs, and stores without the setting can write to them too."
                types_of_great_depth "Types of 32 levels are read back unchanged; deeper ones are refused."
                streams_beyond_memory "A stream that exceeds the memory limit is written as a whole, or not at all."
                streams_of_several_schemas "The batches of a stream may have different columns."
                streams_from_the_same_store "A stream may read from the store to which it is written."
                features_are_independent "A change of one feature does not affect other features."
            }
            read {
                one_row_for_each_sample "A read returns the newest row of each sample."
                one_of_several_rows_with_equal_times "Of rows with equal times exactly one is returned."
                the_same_one_of_rows_with_equal_times "Of 120,000 rows, two of each sample with equal times, every read returns the same ones, and an increment over them becomes empty."
                newest_by_update_not_by_creation "The newest row is the one written last, whatever its time of creation."
                filters_see_the_newest_row_only "Filters apply to the newest row, after older ones are removed."
                requested_columns_in_order "A read returns the requested columns in the requested order; filters may use others."
                no_columns_at_all "A read of no columns still returns the number of rows."
                empty_results_have_a_schema "A result without rows has all columns."
                filters_have_three_values "Filters follow SQL: a row passes only if the filter is true, not if it is null."
                filters_on_every_kind_of_literal "Texts with quotes and Unicode, floats and times are compared correctly."
                filters_inside_structs "A filter can use a member of a struct column."
                scans_apply_what_they_report "A scan has applied the steps that it reports, and has the columns for the remaining ones."
                scans_by_keys "A scan by keys returns every row that has one of them."
                several_filters_are_combined "Several filters are combined by AND."
                unknown_filter_column "A filter with an unknown column, or one that does not parse, is an error."
                several_id_columns "Samples with several id columns are distinguished by all of them."
                many_rows_in_many_writes "The newest of thousands of rows in several writes are read."
            }
            deletes {
                softly_deleted_is_not_read "A softly deleted sample is not read, unless deleted samples are requested; its rows are kept."
                soft_delete_keeps_times "A soft delete changes only `metaxy_deleted_at`."
                deleting_everything "A delete without a filter deletes all samples, once."
                a_deleted_sample_is_written_again "A sample that is written again after a deletion is read again."
                soft_delete_filters_the_newest_row "The filter of a delete applies to the newest row, not to older ones."
                soft_delete_of_every_version "A soft delete of the feature history deletes samples of other definitions too, even with other fields."
                hard_delete_removes_rows "A hard delete removes all rows for which the filter is true, and returns their number."
                hard_delete_keeps_unknown_rows "A hard delete keeps rows for which the filter is null."
                hard_delete_of_one_version "By default, a hard delete is limited to the current feature version."
                a_table_without_rows_is_written_again "A table without rows can be written again."
                named_samples_are_deleted "Samples that are named by rows are deleted, softly or permanently, with ids of any type."
                deleting_from_no_table "A backend deletes nothing from a table that does not exist, and does not create it."
                filters_that_no_database_has "A filter that the storage system cannot express is evaluated, by reads and deletes."
                deleting_nothing "A delete from a feature without rows is an error; a filter that matches nothing is not."
            }
            downstream {
                a_delete_cascades "A delete with everything downstream deletes what nothing upstream expects any more; a dry run tells what it would be."
                a_hard_delete_cascades "The same permanently; what was orphaned before stays."
                deletes_are_counted "The samples of a delete are counted without deleting them."
                results_of_kept_samples "Results get the versions of samples that were kept as rows."
                samples_are_explained "The state of a sample is explained by its fields and by the upstream rows that it is made from."
                groups_and_children_are_explained "The same for groups (N:1) and parents (1:N)."
                impact_of_definitions "The impact of other definitions is told before they are deployed."
            }
            history {
                sample_history "Every earlier row of a sample can be read."
                feature_history "Rows of other feature versions are history, and can be read as such."
                a_given_feature_version "The rows of one given feature version can be read."
                fields_of_other_definitions "A read returns the fields of its own definition, even from a table of several definitions."
                a_clock_that_is_set_back "If a clock is set back, the later write still counts."
                a_clock_that_stands_still "Writes within one microsecond keep their order."
                rows_of_two_clocks "Of rows written under different clocks the one that was written last counts, however far behind its clock was."
                deletions_of_two_clocks "A deletion counts after writes of any clock, and a write after deletions of any clock; other tables keep their time."
                a_writer_of_a_late_clock "Rows of a buffered writer whose clock is behind count."
            }
            definitions {
                definitions_are_read_back "Pushed definitions are read back unchanged, newest first, also after the store is opened again."
                the_table_is_that_of_the_python_package "Definitions are in the table `metaxy_system__feature_versions`, in texts and times without a zone."
                only_changes_are_pushed "A version that was pushed last is not pushed again; any other is pushed with the whole project."
                the_graph_of_a_store "A store that is opened without definitions reads its features with the graph that was pushed."
                projects_are_kept_apart "Each project has its own versions, and its features depend on those of others."
                concurrent_pushes "Concurrent pushes leave the definitions whole."
                a_clock_that_is_set_back_pushes "The later push counts, even if the clock was set back."
                a_large_project "Hundreds of features, and definitions of a hundred kilobytes, are pushed and loaded."
                a_push_is_not_a_feature "No other call changes pushed definitions, and a push changes no feature."
                a_store_that_is_open_for_reading "A store that is open for reading loads definitions and pushes none."
                rebases_to_a_pushed_version "Rows of the named samples, or all, are carried over to any version that was pushed; they can be counted first."
                a_rebase_is_counted_in_a_store_for_reading "A rebase is counted, and not done, in a store that is open for reading."
            }
            resolve {
                everything_is_new_at_first "If nothing has been processed, every sample is new."
                nothing_changed "If nothing has changed, the increment is empty."
                changed_added_and_removed "Changed samples are stale, added ones new, removed ones orphaned."
                upstream_columns_are_included "An increment has the columns of its upstream features, nulls as nulls."
                a_deleted_result_is_new_again "A sample whose result was deleted is new again."
                a_new_definition_makes_every_sample_new "Under a new feature version every sample is new."
                only_what_depends_on_a_change_is_stale "A change of one field makes only the features stale that depend on it."
                samples_of_a_root "The given samples of a root are compared with its rows."
                samples_of_another_kind_are_refused "Samples whose ids are of another kind than those in the table are refused, and not compared."
                filters_of_a_resolve "Each filter of a resolve applies only to its feature."
                staleness_predicates "Rows for which a staleness predicate is true are stale."
                static_filters_and_renames "A dependency's columns are renamed, then filtered, then selected."
                joins_match_the_right_samples "Features with several dependencies join them by id, each with its own columns."
                optional_dependencies "A missing optional dependency keeps the sample, and makes it stale when it is written."
                a_thousand_changes_among_ten_thousand "Increments of thousands of samples are complete."
            }
            changed_fields {
                one_to_one "The changed fields of a sample are those whose provenance is not that of its row; a write leaves them out."
                forced "All fields are listed of a row that a staleness predicate makes stale."
                groups "All rows of a group list the changed fields of the group."
                parents "A parent lists the changed fields of its children."
            }
            lineage {
                groups_of_samples "A group changes when one of its samples changes, is added, or is removed."
                parts_of_samples "The parts of a sample are compared together."
                the_last_part_of_a_write_counts "Of the parts of a sample that were written together one counts for all, with every engine."
                results_meet_again "Results that carry no column of upstream along can meet again in a feature that depends on two of them."
                groups_are_not_divided "The rows of a group are returned together, and portions of an increment divide no group."
                orphaned_rows_are_deleted "The orphaned rows of an increment can be deleted by passing them, softly or permanently, with any lineage."
                children_are_replaced "Replacing children by fewer ones deletes the former ones, in one step."
                parents_without_children "A parent that was processed and has no children is no longer new; no reader sees its marker."
                samples_without_a_group "Samples without a group do not belong to the group 0, and match no result; a result without a group is orphaned."
            }
            fallback {
                reads_of_the_own_store "A read can be limited to the store itself."
                chains_of_one_to_four "In a chain of up to four stores the first that has a feature serves all of it."
                chains_in_depth "The same if each store is the fallback of the one before."
                as_primary_of_another_kind "The same with fallbacks of another kind."
                as_fallback_of_another_kind "The same as fallback of another kind of store."
                deleted_rows_stay_deleted "Rows deleted in the primary are not read from a fallback."
                rows_are_never_mixed "Rows of a primary and its fallback are never mixed."
                an_emptied_feature_is_empty "A feature whose last row is deleted is empty, not absent: no fallback serves it instead."
                upstream_rows_from_any_store "A resolve reads upstream rows from any store of the chain, and current rows only from its own store."
                changes_in_a_fallback_are_seen "An increment that was empty is computed again after a change of an upstream table in a fallback, and after another store serves that table."
                fallbacks_are_never_written "No call on a primary changes its fallback."
                one_hash_algorithm_for_all "A chain of stores that hash differently is refused."
                copying_between_stores "Rows copied from store to store keep all their versions and times."
                a_repeated_copy "A repeated copy sends the changes since the first, including deletions, and nothing twice."
            }
            read_only {
                reading_leaves_no_trace "Opening and reading change no file, and leave none behind."
                reading_works_without_write_access "A store opens for reading without write access to its files and their directories."
            }
            concurrency {
                concurrent_tasks "Many tasks may write through one store concurrently, and no row is lost."
                concurrent_tasks_add_columns "Concurrent writes that add columns all succeed."
                concurrent_stores "Two stores may write to one location concurrently; if there can be only one writer, the second gets an error."
                concurrent_writes_and_deletes "Concurrent writes and deletions lose no row and restore none."
                readers_see_complete_writes "A reader sees all of a write or nothing of it."
                a_stream_returns_one_snapshot "A stream returns one snapshot of its table, whatever is written while it is read."
                many_unread_streams "A hundred streams that are started and not read block no other call, and each returns the snapshot with which it started."
                a_partly_read_stream_keeps_its_snapshot "A partly read stream continues with the snapshot with which it started, after writes, deletions and compactions."
                an_open_stream_blocks_nothing "Streams that are not read to their end block no write, no other read, and no closing."
                a_stream_outlives_its_store "A stream that is read after its store was closed returns all its rows, or the error `Closed`."
                a_table_that_is_dropped_repeatedly "While a table is written and dropped repeatedly, every call finds it complete, finds none, or returns a transient error."
            }
            processes {
                a_second_process_reads "Another process reads the rows that this one has written."
                many_processes_write "Sixteen processes may write concurrently, and no row is lost or duplicated."
            }
            faults {
                a_dropped_write_is_atomic "A write whose future is dropped is stored completely or not at all."
                a_dropped_delete_is_atomic "A deletion whose future is dropped is applied completely or not at all."
                a_dropped_table_removal_is_atomic "A drop of a table whose future is dropped removes all of it or nothing."
                dropped_reads_hold_nothing "Reads and resolves whose futures are dropped change nothing and hold nothing."
                a_dropped_open_can_be_repeated "An opening whose future is dropped can be repeated."
                a_stream_dropped_before_its_end "A stream may be dropped before its end."
                a_store_dropped_without_closing "A store may be dropped without being closed."
                failed_changes_are_atomic "A write, deletion or drop that fails at any call of the backend is applied completely or not at all, and its caller gets the error."
                failed_reads_are_errors "A read or resolve that fails at any call of the backend is an error, never a shorter result."
                slow_calls_are_atomic "However slow the backend is, readers see complete writes, in their order."
                writes_of_a_killed_process_are_atomic "Completed writes of a killed process are stored; a write in progress is stored completely or not at all."
                mixed_processes "Concurrent processes that write, delete, compact, read and resolve, some of which are stopped and killed, lose no write and restore none."
            }
            oracle {
                random_histories "On random definitions and histories the store gives the same results as the oracle, after every step."
            }
            hostile {
                values "Values, ids, literals of filters and names of runs that are statements are texts."
                names_of_columns "So are the names of columns, or they are refused."
                projects_and_tags "So are the projects and tags of pushed definitions."
            }
            limits {
                text_of_ten_megabytes "A text can have ten megabytes."
                long_ids "Ids can have thousands of characters."
                two_hundred_columns "A table can have two hundred columns."
                a_hundred_thousand_rows "A write can have a hundred thousand rows."
                many_tiny_writes "Thousands of writes of one row each are read back whole; fewer, at least 200, if they take long."
                long_lists "A list can have thousands of items."
                fifty_features "A store can have many features."
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
