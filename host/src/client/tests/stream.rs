//! Reader and writer: what they yield at the end, and what is left when they are dropped.

use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::fake::Fake;
use super::*;

fn inner(error: &io::Error) -> &Error {
    error.get_ref().and_then(|error| error.downcast_ref()).expect("an error of the client")
}

#[test]
fn a_reader_yields_files_of_every_size_and_their_checksum() {
    let (fake, port) = Fake::start();
    run(async {
        let mut client = client(port).await;
        for size in [0, 1, 2, 99_999, 100_000, 2_500_001] {
            let expected = fake.put("x", size, 7);
            let mut reader = client.read("x").await.unwrap();
            assert_eq!((reader.len(), reader.size(), reader.crc()), (size as u64, size as u64, None));
            assert!(reader.tag().is_known());
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes).await.unwrap();
            assert!(bytes == expected, "{size}");
            assert_eq!(reader.crc(), Some(skiff_proto::crc::crc32c(&expected)));
            assert_eq!(reader.read(&mut [0; 8]).await.unwrap(), 0, "the end stays the end");
        }
        let expected = fake.put("x", 1000, 3);
        let mut part = client.read_range("x", 990, None).await.unwrap();
        assert_eq!((part.len(), part.size()), (10, 1000));
        let mut bytes = [0; 10];
        part.read_exact(&mut bytes).await.unwrap();
        assert_eq!(bytes, expected[990..]);
        drop(part);
        assert_eq!(client.read_range("x", 1001, None).await.unwrap_err().code(), Some(ErrorCode::Range));
        assert_eq!(client.read("missing").await.unwrap_err().code(), Some(ErrorCode::NotFound));
        assert!(matches!(client.read("../x").await, Err(Error::BadName { .. })));
        client.ping().await.unwrap();
    });
    assert_eq!(fake.0.lock().unwrap().connections, 1, "the last byte comes with the end of the body");
}

#[test]
fn a_reader_fails_before_the_last_byte_of_a_file_that_is_wrong() {
    let (fake, port) = Fake::start();
    for size in [1, 300_000] {
        fake.put("x", size, 1);
        fake.faults(|faults| faults.bad_crc = 1);
        run(async {
            let mut client = client(port).await;
            let mut reader = client.read("x").await.unwrap();
            // As who knows the length reads.
            let error = reader.read_exact(&mut vec![0; size]).await.unwrap_err();
            assert!(matches!(inner(&error), Error::Mismatch { .. }), "{error}");
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            assert!(reader.read(&mut [0; 8]).await.is_err(), "the error stays");
            assert_eq!(reader.crc(), None);
            drop(reader);
            assert_eq!(client.read("x").await.unwrap().len(), size as u64);
        });
    }
}

#[test]
fn a_reader_fails_when_the_connection_is_lost_in_the_middle() {
    let (fake, port) = Fake::start();
    fake.put("x", 300_000, 1);
    fake.faults(|faults| faults.cut_read = vec![150_000]);
    run(async {
        let mut client = client(port).await;
        let mut bytes = Vec::new();
        let error = client.read("x").await.unwrap().read_to_end(&mut bytes).await.unwrap_err();
        assert!(matches!(inner(&error), Error::Lost { .. }), "{error}");
        assert!(bytes == content(300_000, 1)[..bytes.len()] && bytes.len() <= 150_000);
        client.ping().await.unwrap();
    });
}

#[test]
fn a_reader_that_is_dropped_leaves_a_client_that_works() {
    let (fake, port) = Fake::start();
    fake.put("x", 3_000_000, 1);
    run(async {
        let mut client = client(port).await;
        for taken in [0, 1, 1_000_000] {
            let mut reader = client.read("x").await.unwrap();
            reader.read_exact(&mut vec![0; taken]).await.unwrap();
            drop(reader);
            client.ping().await.unwrap();
        }
    });
}

#[test]
fn a_silent_server_and_a_cancelled_token_end_a_read_that_waits() {
    let port = listen(|stream| {
        while let Some(command) = text(&stream) {
            match command.split(' ').next() {
                Some("get") => send(&stream, HELLO),
                _ => send(&stream, "ok 5 5 v1"),
            }
        }
    });
    run(async {
        let mut client = client(port).await;
        let mut reader = client.read("x").await.unwrap();
        reader.client.options.idle = Duration::from_millis(50);
        let error = reader.read_u8().await.unwrap_err();
        assert!(matches!(inner(&error), Error::Timeout { .. }), "{error}");
        let mut client = super::client(port).await;
        let cancel = client.cancel_token();
        let mut reader = client.read("x").await.unwrap();
        let (read, ()) = tokio::join!(reader.read_u8(), async { cancel.cancel() });
        assert!(matches!(inner(&read.unwrap_err()), Error::Cancelled));
    });
}

#[test]
fn a_writer_stores_files_of_every_size() {
    let (fake, port) = Fake::start();
    run(async {
        let mut client = client(port).await;
        for size in [0, 1, 99_999, 262_144, 2_500_001] {
            let bytes = content(size, 5);
            let mut writer = client.write("x", size as u64).await.unwrap();
            for piece in bytes.chunks(70_001) {
                writer.write_all(piece).await.unwrap();
                writer.flush().await.unwrap();
            }
            assert_eq!(writer.remaining(), 0);
            let error = writer.write_all(b"more").await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            let sent = writer.finish().await.unwrap();
            let crc = Some(skiff_proto::crc::crc32c(&bytes));
            assert_eq!((sent.size, sent.crc, sent.confirmed), (size as u64, crc, true));
            assert!(fake.file("x").unwrap() == bytes);
        }
    });
    assert_eq!(fake.0.lock().unwrap().connections, 1);
}

#[test]
fn a_writer_that_does_not_finish_leaves_the_name_as_it_was() {
    let (fake, port) = Fake::start();
    let old = fake.put("x", 10, 1);
    let bytes = content(1_000_000, 2);
    run(async {
        let mut client = client(port).await;
        // Dropped.
        let mut writer = client.write("x", 1_000_000).await.unwrap();
        writer.write_all(&bytes[..600_000]).await.unwrap();
        drop(writer);
        client.ping().await.unwrap();
        assert_eq!(fake.file("x").unwrap(), old);
        // Too short.
        let mut writer = client.write("x", 1_000_000).await.unwrap();
        writer.write_all(&bytes[..999_999]).await.unwrap();
        assert!(matches!(writer.finish().await, Err(Error::Mismatch { .. })));
        client.ping().await.unwrap();
        assert_eq!(fake.file("x").unwrap(), old);
        // Given up: the connection stays.
        let connections = fake.0.lock().unwrap().connections;
        let mut writer = client.write("x", 1_000_000).await.unwrap();
        writer.write_all(&bytes[..300_000]).await.unwrap();
        writer.abort().await.unwrap();
        client.ping().await.unwrap();
        let state = fake.0.lock().unwrap();
        assert_eq!((&state.files["x"], state.connections), (&old, connections));
        assert!(state.log.iter().any(|line| line.starts_with("abort cancelled")), "{:?}", state.log);
    });
}

/// What becomes of a file whose bytes were written like this.
async fn ended(writer: Writer<'_>, written: Result<(), Error>) -> Result<(), Error> {
    written?;
    writer.finish().await.map(drop)
}

#[test]
fn a_writer_tells_a_refusal_and_a_lost_connection() {
    let (fake, port) = Fake::start();
    fake.faults(|faults| faults.refuse = Some("full"));
    run(async {
        let mut client = client(port).await;
        let mut writer = client.write("full", 30_000_000).await.unwrap();
        let piece = vec![0; 100_000];
        let mut written = Ok(());
        for _ in 0..300 {
            written = writer.write_all(&piece).await.map_err(|error| inner(&error).clone());
            if written.is_err() {
                break;
            }
        }
        let error = ended(writer, written).await.unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::NoSpace), "{error}");
        let writer = client.write("full", 0).await.unwrap();
        assert_eq!(writer.finish().await.unwrap_err().code(), Some(ErrorCode::NoSpace));
        fake.faults(|faults| faults.cut_write = vec![500_000]);
        let mut writer = client.write("x", 1_000_000).await.unwrap();
        let written = writer.write_all(&content(1_000_000, 1)).await.map_err(|error| inner(&error).clone());
        let ended = ended(writer, written).await;
        assert!(matches!(ended, Err(Error::Lost { .. })), "{ended:?}");
        client.ping().await.unwrap();
        assert_eq!(fake.file("x"), None);
    });
}

#[test]
fn a_classic_server_has_neither_reader_nor_writer() {
    let files = classic::Files::default();
    let port = classic::serve(&files);
    run(async {
        let mut client = client(port).await;
        assert!(matches!(client.read("x").await, Err(Error::NeedsExtended { .. })));
        assert!(matches!(client.write("x", 1).await, Err(Error::NeedsExtended { .. })));
        client.put_bytes("x", "text").await.unwrap();
    });
}

#[test]
fn futures_and_streams_may_move_between_threads() {
    fn send<T: Send>(value: T) -> T {
        value
    }
    let (fake, port) = Fake::start();
    fake.put("x", 10, 1);
    run(async {
        let mut client = client(port).await;
        send(send(client.read("x")).await.unwrap().read_u8()).await.unwrap();
        let mut writer = send(send(client.write("y", 1)).await.unwrap());
        send(writer.write_all(b"y")).await.unwrap();
        send(writer.finish()).await.unwrap();
        send(client.put_bytes("z", "z")).await.unwrap();
        send(client.get_bytes("z", 1)).await.unwrap();
        send(client.list(None)).await.unwrap();
        send(client.stat("z")).await.unwrap();
    });
}
