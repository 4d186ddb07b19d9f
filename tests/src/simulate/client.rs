//! A client: a random sequence of commands.

use core::time::Duration;
use std::collections::VecDeque;
use std::rc::Rc;

use skiff_proto::secure::Role;

use super::control::Control;
use super::op::{Download, Fate, Op};
use super::pipe::{Gone, Habits, Pipe};
use super::truth::{File, Version};
use crate::flash::Rng;
use crate::sim::Options;

/// See the module documentation.
pub struct Client {
    control: Rc<Control>,
    station: usize,
    rng: Rng,
    /// Files that were partly sent.
    uploads: Vec<(String, File)>,
    /// Files that were partly received.
    downloads: Vec<Rc<Download>>,
}

impl Client {
    /// A client on a station.
    #[must_use]
    pub fn new(control: &Rc<Control>, station: usize) -> Self {
        let rng = Rng::new(control.plan.seed.wrapping_mul(31) + station as u64);
        Self { control: Rc::clone(control), station, rng, uploads: Vec::new(), downloads: Vec::new() }
    }

    /// Works until nothing is left to do. After the faults have ended, it must be served.
    pub async fn live(mut self) {
        while self.control.left.get() > 0 {
            if let Err(gone) = self.connection().await {
                self.control.count(|counts| counts.lost += 1);
                let pause = self.rng.pick(&[1, 50, 400, 3000]);
                if gone == Gone::Crash && self.rng.one_in(2) {
                    self.control.trace(|| format!("computer {} vanishes", self.station));
                    self.control.world.borrow_mut().vanish(self.station);
                }
                self.control.sleep(Duration::from_millis(pause)).await;
            }
        }
        while !self.control.is_over.get() {
            self.control.sleep(Duration::from_millis(100)).await;
        }
        while self.farewell().await.is_err() {
            self.control.sleep(Duration::from_millis(500)).await;
        }
    }

    fn habits(&mut self) -> Habits {
        let (is_calm, crashes) = (self.control.plan.is_calm, self.control.plan.crashes);
        let options = Options {
            buffer: self.rng.pick(&[256, 1024, 4096, 16_384]),
            keep_alive: self.rng.pick(&[None, Some(2), Some(30)]),
        };
        let (is_sealed, role) = (self.control.plan.is_sealed, Role::ReadWrite);
        let role = if is_sealed && self.rng.one_in(10) { Role::ReadOnly } else { role };
        let is_attacked = is_sealed && !is_calm && self.rng.one_in(4);
        let crash = (crashes > 0 && self.rng.one_in(crashes)).then(|| self.bytes());
        let stall = (!is_calm && self.rng.one_in(12)).then(|| {
            let time = Duration::from_millis(self.rng.pick(&[200, 6000, 40_000, 100_000]));
            (self.bytes(), time)
        });
        Habits { options, crash, stall, role, is_attacked }
    }

    /// A number of bytes after which something happens.
    fn bytes(&mut self) -> u64 {
        let most = self.rng.pick(&[50, 400, 3000, 20_000]);
        1 + self.rng.below(most) as u64
    }

    /// One connection, from its beginning to its end.
    async fn connection(&mut self) -> Result<(), Gone> {
        let habits = self.habits();
        let rng = Rng::new(self.rng.next());
        let mut pipe = Pipe::connect(&self.control, self.station, habits, rng).await?;
        let used = self.use_connection(&mut pipe).await;
        // A lost connection is wrong in a world without faults, unless it was refused because there are too many.
        let refused = used == Err(Gone::Lost) && pipe.is_unanswered();
        let excused = refused || !pipe.is_through();
        assert!(used.is_ok() || !self.control.plan.is_calm || excused, "client {}: {used:?}", self.station);
        pipe.abandon(&mut self.uploads, &mut self.downloads);
        if used.is_ok() && !self.rng.one_in(8) {
            pipe.close();
        }
        used
    }

    async fn use_connection(&mut self, pipe: &mut Pipe) -> Result<(), Gone> {
        let is_classic = self.rng.one_in(6) && !self.control.plan.is_sealed;
        let mut ops = VecDeque::new();
        if !is_classic {
            ops.push_back(Op::Hello);
            // No command with a body before the answer.
            if self.rng.one_in(3) {
                let more = self.batch(is_classic, false);
                ops.extend(more);
            }
            pipe.carry_out(&mut ops).await?;
        }
        for _ in 0..=self.rng.below(6) {
            ops = self.batch(is_classic, true);
            if ops.is_empty() {
                break;
            }
            if self.rng.one_in(10) {
                return pipe.carry_out_and_finish(&mut ops).await;
            }
            pipe.carry_out(&mut ops).await?;
            if self.rng.one_in(6) {
                self.control.sleep(Duration::from_millis(self.rng.pick(&[1, 100, 3000]))).await;
            }
        }
        Ok(())
    }

    /// Some commands.
    fn batch(&mut self, is_classic: bool, with_bodies: bool) -> VecDeque<Op> {
        let mut ops = VecDeque::new();
        let most = self.rng.pick(&[1, 4, 10]);
        for _ in 0..=self.rng.below(most) {
            if !self.control.take_step() {
                break;
            }
            let op = if is_classic { self.classic() } else { self.any() };
            ops.push_back(op);
        }
        if !with_bodies {
            for op in &mut ops {
                if matches!(op, Op::Write { .. } | Op::Resume { .. }) {
                    *op = Op::Ping;
                }
            }
        }
        ops
    }

    fn name(&mut self) -> String {
        let names = &self.control.plan.names;
        match self.rng.below(60) {
            // A flat store has no such names.
            0 => "dir/file".into(),
            // Too long for the server.
            1 => "x".repeat(70),
            _ => names[self.rng.below(names.len())].into(),
        }
    }

    /// A name that is possible in a classic command.
    fn classic_name(&mut self) -> String {
        loop {
            let name = self.name();
            if !name.contains(' ') {
                return name;
            }
        }
    }

    fn len(&mut self) -> usize {
        let longest = self.control.plan.longest;
        match self.rng.below(8) {
            0 => 0,
            1 => self.rng.below(longest) + 1,
            2 => longest,
            _ => self.rng.below(longest / 6 + 2),
        }
    }

    /// A new version of a file.
    fn file(&mut self) -> File {
        let len = self.len();
        let mut rng = Rng::new(self.control.next_content() ^ self.control.plan.seed << 32);
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend_from_slice(&rng.next().to_le_bytes());
        }
        bytes.truncate(len);
        let mtime = (!self.rng.one_in(3)).then(|| self.rng.next() >> 30);
        Version::new(bytes, mtime)
    }

    fn classic(&mut self) -> Op {
        match self.rng.below(9) {
            0 | 1 => Op::Ls,
            2..=5 => Op::Get(self.classic_name()),
            _ => self.put(),
        }
    }

    fn put(&mut self) -> Op {
        let name = self.classic_name();
        let number = self.control.next_content();
        if self.rng.one_in(4) {
            // The original programs count characters.
            let text = format!("{number}: olá, ça va? ").repeat(1 + self.len() / 40);
            let announced = text.chars().count() as u64;
            return Op::Put { name, file: Version::new(text.into_bytes(), None), announced };
        }
        let file = self.file();
        let file = Version::new(file.bytes.clone(), None);
        let len = file.bytes.len() as u64;
        let announced = if self.rng.one_in(10) { len + 1 } else { len };
        Op::Put { name, file, announced }
    }

    fn any(&mut self) -> Op {
        match self.rng.below(40) {
            0..=9 => self.write(),
            10..=12 => self.go_on_writing(),
            13..=16 => self.read(),
            17 | 18 => self.go_on_reading(),
            19..=21 => Op::Stat(self.name()),
            22 => Op::List,
            23 => Op::Tree,
            24 | 25 => {
                let (offset, length) = self.range();
                Op::Sum { name: self.name(), offset, length }
            }
            26..=28 => Op::Remove(self.name()),
            29 | 30 => Op::Rename { from: self.name(), to: self.name() },
            31 => Op::Copy { from: self.name(), to: self.name() },
            32 => Op::Space,
            33 => Op::Ping,
            34 => Op::Resume { name: self.name(), file: self.file() },
            35 => match self.rng.below(4) {
                0 => Op::ListDir(self.name()),
                3 => Op::TreeDir(self.name()),
                1 => Op::Mkdir(self.name()),
                _ => Op::Rmdir(self.name()),
            },
            36 => Op::Hello,
            _ => self.classic(),
        }
    }

    /// `*` from the beginning, most of the time.
    fn range(&mut self) -> (u64, Option<u64>) {
        let mut number = || self.rng.below(self.control.plan.longest + 2) as u64;
        match (number(), number()) {
            (offset, length) if offset % 3 == 0 => (length, Some(offset)),
            (offset, _) if offset % 3 == 1 => (offset / 4, None),
            _ => (0, None),
        }
    }

    fn read(&mut self) -> Op {
        let (offset, length) = self.range();
        Op::Read { name: self.name(), offset, length, before: None }
    }

    fn go_on_reading(&mut self) -> Op {
        let Some(before) = self.downloads.pop() else { return self.read() };
        let offset = before.bytes.len() as u64;
        Op::Read { name: before.name.clone(), offset, length: None, before: Some(before) }
    }

    fn write(&mut self) -> Op {
        let (name, file) = (self.name(), self.file());
        let fate = match self.rng.below(14) {
            0 => Fate::Abort(self.rng.below(file.bytes.len() + 1)),
            1 => Fate::WrongCrc,
            2 => Fate::NoCrc,
            _ => Fate::Whole,
        };
        Op::Write { name, file, offset: 0, fate }
    }

    /// Continues an interrupted write, if the store has staged bytes of it.
    fn go_on_writing(&mut self) -> Op {
        let Some((name, file)) = self.uploads.pop() else { return self.write() };
        let truth = self.control.truth.borrow();
        let staged = truth.last_staged(&name).filter(|&(len, crc)| {
            let before = usize::try_from(len).ok().and_then(|len| file.bytes.get(..len));
            before.is_some_and(|before| skiff_proto::crc::crc32c(before) == crc)
        });
        match staged {
            // The state may have changed since the answer: then the server refuses.
            Some((offset, _)) => Op::Write { name, file, offset, fate: Fate::Whole },
            None => {
                drop(truth);
                self.uploads.push((name.clone(), Rc::clone(&file)));
                Op::Resume { name, file }
            }
        }
    }

    /// After the faults have ended, everything must work.
    async fn farewell(&mut self) -> Result<(), Gone> {
        let options = Options { buffer: 4096, keep_alive: Some(2) };
        let habits = Habits { options, crash: None, stall: None, role: Role::ReadWrite, is_attacked: false };
        let mut pipe = Pipe::connect(&self.control, self.station, habits, Rng::new(self.rng.next())).await?;
        let name = self.control.plan.names[0].to_owned();
        let file = self.file();
        let mut ops = VecDeque::from([Op::Hello]);
        let done = async {
            pipe.carry_out(&mut ops).await?;
            ops.extend([Op::Ping, Op::List, Op::Remove(name.clone())]);
            ops.push_back(Op::Write { name: name.clone(), file, offset: 0, fate: Fate::Whole });
            ops.push_back(Op::Read { name: name.clone(), offset: 0, length: None, before: None });
            if !name.contains(' ') {
                ops.push_back(Op::Get(name));
            }
            pipe.carry_out(&mut ops).await
        };
        let done = done.await;
        pipe.abandon(&mut self.uploads, &mut self.downloads);
        if done.is_ok() {
            pipe.close();
        }
        done
    }
}
