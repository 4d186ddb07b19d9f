//! Finding out where uploads can resume: what an interrupted transfer has left on the server, and whether it is right
//! (PROTOCOL §7).

use skiff_proto::command::Request;
use skiff_proto::crc::Crc32c;

use super::source::Input;
use super::state::{Uploads, WORTH_RESUMING};
use crate::client::commands::{Again, no, request};
use crate::client::error::Error;
use crate::client::event::Event;
use crate::client::name::names;
use crate::client::{Client, ErrorCode};

/// Determines, for every queued file that may be staged on the server, the byte at which it resumes.
pub(super) async fn find(client: &mut Client, run: &mut Uploads<'_>) -> Result<(), Error> {
    let result = try_find(client, run).await;
    run.files.prepared = true;
    match result {
        Err(Error::NeedsExtended { .. }) => Ok(()),
        result => result,
    }
}

async fn try_find(client: &mut Client, run: &mut Uploads<'_>) -> Result<(), Error> {
    if run.options.resume && !run.files.prepared {
        skip_stored(client, run).await?;
    }
    // The question for extended commands costs a round trip anyway: it may as well tell whether a large file is welcome.
    let unknown = client.known().is_none();
    let mut candidates = Vec::new();
    for (place, &index) in run.files.queue.iter().filter(|&&index| run.files.is_open(index)).enumerate() {
        let task = &run.files.tasks[index];
        let asked = task.interrupted || run.options.resume && !run.files.prepared;
        let first = unknown && place == 0;
        if !asked && !first {
            continue;
        }
        // A file that can't be opened is reported when its turn comes.
        let Ok(input) = Input::open(&task.source) else { continue };
        if input.size() >= WORTH_RESUMING {
            candidates.push((index, input.size(), asked));
        }
    }
    let names = names(candidates.iter().map(|(index, ..)| run.files.name(*index)))?;
    let resumes = names.zip(&candidates).map(|(name, &(_, size, _))| request(Request::Resume { size, name }));
    let resumes: Vec<_> = resumes.collect();
    let staged = client.batch(&resumes, "continuing", Again::Yes).await;
    for ((index, _, asked), staged) in candidates.into_iter().zip(staged) {
        match staged.or_else(|error| no(error).map(Event::Refused))? {
            Event::Resume { offset, crc } => {
                let mut here = None;
                if asked
                    && offset > 0
                    && let Ok(mut input) = Input::open(&run.files.tasks[index].source)
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
                    run.files.queue.retain(|&queued| queued != index);
                    run.refused(index, error);
                }
            },
            _ => {}
        }
    }
    Ok(())
}

/// Finds files that are already identical on the server.
async fn skip_stored(client: &mut Client, run: &mut Uploads<'_>) -> Result<(), Error> {
    let queue: Vec<_> = run.files.queue.iter().copied().collect();
    let stats: Vec<_> =
        names(queue.iter().map(|&index| run.files.name(index)))?.map(|name| request(Request::Stat { name })).collect();
    let stats = client.batch(&stats, "continuing", Again::Yes).await;
    let mut claims = Vec::new();
    for (index, stat) in queue.into_iter().zip(stats) {
        let Event::Stat(stat) = stat.or_else(|error| no(error).map(Event::Refused))? else { continue };
        let Ok(mut input) = Input::open(&run.files.tasks[index].source) else { continue };
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
    let sums = names(claims.iter().map(|(index, ..)| run.files.name(*index)))?;
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
