//! Measures how long a server takes to deny a wrong key, an unknown ROLE and a GENERATION that is too low (PROTOCOL
//! §8): the time must not reveal which of them it was.
//!
//!     cargo run --release -p skiff-proto --features secure --example denial_timing [ATTEMPTS]
//!
//! The three take turns, each attempt with a new session. Only the server is timed: from the bytes of `secure` to the
//! bytes of the reply. Compare the differences of the medians with the spread, and with the last column: the same
//! difference between the even and the odd attempts of a single kind.

use core::hint::black_box;
use std::time::Instant as Clock;

use blake2::Blake2sMac256;
use blake2::digest::{KeyInit, Mac};
use skiff_proto::Instant;
use skiff_proto::message::HEADER_LEN;
use skiff_proto::secure::{Entropy, Noise, Secret, Security};
use skiff_proto::server::{Limits, ServerSession};

const PATTERN: &str = "Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s";
const SECRET: [u8; 32] = [7; 32];
const LEAST: u32 = 3;

/// The fault, the KEYID, and the secret that its key is derived from.
const KINDS: [(&str, &str, [u8; 32]); 3] = [
    ("wrong key", "rw.alice.3", [8; 32]),
    ("unknown ROLE", "xx.alice.3", SECRET),
    ("GENERATION too low", "rw.alice.2", SECRET),
];

fn main() {
    let attempts = std::env::args().nth(1).map_or(20_000, |count| count.parse().expect("a number of attempts"));
    let mut times = [const { Vec::new() }; KINDS.len()];
    let mut text = None;
    // The first ones warm up the processor and are not counted.
    for attempt in 0..attempts + attempts / 20 {
        // Each comes first as often as the others.
        for turn in 0..KINDS.len() {
            let kind = (attempt + turn) % KINDS.len();
            let (_, id, secret) = KINDS[kind];
            let (time, reply) = deny(attempt * KINDS.len() + turn, id, &secret);
            assert!(reply.starts_with("error denied "), "{reply}");
            assert_eq!(text.get_or_insert_with(|| reply.clone()), &reply, "one TEXT for all");
            if attempt >= attempts / 20 {
                times[kind].push(time);
            }
        }
    }
    println!("{attempts} attempts each, nanoseconds");
    println!("{:20} {:>8} {:>8} {:>8} {:>8} {:>8}", "", "median", "to first", "p25", "p75", "halves");
    let first = median(times[0].clone());
    for ((kind, ..), times) in KINDS.iter().zip(times) {
        let halves = [0, 1].map(|half| median(times.iter().copied().skip(half).step_by(2).collect()));
        let own = median(times.clone());
        let [low, high] = [1, 3].map(|quarter| part(times.clone(), quarter, 4));
        println!("{kind:20} {own:8} {:+8} {low:8} {high:8} {:+8}", own - first, halves[0] - halves[1]);
    }
}

/// One attempt: returns the server's time and its answer.
fn deny(number: usize, id: &str, secret: &[u8; 32]) -> (i64, String) {
    let own = Secret::new(SECRET);
    let security = Security {
        nonce: own.nonce(1, number as u64),
        secret: own,
        min_generation: LEAST,
        entropy: Entropy::Random([1; 32]),
        record_max: 1014,
        accepted: Instant::from_millis(1),
    };
    let mut server: ServerSession<200, Noise> = ServerSession::new(Limits::new(64));
    server.protect(security.guard().expect("a right record-max")).expect("a new session");
    server.handle_timeout(Instant::from_millis(1));
    let hello = ask(&mut server, "get /skiff/1");
    let asked = format!("secure {PATTERN} {id}");
    let mut psk = <Blake2sMac256 as KeyInit>::new(secret.into());
    Mac::update(&mut psk, format!("skiff/1 psk {id}").as_bytes());
    let psk: [u8; 32] = psk.finalize().into_bytes().into();
    let prologue = format!("{hello}\n{asked}");
    let client = snow::Builder::new(PATTERN.parse().expect("a pattern"));
    let client = client.psk(0, &psk).and_then(|client| client.prologue(prologue.as_bytes())).expect("a client");
    let mut first = [0; 48];
    client.build_initiator().and_then(|mut client| client.write_message(b"", &mut first)).expect("message 1");
    let hex: String = first.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut command = message(&format!("{asked} {hex}"));
    let mut reply = [0; 200];
    let begin = Clock::now();
    let taken = server.receive(black_box(&mut command)).map(|received| received.taken);
    let len = server.poll_transmit(black_box(&mut reply));
    let time = begin.elapsed();
    assert_eq!(taken, Ok(command.len()));
    let reply = String::from_utf8_lossy(&reply[HEADER_LEN..len]).into_owned();
    (i64::try_from(time.as_nanos()).unwrap_or(i64::MAX), reply)
}

fn message(payload: &str) -> Vec<u8> {
    format!("{:010}{payload}", payload.len()).into_bytes()
}

/// A command in clear, and its reply.
fn ask(server: &mut ServerSession<200, Noise>, command: &str) -> String {
    let mut reply = [0; 500];
    server.receive(&mut message(command)).expect("a message");
    let len = server.poll_transmit(&mut reply);
    String::from_utf8_lossy(&reply[HEADER_LEN..len]).into_owned()
}

fn median(times: Vec<i64>) -> i64 {
    part(times, 1, 2)
}

fn part(mut times: Vec<i64>, numerator: usize, denominator: usize) -> i64 {
    times.sort_unstable();
    times[times.len() * numerator / denominator]
}
