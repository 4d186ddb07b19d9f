//! The listings of a connection: a request in the background reads one page at a time.

use core::mem;

use skiff_proto::ErrorCode;
use skiff_proto::name::Name;
use skiff_proto::store::{Entry, Result};

use super::Objects;
use super::list::Listing;
use super::session::{ObjectSession, Outcome, mixed_up};

/// A listing.
#[derive(Debug)]
pub struct Cursor {
    /// `None` while a request is reading a page.
    listing: Option<Box<Listing>>,
    /// The number of entries whose names can't be used in a command, if it is known.
    omitted: Option<u64>,
}

impl ObjectSession {
    /// Begins a listing. The root always exists; for another directory, a request checks that it exists.
    pub(super) fn begin_listing(&mut self, dir: Option<Name<'_>>, tree: bool) -> Result<Cursor> {
        let listing = Box::new(Listing::new(dir, tree));
        match dir {
            None => Ok(Cursor { listing: Some(listing), omitted: None }),
            Some(dir) => {
                self.check_seen(dir)?;
                self.read_listing(listing)
            }
        }
    }

    /// Reads the first page.
    fn read_listing(&mut self, mut listing: Box<Listing>) -> Result<Cursor> {
        let read = |objects: Objects| async move {
            let read = objects.inner().begin_listing(&mut listing).await;
            Outcome::Omitted(read.map(|omitted| (omitted, listing)))
        };
        match self.poll_job(read)? {
            Outcome::Omitted(read) => {
                let (omitted, listing) = read?;
                Ok(Cursor { listing: Some(listing), omitted: Some(omitted) })
            }
            _ => mixed_up(),
        }
    }

    /// The number of entries whose names can't be used in a command.
    pub(super) fn omitted_entries(&mut self, cursor: &mut Cursor) -> Result<u64> {
        if let Some(omitted) = cursor.omitted {
            return Ok(omitted);
        }
        // `None` if the request is running.
        let listing = cursor.listing.take().unwrap_or_else(|| Box::new(Listing::new(None, false)));
        *cursor = self.read_listing(listing)?;
        Ok(cursor.omitted.unwrap_or(0))
    }

    /// Passes the next entry to `show`; false at the end.
    pub(super) fn show_next(&mut self, cursor: &mut Cursor, show: &mut dyn FnMut(Entry<'_>)) -> Result<bool> {
        loop {
            if let Some(listing) = &mut cursor.listing
                && listing.is_ready()
            {
                return Ok(listing.next(show));
            }
            let listing = mem::take(&mut cursor.listing);
            let read = |objects: Objects| async move {
                Outcome::Page(match listing {
                    Some(mut listing) => objects.inner().next_page(&mut listing, false).await.map(|()| listing),
                    None => Err(ErrorCode::Io.into()),
                })
            };
            match self.poll_job(read)? {
                Outcome::Page(page) => cursor.listing = Some(page?),
                _ => return mixed_up(),
            }
        }
    }
}
