//! The suite of all stores, over object storage.

#![expect(clippy::unwrap_used, reason = "these are tests")]

use core::net::Ipv4Addr;

use skiff_host::objects::{ObjectSession, Objects, Options, Storage, connect};
use skiff_kit::store_suite::{Backend, Features};
use skiff_objects_tests::{S3, runtime};
use tempfile::TempDir;

/// All cases.
mod all {
    pub(crate) use skiff_kit::store_suite::{changes::*, directories::*, files::*, staging::*};
}

/// Makes a test of each case, for a kind of storage.
macro_rules! cases {
    ($kind:ty: $($case:ident)*) => {
        $(#[test]
        fn $case() {
            crate::all::$case::<super::Bucket<$kind>>();
        })*
    };
}

/// The cases of the suite, except for those of other answers: a small `write` learns at its commit, not at its begin,
/// that a directory or a file is in the way (one request less for each file); directories are not renamed; there is no
/// `space`.
macro_rules! common {
    ($kind:ty) => {
        cases! { $kind:
            a_stored_file_reads_back_whole_and_in_parts
            files_of_all_sizes_come_back_as_they_were
            bytes_that_come_one_by_one_make_the_same_file
            an_empty_file_is_stored_and_listed
            size_time_and_checksum_are_reported
            an_absurd_time_does_not_keep_a_file_from_being_stored
            what_is_not_there_is_not_found
            names_that_differ_in_one_byte_are_two_files
            a_reader_of_a_replaced_file_sees_the_old_one_or_hears_of_it
            a_reader_of_a_removed_file_sees_it_or_hears_of_it
            nobody_sees_staged_bytes_before_the_commit
            staged_bytes_of_a_lost_connection_are_resumed_with_their_checksum
            a_write_of_which_all_bytes_are_staged_can_be_finished
            files_and_staged_bytes_are_there_after_a_restart
            a_write_that_starts_over_has_a_new_checksum
            an_offset_that_is_not_the_staged_length_is_a_mismatch
            of_several_errors_the_first_is_reported
            a_name_is_busy_until_its_writer_ends_in_whatever_way
            discarded_bytes_are_gone_and_the_old_file_stays
            more_staged_bytes_than_the_size_count_as_none
            staged_bytes_belong_to_the_client_that_wrote_them
            staged_bytes_of_several_names_are_kept_apart
            files_that_are_written_at_the_same_time_do_not_mix
            a_write_that_never_got_a_byte_leaves_nothing
            an_unnamed_stage_takes_the_next_name_if_one_exists
            unnamed_stages_do_not_disturb_each_other_or_named_ones
            an_unnamed_stage_takes_more_bytes_than_were_announced
            an_unnamed_stage_that_is_dropped_leaves_nothing
            a_removed_file_is_gone_and_its_staged_bytes_stay
            rename_replaces_and_leaves_staged_bytes_alone
            a_file_can_be_renamed_to_itself
            a_file_that_is_renamed_or_removed_while_it_is_written_comes_back
            a_listing_shows_every_file_once_and_no_stage
            a_copy_replaces_its_target_and_leaves_the_original
            a_tag_tells_versions_apart_or_says_that_it_can_not
        }
    };
}

/// Those that a file system behind s3s-fs does not pass: it shows directories as objects, and its own files have longer
/// names. The last one takes a minute over HTTP.
macro_rules! further {
    ($kind:ty) => {
        cases! { $kind:
            directories_are_made_listed_and_removed_or_unsupported
            staged_bytes_do_not_keep_a_directory_from_being_removed
            the_longest_name_is_stored
            a_tree_shows_everything_below_a_directory_once
            a_store_behaves_like_a_map
        }
    };
}

mod memory {
    common!(super::Memory);
    further!(super::Memory);
}

mod directory {
    common!(super::Directory);
    // Not the tree: a listing below a file is an error there.
    cases! { super::Directory:
        directories_are_made_listed_and_removed_or_unsupported
        staged_bytes_do_not_keep_a_directory_from_being_removed
        the_longest_name_is_stored
        a_store_behaves_like_a_map
    }
}

mod s3 {
    common!(super::Server);
}

/// Storage where only the instance itself can ensure that a new name does not replace a file.
mod s3_without_conditions {
    cases! { super::Unconditional:
        an_unnamed_stage_takes_the_next_name_if_one_exists
        unnamed_stages_do_not_disturb_each_other_or_named_ones
    }
}

/// A kind of storage.
trait Kind {
    const METADATA: bool;

    fn new() -> (Self, Storage, String)
    where
        Self: Sized;
}

struct Memory;
struct Directory(#[expect(dead_code, reason = "removed in the end")] TempDir);
struct Server(#[expect(dead_code, reason = "stopped in the end")] S3);
/// A server that ignores create-if-absent.
struct Unconditional(#[expect(dead_code, reason = "stopped in the end")] S3);

impl Kind for Memory {
    const METADATA: bool = true;

    fn new() -> (Self, Storage, String) {
        let (storage, _) = connect("memory:", &[]).unwrap();
        (Self, storage, "p/q".to_owned())
    }
}

impl Kind for Directory {
    const METADATA: bool = false;

    fn new() -> (Self, Storage, String) {
        let dir = tempfile::tempdir().unwrap();
        let (storage, prefix) = connect(&format!("file://{}", dir.path().display()), &[]).unwrap();
        (Self(dir), storage, prefix)
    }
}

impl Kind for Server {
    const METADATA: bool = true;

    fn new() -> (Self, Storage, String) {
        let server = S3::start();
        let (storage, prefix) = (server.storage(), server.serving().prefix);
        (Self(server), storage, prefix)
    }
}

impl Kind for Unconditional {
    const METADATA: bool = true;

    fn new() -> (Self, Storage, String) {
        let server = S3::local(Some("if-none-match"));
        let (storage, prefix) = (server.storage(), server.serving().prefix);
        (Self(server), storage, prefix)
    }
}

/// A storage, and the instances that serve it one after the other.
struct Bucket<K> {
    #[expect(dead_code, reason = "ends with the test")]
    kind: K,
    storage: Storage,
    prefix: String,
    open: Option<Objects>,
}

impl<K: Kind> Backend for Bucket<K> {
    type Store = ObjectSession;
    const FEATURES: Features = Features {
        directories: true,
        mtime: K::METADATA,
        restart: true,
        name_max: 240,
        file_max: 1 << 20,
        files_max: 40,
        stages_max: 20,
    };

    fn new() -> Self {
        let _runtime = runtime();
        let (kind, storage, prefix) = K::new();
        Self { kind, storage, prefix, open: None }
    }

    fn open(&mut self) -> ObjectSession {
        let options = Options { prefix: self.prefix.clone(), hidden: true, ..Options::default() };
        let objects = runtime().block_on(async {
            if let Some(open) = self.open.take() {
                open.close().await;
            }
            Objects::open(self.storage.clone(), options).await.unwrap()
        });
        self.open = Some(objects.clone());
        objects.connection((Ipv4Addr::LOCALHOST, 1).into())
    }

    fn wait(store: &mut ObjectSession) {
        runtime().block_on(store.ready());
    }
}
