//! The staged bytes of a name: what `resume` reports, and how a `write` begins.

use skiff_proto::identity::StageOwner;
use skiff_proto::{ErrorCode, Refusal};

use super::Objects;
use super::record::State;
use super::upload::Stage;
use super::writers::Presence;

impl Objects {
    /// The staged bytes for a `write` of `size` bytes to `name` by `owner`.
    pub(super) async fn staged(&self, name: &str, owner: StageOwner, size: u64) -> Result<(u64, u32), Refusal> {
        let inner = self.inner();
        inner.writers.wait(name).await;
        if inner.writers.presence(name) == Presence::Busy {
            return Err(ErrorCode::Busy.into());
        }
        inner.check_path(name).await?;
        let Some(found) = inner.read_record(name).await? else { return Ok((0, 0)) };
        if !inner.is_available(&found).await? {
            return Err(ErrorCode::Busy.into());
        }
        let mut record = found.record;
        if record.state == State::Open {
            // The writer, which is silent or dead, loses its lease now, so that the reported bytes stay the same.
            let mut lease = inner.acquire(name, &inner.token()).await?;
            inner.update(&mut lease, |record| record.state = State::Idle).await?;
            record = lease.record;
        }
        let staged = record.staged.unwrap_or_default();
        let fits = staged.owner == owner.number() && staged.len <= size;
        Ok(if fits { (staged.len, staged.crc) } else { (0, 0) })
    }

    /// Acquires the lease for a stage that begins at `offset`, and reads the bytes that it needs.
    pub(super) async fn begin_stage(&self, mut stage: Box<Stage>, offset: u64) -> Result<Box<Stage>, Refusal> {
        match self.begin_held(&mut stage, offset).await {
            Ok(()) => Ok(stage),
            Err(refusal) => {
                stage.abandon();
                Err(refusal)
            }
        }
    }

    async fn begin_held(&self, stage: &mut Stage, offset: u64) -> Result<(), Refusal> {
        let inner = self.inner();
        inner.check_path(&stage.name).await?;
        let mut lease = inner.acquire(&stage.name, &stage.writer.token).await?;
        if offset == 0 {
            inner.clear(&mut lease, State::Open).await?;
            stage.resume(lease, Vec::new());
            return Ok(());
        }
        let staged = lease.record.staged.clone().unwrap_or_default();
        let read = async {
            if staged.len != offset || !stage.is_owned_by(staged.owner) {
                return Err(ErrorCode::Mismatch.into());
            }
            match &staged.tail {
                Some(tail) => inner.read_whole(&inner.keys.beside(&stage.name, tail)?).await,
                None => Ok(bytes::Bytes::new()),
            }
        };
        match read.await {
            Ok(tail) => {
                stage.resume(lease, tail.into());
                Ok(())
            }
            Err(refusal) => {
                let state = if lease.record.staged.is_some() { State::Idle } else { State::Free };
                inner.update(&mut lease, |record| record.state = state).await?;
                Err(refusal)
            }
        }
    }
}
