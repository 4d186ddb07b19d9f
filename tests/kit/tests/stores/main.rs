//! The storage suite over every store except the directory store, and the store on flash with various media.

mod flash;
mod media;
mod memory;
mod overlay;
mod ram;
