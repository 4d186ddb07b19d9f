/// A session that uses everything, for a client of either kind, protected or not: the last argument is `await` for the
/// async one. The store is empty before, and has `empty` and `kept` afterwards.
macro_rules! everything {
    ($client:ident $(, $await:ident)?) => {{
        use skiff_proto::client::{BodyError, ClientEvent, Peer};
        use skiff_proto::command::{Command, Request, VERSION};
        use skiff_proto::crc::crc32c;
        use skiff_proto::reply::parse_list_line;
        use skiff_proto::drive::DriveError;
        use skiff_proto::store::Stat;
        use skiff_proto::ErrorCode;
        use crate::drive_support::{content, name};

        macro_rules! ask {
            ($request:expr) => { $client.request(&Command::Request($request))$(.$await)?.unwrap() };
        }
        macro_rules! refused {
            ($event:expr) => {{
                let event = $event;
                let ClientEvent::Refused(error) = event else { panic!("not refused: {} {event:?}", line!()) };
                error.code.unwrap()
            }};
        }
        // The payload of a body, taken in pieces of 13 bytes.
        macro_rules! payload {
            () => {{
                let mut all = Vec::new();
                let mut piece = [0; 13];
                loop {
                    match $client.read(&mut piece)$(.$await)?.unwrap() {
                        0 => break all,
                        n => all.extend_from_slice(&piece[..n]),
                    }
                }
            }};
        }
        macro_rules! write {
            ($offset:expr, $bytes:expr, $name:expr) => {{
                let (offset, mut bytes): (u64, Vec<u8>) = ($offset, $bytes.to_vec());
                let size = offset + bytes.len() as u64;
                let request = Request::Write { offset, size, mtime: Some(1_700_000_000), name: name($name) };
                $client.send(&Command::Request(request))$(.$await)?.unwrap();
                for piece in bytes.chunks_mut(100) {
                    $client.write(piece)$(.$await)?.unwrap();
                }
            }};
        }

        let bytes = content(5000);
        let crc = crc32c(&bytes);

        let event = $client.request(&Command::Hello { version: VERSION })$(.$await)?.unwrap();
        assert!(matches!(event, ClientEvent::Hello(Some(hello)) if hello.name_max == 64));
        assert_eq!($client.session().peer(), Peer::Extended);
        assert_eq!($client.request(&Command::Ping)$(.$await)?.unwrap(), ClientEvent::Done);
        assert!(matches!(ask!(Request::Space), ClientEvent::Space(space) if space.free == space.total));

        // A file there and back.
        assert!(matches!(ask!(Request::Resume { size: 5000, name: name("a b.txt") }), ClientEvent::Resume { offset: 0, .. }));
        write!(0, bytes, "a b.txt");
        assert_eq!($client.finish()$(.$await)?.unwrap(), ClientEvent::Stored { size: 5000, crc: Some(crc) });
        let stat = Stat { size: 5000, mtime: Some(1_700_000_000), crc: Some(crc) };
        assert_eq!(ask!(Request::Stat { name: name("a b.txt") }), ClientEvent::Stat(stat));
        let read = Request::Read { offset: 0, length: None, name: name("a b.txt") };
        assert!(matches!(ask!(read), ClientEvent::Read { length: 5000, size: 5000, .. }));
        assert_eq!(payload!(), bytes);
        assert_eq!($client.reply()$(.$await)?.unwrap(), ClientEvent::BodyEnd(Ok(Some(crc))));

        // A range whose content is discarded.
        let read = Request::Read { offset: 4000, length: Some(700), name: name("a b.txt") };
        assert!(matches!(ask!(read), ClientEvent::Read { length: 700, size: 5000, .. }));
        assert_eq!($client.request(&Command::Ping)$(.$await)?, Err(DriveError::InvalidState));
        let part = crc32c(&bytes[4000..4700]);
        assert_eq!($client.reply()$(.$await)?.unwrap(), ClientEvent::BodyEnd(Ok(Some(part))));
        let sum = Request::Sum { offset: 4000, length: Some(700), name: name("a b.txt") };
        assert_eq!(ask!(sum), ClientEvent::Sum { length: 700, crc: Some(part) });
        // More than one step.
        let sum = Request::Sum { offset: 0, length: None, name: name("a b.txt") };
        assert_eq!(ask!(sum), ClientEvent::Sum { length: 5000, crc: Some(crc) });
        let read = Request::Read { offset: 5001, length: None, name: name("a b.txt") };
        assert_eq!(refused!(ask!(read)), ErrorCode::Range);

        // An empty one.
        write!(0, b"", "empty");
        assert_eq!($client.finish()$(.$await)?.unwrap(), ClientEvent::Stored { size: 0, crc: Some(0) });
        let read = Request::Read { offset: 0, length: None, name: name("empty") };
        assert!(matches!(ask!(read), ClientEvent::Read { length: 0, size: 0, .. }));
        assert_eq!(payload!(), b"");
        assert_eq!($client.reply()$(.$await)?.unwrap(), ClientEvent::BodyEnd(Ok(Some(0))));

        // Listings.
        assert_eq!(ask!(Request::List { dir: None }), ClientEvent::List { omitted: 0 });
        let lines = payload!();
        assert!(matches!($client.reply()$(.$await)?.unwrap(), ClientEvent::BodyEnd(Ok(Some(_)))));
        let lines: Vec<_> = lines.strip_suffix(b"\n").unwrap().split(|&b| b == b'\n').collect();
        let names: Vec<_> = lines.iter().map(|line| parse_list_line(line).unwrap().name.as_str()).collect();
        assert_eq!(names, ["a b.txt", "empty"]);
        assert_eq!(refused!(ask!(Request::List { dir: Some(name("no")) })), ErrorCode::NotFound);
        // PROTOCOL §8: none on a protected connection.
        if $client.session().handshake().is_some() {
            assert_eq!(refused!(ask!(Request::Ls)), ErrorCode::Unsupported);
        } else {
            assert_eq!(ask!(Request::Ls), ClientEvent::Ls);
            assert_eq!(payload!(), b"empty");
            assert_eq!($client.reply()$(.$await)?.unwrap(), ClientEvent::LsEnd);
        }
        assert_eq!(ask!(Request::Get { name: name("empty") }), ClientEvent::ClassicRefused);
        assert_eq!(ask!(Request::Put { name: name("x") }), ClientEvent::ClassicRefused);

        // Writes that are refused, at different moments. The connection stays usable.
        write!(0, content(9000), "big");
        assert_eq!(refused!($client.finish()$(.$await)?.unwrap()), ErrorCode::NoSpace);
        write!(7, content(500), "off");
        assert_eq!(refused!($client.finish()$(.$await)?.unwrap()), ErrorCode::Mismatch);
        let request = Request::Write { offset: 0, size: 500, mtime: None, name: name("off") };
        $client.send(&Command::Request(request))$(.$await)?.unwrap();
        assert_eq!($client.reply()$(.$await)?, Err(DriveError::InvalidState));
        assert_eq!($client.finish()$(.$await)?, Err(DriveError::InvalidState));
        $client.write(&mut content(300))$(.$await)?.unwrap();
        assert_eq!($client.write(&mut content(201))$(.$await)?, Err(DriveError::InvalidState));
        assert_eq!(refused!($client.abort(ErrorCode::Cancelled)$(.$await)?.unwrap()), ErrorCode::Cancelled);
        write!(0, content(500), "off");
        $client.session().supply_crc(Some(1)).unwrap();
        assert_eq!(refused!($client.finish()$(.$await)?.unwrap()), ErrorCode::Mismatch);
        let request = Request::Resume { size: 500, name: name("off") };
        assert!(matches!(ask!(request), ClientEvent::Resume { offset: 0, .. }));

        // Changes.
        assert_eq!(ask!(Request::Rename { from: name("a b.txt"), to: name("kept") }), ClientEvent::Done);
        assert_eq!(refused!(ask!(Request::Stat { name: name("a b.txt") })), ErrorCode::NotFound);
        write!(0, b"x", "gone");
        assert!(matches!($client.finish()$(.$await)?.unwrap(), ClientEvent::Stored { size: 1, .. }));
        assert_eq!(ask!(Request::Remove { name: name("gone") }), ClientEvent::Done);
        assert_eq!(refused!(ask!(Request::Remove { name: name("gone") })), ErrorCode::NotFound);
        assert_eq!(refused!(ask!(Request::Mkdir { name: name("d") })), ErrorCode::Unsupported);
        assert_eq!(refused!(ask!(Request::Rmdir { name: name("d") })), ErrorCode::Unsupported);
        _ = BodyError::Mismatch;
        assert_eq!($client.request(&Command::Quit)$(.$await)?, Err(DriveError::InvalidState));
        $client.send(&Command::Quit)$(.$await)?.unwrap();
    }};
}
pub(crate) use everything;
