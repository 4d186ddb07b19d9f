//! Listings of directories and trees, a page of keys at a time.

use std::collections::VecDeque;

use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::list::PaginatedListOptions;
use object_store::path::Path;
use skiff_proto::name::{MAX_NAME, Name, NameBuf};
use skiff_proto::store::{Entry, EntryKind, Stat};
use skiff_proto::{ErrorCode, Refusal};

use super::keys::is_hidden;
use super::request::{again, refuse};
use super::{IN_FLIGHT, Inner, request};

/// Maximum number of directories between the listed directory and a key.
const DEPTH: usize = MAX_NAME / 2 + 1;

/// The keys from one request.
#[derive(Debug, Default)]
struct Page {
    /// Names relative to the root of the store.
    entries: VecDeque<(Line, EntryKind)>,
    omitted: u64,
    /// True if there is an entry that is not listed, which proves that the directory exists.
    marked: bool,
}

type Line = Box<NameBuf<MAX_NAME>>;

/// A position in a listing.
#[derive(Debug)]
pub(super) struct Listing {
    dir: Option<String>,
    tree: bool,
    page: Page,
    next: Next,
    /// In a tree: the parent directories of the last key.
    shown: Vec<String>,
}

#[derive(Debug, Clone)]
enum Next {
    Begin,
    Token(String),
    End,
}

impl Listing {
    pub(super) fn new(dir: Option<Name<'_>>, tree: bool) -> Self {
        let dir = dir.map(|dir| dir.as_str().to_owned());
        Self { dir, tree, page: Page::default(), next: Next::Begin, shown: Vec::new() }
    }

    /// True if the next entry, or the end of the listing, is known.
    pub(super) fn is_ready(&self) -> bool {
        !self.page.entries.is_empty() || matches!(self.next, Next::End)
    }

    /// Passes the next entry of this page to `show`; false if there is none.
    pub(super) fn next(&mut self, show: &mut dyn FnMut(Entry<'_>)) -> bool {
        let Some((name, kind)) = self.page.entries.pop_front() else { return false };
        show(Entry { name: name.as_name(), kind });
        true
    }
}

impl Inner {
    /// True if a directory contains nothing that a client can see or that prevents its removal.
    pub(super) async fn is_empty(&self, dir: &str) -> Result<bool, Refusal> {
        let mut listing = Listing { dir: Some(dir.to_owned()), tree: false, ..Listing::new(None, false) };
        self.next_page(&mut listing, true).await?;
        while listing.page.entries.is_empty() && listing.page.omitted == 0 {
            if matches!(listing.next, Next::End) {
                return Ok(true);
            }
            self.next_page(&mut listing, true).await?;
        }
        Ok(false)
    }

    /// Reads the first page. Returns the number of entries on all pages that no command could name.
    ///
    /// # Errors
    /// `not-found` if there is no such directory.
    pub(super) async fn begin_listing(&self, listing: &mut Listing) -> Result<u64, Refusal> {
        self.next_page(listing, false).await?;
        let first = &listing.page;
        if first.entries.is_empty()
            && !first.marked
            && first.omitted == 0
            && let Some(dir) = &listing.dir
            && !self.is_directory(dir).await?
        {
            return Err(ErrorCode::NotFound.into());
        }
        let mut omitted = first.omitted;
        if !matches!(listing.next, Next::End) {
            // The other pages are read twice: once to count, without metadata.
            let mut count = Listing {
                dir: listing.dir.clone(),
                tree: listing.tree,
                page: Page::default(),
                next: listing.next.clone(),
                shown: listing.shown.clone(),
            };
            while !matches!(count.next, Next::End) {
                self.next_page(&mut count, true).await?;
                omitted += count.page.omitted;
            }
        }
        Ok(omitted)
    }

    /// The bytes of all names that a classic `ls` shows, with a line end after each.
    pub(super) async fn count_names(&self, name_max: u16) -> Result<u64, Refusal> {
        let mut listing = Listing::new(None, false);
        let mut length = 0;
        loop {
            let mut add =
                |entry: Entry<'_>| length += entry.classic_name(name_max).map_or(0, |name| name.len() as u64 + 1);
            while listing.next(&mut add) {}
            if matches!(listing.next, Next::End) {
                return Ok(length);
            }
            // A classic `ls` shows no hidden names.
            self.next_page(&mut listing, true).await?;
        }
    }

    /// Replaces a consumed page with the next one. `all`: include hidden entries, and omit metadata.
    pub(super) async fn next_page(&self, listing: &mut Listing, all: bool) -> Result<(), Refusal> {
        let prefix = match &listing.dir {
            Some(dir) => self.keys.file(dir)?,
            None => self.keys.prefix().clone(),
        };
        let (keys, dirs) = match &self.storage.pages {
            Some(pages) => {
                let text = if prefix.as_ref().is_empty() { String::new() } else { format!("{prefix}/") };
                let page_token = match &listing.next {
                    Next::Token(token) => Some(token.clone()),
                    _ => None,
                };
                let options = || PaginatedListOptions {
                    delimiter: (!listing.tree).then(|| "/".into()),
                    page_token: page_token.clone(),
                    ..PaginatedListOptions::default()
                };
                let page =
                    again(|| pages.list_paginated(Some(&text), options())).await.map_err(|error| refuse(&error))?;
                listing.next = page.page_token.map_or(Next::End, Next::Token);
                (page.result.objects, page.result.common_prefixes)
            }
            None => {
                listing.next = Next::End;
                let below = Some(&prefix).filter(|prefix| !prefix.as_ref().is_empty());
                if listing.tree {
                    let list = || self.storage.objects.list(below).try_collect::<Vec<_>>();
                    let mut keys = again(list).await.map_err(|error| refuse(&error))?;
                    keys.sort_unstable_by(|a, b| a.location.cmp(&b.location));
                    (keys, Vec::new())
                } else {
                    let list = || self.storage.objects.list_with_delimiter(below);
                    let page = again(list).await.map_err(|error| refuse(&error))?;
                    (page.objects, page.common_prefixes)
                }
            }
        };
        let mut page = Page::default();
        for dir in &dirs {
            self.add(listing, &mut page, dir, None, all);
        }
        for key in &keys {
            // Keys that end in `/` are how other tools mark directories.
            if key.location == prefix {
                page.marked = true;
                continue;
            }
            self.add(listing, &mut page, &key.location, Some(key.size), all);
        }
        if !all {
            self.add_metadata(&mut page).await?;
        }
        listing.page = page;
        Ok(())
    }

    /// Adds times and checksums, which a listing of the storage does not contain, with one request for each file.
    async fn add_metadata(&self, page: &mut Page) -> Result<(), Refusal> {
        let entries = core::mem::take(&mut page.entries);
        let stats = futures_util::stream::iter(entries.into_iter().map(|(name, kind)| async move {
            Ok::<_, Refusal>(match kind {
                EntryKind::File(_) => match self.find(name.as_name().as_str()).await? {
                    Some(version) => Some((name, EntryKind::File(version.stat))),
                    // It has been removed since.
                    None => None,
                },
                directory => Some((name, directory)),
            })
        }));
        page.entries =
            stats.buffered(IN_FLIGHT).try_filter_map(|entry| core::future::ready(Ok(entry))).try_collect().await?;
        Ok(())
    }

    /// Adds an object or a directory, and in a tree also its parent directories.
    fn add(&self, listing: &mut Listing, page: &mut Page, path: &Path, size: Option<u64>, all: bool) {
        let Some(text) = self.keys.name_of(path) else { return };
        let skip = listing.dir.as_ref().map_or(0, |dir| dir.len() + 1);
        let mut dirs = Vec::new();
        if listing.tree {
            let below = text.get(skip..).unwrap_or_default();
            let places = below.match_indices('/').take(DEPTH);
            dirs = places.map(|(at, _)| text[..skip + at].to_owned()).collect();
        }
        let same = listing.shown.iter().zip(&dirs).take_while(|(a, b)| a == b).count();
        for dir in &dirs[same.min(dirs.len())..] {
            if !self.push(page, dir, None, all) {
                break;
            }
        }
        if listing.tree {
            listing.shown = dirs;
        }
        self.push(page, text, size, all);
    }

    /// Adds one entry; false if it is not shown.
    fn push(&self, page: &mut Page, text: &str, size: Option<u64>, all: bool) -> bool {
        // Those of the server.
        if text.split('/').any(|component| component.starts_with(".skiff-")) {
            page.marked = true;
            return false;
        }
        let parsed = Name::parse(text.as_bytes(), MAX_NAME).ok();
        let Some(kept) = parsed.and_then(|name| NameBuf::try_from(name).ok()) else {
            page.omitted += 1;
            return false;
        };
        if !all && !self.options.hidden && is_hidden(kept.as_name()) {
            page.marked = true;
            return false;
        }
        let file = |size| EntryKind::File(Stat { size, mtime: None, crc: None });
        page.entries.push_back((Box::new(kept), size.map_or(EntryKind::Directory { mtime: None }, file)));
        true
    }

    /// All objects of a folder of the server's own.
    pub(super) async fn list_own(&self, folder: &Path) -> Vec<object_store::ObjectMeta> {
        let list = || self.storage.objects.list(Some(folder)).try_collect::<Vec<_>>();
        again(list).await.unwrap_or_else(|error| {
            request::log(&error, "listing of the server's own objects");
            Vec::new()
        })
    }
}
