//! The firmware's driver of SD cards, on this computer, against a card that behaves like real ones: it is slow,
//! missing, corrupts data in transfer, or fails.

#![expect(clippy::unwrap_used, reason = "these are tests")]

#[expect(dead_code, unreachable_pub, reason = "what boards use of it")]
#[path = "../../../firmware/src/sd/mod.rs"]
mod sd;

use core::cell::RefCell;
use core::convert::Infallible;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use embedded_hal::delay::DelayNs;
use embedded_hal::digital::{self, OutputPin};
use embedded_hal::spi::{self, SpiBus};

use sd::{BLOCK, SdCard, SdError};

/// The type of the card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Of version 1: does not know CMD8; its blocks are addressed by byte.
    Old,
    /// Of version 2, up to 2 GiB: addressed by byte.
    Standard,
    /// Larger: addressed by block.
    High,
    /// None.
    Missing,
}

/// The faults, and how often they occur.
#[derive(Debug, Clone, Copy, Default)]
struct Faults {
    /// Blocks that are damaged on their way from the card, and to it.
    reads: u32,
    writes: u32,
    /// Commands that arrive damaged.
    commands: u32,
    /// Writes after which the status reports a failure.
    states: u32,
    /// A write never ends.
    stuck: bool,
}

/// A card on the bus.
struct Card {
    kind: Kind,
    faults: Faults,
    selected: bool,
    /// Clocks, in bytes, before it was selected for the first time.
    woken: usize,
    spi: bool,
    crc_on: bool,
    app: bool,
    /// How often it answers that it is still getting ready, and that it is still storing a block.
    getting_ready: u32,
    busy: u32,
    failed: bool,
    input: Vec<u8>,
    output: VecDeque<u8>,
    /// The block that is being written, once its command has come.
    writing: Option<u32>,
    blocks: BTreeMap<u32, [u8; BLOCK]>,
    count: u32,
    /// Commands that came.
    heard: Vec<u8>,
}

fn crc7(bytes: &[u8]) -> u8 {
    // Bit by bit, as the specification draws it.
    let mut crc = 0_u8;
    for byte in bytes {
        for bit in (0..8).rev() {
            let feed = (crc >> 6 & 1) ^ (byte >> bit & 1);
            crc = (crc << 1 & 0x7f) ^ if feed == 1 { 0x09 } else { 0 };
        }
    }
    crc
}

fn crc16(bytes: &[u8]) -> u16 {
    let mut crc = 0_u16;
    for byte in bytes {
        for bit in (0..8).rev() {
            let feed = (crc >> 15) ^ u16::from(byte >> bit & 1);
            crc = crc << 1 ^ if feed == 1 { 0x1021 } else { 0 };
        }
    }
    crc
}

impl Card {
    fn new(kind: Kind, faults: Faults) -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Self {
            kind,
            faults,
            selected: false,
            woken: 0,
            spi: false,
            crc_on: false,
            app: false,
            getting_ready: 20,
            busy: 0,
            failed: false,
            input: Vec::new(),
            output: VecDeque::new(),
            writing: None,
            blocks: BTreeMap::new(),
            count: if kind == Kind::High { 8 << 20 } else { 64 << 11 },
            heard: Vec::new(),
        }))
    }

    /// One byte each way.
    fn exchange(&mut self, byte: u8) -> u8 {
        if self.kind == Kind::Missing {
            return 0xff;
        }
        if !self.selected {
            self.woken += 1;
            return 0xff;
        }
        if let Some(answer) = self.output.pop_front() {
            return answer;
        }
        if let Some(block) = self.writing {
            return self.take_data(block, byte);
        }
        if self.input.is_empty() && byte == 0xff {
            if self.busy > 0 {
                self.busy -= u32::from(!self.faults.stuck);
                return 0;
            }
            return 0xff;
        }
        self.input.push(byte);
        if self.input.len() == 6 {
            let frame = core::mem::take(&mut self.input);
            self.command(&frame);
        }
        0xff
    }

    fn take_data(&mut self, block: u32, byte: u8) -> u8 {
        if self.input.is_empty() && byte != 0xfe {
            return 0xff;
        }
        self.input.push(byte);
        if self.input.len() == 1 + BLOCK + 2 {
            let data = core::mem::take(&mut self.input);
            self.writing = None;
            let content: [u8; BLOCK] = data[1..=BLOCK].try_into().unwrap();
            let right = u16::from_be_bytes([data[BLOCK + 1], data[BLOCK + 2]]) == crc16(&content);
            assert!(right, "the driver's checksum");
            if take_one(&mut self.faults.writes) {
                self.output.push_back(0xeb);
            } else {
                self.blocks.insert(block, content);
                self.failed = take_one(&mut self.faults.states);
                self.busy = 300;
                self.output.push_back(0xe5);
            }
        }
        0xff
    }

    fn command(&mut self, frame: &[u8]) {
        assert_eq!(frame[0] & 0xc0, 0x40, "a command");
        assert!(self.busy == 0, "no command while it is busy");
        let number = frame[0] & 0x3f;
        let argument = u32::from_be_bytes([frame[1], frame[2], frame[3], frame[4]]);
        assert_eq!(frame[5], crc7(&frame[..5]) << 1 | 1, "CMD{number}");
        self.heard.push(number);
        let app = core::mem::take(&mut self.app);
        // It takes a byte or two to answer.
        self.output.push_back(0xff);
        if self.crc_on && number >= 9 && take_one(&mut self.faults.commands) {
            self.output.push_back(0x08);
            return;
        }
        let idle = u8::from(self.getting_ready > 0);
        match (number, self.kind) {
            (0, _) => {
                assert!(self.woken >= 10, "74 clocks first");
                self.spi = true;
                self.output.push_back(1);
            }
            _ if !self.spi => {}
            (8, Kind::Old) => self.output.push_back(0x05),
            (8, _) => self.output.extend([1, 0, 0, 1, frame[4]]),
            (59, _) => {
                self.crc_on = argument == 1;
                self.output.push_back(idle);
            }
            (55, _) => {
                self.app = true;
                self.output.push_back(idle);
            }
            (41, kind) if app => {
                assert_eq!(argument >> 30 & 1, u32::from(kind != Kind::Old));
                self.getting_ready = self.getting_ready.saturating_sub(1);
                self.output.push_back(u8::from(self.getting_ready > 0));
            }
            (58, kind) => self.output.extend([0, if kind == Kind::High { 0xc0 } else { 0x80 }, 0xff, 0x80, 0]),
            (16, _) => {
                assert_eq!(argument, 512);
                self.output.push_back(0);
            }
            (9, kind) => {
                self.output.push_back(0);
                let csd = csd(kind, self.count);
                self.data(&csd);
            }
            (13, _) => self.output.extend([0, u8::from(core::mem::take(&mut self.failed)) << 2]),
            (17, kind) => {
                self.output.push_back(0);
                let block = self.block(kind, argument);
                let content = self.blocks.get(&block).copied().unwrap_or([0; BLOCK]);
                self.data(&content);
            }
            (24, kind) => {
                self.output.push_back(0);
                self.writing = Some(self.block(kind, argument));
            }
            _ => self.output.push_back(0x04),
        }
    }

    fn block(&self, kind: Kind, argument: u32) -> u32 {
        let block = if kind == Kind::High {
            argument
        } else {
            assert_eq!(argument % 512, 0);
            argument / 512
        };
        assert!(block < self.count);
        block
    }

    fn data(&mut self, content: &[u8]) {
        self.output.extend([0xff; 3]);
        self.output.push_back(0xfe);
        self.output.extend(content);
        self.output.extend(crc16(content).to_be_bytes());
        if content.len() == BLOCK && take_one(&mut self.faults.reads) {
            *self.output.back_mut().unwrap() ^= 0x40;
        }
    }
}

fn take_one(count: &mut u32) -> bool {
    let some = *count > 0;
    *count = count.saturating_sub(1);
    some
}

/// The card's description of itself.
fn csd(kind: Kind, blocks: u32) -> [u8; 16] {
    let mut csd = 0_u128;
    if kind == Kind::High {
        csd |= 1 << 126 | u128::from(blocks / 1024 - 1) << 48;
    } else {
        // Blocks of 1,024 bytes, and a multiplier of 512, as cards of 2 GiB have it.
        csd |= 10 << 80 | u128::from(blocks / 1024 - 1) << 62 | 7 << 47;
    }
    csd.to_be_bytes()
}

#[derive(Clone)]
struct Bus(Rc<RefCell<Card>>);

impl spi::ErrorType for Bus {
    type Error = Infallible;
}

impl SpiBus for Bus {
    fn read(&mut self, words: &mut [u8]) -> Result<(), Infallible> {
        words.iter_mut().for_each(|word| *word = self.0.borrow_mut().exchange(0xff));
        Ok(())
    }

    fn write(&mut self, words: &[u8]) -> Result<(), Infallible> {
        words.iter().for_each(|word| _ = self.0.borrow_mut().exchange(*word));
        Ok(())
    }

    fn transfer(&mut self, _read: &mut [u8], _write: &[u8]) -> Result<(), Infallible> {
        unimplemented!("the driver does one at a time")
    }

    fn transfer_in_place(&mut self, _words: &mut [u8]) -> Result<(), Infallible> {
        unimplemented!("the driver does one at a time")
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

impl digital::ErrorType for Bus {
    type Error = Infallible;
}

impl OutputPin for Bus {
    fn set_low(&mut self) -> Result<(), Infallible> {
        self.0.borrow_mut().selected = true;
        Ok(())
    }

    fn set_high(&mut self) -> Result<(), Infallible> {
        self.0.borrow_mut().selected = false;
        Ok(())
    }
}

/// Time that passes at once.
struct Nothing;

impl DelayNs for Nothing {
    fn delay_ns(&mut self, _ns: u32) {}
}

type Driver = SdCard<Bus, Bus, Nothing>;

fn driver(kind: Kind, faults: Faults) -> (Rc<RefCell<Card>>, Result<Driver, SdError>) {
    let card = Card::new(kind, faults);
    let mut fast = false;
    let driver = SdCard::new(Bus(card.clone()), Bus(card.clone()), Nothing, |_| fast = true);
    assert_eq!(driver.is_ok(), fast, "the bus is fast when the card is set up");
    assert!(!card.borrow().selected);
    (card, driver)
}

fn content(seed: u8) -> [u8; BLOCK] {
    core::array::from_fn(|at| seed.wrapping_add(at.to_le_bytes()[0].wrapping_mul(31)))
}

#[test]
fn cards_of_every_kind_are_set_up_and_keep_what_is_written() {
    for kind in [Kind::Old, Kind::Standard, Kind::High] {
        let (card, driver) = driver(kind, Faults::default());
        let mut driver = driver.unwrap();
        assert_eq!(driver.blocks(), card.borrow().count, "{kind:?}");
        let last = driver.blocks() - 1;
        for (number, seed) in [(0, 1), (1, 2), (last, 3)] {
            driver.write(number, &content(seed)).unwrap();
        }
        driver.flush().unwrap();
        let mut back = [[0; BLOCK]; 2];
        driver.read(0, back.as_flattened_mut()).unwrap();
        assert_eq!(back, [content(1), content(2)]);
        driver.read(last, &mut back[0]).unwrap();
        assert_eq!(back[0], content(3));
        assert_eq!(card.borrow().blocks.len(), 3);
    }
}

#[test]
fn a_missing_card_and_a_missing_block_are_reported() {
    assert_eq!(driver(Kind::Missing, Faults::default()).1.err(), Some(SdError::NoCard));
    let (_, driver) = driver(Kind::Standard, Faults::default());
    let mut driver = driver.unwrap();
    let mut block = [0; BLOCK];
    for number in [driver.blocks(), u32::MAX] {
        assert_eq!(driver.read(number, &mut block), Err(SdError::Range));
        assert_eq!(driver.write(number, &block), Err(SdError::Range));
    }
    assert_eq!(driver.read(0, &mut block[1..]), Err(SdError::Range));
}

#[test]
fn what_is_damaged_on_the_bus_is_tried_again_and_given_up_the_third_time() {
    for (times, result) in [(1, Ok(())), (2, Ok(())), (3, Err(SdError::Damaged))] {
        for faults in [
            Faults { reads: times, ..Faults::default() },
            Faults { writes: times, ..Faults::default() },
            Faults { commands: times, ..Faults::default() },
        ] {
            let (card, driver) = driver(Kind::High, Faults::default());
            let mut driver = driver.unwrap();
            driver.write(5, &content(1)).unwrap();
            card.borrow_mut().faults = faults;
            let mut block = [0; BLOCK];
            // Each concerns one of the two.
            let done = driver.read(5, &mut block).and_then(|()| driver.write(5, &content(2)));
            assert_eq!(done, result, "{faults:?}");
            assert!(!card.borrow().selected);
            // Then everything works again.
            driver.write(6, &content(3)).and_then(|()| driver.flush()).unwrap();
            driver.read(6, &mut block).unwrap();
            assert_eq!(block, content(3));
        }
    }
}

#[test]
fn flush_reports_a_block_that_the_card_could_not_store() {
    let (card, driver) = driver(Kind::Standard, Faults::default());
    let mut driver = driver.unwrap();
    card.borrow_mut().faults.states = 1;
    driver.write(0, &content(1)).unwrap();
    assert_eq!(driver.flush(), Err(SdError::Failed(4)));
    driver.write(0, &content(1)).unwrap();
    assert_eq!(driver.flush(), Ok(()));
}

#[test]
fn a_card_that_never_gets_done_is_given_up() {
    let (card, driver) = driver(Kind::Standard, Faults::default());
    let mut driver = driver.unwrap();
    card.borrow_mut().faults.stuck = true;
    driver.write(0, &content(1)).unwrap();
    assert_eq!(driver.flush(), Err(SdError::Timeout));
    assert_eq!(driver.read(0, &mut [0; BLOCK]), Err(SdError::Timeout));
    card.borrow_mut().faults.stuck = false;
    driver.flush().unwrap();
    let words: Vec<_> = [SdError::Timeout, SdError::Failed(4)].iter().map(ToString::to_string).collect();
    assert_eq!(words, ["card timeout", "block not written (0x4)"]);
    assert!(card.borrow().heard.starts_with(&[0, 8, 59, 55, 41]));
}
