//! Reads DNS messages: RFC 1035 section 4, with the additions of RFC 6762.
//!
//! No byte is trusted. A compression pointer must point backwards, so no loop is possible.

use heapless::Vec;

/// The longest name that matters: a label of [`LABEL`](super::identity::LABEL) bytes in `_skiff._tcp.local`.
const NAME: usize = 64;

/// Names without their first label, as they are in a message.
pub(super) const LOCAL: &[u8] = b"\x05local\0";
pub(super) const SERVICE: &[u8] = b"\x06_skiff\x04_tcp\x05local\0";
pub(super) const SERVICES: &[u8] = b"\x09_services\x07_dns-sd\x04_udp\x05local\0";

/// Types of records.
pub(super) mod kind {
    pub(crate) const A: u16 = 1;
    pub(crate) const PTR: u16 = 12;
    pub(crate) const TXT: u16 = 16;
    pub(crate) const AAAA: u16 = 28;
    pub(crate) const SRV: u16 = 33;
    pub(crate) const ANY: u16 = 255;
}

/// The class of all records here, and the class ANY of a question.
pub(super) const INTERNET: u16 = 1;
pub(super) const ANY_CLASS: u16 = 255;
/// In the class of a question: a unicast reply is accepted. In that of a record: it replaces all earlier ones.
pub(super) const TOP: u16 = 0x8000;

/// A name as in a message, without compression. `None`: it is valid, but longer than any that matters.
pub(super) type Name = Option<Vec<u8, NAME, u8>>;

/// The first twelve bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub(super) id: u16,
    /// A response, not a query.
    pub(super) is_response: bool,
    pub(super) questions: u16,
    pub(super) answers: u16,
    pub(super) authorities: u16,
    pub(super) additional: u16,
}

/// A question.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) name: Name,
    pub(super) kind: u16,
    pub(super) class: u16,
}

/// A record.
#[derive(Debug)]
pub(super) struct Record<'a> {
    pub(super) name: Name,
    pub(super) kind: u16,
    /// Without [`TOP`].
    pub(super) class: u16,
    pub(super) ttl: u32,
    pub(super) data: &'a [u8],
    /// The name in `data` of a PTR or SRV record.
    pub(super) target: Name,
}

/// A message, and how far it has been read. `None` from a method means that the message is malformed.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    message: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Reads the header. `None` also for messages that RFC 6762 section 18 requires to be ignored.
    pub(super) fn new(message: &'a [u8]) -> Option<(Header, Self)> {
        /// OPCODE and RCODE.
        const ZERO: u16 = 0x780f;
        let mut reader = Self { message, at: 0 };
        let (id, flags) = (reader.word()?, reader.word()?);
        let is_response = flags & 0x8000 != 0;
        let (questions, answers) = (reader.word()?, reader.word()?);
        let (authorities, additional) = (reader.word()?, reader.word()?);
        let header = Header { id, is_response, questions, answers, authorities, additional };
        (flags & ZERO == 0).then_some((header, reader))
    }

    pub(super) fn question(&mut self) -> Option<Question> {
        Some(Question { name: self.name()?, kind: self.word()?, class: self.word()? })
    }

    pub(super) fn record(&mut self) -> Option<Record<'a>> {
        let (name, kind, class) = (self.name()?, self.word()?, self.word()? & !TOP);
        let (high, low, len) = (self.word()?, self.word()?, self.word()?);
        let begin = self.at;
        self.at += usize::from(len);
        let data = self.message.get(begin..self.at)?;
        let target = match kind {
            kind::PTR => self.name_at(begin)?.0,
            kind::SRV => self.name_at(begin + 6)?.0,
            _ => None,
        };
        Some(Record { name, kind, class, ttl: u32::from(high) << 16 | u32::from(low), data, target })
    }

    fn word(&mut self) -> Option<u16> {
        let bytes = self.message.get(self.at..)?.first_chunk::<2>()?;
        self.at += 2;
        Some(u16::from_be_bytes(*bytes))
    }

    fn name(&mut self) -> Option<Name> {
        let (name, end) = self.name_at(self.at)?;
        self.at = end;
        Some(name)
    }

    /// The name at this position, and the position after it.
    fn name_at(&self, mut at: usize) -> Option<(Name, usize)> {
        let mut name = Some(Vec::new());
        let mut len = 0;
        let mut end = None;
        // Pointers must point to before this.
        let mut begin = at;
        loop {
            let head = *self.message.get(at)?;
            match head >> 6 {
                0 => {
                    let label = self.message.get(at..=at + usize::from(head))?;
                    at += label.len();
                    len += label.len();
                    if len > 255 {
                        return None;
                    }
                    name =
                        name.and_then(|mut name: Vec<_, NAME, u8>| name.extend_from_slice(label).ok().map(|()| name));
                    if head == 0 {
                        return Some((name, end.unwrap_or(at)));
                    }
                }
                3 => {
                    let to = usize::from(head & 0x3f) << 8 | usize::from(*self.message.get(at + 1)?);
                    end = end.or(Some(at + 2));
                    if to >= begin {
                        return None;
                    }
                    (at, begin) = (to, to);
                }
                _ => return None,
            }
        }
    }
}

/// The part of `name` before `end`, ignoring letter case.
pub(super) fn before<'n>(name: &'n [u8], end: &[u8]) -> Option<&'n [u8]> {
    let (first, last) = name.split_at_checked(name.len().checked_sub(end.len())?)?;
    last.eq_ignore_ascii_case(end).then_some(first)
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use super::*;

    /// The names of the questions of a message with that many questions.
    fn names(questions: &[u8], count: u8) -> Option<std::vec::Vec<Name>> {
        let message = [&[0, 0, 0, 0, 0, count, 0, 0, 0, 0, 0, 0], questions].concat();
        let (header, mut reader) = Reader::new(&message)?;
        (0..header.questions).map(|_| Some(reader.question()?.name)).collect()
    }

    #[test]
    fn a_name_is_read_through_its_pointers() {
        let found = names(b"\x05local\0\0\x01\0\x01\x04lab3\xc0\x0c\0\x01\0\x01\xc0\x17\0\x01\0\x01", 3).unwrap();
        let found: std::vec::Vec<_> = found.iter().map(|name| name.as_ref().unwrap().as_slice()).collect();
        assert_eq!(found, [&b"\x05local\0"[..], b"\x04lab3\x05local\0", b"\x04lab3\x05local\0"]);
    }

    #[test]
    fn a_long_name_is_valid_and_none_of_ours() {
        let long = [&[63; 64][..], b"\0\0\x01\0\x01\x01a\0\0\x01\0\x01"].concat();
        let found = names(&long, 2).unwrap();
        assert_eq!((found[0].is_none(), found[1].as_deref()), (true, Some(&b"\x01a\0"[..])));
    }

    #[test]
    fn what_is_malformed_is_refused() {
        for (text, bad) in [
            ("cut off", &b"\x04lab"[..]),
            ("no end", b"\x04lab3"),
            ("no type", b"\x04lab3\0\0"),
            ("points at itself", b"\xc0\x0c\0\x01\0\x01"),
            ("points forwards", b"\xc0\x14\0\x01\0\x01"),
            ("points behind the end", b"\xff\xff\0\x01\0\x01"),
            ("half a pointer", b"\xc0"),
            ("a loop of two", b"\x01a\xc0\x10\x01b\xc0\x0c\0\x01\0\x01"),
            ("a label that leads to itself", b"\x01a\xc0\x0c\0\x01\0\x01"),
            ("a reserved kind of label", b"\x40a\0\0\x01\0\x01"),
            ("another one", b"\x80a\0\0\x01\0\x01"),
        ] {
            assert!(names(bad, 1).is_none(), "{text}");
        }
        let too_long = [&[63; 64].repeat(4)[..], b"\0\0\x01\0\x01"].concat();
        assert!(names(&too_long, 1).is_none());
        for header in
            [&b""[..], b"\0\0\0\0\0\x01\0\0\0\0\0", b"\0\0\x08\0\0\0\0\0\0\0\0\0", b"\0\0\0\x01\0\0\0\0\0\0\0\0"]
        {
            assert!(Reader::new(header).is_none(), "{header:?}");
        }
        for (text, bad) in [
            ("data cut off", &b"\0\0\x01\0\x01\0\0\0\0\0\x05abcd"[..]),
            ("a PTR without data", b"\0\0\x0c\0\x01\0\0\0\0\0\0"),
            ("an SRV of six bytes", b"\0\0\x21\0\x01\0\0\0\0\0\x06abcdef"),
            ("a PTR to itself", b"\0\0\x0c\0\x01\0\0\0\0\0\x02\xc0\x17"),
        ] {
            let message = [b"\0\0\0\0\0\0\0\x01\0\0\0\0", bad].concat();
            let (_, mut reader) = Reader::new(&message).unwrap();
            assert!(reader.record().is_none(), "{text}");
        }
    }
}
