//! Another process with write access to the served directory swaps files and directories for symbolic links that lead
//! out, as fast as it can, while clients use every command on them.
//!
//! Beside the directory is another one with a canary file: it must never be read, listed or changed, and nothing may be
//! created beside it.

use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::fs;
use std::io::Write as _;
use std::net::Shutdown;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::PathBuf;

use rustix::fs::{AtFlags, CWD, FileType, RenameFlags, renameat_with, statat};

use super::in_memory;
use crate::host::Host;
use crate::sans_io::message;
use crate::wire::{Wire, read_to_end};

/// The content of the files inside.
const INSIDE: &[u8] = b"inside";
/// The content that must never be seen.
const CANARY: &str = "canary";

/// The parameters.
#[derive(Debug, Clone, Copy)]
pub struct Links {
    /// Minimum number of swaps.
    pub swaps: u64,
    /// Minimum number of commands meanwhile.
    pub commands: u64,
    /// Clients at the same time.
    pub clients: usize,
    /// Use only portable system calls.
    pub portable: bool,
}

/// The counts.
#[derive(Debug, Clone, Copy, Default)]
pub struct Swapped {
    /// Swaps.
    pub swaps: u64,
    /// Commands of the clients.
    pub commands: u64,
    /// How many of them succeeded.
    pub done: u64,
    /// Whether the system would have recorded a read of the canary.
    pub watched: bool,
}

impl fmt::Display for Swapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { swaps, commands, done, watched } = self;
        let watched = if *watched { "" } else { " (its time of access is not kept here)" };
        write!(f, "{swaps} swaps, {commands} commands, {done} of them done; the canary is untouched{watched}")
    }
}

/// The directories: `served/` and `outside/`.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    /// Creates them; also returns the directory `served/d`, which will be moved.
    fn new() -> (Self, fs::File) {
        // Not on a disk, which would have most of the time to itself.
        let place = Self { dir: in_memory() };
        let (root, outside) = (place.root(), place.outside());
        for dir in [&outside, &root.join("d"), &root.join("d/sub")] {
            fs::create_dir_all(dir).expect("mkdir");
        }
        fs::create_dir(outside.join("sub")).expect("mkdir");
        for file in ["f", "d/f", "d/sub/f"] {
            fs::write(root.join(file), INSIDE).expect("write");
        }
        // The same names outside, so that a path that leads out would find something.
        for file in ["f", "sub/f", CANARY] {
            fs::write(outside.join(file), CANARY).expect("write");
        }
        let real = fs::File::open(root.join("d")).expect("a directory");
        place.make_links(&real);
        (place, real)
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("served")
    }

    fn outside(&self) -> PathBuf {
        self.dir.path().join("outside")
    }

    /// Creates missing links that files and directories are swapped for. `real` is the directory `d`, wherever it is
    /// now.
    fn make_links(&self, real: &fs::File) {
        let root = self.root();
        let is_link = |dir: &fs::File, name: &str| {
            let meta = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW);
            meta.is_ok_and(|meta| FileType::from_raw_mode(meta.st_mode) == FileType::Symlink)
        };
        let top = fs::File::open(&root).expect("the root");
        for (dir, name, other, to) in [
            (&top, "d", "swap-d", "../outside"),
            (&top, "f", "swap-f", "../outside/f"),
            (real, "sub", "swap-sub", "../../outside/sub"),
        ] {
            if !is_link(dir, name) && !is_link(&top, other) {
                _ = fs::remove_file(root.join(other));
                symlink(to, root.join(other)).expect("a link");
            }
        }
    }

    /// A snapshot of everything outside, with content and inode.
    fn picture(&self) -> Vec<(String, Option<Vec<u8>>, u64)> {
        let mut picture = Vec::new();
        for dir in ["", "sub"] {
            for entry in fs::read_dir(self.outside().join(dir)).expect("a directory").flatten() {
                let meta = entry.metadata().expect("metadata");
                let content = meta.is_file().then(|| fs::read(entry.path()).expect("read"));
                picture.push((entry.path().to_string_lossy().into_owned(), content, meta.ino()));
            }
        }
        picture.sort();
        picture
    }

    /// The access times of the canaries; with `back`, sets them to the distant past first.
    fn access(&self, back: bool) -> Vec<i64> {
        let times = ["f", "sub/f", CANARY].map(|file| {
            let path = self.outside().join(file);
            if back {
                let long_ago = std::time::SystemTime::UNIX_EPOCH + core::time::Duration::from_secs(1_000_000_000);
                let file = fs::File::options().write(true).open(&path).expect("open");
                file.set_times(fs::FileTimes::new().set_accessed(long_ago)).expect("times");
            }
            path.metadata().expect("metadata").atime()
        });
        times.to_vec()
    }
}

impl Links {
    /// Runs it, in its own directory.
    ///
    /// # Panics
    /// If a guarantee is violated.
    #[must_use]
    pub fn run(&self) -> Swapped {
        let (place, real) = Place::new();
        let host = Host::serve(&place.root(), |setup| {
            setup.store.portable = self.portable;
            setup.server.portable = self.portable;
        });
        let before = place.picture();
        let times = place.access(true);
        let (over, commands, done) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
        let mut swaps = 0;
        std::thread::scope(|scope| {
            for client in 0..self.clients {
                let (host, over, commands, done) = (&host, &over, &commands, &done);
                scope.spawn(move || {
                    // Ends the rest also when an assertion fails.
                    let _ends = Ends(over);
                    let mut wire = host.connect();
                    for round in 0.. {
                        if over.load(Ordering::Relaxed) {
                            return;
                        }
                        let (asked, succeeded) = every_command(&mut wire, client, round);
                        commands.fetch_add(asked, Ordering::Relaxed);
                        done.fetch_add(succeeded, Ordering::Relaxed);
                    }
                });
            }
            let _ends = Ends(&over);
            let root = place.root();
            while swaps < self.swaps || commands.load(Ordering::Relaxed) < self.commands {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                // A client may have replaced the link, and then there is nothing to be swapped for.
                if swaps % 64 == 0 {
                    place.make_links(&real);
                }
                let exchange = RenameFlags::EXCHANGE;
                let swapped = match swaps % 3 {
                    0 => renameat_with(CWD, root.join("d"), CWD, root.join("swap-d"), exchange),
                    1 => renameat_with(CWD, root.join("f"), CWD, root.join("swap-f"), exchange),
                    // By the directory itself: by its path it might be the link, and the neighbour would tidy up outside.
                    _ => renameat_with(&real, "sub", CWD, root.join("swap-sub"), exchange),
                };
                swapped.expect("what is swapped is always there");
                swaps += 1;
            }
        });
        assert_eq!(place.access(false), times, "the canary was read");
        assert_eq!(place.picture(), before);
        // Whether the system keeps that time at all: `picture` has read it now.
        let watched = place.access(false) != times;
        let (commands, done) = (commands.into_inner(), done.into_inner());
        assert!(0 < done && done < commands, "{done} of {commands}: not swapped while it was used");
        Swapped { swaps, commands, done, watched }
    }
}

struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Sends every command once; returns how many there were and how many succeeded.
fn every_command(wire: &mut Wire, client: usize, round: u64) -> (u64, u64) {
    let (mut asked, mut done) = (0, 0);
    let mut count = |success: bool| {
        asked += 1;
        done += u64::from(success);
    };
    for name in ["d/f", "f", "d/sub/f"] {
        let read = wire.read(name);
        assert!(read.as_ref().is_ok_and(|bytes| bytes == INSIDE) || read.is_err(), "{name}: {read:?}");
        count(read.is_ok());
        let stat = wire.ask(format!("stat {name}"));
        count(stat.starts_with("ok 6 "));
        let sum = wire.ask(format!("sum 0 * {name}"));
        let inside = format!("ok 6 {:08x}", skiff_proto::crc::crc32c(INSIDE));
        assert!(sum == inside || sum.starts_with("error "), "{sum}");
        count(sum == inside);
        let port = wire.ask(format!("get {name}"));
        if port != "-1" {
            assert_eq!(read_to_end(&mut wire.data(&port)).0, message(INSIDE));
        }
        count(port != "-1");
    }
    for dir in ["", " d", " d/sub"] {
        let reply = wire.ask(format!("list{dir}"));
        if reply == "ok" {
            let (listing, _) = wire.hear_body();
            assert!(!String::from_utf8_lossy(&listing).contains(CANARY), "list{dir}");
        }
        count(reply == "ok");
    }
    let classic = wire.ask("ls");
    assert!(!classic.contains(CANARY), "{classic}");
    // Files of this client alone, so that it is never busy.
    let mine = |at: &str| format!("{at}-{client}");
    for dir in ["d/", "d/sub/"] {
        let (new, moved) = (format!("{dir}{}", mine("new")), format!("{dir}{}", mine("moved")));
        count(wire.ask(format!("resume 6 {new}")).starts_with("ok "));
        count(wire.write(&new, INSIDE).starts_with("ok "));
        for command in [
            format!("rename {new}\n{moved}"),
            format!("remove {moved}"),
            format!("mkdir {dir}{}", mine("made")),
            format!("rmdir {dir}{}", mine("made")),
            // What is swapped itself. It stays where it is: nothing else in it is ever removed.
            format!("rmdir {}", dir.trim_end_matches('/')),
            format!("remove {}", dir.trim_end_matches('/')),
        ] {
            count(wire.ask(command) == "ok");
        }
    }
    if round.is_multiple_of(16) {
        // Into the place of the link, and a classic one beside it.
        count(wire.write("f", INSIDE).starts_with("ok "));
        let port = wire.ask("put p");
        if port != "-1" {
            let mut data = wire.data(&port);
            _ = data.write_all(&message(INSIDE));
            _ = data.shutdown(Shutdown::Write);
            _ = read_to_end(&mut data);
        }
        count(port != "-1");
        for name in ["p", "p(1)", "p(2)"] {
            _ = wire.ask(format!("remove {name}"));
        }
    }
    (asked, done)
}
