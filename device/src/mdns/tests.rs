//! Responders on their own network, in virtual time.

use core::net::{IpAddr, SocketAddr};
use std::vec::Vec;

use skiff_proto::Instant;

use super::{MESSAGE, Message, Responder};

const MAC: [u8; 6] = [2, 0, 0, 0, 0xbe, 0xef];
const OWN: &str = "192.168.69.1";
const PEER: &str = "192.168.69.7:5353";
const GROUP: &str = "224.0.0.251:5353";

/// The query for `_skiff._tcp.local` PTR, without its class.
const BROWSE: &[u8] = b"\0\0\0\0\0\x01\0\0\0\0\0\0\x06_skiff\x04_tcp\x05local\0\0\x0c";
/// The same for an address of `LAB3.local`.
const RESOLVE: &[u8] = b"\0\0\0\0\0\x01\0\0\0\0\0\0\x04LAB3\x05local\0\0\x01";

/// What the device announces, after its header.
const RECORDS: &[u8] = b"\
    \x06_skiff\x04_tcp\x05local\0\0\x0c\0\x01\0\0\x11\x94\0\x07\x04lab3\xc0\x0c\
    \xc0\x29\0\x21\x80\x01\0\0\0\x78\0\x12\0\0\0\0\xc3\x50\x04lab3\x05local\0\
    \xc0\x29\0\x10\x80\x01\0\0\x11\x94\0\x1b\x09txtvers=1\x10server=skiff/0.1\
    \x04lab3\x05local\0\0\x01\x80\x01\0\0\0\x78\0\x04\xc0\xa8\x45\x01";

fn ms(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

fn responder(address: &str, random: u32) -> Responder {
    let mut responder = Responder::new(Some("lab3"), MAC, 50_000, "skiff/0.1", random);
    responder.set_addresses([(address.parse().unwrap(), 24)].into_iter(), ms(1));
    responder
}

/// A device that has been announced, at 5 s.
fn announced() -> Responder {
    let mut responder = responder(OWN, 1);
    assert_eq!(sent(&mut responder, 1, 5_000).len(), 5);
    responder
}

/// The messages sent from `from` to `until`, with their times.
fn sent(responder: &mut Responder, from: u64, until: u64) -> Vec<(u64, Message, Vec<u8>)> {
    let mut all = Vec::new();
    let mut now = ms(from);
    while let Some(due) = responder.deadline().map(|due| due.max(now)).filter(|due| *due <= ms(until)) {
        now = due;
        if let Some(message) = responder.next(now) {
            let mut bytes = [0; MESSAGE];
            let len = responder.write(&message, &mut bytes).unwrap();
            all.push((now.as_millis(), message, bytes[..len].to_vec()));
        }
    }
    all
}

/// The replies of an announced device to a message received at `now`.
fn said(responder: &mut Responder, from: &str, message: &[u8], now: u64) -> Vec<(u64, SocketAddr, Vec<u8>)> {
    responder.handle(from.parse().unwrap(), message, ms(now));
    sent(responder, now, now + 2_000).into_iter().map(|(at, message, bytes)| (at, message.to, bytes)).collect()
}

/// A query with this class.
fn query(question: &[u8], class: u16) -> Vec<u8> {
    [question, &class.to_be_bytes()].concat()
}

#[test]
fn a_device_probes_three_times_and_announces_itself_twice() {
    let mut responder = responder(OWN, 1);
    let sent = sent(&mut responder, 1, 100_000);
    let times: Vec<u64> = sent.iter().map(|(at, ..)| at - sent[0].0).collect();
    assert_eq!(times, [0, 250, 500, 750, 1750]);
    assert!(sent[0].0 <= 251);
    assert!(sent.iter().all(|(_, message, _)| message.to == GROUP.parse().unwrap()));
    let probe = b"\0\0\0\0\0\x02\0\0\0\x02\0\0\
        \x04lab3\x05local\0\0\xff\x80\x01\x04lab3\x06_skiff\x04_tcp\x05local\0\0\xff\x80\x01\
        \xc0\x0c\0\x01\0\x01\0\0\0\x78\0\x04\xc0\xa8\x45\x01\
        \xc0\x1c\0\x21\0\x01\0\0\0\x78\0\x12\0\0\0\0\xc3\x50\x04lab3\x05local\0";
    assert_eq!(sent[0].2, probe);
    let announcement = [b"\0\0\x84\0\0\0\0\x04\0\0\0\0", RECORDS].concat();
    assert_eq!(sent[3].2, announcement);
    assert_eq!(sent[4].2, announcement);
}

#[test]
fn a_query_for_the_service_is_answered_with_all_that_a_client_needs() {
    let reply = [b"\0\0\x84\0\0\0\0\x01\0\0\0\x03", RECORDS].concat();
    let mut device = announced();
    let replies = said(&mut device, PEER, &query(BROWSE, 1), 6_000);
    assert_eq!(replies.len(), 1);
    let (at, to, bytes) = &replies[0];
    assert!((6_020..6_120).contains(at), "{at}");
    assert_eq!((*to, bytes), (GROUP.parse().unwrap(), &reply));
    // The class ANY and the type ANY match as well. A unicast reply is sent on request.
    let replies = said(&mut device, PEER, &query(&[&BROWSE[..31], b"\0\xff"].concat(), 0x80ff), 10_000);
    assert_eq!(replies, [(10_000, PEER.parse().unwrap(), reply)]);
    // There is a service of this kind.
    let services = b"\0\0\0\0\0\x01\0\0\0\0\0\0\x09_services\x07_dns-sd\x04_udp\x05local\0\0\x0c\0\x01";
    let replies = said(&mut device, PEER, services, 15_000);
    let reply =
        b"\0\0\x84\0\0\0\0\x01\0\0\0\0\x09_services\x07_dns-sd\x04_udp\x05local\0\0\x0c\0\x01\0\0\x11\x94\0\x13\
        \x06_skiff\x04_tcp\x05local\0";
    assert_eq!(replies.iter().map(|(.., bytes)| &bytes[..]).collect::<Vec<_>>(), [reply]);
}

#[test]
fn a_device_sends_the_example_of_the_protocol() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/PROTOCOL.md");
    let Ok(text) = std::fs::read_to_string(path) else { return };
    let section = text.split("\n## 10. ").nth(1).unwrap();
    let lines = section.lines().filter(|line| line.starts_with("    "));
    let words = lines.flat_map(|line| line[4..].split("  ").next().unwrap().split(' '));
    let example: Vec<u8> = words.map(|word| u8::from_str_radix(word, 16).unwrap()).collect();
    assert_eq!(example, [b"\0\0\x84\0\0\0\0\x01\0\0\0\x03", RECORDS].concat());
}

#[test]
fn only_a_query_for_the_address_is_answered_in_any_letter_case() {
    let reply =
        b"\0\0\x84\0\0\0\0\x01\0\0\0\0\x04lab3\x05local\0\0\x01\x80\x01\0\0\0\x78\0\x04\xc0\xa8\x45\x01".to_vec();
    let group: SocketAddr = GROUP.parse().unwrap();
    assert_eq!(said(&mut announced(), PEER, &query(RESOLVE, 1), 6_000), [(6_000, group, reply)]);
    for (text, other) in [
        ("another name", query(b"\0\0\0\0\0\x01\0\0\0\0\0\0\x04lab4\x05local\0\0\x01", 1)),
        ("a longer name", query(b"\0\0\0\0\0\x01\0\0\0\0\0\0\x01a\x04lab3\x05local\0\0\x01", 1)),
        ("another domain", query(b"\0\0\0\0\0\x01\0\0\0\0\0\0\x04lab3\x05lokal\0\0\x01", 1)),
        ("an address by IPv6", query(b"\0\0\0\0\0\x01\0\0\0\0\0\0\x04lab3\x05local\0\0\x1c", 1)),
        ("another class", query(RESOLVE, 3)),
        ("no question", b"\0\0\0\0\0\0\0\0\0\0\0\0".to_vec()),
    ] {
        assert_eq!(said(&mut announced(), PEER, &other, 6_000), [], "{text}");
    }
}

#[test]
fn a_client_without_mdns_gets_its_question_back_with_short_lived_records() {
    let mut question = query(RESOLVE, 1);
    question[..2].copy_from_slice(b"\xab\xcd");
    let reply = b"\xab\xcd\x84\0\0\x01\0\x01\0\0\0\0\x04lab3\x05local\0\0\x01\0\x01\
        \xc0\x0c\0\x01\0\x01\0\0\0\x0a\0\x04\xc0\xa8\x45\x01";
    let client: SocketAddr = "192.168.69.7:40000".parse().unwrap();
    let replies = said(&mut announced(), "192.168.69.7:40000", &question, 6_000);
    assert_eq!(replies, [(6_000, client, reply.to_vec())]);
}

#[test]
fn records_that_a_client_knows_are_not_repeated() {
    let known = |ttl: &[u8]| [BROWSE, b"\0\x01\xc0\x0c\0\x0c\0\x01\0\0", ttl, b"\0\x07\x04lab3\xc0\x0c"].concat();
    let with_answer = |mut message: Vec<u8>| {
        message[7] = 1;
        message
    };
    assert_eq!(said(&mut announced(), PEER, &with_answer(known(b"\x11\x94")), 6_000), []);
    // The client's record expires soon.
    assert_eq!(said(&mut announced(), PEER, &with_answer(known(b"\x08\xc9")), 6_000).len(), 1);
    let address = b"\0\0\0\0\0\x01\0\x01\0\0\0\0\x04LAB3\x05local\0\0\x01\0\x01\xc0\x0c\0\x01\x80\x01\0\0\0\x78\0\x04";
    assert_eq!(said(&mut announced(), PEER, &[&address[..], &[192, 168, 69, 1]].concat(), 6_000), []);
    assert_eq!(said(&mut announced(), PEER, &[&address[..], &[192, 168, 69, 2]].concat(), 6_000).len(), 1);
}

#[test]
fn what_is_malformed_is_ignored() {
    let whole = [&query(BROWSE, 1)[..], b"\xc0\x0c\0\x0c\0\x01\0\0\0\x01\0\x07\x04lab3\xc0\x0c"].concat();
    let whole: Vec<u8> = whole.iter().enumerate().map(|(at, byte)| if at == 7 { 1 } else { *byte }).collect();
    assert_eq!(said(&mut announced(), PEER, &whole, 6_000).len(), 1);
    for len in 0..whole.len() {
        assert_eq!(said(&mut announced(), PEER, &whole[..len], 6_000), [], "{len}");
    }
    for (text, bad) in [
        (
            "a name that leads to itself",
            &b"\0\0\0\0\0\x02\0\0\0\0\0\0\x04lab3\x05local\0\0\x01\0\x01\xc0\x1d\0\x01\0\x01"[..],
        ),
        ("65,535 questions", b"\0\0\0\0\xff\xff\0\0\0\0\0\0\x04lab3\x05local\0\0\x01\0\x01"),
        ("65,535 answers", b"\0\0\0\0\0\x01\xff\xff\0\0\0\0\x04lab3\x05local\0\0\x01\0\x01"),
        ("65,535 authorities", b"\0\0\0\0\0\x01\0\0\xff\xff\0\0\x04lab3\x05local\0\0\x01\0\x01"),
        ("another operation", b"\0\0\x28\0\0\x01\0\0\0\0\0\0\x04lab3\x05local\0\0\x01\0\x01"),
        ("an error", b"\0\0\0\x03\0\x01\0\0\0\0\0\0\x04lab3\x05local\0\0\x01\0\x01"),
    ] {
        assert_eq!(said(&mut announced(), PEER, bad, 6_000), [], "{text}");
    }
}

#[test]
fn only_hosts_of_the_own_network_are_answered() {
    for from in [
        "192.168.70.7:5353",
        "10.0.0.1:5353",
        "192.168.69.255:5353",
        "192.168.69.1:5353",
        "0.0.0.0:5353",
        "[fe80::1]:5353",
        "192.168.69.7:0",
    ] {
        assert_eq!(said(&mut announced(), from, &query(RESOLVE, 1), 6_000), [], "{from}");
    }
}

#[test]
fn a_flood_gets_few_replies() {
    let mut device = announced();
    let mut replies = 0;
    for at in 0..10_000 {
        let client = SocketAddr::new("192.168.69.7".parse().unwrap(), 10_000 + at);
        device.handle(client, &query(RESOLVE, 1), ms(6_000 + u64::from(at) / 10));
        replies += usize::from(device.next(ms(6_000 + u64::from(at) / 10)).is_some());
    }
    // 32 at first, and 31 during the second that this takes.
    assert!((32..=64).contains(&replies), "{replies}");
    // One multicast per second.
    let mut device = announced();
    for at in 0..300 {
        device.handle(PEER.parse().unwrap(), &query(RESOLVE, 1), ms(6_000 + at * 10));
        replies = sent(&mut device, 6_000 + at * 10, 6_009 + at * 10).len();
        assert!(replies == usize::from(at % 100 == 0), "{at}");
    }
}

#[test]
fn a_reply_is_not_delayed_by_another_one() {
    let mut device = announced();
    device.handle(PEER.parse().unwrap(), &query(RESOLVE, 1), ms(6_000));
    assert_eq!(sent(&mut device, 6_000, 6_000).len(), 1);
    let replies = said(&mut device, PEER, &query(BROWSE, 1), 6_001);
    assert!(replies.len() == 1 && replies[0].0 < 6_130, "{replies:?}");
    // The same reply again is sent a second later.
    let at = replies[0].0;
    let replies = said(&mut device, PEER, &query(BROWSE, 1), at + 1);
    assert!(replies.len() == 1 && replies[0].0 >= at + 1_000, "{replies:?}");
}

/// Lets responders exchange messages until `until`.
fn together(devices: &mut [(&str, Responder)], mut now: u64, until: u64) {
    while now <= until {
        for at in 0..devices.len() {
            for (_, message, bytes) in sent(&mut devices[at].1, now, now) {
                let from = SocketAddr::new(devices[at].0.parse().unwrap(), 5353);
                for (address, other) in devices.iter_mut() {
                    let address: IpAddr = address.parse().unwrap();
                    if (message.to.ip().is_multicast() && address != from.ip()) || message.to.ip() == address {
                        other.handle(from, &bytes, ms(now));
                    }
                }
            }
        }
        now += 1;
    }
}

fn names<'a>(devices: &'a [(&str, Responder)]) -> Vec<&'a str> {
    devices.iter().map(|(_, device)| if device.is_announced() { device.name() } else { "" }).collect()
}

#[test]
fn devices_of_one_name_that_start_together_get_different_names() {
    // With equal delays, the probes cross; with different ones, one device is later.
    for (one, other, third) in [(1, 1, 1), (1, 2, 3), (77, 5, 1)] {
        let mut devices = [
            ("192.168.69.2", responder("192.168.69.2", one)),
            ("192.168.69.3", responder("192.168.69.3", other)),
            ("192.168.69.4", responder("192.168.69.4", third)),
        ];
        together(&mut devices, 1, 20_000);
        let mut names = names(&devices);
        names.sort_unstable();
        assert_eq!(names, ["lab3", "lab3-2", "lab3-3"]);
    }
}

#[test]
fn a_device_that_comes_later_takes_another_name() {
    let mut devices = [("192.168.69.2", responder("192.168.69.2", 1))];
    together(&mut devices, 1, 5_000);
    let [(_, first)] = devices;
    let mut late = Responder::new(Some("lab3"), MAC, 50_000, "skiff/0.1", 9);
    late.set_addresses([("192.168.69.3".parse().unwrap(), 24)].into_iter(), ms(5_000));
    let mut devices = [("192.168.69.2", first), ("192.168.69.3", late)];
    together(&mut devices, 5_001, 10_000);
    assert_eq!(names(&devices), ["lab3", "lab3-2"]);
}

#[test]
fn when_two_networks_are_joined_one_device_keeps_the_name() {
    let [mut one, mut other] = ["192.168.69.2", "192.168.69.3"].map(|address| [(address, responder(address, 1))]);
    together(&mut one, 1, 5_000);
    together(&mut other, 1, 5_000);
    let ([one], [other]) = (one, other);
    let mut devices = [one, other];
    let from: SocketAddr = "192.168.69.9:5353".parse().unwrap();
    for (_, device) in &mut devices {
        device.handle(from, &query(BROWSE, 1), ms(6_000));
    }
    together(&mut devices, 6_000, 20_000);
    let mut names = names(&devices);
    names.sort_unstable();
    assert_eq!(names, ["lab3", "lab3-2"]);
}

#[test]
fn a_name_that_is_claimed_repeatedly_is_not_changed_forever() {
    let mut device = responder(OWN, 1);
    let mut names = 0;
    let mut name = device.name().to_owned();
    for now in 1..60_000 {
        if let Some(message) = device.next(ms(now)) {
            let mut bytes = [0; MESSAGE];
            let len = device.write(&message, &mut bytes).unwrap();
            // Another host claims every name that it probes for: the first one, with another address.
            let label = &bytes[12..usize::from(bytes[12]) + 20];
            let claim =
                [b"\0\0\x84\0\0\0\0\x01\0\0\0\0", label, b"\0\x01\0\x01\0\0\0\x78\0\x04\xc0\xa8\x45\x09"].concat();
            assert!(len > 0);
            device.handle(PEER.parse().unwrap(), &claim, ms(now));
        }
        if device.name() != name {
            name = device.name().to_owned();
            names += 1;
        }
    }
    assert!((20..30).contains(&names), "{names}: {name}");
}

#[test]
fn a_new_address_and_the_end_are_announced() {
    let mut device = announced();
    device.set_addresses([(OWN.parse().unwrap(), 24)].into_iter(), ms(5_000));
    assert_eq!(device.deadline(), None);
    device.set_addresses([("192.168.69.8".parse().unwrap(), 24)].into_iter(), ms(5_000));
    let sent_again = sent(&mut device, 5_000, 10_000);
    assert_eq!(sent_again.len(), 5);
    assert!(sent_again[4].2.ends_with(&[192, 168, 69, 8]));
    device.end();
    let goodbye = sent(&mut device, 10_000, 20_000);
    assert_eq!(goodbye.len(), 1);
    let expected = [b"\0\0\x84\0\0\0\0\x04\0\0\0\0", RECORDS].concat();
    // The lifetimes are zero (six of their bytes were not), and the address differs.
    let differs = goodbye[0].2.iter().zip(&expected).filter(|(one, other)| one != other).count();
    assert_eq!((goodbye[0].2.len(), differs), (expected.len(), 7));
    assert_eq!(said(&mut device, PEER, &query(RESOLVE, 1), 30_000), []);
    // Without an address there is nothing to announce.
    let mut device = announced();
    device.set_addresses([].into_iter(), ms(5_000));
    assert_eq!(device.deadline(), None);
    assert_eq!(said(&mut device, PEER, &query(RESOLVE, 1), 6_000), []);
}

#[test]
fn both_families_are_announced_to_their_own_groups() {
    let addresses = [("192.168.69.1", 24), ("fe80::1", 64), ("2001:db8::7", 64)];
    let mut device = Responder::new(Some("lab3"), MAC, 50_000, "skiff/0.1", 1);
    device.set_addresses(addresses.map(|(address, prefix)| (address.parse().unwrap(), prefix)).into_iter(), ms(1));
    let sent = sent(&mut device, 1, 5_000);
    let ways: Vec<_> =
        sent.iter().map(|(_, message, _)| (message.to.ip().to_string(), message.from.to_string())).collect();
    assert_eq!(ways.len(), 10);
    assert_eq!(ways[0], ("224.0.0.251".to_owned(), "192.168.69.1".to_owned()));
    assert_eq!(ways[1], ("ff02::fb".to_owned(), "fe80::1".to_owned()));
    // A query by IPv6 gets all addresses in a reply by IPv6, from the address in the same network.
    let replies = said(&mut device, "[2001:db8::9]:40000", &query(RESOLVE, 1), 6_000);
    assert_eq!((replies.len(), replies[0].2[7], replies[0].2[11]), (1, 1, 2));
}

#[test]
fn a_name_is_converted_to_a_host_name() {
    assert_eq!(Responder::new(None, MAC, 1, "", 1).name(), "skiff-00beef");
    for (name, label) in [
        ("lab-3", "lab-3"),
        ("Labor.3/b_c", "Labor-3-b-c"),
        ("", "skiff-00beef"),
        ("0123456789012345678901234567890123456789", "01234567890123456789012345678901"),
    ] {
        assert_eq!(Responder::new(Some(name), MAC, 1, "", 1).name(), label);
    }
}
