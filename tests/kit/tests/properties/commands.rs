//! Written commands parse back unchanged.

use proptest::collection::vec;
use proptest::prelude::*;
use skiff_proto::Name;
use skiff_proto::command::{Command, Request, VERSION, Verbs, command_len};
use skiff_proto::name::MAX_NAME;

use super::cases;

fn any_name() -> impl Strategy<Value = String> {
    let component = "[a-z0-9 ._()~é€😀-]{1,12}";
    vec(component, 1..5)
        .prop_map(|components| components.join("/"))
        .prop_filter("a valid name", |name| Name::parse(name.as_bytes(), MAX_NAME).is_ok())
}

fn name(text: &str) -> Name<'_> {
    Name::parse(text.as_bytes(), MAX_NAME).expect("a valid name")
}

proptest! {
    #![proptest_config(cases(2000))]

    #[test]
    fn every_command_that_can_be_written_parses_back(
        kind in 0..17,
        first in any_name(),
        second in any_name(),
        (offset, length, mtime) in any::<(u64, Option<u64>, Option<u64>)>(),
    ) {
        let (from, to) = (name(&first), name(&second));
        let last = Name::parse(from.file_name().as_bytes(), MAX_NAME).expect("a component is a name");
        let command = match kind {
            0 => Command::Hello { version: VERSION },
            1 => Command::Ping,
            2 => Command::Quit,
            3 => Command::Request(Request::Get { name: from }),
            4 => Command::Request(Request::Put { name: last }),
            5 => Command::Request(Request::Ls),
            6 => Command::Request(Request::List { dir: length.map(|_| from) }),
            7 => Command::Request(Request::Stat { name: from }),
            8 => Command::Request(Request::Read { offset, length, name: from }),
            9 => Command::Request(Request::Resume { size: offset, name: from }),
            10 => Command::Request(Request::Write { offset, size: length.unwrap_or(1), mtime, name: from }),
            11 => Command::Request(Request::Sum { offset, length, name: from }),
            12 => Command::Request(Request::Remove { name: from }),
            13 => Command::Request(Request::Rename { from, to }),
            14 => Command::Request(Request::Mkdir { name: from }),
            15 => Command::Request(Request::Rmdir { name: from }),
            _ => Command::Request(Request::Space),
        };
        let longest = first.len().max(second.len());
        let mut out = [0; command_len(MAX_NAME)];
        match command.encode(&mut out) {
            None => prop_assert!(matches!(kind, 3 | 4) && first.contains(' ')),
            Some(len) => {
                prop_assert!(len <= command_len(longest));
                prop_assert_eq!(Command::parse(&out[..len], longest, Verbs::ALL), Ok(command));
                prop_assert_eq!(command.encode(&mut out[..len - 1]), None);
            }
        }
    }

    #[test]
    fn what_parses_is_written_the_same_way_again(
        payload in prop_oneof![
            vec(any::<u8>(), 0..40),
            "(get|put|ls|list|stat|read|write|sum|resume|rename|remove|mkdir|rmdir|space|quit|ping|get /skiff/)[ \t\n*0-9a-c/.-]{0,20}"
                .prop_map(String::into_bytes),
        ],
    ) {
        let Ok(command) = Command::parse(&payload, MAX_NAME, Verbs::ALL) else { return Ok(()) };
        let mut out = [0; command_len(MAX_NAME)];
        let Some(len) = command.encode(&mut out) else { return Ok(()) };
        prop_assert_eq!(Command::parse(&out[..len], MAX_NAME, Verbs::ALL), Ok(command));
    }
}
