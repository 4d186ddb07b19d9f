//! Implements `defmt::Format` for types whose content is secret or too long for a log: it prints only their name. The
//! other types derive it.

use skiff_proto::format_names;

use crate::flash::{CardFlash, Flash, FlashFile, FlashMemory, FlashStage, FlashStore};
use crate::overlay::{Log, Overlay, Page, Setting, Text, Virtual};
use crate::ram::{Entries, RamFile, RamMemory, RamStage, RamStore};

impl<const N: usize> defmt::Format for Text<N> {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "{=[u8]:a}", self.as_bytes());
    }
}

format_names! {
    "CardFlash": impl[C, const BLOCK: usize] CardFlash<C, BLOCK>;
    "FlashFile": impl[] FlashFile;
    "FlashMemory": impl[const FILES: usize, const STAGES: usize, const NAME: usize, const PAGE: usize, const MAP: usize]
        FlashMemory<FILES, STAGES, NAME, PAGE, MAP>;
    "FlashStage": impl[] FlashStage<'_>;
    "FlashStore": impl[F: Flash, const NAME: usize, const PAGE: usize] FlashStore<'_, F, NAME, PAGE>;
    "Log": impl[const N: usize] Log<N>;
    "Overlay": impl[S] Overlay<'_, '_, S>;
    "Page": impl[const N: usize, F] Page<N, F>;
    "Setting": impl[const N: usize, F] Setting<N, F>;
    "Virtual": impl[] Virtual<'_>;
    "Entries": impl[const FILES: usize, const NAME: usize] Entries<FILES, NAME>;
    "RamFile": impl[] RamFile<'_>;
    "RamMemory": impl[const FILES: usize, const NAME: usize, const BLOCKS: usize, const BLOCK: usize]
        RamMemory<FILES, NAME, BLOCKS, BLOCK>;
    "RamStage": impl[] RamStage<'_>;
    "RamStore": impl[const NAME: usize, const BLOCK: usize] RamStore<'_, NAME, BLOCK>;
}

#[cfg(feature = "embedded-storage")]
format_names! {
    "NorFlashMedium": impl[N] crate::flash::NorFlashMedium<N>;
}

#[cfg(feature = "embedded-storage-async")]
format_names! {
    "PolledNorFlash": impl[N, I] crate::flash::PolledNorFlash<N, I>;
}

#[cfg(feature = "update")]
format_names! {
    "StateFlash": impl[S] crate::update::StateFlash<S>;
    "Update": impl[D, S] crate::update::Update<D, S>;
}

#[cfg(feature = "embassy")]
format_names! {
    "Buffers": impl[const N: usize] crate::embassy::Buffers<N>;
    "Server": impl[S: skiff_proto::store::Store, const SESSIONS: usize, const BUF: usize]
        crate::embassy::Server<S, SESSIONS, BUF>;
}

#[cfg(feature = "smoltcp")]
format_names! {
    "ControlSocket": impl[] crate::server::ControlSocket;
    "DataSocket": impl[S: skiff_proto::store::Store, const NAME: usize] crate::server::DataSocket<S, NAME>;
    "DeviceServer": impl[S: skiff_proto::store::Store, const NAME: usize, const BUF: usize]
        crate::server::DeviceServer<'_, S, NAME, BUF>;
    "Memory": impl[S: skiff_proto::store::Store, const NAME: usize, const BUF: usize]
        crate::server::Memory<'_, S, NAME, BUF>;
    "Session": impl[S: skiff_proto::store::Store, const NAME: usize, const BUF: usize]
        crate::server::Session<S, NAME, BUF>;
    "Stack": impl[] crate::stack::Stack<'_>;
    "NeighborFilter": impl[D: ?Sized] crate::stack::NeighborFilter<'_, D>;
    "NeighborGuard": impl[] crate::stack::NeighborGuard;
}

#[cfg(feature = "secure")]
format_names! {
    "Protection": impl[] crate::server::Protection<'_>;
}

#[cfg(feature = "mdns")]
format_names! {
    "Mdns": impl[] crate::mdns::Mdns;
    "Memory": impl[] crate::mdns::Memory;
    "Message": impl[] crate::mdns::Message;
    "Responder": impl[] crate::mdns::Responder;
}
