//! One file, to and from a path or memory: what most programs need.

use std::path::PathBuf;
use std::sync::Arc;

use super::Client;
use super::error::Error;
use super::job::{Download, DownloadOptions, Existing, Received, Sent, Source, Target, Upload, UploadOptions};

impl Client {
    /// Fetches `name` into the local file `path`.
    ///
    /// The file appears when it is whole and verified, with the server's mtime. A file that is there is replaced in one
    /// step and hands its permissions on; until then, and after an error, it is as it was. [`Client::download`] can keep
    /// it, make missing directories and continue what an earlier run left. A lost connection is made again.
    ///
    /// # Errors
    /// [`Error::Refused`] and, from a classic server, [`Error::ClassicRefused`]: no such file, for example.
    /// [`Error::BadName`]; [`Error::Local`]: the local file system, also for a `path` that is no regular file;
    /// [`Error::Mismatch`]; of the connection.
    pub async fn get(&mut self, name: &str, path: impl Into<PathBuf>) -> Result<Received, Error> {
        self.get_to(name, Target::File { path: path.into(), existing: Existing::Replace }).await
    }

    /// Stores the local file `path` as `name`.
    ///
    /// The server replaces a file of that name in one step once everything has come and is verified; until then, and
    /// after an error, it is as it was. (A classic server keeps it and stores the new file as `name(1)`, and confirms
    /// nothing.) A lost connection is made again, and the transfer continues where it stopped.
    ///
    /// # Errors
    /// [`Error::Refused`] and, from a classic server, [`Error::ClassicRefused`]; [`Error::NotText`]: a classic server
    /// may damage what is not UTF-8 text; [`Error::BadName`]; [`Error::Local`]; [`Error::Changed`]; of the connection.
    pub async fn put(&mut self, path: impl Into<PathBuf>, name: &str) -> Result<Sent, Error> {
        self.put_from(Source::Path(path.into()), name).await
    }

    /// Fetches `name` into memory: `limit` bytes at most. What a server announces is reserved once, if it keeps the limit.
    ///
    /// # Errors
    /// [`Error::TooLong`] for a longer file, before it is fetched; [`Error::Local`] if there is no memory for it; and
    /// those of [`Client::get`].
    pub async fn get_bytes(&mut self, name: &str, limit: u64) -> Result<Vec<u8>, Error> {
        Ok(self.get_to(name, Target::Memory { limit }).await?.bytes.unwrap_or_default())
    }

    /// Stores `bytes` as `name`, as [`Client::put`] does with a file. They are copied once; [`Source::Bytes`] of an
    /// [`Upload`] is not.
    ///
    /// # Errors
    /// Those of [`Client::put`].
    pub async fn put_bytes(&mut self, name: &str, bytes: impl AsRef<[u8]>) -> Result<Sent, Error> {
        self.put_from(Source::Bytes(Arc::from(bytes.as_ref())), name).await
    }

    async fn get_to(&mut self, name: &str, target: Target) -> Result<Received, Error> {
        let job = Download { name: name.to_owned(), target, mtime: None };
        let mut received = self.download(vec![job], &DownloadOptions::default(), &mut ()).await;
        received.pop().unwrap_or(Err(Error::Cancelled))
    }

    async fn put_from(&mut self, source: Source, name: &str) -> Result<Sent, Error> {
        let job = Upload { source, name: name.to_owned() };
        let mut sent = self.upload(vec![job], &UploadOptions::default(), &mut ()).await;
        sent.pop().unwrap_or(Err(Error::Cancelled))
    }
}
