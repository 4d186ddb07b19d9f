//! Finding out where downloads can resume: what an interrupted transfer has left here, and whether it is right
//! (PROTOCOL §5, TAG).

use std::fs;
use std::path::Path;

use skiff_proto::command::Request;
use skiff_proto::crc::Crc32c;

use super::state::Downloads;
use crate::client::checksum::checksum;
use crate::client::commands::{Again, no, refusal, request};
use crate::client::error::Error;
use crate::client::event::Event;
use crate::client::job::Received;
use crate::client::local::{Found, Part, Parts};
use crate::client::name::names;
use crate::client::{Client, ErrorCode};

/// A file of which a part is here.
struct Candidate {
    task: usize,
    /// It may be here completely.
    whole: bool,
    /// Partial files of earlier runs.
    found: Vec<Found>,
}

/// What is required to resume a file.
struct Claim {
    task: usize,
    length: u64,
    crc: Crc32c,
    /// Where the bytes are; `None`: in the sink.
    part: Option<Part>,
    whole: bool,
    /// SIZE and TAG vouch for it: it will do where a server has no checksums.
    trusted: bool,
}

/// Determines, for every queued file of which a part is here, the byte at which it resumes.
pub(super) async fn find(client: &mut Client, run: &mut Downloads<'_>) -> Result<(), Error> {
    match try_find(client, run).await {
        // A classic server: files come whole or not at all.
        Err(Error::NeedsExtended { .. }) => Ok(()),
        result => result,
    }
}

async fn try_find(client: &mut Client, run: &mut Downloads<'_>) -> Result<(), Error> {
    let candidates = candidates(run);
    if candidates.is_empty() {
        run.files.prepared = true;
        return Ok(());
    }
    // No bytes of it, but SIZE and TAG.
    let names = names(candidates.iter().map(|candidate| run.files.name(candidate.task)))?;
    let probes: Vec<_> = names.map(|name| request(Request::Read { offset: 0, length: Some(0), name })).collect();
    let versions = client.batch(&probes, "continuing", Again::Yes).await;
    let mut claims = Vec::new();
    for (candidate, version) in candidates.into_iter().zip(versions) {
        let index = candidate.task;
        match version.or_else(|error| no(error).map(Event::Refused))? {
            Event::Read { size, tag, .. } => {
                let sink = &mut run.files.tasks[index].sink;
                if sink.offset() > 0 {
                    if sink.version() != Some((size, tag)) || !tag.is_known() {
                        sink.set_version(size, tag);
                        let (length, crc) = (sink.offset(), sink.crc());
                        claims.push(Claim { task: index, length, crc, part: None, whole: false, trusted: false });
                    }
                    continue;
                }
                let trusted = |found: &Found| (found.version.size, found.version.tag) == (size, tag) && tag.is_known();
                let best = candidate.found.iter().position(trusted);
                if let Some(path) = run.files.tasks[index].sink.path().filter(|_| candidate.whole) {
                    claims.extend(whole(client, path, index, size).await?);
                } else if let Some((part, length, crc)) = open(client, &candidate.found, best, size).await? {
                    run.files.tasks[index].sink.set_version(size, tag);
                    // A TAG tells of the server's file, not of what a crash may have made of the part that is here.
                    let trusted = best.is_some();
                    claims.push(Claim { task: index, length, crc, part: Some(part), whole: false, trusted });
                }
            }
            // The file can't be read now. The part that is here stays.
            event => {
                run.files.finish(index, Err(refusal(event)));
            }
        }
    }
    verify(client, run, claims).await?;
    run.files.prepared = true;
    Ok(())
}

/// What to look at: what came before the connection was lost, and on the first pass what earlier runs left.
fn candidates(run: &Downloads<'_>) -> Vec<Candidate> {
    let look = run.options.resume && !run.files.prepared;
    let mut parts: Option<Parts> = None;
    let mut candidates = Vec::new();
    for &index in run.files.queue.iter().filter(|&&index| run.files.is_open(index)) {
        let sink = &run.files.tasks[index].sink;
        if sink.offset() > 0 {
            candidates.push(Candidate { task: index, whole: false, found: Vec::new() });
        } else if let Some(path) = sink.path().filter(|_| look) {
            let beside = match parts.take() {
                Some(parts) if parts.is_beside(path) => parts,
                _ => Parts::beside(path),
            };
            let found = parts.insert(beside).of(path, sink.key());
            let whole = found.is_empty() && fs::metadata(path).is_ok_and(|meta| meta.is_file());
            if whole || !found.is_empty() {
                candidates.push(Candidate { task: index, whole, found });
            }
        }
    }
    candidates
}

/// A file that may be here as a whole already.
async fn whole(client: &Client, path: &Path, index: usize, size: u64) -> Result<Option<Claim>, Error> {
    let Ok(mut file) = fs::File::open(path) else { return Ok(None) };
    if file.metadata().map_or(0, |meta| meta.len()) != size {
        return Ok(None);
    }
    let crc = match checksum(&mut file, path, size, &client.options.cancel).await {
        Err(Error::Cancelled) => return Err(Error::Cancelled),
        crc => crc.ok().flatten(),
    };
    Ok(crc.map(|crc| Claim { task: index, length: size, crc, part: None, whole: true, trusted: false }))
}

/// Opens the partial file that `best` names, or the longest that fits, and removes the others.
async fn open(
    client: &Client,
    found: &[Found],
    best: Option<usize>,
    size: u64,
) -> Result<Option<(Part, u64, Crc32c)>, Error> {
    let mut chosen: Option<(Part, u64)> = None;
    for (at, found) in found.iter().enumerate() {
        let Some(part) = Part::reopen(&found.path) else { continue };
        let length = part.file.metadata().map_or(0, |meta| meta.len());
        let better = match best {
            Some(best) => at == best,
            None => chosen.as_ref().is_none_or(|(_, longest)| length > *longest),
        };
        if better && length <= size && length > 0 {
            if let Some((worse, _)) = chosen.replace((part, length)) {
                worse.discard();
            }
        } else {
            part.discard();
        }
    }
    let Some((mut part, length)) = chosen else { return Ok(None) };
    match checksum(&mut part.file, &part.path, length, &client.options.cancel).await {
        // The cursor now stands behind the bytes.
        Ok(Some(crc)) => Ok(Some((part, length, crc))),
        Err(Error::Cancelled) => Err(Error::Cancelled),
        Ok(None) | Err(_) => {
            part.discard();
            Ok(None)
        }
    }
}

/// Compares what is here with the server's checksums of the same bytes.
async fn verify(client: &mut Client, run: &mut Downloads<'_>, claims: Vec<Claim>) -> Result<(), Error> {
    let names = names(claims.iter().map(|claim| run.files.name(claim.task)))?;
    let sums = names.zip(&claims).map(|(name, claim)| {
        let length = Some(claim.length);
        request(Request::Sum { offset: 0, length, name })
    });
    let sums: Vec<_> = sums.collect();
    let sums = client.batch(&sums, "continuing", Again::Yes).await;
    for (claim, sum) in claims.into_iter().zip(sums) {
        let sum = sum.or_else(|error| no(error).map(Event::Refused))?;
        let right = match sum {
            Event::Sum { length, crc } => length == claim.length && crc == Some(claim.crc.value()),
            Event::Refused(error) => {
                claim.trusted && matches!(error.code(), Some(ErrorCode::Unsupported | ErrorCode::BadCommand))
            }
            _ => false,
        };
        let index = claim.task;
        let task = &mut run.files.tasks[index];
        match (right, claim.whole, claim.part) {
            (true, true, _) => {
                let path = task.sink.path().map(Path::to_path_buf);
                let (size, crc) = (claim.length, Some(claim.crc.value()));
                let (bytes, mtime) = (None, None);
                let received = Received { path, bytes, size, resumed: size, verified: true, crc, mtime, sessions: 0 };
                run.files.finish(index, Ok(received));
            }
            (false, true, _) | (true, false, None) => {}
            (true, false, Some(part)) => match task.sink.adopt(part, claim.length, claim.crc) {
                Ok(()) => task.resumed = claim.length,
                Err(error) => run.files.finish(index, Err(error)),
            },
            (false, false, Some(part)) => part.discard(),
            (false, false, None) => _ = run.reset(index),
        }
    }
    Ok(())
}
