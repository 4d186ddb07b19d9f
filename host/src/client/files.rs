//! The files of one call: the queue and the results.

use std::collections::VecDeque;

use super::error::Error;
use super::job::Observer;
use super::name::parse;

/// How an observer gets a result: [`Observer::received`] or [`Observer::sent`].
pub(super) type Report<R> = fn(&mut dyn Observer, usize, &Result<R, Error>);

/// The files of one call. A file is in the queue, then under way, and then has its result. If the connection is lost,
/// files under way return to the queue.
pub(super) struct Files<'a, T, R> {
    names: Vec<String>,
    /// The state of each file.
    pub(super) tasks: Vec<T>,
    results: Vec<Option<Result<R, Error>>>,
    /// Those that wait.
    pub(super) queue: VecDeque<usize>,
    pub(super) observer: &'a mut dyn Observer,
    report: Report<R>,
    /// There was progress since the last connection error.
    pub(super) progress: bool,
    /// What earlier runs have left has been looked for.
    pub(super) prepared: bool,
}

impl<'a, T, R> Files<'a, T, R> {
    /// All files wait but those with a bad name.
    pub(super) fn new(
        files: impl Iterator<Item = (String, T)>,
        observer: &'a mut dyn Observer,
        report: Report<R>,
    ) -> Self {
        let (names, tasks): (Vec<_>, Vec<_>) = files.unzip();
        let results = names.iter().map(|_| None).collect();
        let queue = VecDeque::with_capacity(names.len());
        let mut files = Self { names, tasks, results, queue, observer, report, progress: false, prepared: false };
        for index in 0..files.names.len() {
            match parse(&files.names[index]).map(drop) {
                Ok(()) => files.queue.push_back(index),
                Err(error) => files.finish(index, Err(error)),
            }
        }
        files.progress = false;
        files
    }

    /// The server's name of a file.
    pub(super) fn name(&self, index: usize) -> &str {
        &self.names[index]
    }

    /// Takes the next file out of the queue.
    pub(super) fn next(&mut self) -> Option<usize> {
        loop {
            let index = self.queue.pop_front()?;
            if self.is_open(index) {
                return Some(index);
            }
        }
    }

    /// Takes those that have their result out of the queue.
    pub(super) fn drop_closed(&mut self) {
        let results = &self.results;
        self.queue.retain(|&index| results[index].is_none());
    }

    /// True if the file has no result yet.
    pub(super) fn is_open(&self, index: usize) -> bool {
        self.results[index].is_none()
    }

    /// A file of which so much is there begins.
    pub(super) fn started(&mut self, index: usize, size: u64, offset: u64) {
        self.observer.started(index, &self.names[index], size, offset);
    }

    /// Bytes of a file have come or gone.
    pub(super) fn moved(&mut self, index: usize, bytes: usize) {
        self.observer.progress(index, bytes as u64);
    }

    /// Gives a file its result.
    pub(super) fn finish(&mut self, index: usize, result: Result<R, Error>) {
        self.progress = true;
        (self.report)(self.observer, index, &result);
        self.results[index] = Some(result);
    }

    /// All waiting files fail.
    pub(super) fn fail_all(&mut self, error: &Error) {
        while let Some(index) = self.next() {
            self.finish(index, Err(error.clone()));
        }
    }

    /// The results, in the order of the files.
    pub(super) fn into_results(self) -> Vec<Result<R, Error>> {
        self.results.into_iter().map(|result| result.unwrap_or(Err(Error::Cancelled))).collect()
    }
}
