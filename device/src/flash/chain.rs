//! The blocks of a file: a chain from the last block back to the first.
//!
//! A file is written forward, and a power cut may end it anywhere; to resume it, a last block that is not full has to
//! be replaced. So blocks refer to preceding ones, never to following ones. Besides the previous block, each refers to
//! one further back, so that any block is found in a number of steps proportional to the logarithm of the file's
//! length: block i jumps over w blocks, where w is the last term of i as a sum of the largest possible terms 2^k - 1.

use skiff_proto::{ErrorCode, Refusal};

use super::layout::{LINK, Link};
use super::{Flash, FlashStore};

/// How far block `index` jumps back.
const fn stride(index: u32) -> u32 {
    let mut rest = index;
    let mut term = u32::MAX;
    while rest > 0 {
        while term > rest {
            term >>= 1;
        }
        rest -= term;
    }
    if index == 0 { 0 } else { term }
}

impl<F: Flash, const NAME: usize, const PAGE: usize> FlashStore<'_, F, NAME, PAGE> {
    /// The beginning of block `index` of version `id`.
    ///
    /// # Errors
    /// `io` if it is a different block or damaged.
    pub(super) fn link(&mut self, block: u32, id: u32, index: u32) -> Result<Link, Refusal> {
        if block >= self.layout.blocks {
            return Err(ErrorCode::Io.into());
        }
        let mut bytes = [0; LINK as usize];
        self.flash.read(block, 0, &mut bytes)?;
        let link = Link::decode(&bytes, self.volume).filter(|link| link.id == id && link.index == index);
        Ok(link.ok_or(ErrorCode::Io)?)
    }

    /// The beginning of block `target`, on the way back from block `index`.
    pub(super) fn link_before(
        &mut self,
        mut block: u32,
        id: u32,
        mut index: u32,
        target: u32,
    ) -> Result<Link, Refusal> {
        loop {
            let link = self.link(block, id, index)?;
            if index <= target {
                return Ok(link);
            }
            let jump = index - stride(index);
            (block, index) = if jump >= target { (link.jump, jump) } else { (link.prev, index - 1) };
        }
    }

    /// The jump target of block `index`, given the previous block `prev` and its jump target `prev_jump`.
    pub(super) fn jump_of(&mut self, index: u32, id: u32, prev: u32, prev_jump: u32) -> Result<u32, Refusal> {
        match stride(index) {
            0 => Ok(0),
            1 => Ok(prev),
            // As far as two jumps from the block before.
            _ => {
                let prev_index = index - 1;
                Ok(self.link(prev_jump, id, prev_index - stride(prev_index))?.jump)
            }
        }
    }

    /// Frees the blocks of a chain, starting with the last of `count`. If the chain is damaged, the rest is freed when
    /// the medium is mounted again.
    pub(super) fn give_chain(&mut self, id: u32, mut last: u32, count: u32) {
        for index in (0..count).rev() {
            let link = self.link(last, id, index);
            self.map.give(last);
            match link {
                Ok(link) => last = link.prev,
                Err(_) => return,
            }
        }
    }

    /// Takes the blocks of a chain.
    pub(super) fn take_chain(&mut self, id: u32, mut last: u32, count: u32) {
        for index in (0..count).rev() {
            // A damaged chain ends here; reading the file then fails.
            let Ok(link) = self.link(last, id, index) else {
                return;
            };
            self.map.take(last);
            last = link.prev;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_jumps_as_far_as_the_two_before_it_or_to_the_one_before() {
        assert_eq!([0, 1, 2, 3, 4, 5, 6, 7, 8].map(stride), [0, 1, 1, 3, 1, 1, 3, 7, 1]);
        for index in 2..10_000 {
            let first = index - 1 - stride(index - 1);
            let expected = if stride(index - 1) == stride(first) { 1 + 2 * stride(first) } else { 1 };
            assert_eq!(stride(index), expected, "{index}");
        }
    }

    #[test]
    fn every_block_of_a_long_file_is_found_in_few_steps() {
        let last = 100_000;
        let mut most = 0;
        for target in (0..last).step_by(7) {
            let (mut index, mut steps) = (last, 0);
            while index > target {
                let jump = index - stride(index);
                index = if jump >= target { jump } else { index - 1 };
                steps += 1;
            }
            most = most.max(steps);
        }
        // Three steps for each bit of the length (Myers, 1983, "An applicative random-access stack").
        assert!(most <= 3 * last.ilog2(), "{most}");
    }
}
