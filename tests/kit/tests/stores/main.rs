//! The storage suite over every store that needs no operating system, and what the store on flash finds on a medium.

mod flash;
mod media;
mod memory;
mod overlay;
mod ram;
