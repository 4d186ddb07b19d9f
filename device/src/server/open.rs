//! Stub for `protect` without the feature `secure`: admits every client.

use core::marker::PhantomData;

use skiff_proto::Instant;
use skiff_proto::cipher::Plain;
use skiff_proto::server::ServerSession;

/// The cipher of sessions: none.
pub(super) type Cipher = Plain;

/// Bytes for a record: none.
pub const RECORD: usize = 0;

/// The access control of a server: it admits everybody.
pub(super) struct Door<'m>(PhantomData<&'m mut [u8]>);

impl<'m> Door<'m> {
    pub(super) const fn new(_record: &'m mut [u8], _smallest: usize) -> Self {
        Self(PhantomData)
    }

    pub(super) const fn guard<const BUF: usize>(&mut self, _: &mut ServerSession<BUF, Cipher>, _: Instant) -> bool {
        true
    }

    pub(super) const fn record(&mut self) -> &mut [u8] {
        &mut []
    }
}
