//! How host-serv uses a storage: it removes uploads that nobody resumes, reads listings of several pages, and detects
//! storage that ignores conditions.

#![expect(clippy::unwrap_used, reason = "these are tests")]

use core::net::Ipv4Addr;
use core::time::Duration;
use std::time::Instant;

use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::{
    Error, GetOptions, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload, PutResult, UpdateVersion,
};
use skiff_host::objects::Objects;
use skiff_objects_tests::program::{Program, free_port, host_serv};
use skiff_objects_tests::wire::{ask, body, message};
use skiff_objects_tests::{S3, block_on, pattern};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

/// One host-serv.
struct Server {
    program: Program,
    port: u16,
    _dir: TempDir,
}

impl Server {
    /// Starts the program without waiting until it listens.
    fn start(server: &S3, options: &[&str]) -> (Self, u16) {
        let (port, metrics) = (free_port(), free_port());
        let dir = tempfile::tempdir().unwrap();
        let mut command = host_serv(env!("CARGO_BIN_EXE_host-serv"), server, (port, metrics));
        let program = Program::start(command.args(options), &dir.path().join("log"));
        (Self { program, port, _dir: dir }, metrics)
    }

    fn serve(server: &S3, options: &[&str]) -> Self {
        let (mut this, metrics) = Self::start(server, options);
        this.program.listens(metrics);
        this
    }

    async fn stream(&self) -> TcpStream {
        TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await.unwrap()
    }
}

#[test]
fn the_parts_of_an_upload_that_nobody_resumes_are_swept() {
    block_on(async {
        let server = S3::local(None);
        let objects = server.storage().objects;
        let stages = server.path(".skiff-stage");
        let staged = async || objects.list(Some(&stages)).try_collect::<Vec<_>>().await.unwrap().len();
        let first = Server::serve(&server, &[]);
        let content = pattern(1, 9_000_000);
        let mut stream = first.stream().await;
        stream.write_all(&message(b"write 0 20000000 - big")).await.unwrap();
        stream.write_all(&message(&content)).await.unwrap();
        drop(stream);
        let mut stream = first.stream().await;
        let begun = Instant::now();
        while !ask(&mut stream, "resume 20000000 big").await.unwrap().starts_with("ok 9000000 ") {
            assert!(begun.elapsed() < Duration::from_secs(60), "{}", first.program.log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        // No record uses this tail.
        objects.put(&server.path(".skiff-stage/0123456789abcdef.tail-1"), "x".into()).await.unwrap();
        assert!(server.parts() > 0);
        assert_eq!(staged().await, 3, "a record, its tail, and the other tail");
        drop(first);
        // An upload that is less than an hour old may still be resumed.
        let mut second = Server::serve(&server, &["--stage-age", "1"]);
        let mut stream = second.stream().await;
        assert!(ask(&mut stream, "resume 20000000 big").await.unwrap().starts_with("ok 9000000 "));
        // The age has whole seconds, and each instance removes old uploads when it starts.
        while server.parts() > 0 || staged().await > 1 {
            assert!(begun.elapsed() < Duration::from_secs(120), "{} parts\n{}", server.parts(), second.program.log());
            drop(second);
            second = Server::serve(&server, &["--stage-age", "0"]);
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        let mut stream = second.stream().await;
        assert_eq!(ask(&mut stream, "resume 20000000 big").await.unwrap(), "ok 0 00000000");
    });
}

#[test]
fn a_listing_of_several_pages_shows_each_file_once() {
    block_on(async {
        const FILES: usize = 1100;
        let server = S3::start();
        let objects = server.storage().objects;
        let put = |name: String| {
            let (objects, path) = (&objects, server.path(&name));
            async move { objects.put(&path, "x".into()).await.map(drop) }
        };
        // The last name can't be used in a command. The reply counts it, although it is on the second page.
        let names =
            (0..FILES).map(|number| format!("d/f{number:04}")).chain(["d/sub/a".to_owned(), "d/z\\".to_owned()]);
        futures_util::stream::iter(names.map(put)).buffer_unordered(32).try_collect::<()>().await.unwrap();
        let instance = Server::serve(&server, &[]);
        let mut stream = instance.stream().await;
        assert_eq!(ask(&mut stream, "list d").await.unwrap(), "ok 1");
        let lines = String::from_utf8(body(&mut stream).await.unwrap()).unwrap();
        let mut names: Vec<_> = lines.lines().map(|line| line.splitn(4, ' ').nth(3).unwrap()).collect();
        names.sort_unstable();
        let expected: Vec<_> =
            (0..FILES).map(|number| format!("d/f{number:04}")).chain(["d/sub/".to_owned()]).collect();
        assert_eq!(names, expected);
    });
}

#[test]
fn storage_that_ignores_a_condition_is_found_out_and_served_by_one_instance() {
    let warning = "only this instance may serve the store";
    let cases = [
        (Some("if-none-match"), &[][..], &["the object storage ignores create-if-absent", warning][..]),
        (Some("if-match"), &[], &["the object storage ignores compare-and-swap", warning]),
        (None, &["--single"], &[]),
    ];
    block_on(async {
        for (ignored, options, printed) in cases {
            let server = S3::local(ignored);
            let first = Server::serve(&server, options);
            first.program.prints("host-serv: serving s3://");
            for text in printed {
                assert!(first.program.log().contains(text), "{}", first.program.log());
            }
            assert_eq!(first.program.log().contains(warning), ignored.is_some());
            let (mut second, _) = Server::start(&server, options);
            assert_eq!(second.program.ends().code(), Some(1));
            let text = second.program.log();
            assert!(text.contains("another host-serv serves this store"), "{text}");
            assert_eq!(ask(&mut first.stream().await, "mkdir d").await.unwrap(), "ok");
        }
    });
}

/// Prints what was found, for the table in docs/FLEET.md. host-serv finds the same when it starts.
#[test]
fn several_instances_may_serve_storage_that_honors_conditional_writes() {
    block_on(async {
        let server = S3::start();
        let storage = server.storage();
        let objects = &storage.objects;
        let put = async |name: &str, mode: PutMode| {
            objects.put_opts(&server.path(name), "x".into(), PutOptions::from(mode)).await
        };
        let is_refused = |put: &object_store::Result<PutResult>| {
            matches!(put, Err(Error::AlreadyExists { .. } | Error::Precondition { .. }))
        };
        _ = put("created", PutMode::Create).await.unwrap();
        let creates = is_refused(&put("created", PutMode::Create).await);
        println!("create-if-absent: {}", honored(creates));
        let won = race(objects.as_ref(), &server.path("new"), PutMode::Create).await;
        println!("create-if-absent, 16 at once: {won} succeed");

        let first = objects.put(&server.path("swapped"), "1".into()).await.unwrap();
        let second = put("swapped", PutMode::Update(first.clone().into())).await;
        println!(
            "compare-and-swap with the current version: {}",
            second.as_ref().map_or_else(ToString::to_string, |_| "done".to_owned())
        );
        let lost =
            put("swapped", PutMode::Update(UpdateVersion { e_tag: Some("\"0\"".to_owned()), version: None })).await;
        println!(
            "compare-and-swap with another version: {}",
            lost.as_ref().map_or_else(ToString::to_string, |_| "done".to_owned())
        );
        let swaps = second.is_ok() && is_refused(&lost);
        let version = objects.put(&server.path("raced"), "0".into()).await.unwrap();
        let won = race(objects.as_ref(), &server.path("raced"), PutMode::Update(version.into())).await;
        println!("compare-and-swap, 16 at once: {won} succeed");

        let old = objects.put(&server.path("read"), "old".into()).await.unwrap();
        objects.put(&server.path("read"), "new".into()).await.unwrap();
        let options = GetOptions { if_match: old.e_tag, range: Some((0..1).into()), ..GetOptions::default() };
        let changed = matches!(objects.get_opts(&server.path("read"), options).await, Err(Error::Precondition { .. }));
        println!("ranged GET with If-Match: {}", honored(changed));
        println!("multipart upload continued by another client: {}", honored(parts(&server).await));

        let serving = Objects::open(server.storage(), server.serving()).await.unwrap();
        println!("several instances: {}", if serving.is_shared() { "yes" } else { "no" });
        assert_eq!(serving.is_shared(), creates && swaps);
        serving.close().await;
    });
}

fn honored(is: bool) -> &'static str {
    if is { "honored" } else { "NOT honored" }
}

/// How many of 16 writers with the same condition succeed.
async fn race(objects: &dyn ObjectStore, path: &object_store::path::Path, mode: PutMode) -> usize {
    let puts = (0..16).map(|_| objects.put_opts(path, "x".into(), PutOptions::from(mode.clone())));
    futures_util::future::join_all(puts).await.iter().filter(|put| put.is_ok()).count()
}

/// True if a client completes a multipart upload that another one began, and an aborted one can't be completed.
async fn parts(server: &S3) -> bool {
    let path = server.path("parts");
    let content = pattern(3, 6 * 1024 * 1024);
    let pieces: Vec<PutPayload> = content.chunks(5 * 1024 * 1024).map(|piece| piece.to_vec().into()).collect();
    let (first, second) = (server.storage().multipart.unwrap(), server.storage().multipart.unwrap());
    let id = first.create_multipart(&path).await.unwrap();
    let parts = vec![
        first.put_part(&path, &id, 0, pieces[0].clone()).await.unwrap(),
        second.put_part(&path, &id, 1, pieces[1].clone()).await.unwrap(),
    ];
    second.complete_multipart(&path, &id, parts).await.unwrap();
    let stored = server.storage().objects.get(&path).await.unwrap().bytes().await.unwrap();
    let id = first.create_multipart(&path).await.unwrap();
    let part = first.put_part(&path, &id, 0, pieces[1].clone()).await.unwrap();
    second.abort_multipart(&path, &id).await.unwrap();
    stored == content && first.complete_multipart(&path, &id, vec![part]).await.is_err()
}
