//! Firmware updates: power fails at every operation of an update, and again at every operation of what follows. Each
//! time the boot loader has to end with a complete image in the active slot, and the next update has to succeed.

#![expect(clippy::unwrap_used, reason = "these are tests")]

use core::cell::RefCell;
use std::rc::Rc;

use embassy_boot::{AlignedBuffer, BootLoader, BootLoaderConfig};
use embedded_storage::nor_flash::{
    ErrorType, MultiwriteNorFlash, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash,
};
use salty::Keypair;
use skiff_device::overlay::VirtualFile as _;
use skiff_device::update::{Device, LABEL, Label, Stage, StateFlash, Update};
use skiff_kit::flash::Rng;

const PAGE: usize = 256;
const SLOT: usize = 4 * PAGE;
const SPARE: usize = SLOT + PAGE;
/// The active slot, the spare slot, the state.
const PARTS: [(usize, usize); 3] = [(0, SLOT), (SLOT, SPARE), (SLOT + SPARE, PAGE)];

/// NOR flash whose words may be programmed twice.
#[derive(Debug)]
struct Chip {
    bytes: Vec<u8>,
    operations: u64,
    /// The operation that is torn, and after which there is no power.
    cut: Option<u64>,
    is_on: bool,
    /// A torn erasure leaves the bytes before this one, instead of something random.
    erased_from: Option<usize>,
    rng: Rng,
}

#[derive(Debug, Clone)]
struct Part {
    chip: Rc<RefCell<Chip>>,
    at: usize,
    len: usize,
}

#[derive(Debug)]
struct PowerCut;

impl NorFlashError for PowerCut {
    fn kind(&self) -> NorFlashErrorKind {
        NorFlashErrorKind::Other
    }
}

impl Chip {
    /// Begins an operation on `range`: true if it is torn.
    fn operate(&mut self) -> Result<bool, PowerCut> {
        if !self.is_on {
            return Err(PowerCut);
        }
        self.operations += 1;
        self.is_on = self.cut != Some(self.operations);
        Ok(!self.is_on)
    }
}

impl ErrorType for Part {
    type Error = PowerCut;
}

impl ReadNorFlash for Part {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), PowerCut> {
        assert!(offset as usize + bytes.len() <= self.len);
        let chip = self.chip.borrow();
        if !chip.is_on {
            return Err(PowerCut);
        }
        bytes.copy_from_slice(&chip.bytes[self.at + offset as usize..][..bytes.len()]);
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.len
    }
}

impl NorFlash for Part {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = PAGE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), PowerCut> {
        for page in (from as usize..to as usize).step_by(PAGE) {
            assert!(page.is_multiple_of(PAGE) && page < self.len);
            let chip = &mut *self.chip.borrow_mut();
            let is_torn = chip.operate()?;
            let Chip { bytes, rng, erased_from, .. } = chip;
            let content = &mut bytes[self.at + page..][..PAGE];
            if !is_torn {
                content.fill(0xff);
                continue;
            }
            // Many chips clear all bits first, and then set them, from either end.
            let (way, end) = erased_from.map_or_else(|| (rng.below(6), rng.below(PAGE + 1)), |end| (2, end));
            match way {
                0 => {}
                1 => content[..end].fill(0xff),
                2 => content[end..].fill(0xff),
                3 => content[..end].fill(0),
                4 => content.iter_mut().for_each(|byte| *byte |= rng.byte()),
                _ => content.iter_mut().for_each(|byte| *byte = rng.byte()),
            }
            return Err(PowerCut);
        }
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), PowerCut> {
        assert!(offset.is_multiple_of(4) && bytes.len().is_multiple_of(4) && offset as usize + bytes.len() <= self.len);
        let chip = &mut *self.chip.borrow_mut();
        let is_torn = chip.operate()?;
        let Chip { bytes: content, rng, .. } = chip;
        let (anywhere, end) = (rng.one_in(3), rng.below(bytes.len() + 1));
        for (at, (cell, byte)) in content[self.at + offset as usize..].iter_mut().zip(bytes).enumerate() {
            let missed = match is_torn {
                false => 0,
                true if anywhere || at == end => rng.byte(),
                true if at < end => 0,
                true => 0xff,
            };
            *cell &= byte | missed;
        }
        if is_torn { Err(PowerCut) } else { Ok(()) }
    }
}

impl MultiwriteNorFlash for Part {}

/// A board with its flash.
#[derive(Debug, Clone)]
struct Board(Rc<RefCell<Chip>>);

type File = Update<Part, StateFlash<Part>>;

impl Board {
    fn new(active: &[u8]) -> Self {
        let mut bytes = vec![0xff; SLOT + SPARE + PAGE];
        bytes[..active.len()].copy_from_slice(active);
        Self(Rc::new(RefCell::new(Chip {
            bytes,
            operations: 0,
            cut: None,
            is_on: true,
            erased_from: None,
            rng: Rng::new(1),
        })))
    }

    /// Another board with the same flash, with power, which fails at an operation.
    fn fork(&self, cut: Option<u64>, seed: u64) -> Self {
        let bytes = self.0.borrow().bytes.clone();
        Self(Rc::new(RefCell::new(Chip {
            bytes,
            operations: 0,
            cut,
            is_on: true,
            erased_from: None,
            rng: Rng::new(seed),
        })))
    }

    fn operations(&self) -> u64 {
        self.0.borrow().operations
    }

    fn active(&self) -> Vec<u8> {
        self.0.borrow().bytes[..SLOT].to_vec()
    }

    fn parts(&self) -> [Part; 3] {
        PARTS.map(|(at, len)| Part { chip: Rc::clone(&self.0), at, len })
    }

    /// Switches it on: the boot loader runs.
    fn boot(&self) -> Result<(), PowerCut> {
        let [active, dfu, state] = self.parts();
        let mut loader = BootLoader::new(BootLoaderConfig { active, dfu, state: StateFlash::new(state) });
        loader.prepare_boot(&mut AlignedBuffer([0; 64]).0).map(drop).map_err(|_| PowerCut)
    }

    /// The application has started.
    fn application(&self, key: Option<[u8; 32]>) -> Result<File, PowerCut> {
        let [_, spare, state] = self.parts();
        let device = Device { board: "virt", running: "skiff-virt/1", slot: SLOT, key };
        Update::new(spare, StateFlash::new(state), device).map_err(|_| PowerCut)
    }

    /// The whole update, up to a confirmation or a reset without one. `reached` is the last event.
    fn update(&self, image: &[u8], confirms: bool, reached: &mut Event) -> Result<(), PowerCut> {
        let mut file = self.application(None)?;
        put(&mut file, image).map_err(|_| PowerCut)?;
        *reached = Event::Staged;
        self.boot()?;
        *reached = Event::Booted;
        let mut file = self.application(None)?;
        assert_eq!(file.stage(), Stage::Trial);
        if confirms {
            file.confirm().map_err(|_| PowerCut)?;
            *reached = Event::Confirmed;
        }
        self.boot()?;
        *reached = Event::Ended;
        self.boot()
    }
}

/// What has happened in an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Started,
    Staged,
    Booted,
    Confirmed,
    Ended,
}

fn put(file: &mut File, image: &[u8]) -> Result<(), String> {
    let text = |refusal: skiff_proto::Refusal| refusal.text.to_owned();
    file.begin(image.len() as u64).map_err(text)?;
    for piece in image.chunks(100) {
        file.append(piece).map_err(text)?;
    }
    file.commit().map_err(text)
}

fn read(file: &mut File) -> String {
    let view = file.open().unwrap();
    let mut line = [0; 64];
    let n = file.read_at(view, 0, &mut line).unwrap();
    String::from_utf8(line[..n].to_vec()).unwrap()
}

/// An image with its label, filled with bytes of a seed.
fn image(seed: u64, len: usize) -> Vec<u8> {
    let mut image = Rng::new(seed).bytes(len);
    let label = Label::new(&image, "virt", "1").unwrap();
    image.extend(label.to_bytes());
    image
}

/// The slot with this image.
fn slot(image: &[u8]) -> Vec<u8> {
    let mut slot = image.to_vec();
    slot.resize(SLOT, 0xff);
    slot
}

/// After a power cut: the board starts with a complete image, the one that it should have, and takes another update.
fn examine(board: &Board, old: &[u8], new: &[u8], confirms: bool, reached: Event, seed: u64) {
    let context = format!("confirms {confirms}, {reached:?}, seed {seed}");
    board.boot().expect("power");
    let active = board.active();
    let (is_old, is_new) = (starts(&active, old), starts(&active, new));
    assert!(is_old || is_new, "no complete image: {context}");
    match reached {
        Event::Confirmed => assert!(is_new, "{context}"),
        Event::Ended => assert_eq!(is_new, confirms, "{context}"),
        // A cut right after the swap counts as a start without a confirmation.
        Event::Started | Event::Staged | Event::Booted => {}
    }
    // Without a confirmation it goes back; what is confirmed stays.
    let mut file = board.application(None).expect("power");
    let trial = file.stage() == Stage::Trial;
    board.boot().expect("power");
    assert!(starts(&board.active(), if trial || is_old { old } else { new }), "{context}");
    file = board.application(None).expect("power");
    assert_ne!(file.stage(), Stage::Trial, "{context}");
    let next = image(77, 500);
    put(&mut file, &next).unwrap_or_else(|error| panic!("{error}: {context}"));
    board.boot().expect("power");
    assert!(starts(&board.active(), &next), "{context}");
}

fn starts(active: &[u8], image: &[u8]) -> bool {
    active.starts_with(image)
}

#[test]
fn a_power_cut_at_every_operation_of_an_update_leaves_a_board_that_boots() {
    let (old, new) = (image(1, 800), image(2, 700));
    let mut cuts = 0_u64;
    for confirms in [true, false] {
        let whole = Board::new(&slot(&old));
        whole.update(&new, confirms, &mut Event::Started.clone()).unwrap();
        let total = whole.operations();
        assert!(total > 60, "{total}");
        // What the boot loader reads first is at the beginning.
        for (cut, end) in (1..=total).flat_map(|cut| (0..=8).map(move |end| (cut, end))) {
            let board = Board::new(&slot(&old)).fork(Some(cut), cut);
            board.0.borrow_mut().erased_from = Some(end);
            let mut reached = Event::Started;
            assert!(board.update(&new, confirms, &mut reached).is_err());
            examine(&board.fork(None, cut), &old, &new, confirms, reached, cut);
            cuts += 1;
        }
        for (cut, way) in (1..=total).flat_map(|cut| (0..12).map(move |way| (cut, way))) {
            let seed = cut * 100 + way;
            let board = Board::new(&slot(&old)).fork(Some(cut), seed);
            let mut reached = Event::Started;
            assert!(board.update(&new, confirms, &mut reached).is_err());
            examine(&board.fork(None, seed), &old, &new, confirms, reached, seed);
            cuts += 1;
            // Another cut, at every operation of the next start.
            let mut second = 1;
            loop {
                let again = board.fork(Some(second), seed + second);
                if again.boot().is_ok() {
                    break;
                }
                examine(&again.fork(None, seed), &old, &new, confirms, reached, seed);
                cuts += 1;
                second += if way < 3 { 1 } else { 7 };
            }
        }
        println!("confirms {confirms}: {total} operations");
    }
    println!("{cuts} cuts");
}

#[test]
fn an_image_runs_once_it_is_confirmed_and_a_client_reads_how_far_it_is() {
    let board = Board::new(&slot(&image(1, 300)));
    let mut file = board.application(None).unwrap();
    assert_eq!(read(&mut file), "skiff-virt/1 confirmed\n");
    // Another upload replaces the one that is waiting.
    put(&mut file, &image(3, 400)).unwrap();
    put(&mut file, &image(2, 800)).unwrap();
    assert_eq!(read(&mut file), "skiff-virt/1 staged\n");
    board.boot().unwrap();
    assert!(starts(&board.active(), &image(2, 800)));
    let mut file = board.application(None).unwrap();
    assert_eq!(read(&mut file), "skiff-virt/1 trial\n");
    // The spare slot holds the old image, which may be needed.
    assert_eq!(
        put(&mut file, &image(3, 400)).unwrap_err(),
        "the running firmware is on trial: wait until it is confirmed"
    );
    board.boot().unwrap();
    let mut file = board.application(None).unwrap();
    assert_eq!(read(&mut file), "skiff-virt/1 reverted\n");
    assert!(starts(&board.active(), &image(1, 300)));
    put(&mut file, &image(2, 800)).unwrap();
    board.boot().unwrap();
    board.application(None).unwrap().confirm().unwrap();
    board.boot().unwrap();
    assert_eq!(read(&mut board.application(None).unwrap()), "skiff-virt/1 confirmed\n");
    assert!(starts(&board.active(), &image(2, 800)));
}

#[test]
fn an_upload_continues_after_a_lost_connection_and_begins_again_after_a_reset() {
    let board = Board::new(&slot(&image(1, 300)));
    let mut file = board.application(None).unwrap();
    let new = image(2, 800);
    for cut in [1, 255, 256, 257, 900] {
        file.begin(new.len() as u64).unwrap();
        file.append(&new[..cut]).unwrap();
        assert_eq!(file.staged(), (cut as u64, skiff_proto::crc::crc32c(&new[..cut])));
        file.append(&new[cut..]).unwrap();
        file.commit().unwrap();
        assert_eq!(file.staged(), (0, 0));
        board.boot().unwrap();
        assert!(starts(&board.active(), &new), "{cut}");
        file = board.application(None).unwrap();
        file.confirm().unwrap();
    }
    file.begin(new.len() as u64).unwrap();
    file.append(&new[..500]).unwrap();
    assert_eq!(board.application(None).unwrap().staged(), (0, 0));
}

#[test]
fn what_is_no_image_for_this_board_is_refused() {
    let board = Board::new(&slot(&image(1, 300)));
    let mut file = board.application(None).unwrap();
    let good = image(2, 500);
    let mut other = good.clone();
    let at = other.len() - LABEL;
    other[at + 8] = b'm';
    let mut damaged = good.clone();
    damaged[0] ^= 1;
    let cases: [(&[u8], &str); 5] = [
        (&good[..LABEL], "this is not a firmware image"),
        (&Rng::new(1).bytes(900), "this is not a firmware image"),
        (&other, "the image is for another board"),
        (&damaged, "the image does not match its label"),
        (&image(2, SLOT), "the image is larger than its slot"),
    ];
    for (image, error) in cases {
        assert_eq!(put(&mut file, image).unwrap_err(), error);
    }
    assert_eq!(read(&mut file), "skiff-virt/1 confirmed\n");
    board.boot().unwrap();
    assert!(starts(&board.active(), &image(1, 300)));
    // The largest that fits.
    put(&mut board.application(None).unwrap(), &image(2, SLOT - LABEL)).unwrap();
    board.boot().unwrap();
    assert!(starts(&board.active(), &image(2, SLOT - LABEL)));
}

#[test]
fn a_device_with_a_key_takes_only_images_signed_with_it() {
    let pair = Keypair::from(&[7; 32]);
    let key = pair.public.to_bytes();
    let board = Board::new(&slot(&image(1, 300)));
    let mut file = board.application(Some(key)).unwrap();
    let sign = |mut image: Vec<u8>, pair: &Keypair| {
        let at = image.len() - 64;
        let digest = salty::Sha512::new().updated(&image[..at]).finalize();
        image[at..].copy_from_slice(&pair.sign(&digest).to_bytes());
        image
    };
    let (new, other) = (image(2, 500), Keypair::from(&[8; 32]));
    for image in [new.clone(), sign(new.clone(), &other)] {
        assert_eq!(put(&mut file, &image).unwrap_err(), "the image is not signed with the right key");
    }
    let signed = sign(new, &pair);
    put(&mut file, &signed).unwrap();
    board.boot().unwrap();
    assert!(starts(&board.active(), &signed));
}
