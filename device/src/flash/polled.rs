//! Adapts a driver with the embedded-storage-async traits to the embedded-storage traits.

use core::pin::pin;
use core::task::{Context, Poll, Waker};

use embedded_storage::nor_flash::{ErrorType, NorFlash, ReadNorFlash};
use embedded_storage_async::nor_flash as asynchronous;

/// Makes an asynchronous driver usable for a [`NorFlashMedium`], for example that of external flash on QSPI: polls each
/// operation until it has finished.
///
/// The store has no asynchronous form: see [`Flash`](super::Flash). While an operation is pending, `idle` is called, to
/// feed a watchdog or to wait for an interrupt. The operation must be able to finish without another task of the
/// executor: interrupts and DMA are fine.
///
/// ```ignore
/// let medium = NorFlashMedium::new(PolledNorFlash::new(qspi, cortex_m::asm::wfe));
/// ```
///
/// [`NorFlashMedium`]: super::NorFlashMedium
#[derive(Debug)]
pub struct PolledNorFlash<N, I> {
    driver: N,
    idle: I,
}

impl<N, I: FnMut()> PolledNorFlash<N, I> {
    /// `idle` is called between two polls.
    pub const fn new(driver: N, idle: I) -> Self {
        Self { driver, idle }
    }
}

fn finish<T>(idle: &mut impl FnMut(), operation: impl Future<Output = T>) -> T {
    let mut operation = pin!(operation);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        match operation.as_mut().poll(&mut context) {
            Poll::Ready(result) => return result,
            Poll::Pending => idle(),
        }
    }
}

impl<N: ErrorType, I> ErrorType for PolledNorFlash<N, I> {
    type Error = N::Error;
}

impl<N: asynchronous::ReadNorFlash, I: FnMut()> ReadNorFlash for PolledNorFlash<N, I> {
    const READ_SIZE: usize = N::READ_SIZE;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Self::Error> {
        finish(&mut self.idle, self.driver.read(offset, bytes))
    }

    fn capacity(&self) -> usize {
        self.driver.capacity()
    }
}

impl<N: asynchronous::NorFlash, I: FnMut()> NorFlash for PolledNorFlash<N, I> {
    const WRITE_SIZE: usize = N::WRITE_SIZE;
    const ERASE_SIZE: usize = N::ERASE_SIZE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), Self::Error> {
        finish(&mut self.idle, self.driver.erase(from, to))
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Self::Error> {
        finish(&mut self.idle, self.driver.write(offset, bytes))
    }
}
