//! Updates of the firmware: two slots in flash, a boot loader, host-cli.

use core::net::{Ipv4Addr, SocketAddr};
use core::sync::atomic::{AtomicU64, Ordering};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;

use skiff_tests::firmware::elf::flat;
use skiff_tests::firmware::machine::Machine;
use skiff_tests::firmware::update::{Key, create_bank, labeled};
use skiff_tests::firmware::{BOOT, Board, Fetch, Image, build_with_key, root};
use skiff_tests::programs::{host_cli, run};
use tempfile::TempDir;

use super::{Scene, image};

/// A board with a boot loader, and the image that it runs.
struct Updatable {
    scene: Scene,
    directory: TempDir,
    image: Vec<u8>,
}

impl Updatable {
    fn new() -> Self {
        Self::of(&image(&Image::UPDATE))
    }

    /// A board that starts with the image `server`.
    fn of(server: &Path) -> Self {
        let boot = image(&BOOT);
        let mut scene = Scene::new(Board::Virt, server);
        let directory = tempfile::tempdir().unwrap();
        let slots = directory.path().join("slots");
        let image = flat(server).unwrap();
        create_bank(&slots, &boot, &labeled(image.clone(), Board::Virt, "0.1.0")).unwrap();
        scene.setup.slots = Some(slots);
        Self { scene, directory, image }
    }

    /// The file with an image for an update.
    fn file(&self, name: &str, image: Vec<u8>) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::write(&path, labeled(image, Board::Virt, "test")).unwrap();
        path
    }

    /// The same image with another version.
    fn version(&self, version: &[u8; 5]) -> Vec<u8> {
        let mut image = self.image.clone();
        let old = b"skiff-virt/0.1.0";
        let at = image.windows(old.len()).position(|window| window == old).unwrap();
        image[at + 11..at + 16].copy_from_slice(version);
        image
    }

    fn cli(&self, machine: &Machine) -> Command {
        self.cli_at(machine.port())
    }

    fn cli_at(&self, port: u16) -> Command {
        let mut command = host_cli(self.directory.path());
        command.args(["localhost", &port.to_string()]);
        command
    }
}

/// An image of these instructions.
fn instructions(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// The host-cli commands in the section on updates of firmware/README.md, each with its output; and the console output.
fn documented() -> (Vec<(String, String)>, Vec<String>) {
    let page = fs::read_to_string(root().join("firmware/README.md")).unwrap();
    let section = page.split_once("\n## Updates\n").unwrap().1.split("\n## ").next().unwrap();
    let (mut commands, mut console) = (Vec::new(), Vec::new());
    for block in section.split("```").skip(1).step_by(2) {
        let (kind, lines) = block.split_once('\n').unwrap();
        if kind == "text" {
            console.extend(lines.lines().map(str::to_owned));
            continue;
        }
        for line in lines.lines() {
            match (line.strip_prefix("$ "), commands.last_mut()) {
                (Some(command), _) => commands.push((command.to_owned(), String::new())),
                (None, Some((_, output))) => *output += &format!("{line}\n"),
                (None, None) => {}
            }
        }
    }
    commands.retain(|(command, _)| command.starts_with("host-cli localhost 50000 "));
    assert!(commands.len() >= 4 && console.len() >= 4, "{commands:?} {console:?}");
    (commands, console)
}

/// `text` without the size of the image, which differs after each change.
fn unsized_text(text: &str) -> String {
    let words = text.split_inclusive(' ').collect::<Vec<_>>();
    let is_size = |at: usize| words.get(at + 1).is_some_and(|next| next.starts_with("bytes"));
    words.iter().enumerate().map(|(at, word)| if is_size(at) { "N " } else { word }).collect()
}

#[test]
fn flash_updates_a_board_and_a_bad_image_rolls_back() {
    let board = Updatable::new();
    let machine = board.scene.start();
    machine.put("kept", b"a file of the store");
    board.file("new.bin", board.version(b"0.1.9"));
    // One that resets the board at once: lui a0, 0x100; lui a1, 7; addi a1, a1, 0x777; sw a1, 0(a0).
    board.file("bad.bin", instructions(&[0x0010_0537, 0x0000_75b7, 0x7775_8593, 0x00b5_2023]));

    // The commands of the guide, with their output, and the console.
    let (commands, console) = documented();
    for (command, output) in commands {
        let out = run(board.cli(&machine).args(command.split(' ').skip(3)));
        assert_eq!(unsized_text(&format!("{}{}", out.out(), out.err)), unsized_text(&output), "{command}");
    }
    let mut heard = 0;
    for line in console {
        heard = machine.running.hear(&line, heard);
    }
    assert!(machine.connect().ask("get /skiff/1").contains(" server=skiff-virt/0.1.9 "));

    // What is no image for this board changes nothing.
    for (name, content, error) in [
        ("noise.bin", vec![7; 5000], "this is not a firmware image"),
        ("other.bin", labeled(board.image.clone(), Board::Mps2, "1"), "the image is for another board"),
        ("large.bin", vec![7; (1 << 20) + 1], "the image is larger than its slot"),
    ] {
        fs::write(board.directory.path().join(name), content).unwrap();
        assert!(run(board.cli(&machine).args(["flash", name])).failed(1).contains(error), "{name}");
    }
    assert_eq!(run(board.cli(&machine).args(["cat", "firmware"])).ok(), "skiff-virt/0.1.9 reverted\n");
    assert_eq!(machine.content("kept").unwrap(), b"a file of the store");
}

#[test]
fn an_image_that_hangs_is_left_at_the_next_power_up() {
    let board = Updatable::new();
    let machine = board.scene.start();
    // A jump to itself.
    machine.put("firmware", &labeled(instructions(&[0x0000_006f; 16]), Board::Virt, "test"));
    assert_eq!(machine.content("firmware").unwrap(), b"skiff-virt/0.1.0 staged\n");
    machine.kill();
    let hanging = Machine::switch_on(&board.scene.setup);
    hanging.running.hear("boot: a new image, on trial", 0);
    hanging.kill();
    let machine = board.scene.start();
    assert_eq!(machine.content("firmware").unwrap(), b"skiff-virt/0.1.0 reverted\n");
}

/// Updates to the same image, to which no client connects.
#[test]
fn an_image_that_no_client_visits_is_given_up() {
    let features = format!("{} short-waits", Image::UPDATE.features);
    let board = Updatable::of(&image(&Image { features: &features, ..Image::UPDATE }));
    let machine = board.scene.start();
    machine.put("firmware", &labeled(board.version(b"0.1.9"), Board::Virt, "test"));
    machine.put("reboot", b"1");
    let trial = machine.running.hear("boot: a new image, on trial", 0);
    let new = machine.running.hear("skiff-virt/0.1.9", trial);
    let given_up = machine.running.hear("firmware: no client connected", new);
    let back = machine.running.hear("boot: the new image was not confirmed; reverted to the previous image", given_up);
    machine.running.hear("\nip ", back);
    assert_eq!(machine.content("firmware").unwrap(), b"skiff-virt/0.1.0 reverted\n");
}

#[test]
fn a_board_with_a_key_runs_only_images_signed_with_it() {
    let (key, other) = (Key::new(&[7; 32]), Key::new(&[8; 32]));
    let board = Updatable::of(&build_with_key(&Image::UPDATE_SIGNED, Fetch::Nothing, &key).unwrap());
    let machine = board.scene.start();
    let unsigned = board.file("unsigned.bin", board.version(b"0.1.9"));
    let signed = |name: &str, key: &Key| {
        let mut image = fs::read(&unsigned).unwrap();
        key.sign(&mut image);
        fs::write(board.directory.path().join(name), &image).unwrap();
        image
    };
    let good = signed("good.bin", &key);
    signed("wrong.bin", &other);
    // The signature covers the label as well, so the version can't be changed, for example.
    let mut changed = good.clone();
    let at = good.len() - 128 + 32;
    changed[at] ^= 1;
    fs::write(board.directory.path().join("changed.bin"), &changed).unwrap();
    for name in ["unsigned.bin", "wrong.bin", "changed.bin"] {
        let out = run(board.cli(&machine).args(["flash", name]));
        let error = out.failed(1);
        assert!(error.ends_with("the image is not signed with the right key (denied)"), "{name}: {error}");
    }
    assert_eq!(run(board.cli(&machine).args(["cat", "firmware"])).ok(), "skiff-virt/0.1.0 confirmed\n");
    let out = run(board.cli(&machine).args(["flash", "good.bin"])).ok();
    assert!(out.ends_with("flash good.bin: skiff-virt/0.1.9 is running, confirmed\n"), "{out}");
    let status = board_stack(machine);
    assert!(status.0 + 1024 < status.1, "{status:?}");
}

/// The highest use of the stack, and its size, in bytes.
fn board_stack(mut machine: Machine) -> (u64, u64) {
    let status = machine.status();
    (status.stack, status.room)
}

/// A relay to `server` that cuts its first connection that sends more than `cut` bytes. Returns its port, and the
/// number of bytes that clients have sent.
fn cutting_relay(server: SocketAddr, cut: u64) -> (u16, Arc<AtomicU64>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let sent = Arc::new(AtomicU64::new(0));
    let total = Arc::clone(&sent);
    // These threads end with the test's process.
    thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let Ok(mut board) = TcpStream::connect(server) else { continue };
            let (mut back, mut to) = (board.try_clone().unwrap(), client.try_clone().unwrap());
            let total = Arc::clone(&total);
            thread::spawn(move || {
                _ = std::io::copy(&mut back, &mut to);
                _ = to.shutdown(Shutdown::Both);
            });
            thread::spawn(move || {
                let mut piece = [0; 4096];
                while let Ok(n @ 1..) = client.read(&mut piece) {
                    let before = total.fetch_add(n as u64, Ordering::SeqCst);
                    if board.write_all(&piece[..n]).is_err() || (before < cut && before + n as u64 >= cut) {
                        break;
                    }
                }
                _ = board.shutdown(Shutdown::Both);
                _ = client.shutdown(Shutdown::Both);
            });
        }
    });
    (port, sent)
}

#[test]
fn an_upload_of_an_image_resumes_after_a_lost_connection() {
    let board = Updatable::new();
    let machine = board.scene.start();
    let new = board.file("new.bin", board.version(b"0.1.9"));
    let size = fs::metadata(&new).unwrap().len();
    let (port, sent) = cutting_relay(machine.addr(), size * 3 / 4);
    let out = run(board.cli_at(port).args(["flash", "new.bin"])).ok();
    assert!(out.ends_with("flash new.bin: skiff-virt/0.1.9 is running, confirmed\n"), "{out}");
    let sent = sent.load(Ordering::SeqCst);
    println!("{sent} bytes sent for an image of {size}");
    // Starting over would send 1.75 times the size.
    assert!((size..size * 5 / 4).contains(&sent), "{sent} of {size}");
}
