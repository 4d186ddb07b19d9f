//! One file, to and from a path or memory: all that most programs need.

use std::path::PathBuf;
use std::sync::Arc;

use super::Client;
use super::error::Error;
use super::job::{Download, DownloadOptions, Existing, Received, Sent, Source, Target, Upload, UploadOptions};

impl Client {
    /// Downloads `name` to the local file `path`.
    ///
    /// The file appears when it is complete and verified, with the server's mtime. An existing file is replaced in one
    /// step and its permissions are kept; until then, and after an error, it is unchanged. [`Client::download`] can
    /// keep it, create missing directories and resume an earlier run. A lost connection is made again.
    ///
    /// # Errors
    /// [`Error::Refused`] or, from a classic server, [`Error::ClassicRefused`], for example if there is no such file;
    /// [`Error::BadName`]; [`Error::Local`] for errors of the local file system, also for a `path` that is not a
    /// regular file; [`Error::Mismatch`]; connection errors.
    pub async fn get(&mut self, name: &str, path: impl Into<PathBuf>) -> Result<Received, Error> {
        self.get_to(name, Target::File { path: path.into(), existing: Existing::Replace }).await
    }

    /// Uploads the local file `path` as `name`.
    ///
    /// The server replaces a file of that name in one step once everything has arrived and is verified; until then, and
    /// after an error, it is unchanged. (A classic server keeps it, stores the new file as `name(1)`, and confirms
    /// nothing.) A lost connection is made again and the transfer resumes.
    ///
    /// # Errors
    /// [`Error::Refused`] or, from a classic server, [`Error::ClassicRefused`]; [`Error::NotText`]: a classic server
    /// may corrupt content that is not UTF-8 text; [`Error::BadName`]; [`Error::Local`]; [`Error::Changed`]; connection
    /// errors.
    pub async fn put(&mut self, path: impl Into<PathBuf>, name: &str) -> Result<Sent, Error> {
        self.put_from(Source::Path(path.into()), name).await
    }

    /// Downloads `name` into memory, at most `limit` bytes. Memory is reserved once, for the announced size.
    ///
    /// # Errors
    /// [`Error::TooLong`] for a longer file, before any of it is received; [`Error::Local`] if there is not enough
    /// memory; and the errors of [`Client::get`].
    pub async fn get_bytes(&mut self, name: &str, limit: u64) -> Result<Vec<u8>, Error> {
        Ok(self.get_to(name, Target::Memory { limit }).await?.bytes.unwrap_or_default())
    }

    /// Stores `bytes` as `name`, as [`Client::put`] does with a file. The bytes are copied once; [`Source::Bytes`] of
    /// an [`Upload`] avoids that.
    /// [`Upload`] is not.
    ///
    /// # Errors
    /// As [`Client::put`].
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
