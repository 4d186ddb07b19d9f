//! Updates of the image: the slots in flash, and the files `firmware` and `reboot`.
//!
//! | blocks of the bank | content |
//! |---|---|
//! | 0 | the boot loader |
//! | 1 | embassy-boot's state |
//! | 2 to 5 | the active slot |
//! | 6 to 10 | the spare slot, a block larger |

use core::cell::RefCell;
use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;

use embassy_embedded_hal::flash::partition::BlockingPartition;
use embassy_sync::blocking_mutex::Mutex;
use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use skiff_device::overlay::{Overlay, Setting, Virtual};
use skiff_device::update::{Device, Stage, StateFlash, Update};
use skiff_proto::store::Store;
use skiff_proto::{ErrorCode, Refusal};
use static_cell::StaticCell;

use crate::board::IDENTITY;
use crate::clock::millis;
use crate::nor::CfiFlash;
use crate::{fail, log, panic};

const BLOCK: u32 = 256 << 10;

/// Address and length of the state, within the bank.
pub const STATE: (u32, u32) = (BLOCK, BLOCK);
/// Those of the active slot.
pub const ACTIVE: (u32, u32) = (2 * BLOCK, 4 * BLOCK);
/// Those of the spare slot.
pub const SPARE: (u32, u32) = (6 * BLOCK, 5 * BLOCK);

/// Time limit in milliseconds for the first client to connect to a new image; after that, the board returns to the old
/// one. It is short in tests.
const TRIAL: u32 = if cfg!(feature = "short-waits") { 3_000 } else { 60_000 };

/// The ed25519 public key that verifies the signatures of images, with the feature `update-signed`; 64 hex digits in
/// the environment variable.
#[cfg(feature = "update-signed")]
const KEY: Option<[u8; 32]> = Some(parse_key(env!(
    "SKIFF_UPDATE_KEY",
    "the feature update-signed needs the public key, which `cargo firmware key` prints, in SKIFF_UPDATE_KEY"
)));
#[cfg(not(feature = "update-signed"))]
const KEY: Option<[u8; 32]> = None;

#[cfg(feature = "update-signed")]
const fn parse_key(text: &str) -> [u8; 32] {
    const fn digit(byte: u8) -> u8 {
        match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => panic!("SKIFF_UPDATE_KEY may contain only 0 to 9 and a to f"),
        }
    }
    let text = text.as_bytes();
    assert!(text.len() == 64, "SKIFF_UPDATE_KEY: 64 digits");
    let (mut key, mut at) = ([0; 32], 0);
    while at < key.len() {
        key[at] = digit(text[2 * at]) << 4 | digit(text[2 * at + 1]);
        at += 1;
    }
    key
}
/// Milliseconds between a request to restart and the restart: the reply must be sent first.
const GRACE: u32 = 500;

/// A part of the bank.
pub type Part = BlockingPartition<'static, NoopRawMutex, CfiFlash>;

/// The parts of the bank.
#[derive(Clone)]
pub struct Slots {
    /// The image that runs.
    pub active: Part,
    /// Where a new image is written.
    pub spare: Part,
    /// embassy-boot's state.
    pub state: Part,
}

/// Divides the bank.
///
/// # Panics
/// If called twice.
pub fn slots(bank: CfiFlash) -> Slots {
    static BANK: StaticCell<Mutex<NoopRawMutex, RefCell<CfiFlash>>> = StaticCell::new();
    let bank = &*BANK.init(Mutex::new(RefCell::new(bank)));
    let part = |(at, len)| BlockingPartition::new(bank, at, len);
    Slots { active: part(ACTIVE), spare: part(SPARE), state: part(STATE) }
}

/// The file `firmware`.
pub type File = RefCell<Update<Part, StateFlash<Part>>>;

/// When to restart, in milliseconds; 0: not at all.
static RESTART: AtomicU32 = AtomicU32::new(0);

/// A store with the files `firmware` and `reboot`.
pub type Files<S> = Overlay<'static, 'static, S>;

/// Adds the files to a store.
///
/// # Panics
/// If called twice.
pub fn overlay<S: Store>(store: S, bank: CfiFlash, boot: u64) -> (Files<S>, &'static File) {
    type Command = Setting<16, fn(&[u8]) -> Result<(), Refusal>>;
    static FILE: StaticCell<File> = StaticCell::new();
    static FIRMWARE: StaticCell<&'static File> = StaticCell::new();
    static REBOOT: StaticCell<Command> = StaticCell::new();
    static TABLE: StaticCell<[Virtual<'static>; 2]> = StaticCell::new();
    let Slots { spare, state, .. } = slots(bank);
    let device = Device { board: crate::board::NAME, running: IDENTITY, slot: ACTIVE.1 as usize, key: KEY };
    let update = match Update::new(spare, StateFlash::new(state), device) {
        Ok(update) => update,
        Err(refusal) => fail!("firmware: ", refusal.text),
    };
    log!("firmware: ", update.stage().as_str());
    let file = &*FILE.init(RefCell::new(update));
    let reboot = REBOOT.init(Setting::write_only(request_restart));
    let table = TABLE.init([Virtual::new("firmware", FIRMWARE.init(file)), Virtual::new("reboot", reboot)]);
    (Overlay::new(store, table, boot), file)
}

fn request_restart(text: &[u8]) -> Result<(), Refusal> {
    if text.trim_ascii() != b"1" {
        return Err(Refusal::new(ErrorCode::Denied, "write 1 to restart"));
    }
    RESTART.store(millis().wrapping_add(GRACE).max(1), Ordering::Relaxed);
    Ok(())
}

/// Confirms an image on trial once a client has connected, gives it up after a minute without, and restarts if a client
/// has requested it. Returns how long the loop may sleep.
pub fn watch(file: &File, has_served: bool, delay: Option<Duration>) -> Option<Duration> {
    let at = RESTART.load(Ordering::Relaxed);
    let is_trial = file.borrow().stage() == Stage::Trial;
    if at != 0 && millis() >= at {
        log!("firmware: restart");
        panic::restart();
    }
    if is_trial && has_served {
        match file.borrow_mut().confirm() {
            Ok(()) => log!("firmware: confirmed"),
            Err(refusal) => fail!("firmware: ", refusal.text),
        }
    } else if is_trial && millis() >= TRIAL {
        fail!("firmware: no client connected: restarting with the previous image");
    }
    let most = Duration::from_millis(100);
    if at != 0 || is_trial { Some(delay.map_or(most, |delay| delay.min(most))) } else { delay }
}
