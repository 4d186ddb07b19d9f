//! Finding out where transfers can go on: what an interrupted one has left here or on the server, and whether it is
//! right (PROTOCOL §5, TAG; §7).

use std::fs;

use skiff_proto::command::Request;
use skiff_proto::crc::Crc32c;

use super::commands::{Again, parse, request};
use super::connection::Event;
use super::error::Error;
use super::job::Received;
use super::local::{Found, Part, Parts};
use super::source::{Input, checksum};
use super::{Client, ErrorCode};
use super::{download, upload};

/// What an error in an answer to a question means for the file: `Ok` if it is a no, to be dealt with; an error if it ends
/// the pass.
pub(super) fn no(error: Error) -> Result<Error, Error> {
    match error {
        Error::Connect { .. }
        | Error::Lost { .. }
        | Error::Timeout { .. }
        | Error::Mute { .. }
        | Error::Protocol { .. }
        | Error::Cancelled
        | Error::NeedsExtended { .. } => Err(error),
        no => Ok(no),
    }
}

/// A file of which something is here.
struct Candidate {
    task: usize,
    /// It may be here as a whole.
    whole: bool,
    /// Partial files of earlier runs.
    found: Vec<Found>,
}

/// What has to be true for a file to go on.
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

/// Settles for every queued file of which something is here with which byte it goes on.
pub(super) async fn download(client: &mut Client, run: &mut download::Run<'_>) -> Result<(), Error> {
    match try_download(client, run).await {
        // A classic server: files come whole or not at all.
        Err(Error::NeedsExtended { .. }) => Ok(()),
        result => result,
    }
}

async fn try_download(client: &mut Client, run: &mut download::Run<'_>) -> Result<(), Error> {
    let candidates = candidates(run);
    if candidates.is_empty() {
        run.prepared = true;
        return Ok(());
    }
    // No bytes of it, but SIZE and TAG.
    let names = names(candidates.iter().map(|candidate| &run.tasks[candidate.task].name))?;
    let probes: Vec<_> = names.map(|name| request(Request::Read { offset: 0, length: Some(0), name })).collect();
    let versions = client.batch(&probes, "continuing", Again::Yes).await;
    let mut claims = Vec::new();
    for (candidate, version) in candidates.into_iter().zip(versions) {
        let index = candidate.task;
        match version.or_else(|error| no(error).map(Event::Refused))? {
            Event::Read { size, tag, .. } => {
                let sink = &mut run.tasks[index].sink;
                if sink.offset() > 0 {
                    if sink.version() != Some((size, tag)) || !tag.is_known() {
                        sink.set_version(size, tag);
                        let (length, crc) = (sink.offset(), sink.crc());
                        claims.push(Claim { task: index, length, crc, part: None, whole: false, trusted: false });
                    }
                    continue;
                }
                let trusted = |found: &Found| found.size == size && found.tag == tag && tag.is_known();
                let best = candidate.found.iter().position(trusted);
                if candidate.whole {
                    claims.extend(whole(client, run, index, size).await?);
                } else if let Some((part, length, crc)) = open(client, &candidate.found, best, size).await? {
                    run.tasks[index].sink.set_version(size, tag);
                    // A TAG tells of the server's file, not of what a crash may have made of the part that is here.
                    let trusted = best.is_some();
                    claims.push(Claim { task: index, length, crc, part: Some(part), whole: false, trusted });
                }
            }
            // The file can't be had now. What is here of it stays.
            event => {
                run.finish(index, Err(super::commands::refusal(event)));
            }
        }
    }
    verify(client, run, claims).await?;
    run.prepared = true;
    Ok(())
}

/// What to look at: what came before the connection was lost, and on the first pass what earlier runs left.
fn candidates(run: &download::Run<'_>) -> Vec<Candidate> {
    let look = run.options.resume && !run.prepared;
    let mut parts: Option<Parts> = None;
    let mut candidates = Vec::new();
    for &index in run.queue.iter().filter(|&&index| run.is_open(index)) {
        let sink = &run.tasks[index].sink;
        if sink.offset() > 0 {
            candidates.push(Candidate { task: index, whole: false, found: Vec::new() });
        } else if let Some(path) = sink.path().filter(|_| look) {
            let beside = match parts.take() {
                Some(parts) if parts.is_beside(path) => parts,
                _ => Parts::beside(path),
            };
            let found = parts.insert(beside).of(path);
            let whole = found.is_empty() && fs::metadata(path).is_ok_and(|meta| meta.is_file());
            if whole || !found.is_empty() {
                candidates.push(Candidate { task: index, whole, found });
            }
        }
    }
    candidates
}

/// A file that may be here as a whole already.
async fn whole(client: &Client, run: &download::Run<'_>, index: usize, size: u64) -> Result<Option<Claim>, Error> {
    let Some(path) = run.tasks[index].sink.path() else { return Ok(None) };
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
async fn verify(client: &mut Client, run: &mut download::Run<'_>, claims: Vec<Claim>) -> Result<(), Error> {
    let names = names(claims.iter().map(|claim| &run.tasks[claim.task].name))?;
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
        let task = &mut run.tasks[index];
        match (right, claim.whole, claim.part) {
            (true, true, _) => {
                let path = task.sink.path().map(std::path::Path::to_path_buf);
                let (size, crc) = (claim.length, Some(claim.crc.value()));
                let (bytes, mtime) = (None, None);
                let received = Received { path, bytes, size, resumed: size, verified: true, crc, mtime, sessions: 0 };
                run.finish(index, Ok(received));
            }
            (false, true, _) | (true, false, None) => {}
            (true, false, Some(part)) => match task.sink.adopt(part, claim.length, claim.crc) {
                Ok(()) => task.resumed = claim.length,
                Err(error) => run.finish(index, Err(error)),
            },
            (false, false, Some(part)) => part.discard(),
            (false, false, None) => _ = run.begin_anew(index),
        }
    }
    Ok(())
}

/// Settles for every queued file that may be staged on the server with which byte it goes on.
pub(super) async fn upload(client: &mut Client, run: &mut upload::Run<'_>) -> Result<(), Error> {
    let result = try_upload(client, run).await;
    run.prepared = true;
    match result {
        Err(Error::NeedsExtended { .. }) => Ok(()),
        result => result,
    }
}

async fn try_upload(client: &mut Client, run: &mut upload::Run<'_>) -> Result<(), Error> {
    if run.options.resume && !run.prepared {
        skip_stored(client, run).await?;
    }
    // The question for extended commands costs a round trip anyway: it may as well tell whether a large file is welcome.
    let unknown = client.known().is_none();
    let mut candidates = Vec::new();
    for (place, &index) in run.queue.iter().filter(|&&index| run.is_open(index)).enumerate() {
        let task = &run.tasks[index];
        let asked = task.interrupted || run.options.resume && !run.prepared;
        let first = unknown && place == 0;
        if !asked && !first {
            continue;
        }
        // What can't be opened is told when its turn comes.
        let Ok(input) = Input::open(&task.source) else { continue };
        if input.size() >= upload::WORTH_RESUMING {
            candidates.push((index, input.size(), asked));
        }
    }
    let names = names(candidates.iter().map(|(index, ..)| &run.tasks[*index].name))?;
    let resumes = names.zip(&candidates).map(|(name, &(_, size, _))| request(Request::Resume { size, name }));
    let resumes: Vec<_> = resumes.collect();
    let staged = client.batch(&resumes, "continuing", Again::Yes).await;
    for ((index, _, asked), staged) in candidates.into_iter().zip(staged) {
        match staged.or_else(|error| no(error).map(Event::Refused))? {
            Event::Resume { offset, crc } => {
                let mut here = None;
                if asked
                    && offset > 0
                    && let Ok(mut input) = Input::open(&run.tasks[index].source)
                {
                    here = input.checksum(offset, &client.options.cancel).await?;
                }
                match here.filter(|here| Some(here.value()) == crc) {
                    Some(here) => run.staged(index, offset, here),
                    None => run.staged(index, 0, Crc32c::new()),
                }
            }
            Event::Refused(error) => match error.code() {
                Some(ErrorCode::Unsupported | ErrorCode::BadCommand) => run.staged(index, 0, Crc32c::new()),
                _ => {
                    run.queue.retain(|&queued| queued != index);
                    run.refused(index, error);
                }
            },
            _ => {}
        }
    }
    Ok(())
}

/// Finds files that the server has as they are here.
async fn skip_stored(client: &mut Client, run: &mut upload::Run<'_>) -> Result<(), Error> {
    let queue: Vec<_> = run.queue.iter().copied().collect();
    let stats: Vec<_> =
        names(queue.iter().map(|&index| &run.tasks[index].name))?.map(|name| request(Request::Stat { name })).collect();
    let stats = client.batch(&stats, "continuing", Again::Yes).await;
    let mut claims = Vec::new();
    for (index, stat) in queue.into_iter().zip(stats) {
        let Event::Stat(stat) = stat.or_else(|error| no(error).map(Event::Refused))? else { continue };
        let Ok(mut input) = Input::open(&run.tasks[index].source) else { continue };
        if input.size() != stat.size {
            continue;
        }
        match input.checksum(stat.size, &client.options.cancel).await {
            Ok(Some(crc)) if stat.crc.is_none_or(|known| known == crc.value()) => {
                claims.push((index, stat.size, crc.value()));
            }
            Err(Error::Cancelled) => return Err(Error::Cancelled),
            _ => {}
        }
    }
    let sums = names(claims.iter().map(|(index, ..)| &run.tasks[*index].name))?;
    let sums: Vec<_> = sums.map(|name| request(Request::Sum { offset: 0, length: None, name })).collect();
    let sums = client.batch(&sums, "continuing", Again::Yes).await;
    for ((index, size, crc), sum) in claims.into_iter().zip(sums) {
        let sum = sum.or_else(|error| no(error).map(Event::Refused))?;
        if matches!(sum, Event::Sum { length, crc: Some(sum) } if length == size && sum == crc) {
            run.stored(index, size, crc);
        }
    }
    Ok(())
}

fn names<'a>(names: impl Iterator<Item = &'a String>) -> Result<impl Iterator<Item = skiff_proto::Name<'a>>, Error> {
    Ok(names.map(|name| parse(name)).collect::<Result<Vec<_>, _>>()?.into_iter())
}
