//! Builds, checks and measures the example projects for boards on the market. It does not run them.

use core::fmt::Write as _;
use core::ops::Range;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::elf::{Sizes, flat, sizes_in};
use super::{documented, root};

/// A project in the folder `examples`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// The name of its folder.
    pub folder: &'static str,
    /// The Rust target.
    pub target: &'static str,
    /// Addresses of the RAM.
    ram: Range<u32>,
    start: Start,
}

/// What the image must contain for the chip to start it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Start {
    /// For a Cortex-M: a vector table at this offset of the image. The range is the addresses of the flash.
    Vectors(u32, Range<u32>),
    /// For a chip with a boot ROM that looks for this word in the first 4 KiB of the image; also needs a vector table.
    Block(u32, Range<u32>),
    /// For the boot loader of ESP-IDF: the application descriptor, which begins with this word, anywhere in the image.
    Descriptor(u32),
}

/// All projects.
pub const ALL: [Project; 4] = [
    Project {
        folder: "stm32h7",
        target: "thumbv7em-none-eabihf",
        ram: 0x2400_0000..0x2408_0000,
        start: Start::Vectors(0, 0x0800_0000..0x0810_0000),
    },
    Project {
        folder: "rp2350-w5500",
        target: "thumbv8m.main-none-eabihf",
        ram: 0x2000_0000..0x2008_2000,
        start: Start::Block(0xffff_ded3, 0x1000_0000..0x1020_0000),
    },
    Project {
        folder: "pico-w",
        target: "thumbv6m-none-eabi",
        ram: 0x2000_0000..0x2004_2000,
        start: Start::Vectors(0x100, 0x1000_0000..0x1010_0000),
    },
    Project {
        folder: "esp32c6",
        target: "riscv32imac-unknown-none-elf",
        ram: 0x4080_0000..0x4088_0000,
        start: Start::Descriptor(0xabcd_5432),
    },
];

impl Project {
    /// Builds the project in a target directory that all projects share; returns the path of the image.
    ///
    /// # Errors
    /// The build fails, or cargo can't be started.
    pub fn build(&self) -> io::Result<PathBuf> {
        let folder = root().join("examples").join(self.folder);
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
        let target = target.join("examples");
        let mut cargo = Command::new("cargo");
        cargo.args(["build", "--quiet", "--release", "--locked", "--target", self.target, "--manifest-path"]);
        cargo.arg(folder.join("Cargo.toml")).arg("--target-dir").arg(&target);
        cargo
            .env_remove("LD_LIBRARY_PATH")
            .env_remove("RUSTFLAGS")
            .env("CARGO_ENCODED_RUSTFLAGS", super::short_paths());
        if !cargo.stdin(Stdio::null()).status()?.success() {
            return Err(io::Error::other(format!("examples/{}: the build failed", self.folder)));
        }
        Ok(target.join(self.target).join("release").join(format!("skiff-example-{}", self.folder)))
    }

    /// Measures an image, after checking that the chip can start it.
    ///
    /// # Errors
    /// The image can't be read, or the chip can't start it.
    pub fn measure(&self, image: &Path) -> io::Result<Sizes> {
        if !self.can_start(&flat(image)?) {
            return Err(io::Error::other(format!("{}: the chip can't boot this image", image.display())));
        }
        sizes_in(image, &self.ram)
    }

    fn can_start(&self, image: &[u8]) -> bool {
        let words = image.as_chunks::<4>().0;
        let word = |at: u32| words.get(at as usize / 4).map(|word| u32::from_le_bytes(*word));
        // The initial stack pointer, and the address of a function in Thumb code.
        let is_table = |at: u32, flash: &Range<u32>| {
            let (Some(stack), Some(reset)) = (word(at), word(at + 4)) else { return false };
            (self.ram.start + 1..=self.ram.end).contains(&stack) && flash.contains(&reset) && reset % 2 == 1
        };
        let has = |magic: u32, words: &[[u8; 4]]| words.contains(&magic.to_le_bytes());
        match &self.start {
            Start::Vectors(at, flash) => is_table(*at, flash),
            Start::Block(magic, flash) => is_table(0, flash) && has(*magic, &words[..words.len().min(1024)]),
            Start::Descriptor(magic) => has(*magic, words),
        }
    }

    /// The wrong figures of the project in examples/README.md.
    #[must_use]
    pub fn stale(&self, now: Sizes) -> Option<String> {
        let figures = [now.flash, now.ram];
        let mut row = format!("| {} |", self.folder);
        for figure in figures {
            _ = write!(row, " {} |", documented::grouped(figure));
        }
        documented::stale_project(&row, self.folder, figures)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_without_vectors_or_descriptor_does_not_start() {
        let [stm32h7, rp2350, pico, esp] = ALL;
        let image = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
        assert!(stm32h7.can_start(&image(&[0x2408_0000, 0x0800_0299, 0])));
        for bad in [&[0x2408_0000_u32, 0x0800_0298][..], &[0x2000_0000, 0x0800_0299], &[0x2408_0000, 1], &[0], &[]] {
            assert!(!stm32h7.can_start(&image(bad)), "{bad:x?}");
        }
        assert!(rp2350.can_start(&image(&[0x2008_2000, 0x1000_0129, 0, 0xffff_ded3])));
        assert!(!rp2350.can_start(&image(&[0x2008_2000, 0x1000_0129])));
        let mut with_boot = vec![0; 64];
        with_boot.extend([0x2004_0000, 0x1000_01c1]);
        assert!(pico.can_start(&image(&with_boot)) && !pico.can_start(&image(&[0x2004_0000, 0x1000_01c1])));
        assert!(esp.can_start(&image(&[0, 0xabcd_5432])) && !esp.can_start(&image(&[0])));
    }
}
