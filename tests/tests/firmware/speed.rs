//! The speed of a board, for firmware/README.md: on demand, on an idle machine.

use core::time::Duration;
use std::time::Instant;

use skiff_tests::firmware::Medium;
use skiff_tests::namespace::{inside, ip};

use super::{BOARDS, Scene, content, scene};

/// Files there and back.
const ROUNDS: usize = 9;
/// Small commands.
const PINGS: usize = 2000;

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// A line of the table: board and files, network, put and get in MB/s, ping in us (medians); every byte is compared,
/// and its checksum verified on both sides.
fn measure(scene: &Scene, network: &str) {
    let machine = scene.start();
    let mut wire = machine.connect();
    let bytes = content(1 << 20, 1);
    let (mut put, mut get) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        assert!(wire.write("f", &bytes).starts_with("ok 1048576 "));
        put.push(begin.elapsed());
        let begin = Instant::now();
        let back = wire.read("f").unwrap();
        get.push(begin.elapsed());
        assert!(back == bytes);
    }
    let mut pings = Vec::new();
    for _ in 0..PINGS {
        let begin = Instant::now();
        assert_eq!(wire.ask("ping"), "ok");
        pings.push(begin.elapsed());
    }
    let rate = |times| 1.048_576 / median(times).as_secs_f64();
    let files = match scene.setup.board.medium() {
        Some(Medium::Card) => "SD card",
        Some(Medium::Flash) => "NOR flash",
        None => "RAM",
    };
    println!(
        "| {:?}, {files} | {network} | {:.1} | {:.1} | {} |",
        scene.setup.board,
        rate(put),
        rate(get),
        median(pings).as_micros()
    );
}

#[test]
#[ignore = "a measurement: cargo test -p skiff-tests --test firmware speed -- --ignored --nocapture"]
fn the_speed_of_each_board() {
    const TEST: &str = "the_speed_of_each_board";
    let scenes = BOARDS.iter().map(|&board| scene(board)).collect::<Vec<_>>();
    if !inside(module_path!(), TEST) {
        for scene in &scenes {
            measure(scene, "user mode");
        }
        return;
    }
    for mut scene in scenes {
        scene.use_tap();
        measure(&scene, "TAP");
        ip("link del tap0");
    }
}
