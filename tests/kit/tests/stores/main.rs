//! The storage suite over every store that needs no computer, and what the store on flash finds on a medium.

mod flash;
mod media;
mod memory;
mod overlay;
mod ram;
