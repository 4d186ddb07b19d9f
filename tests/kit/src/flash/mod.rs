//! Simulated media that lose power: a NOR flash chip and an SD card.
//!
//! A [`Sim`] is a handle; its clones share one medium, so that a test can observe it while a store writes it.
//! [`Sim::fork`] copies the medium. A seed determines everything: the same calls have the same results.
//!
//! Power fails at one of the medium's *operations*: a program or an erase of flash, a write or a flush of a card. There
//! are two ways to test this:
//!
//! - [`Sim::cut_after`]: this many operations succeed, the next one is torn, and then every call fails until
//!   [`Sim::power_on`];
//! - [`Sim::watch`]: at each operation the watcher gets copies of the medium as a cut at that moment would leave it,
//!   while the original continues. One run of a workload then covers every moment at which power could fail.
//!
//! [`rig`] has stores on small media, [`world`] the model that they are compared with.

mod card;
mod nor;
pub mod rig;
mod rng;
mod sim;
pub mod workload;
pub mod world;

pub use card::CardModel;
pub use nor::NorModel;
pub use rng::Rng;
pub use sim::{Counters, Model, Moment, Operation, Sim, Tear};

/// A simulated NOR flash chip.
pub type Nor = Sim<NorModel>;
/// A simulated SD card.
pub type SdCard = Sim<CardModel>;
