//! Requests to the storage. Each attempt has a time limit, and transient failures are retried.

use core::time::Duration;
use std::io;

use object_store::{Error, Result};
use skiff_proto::{ErrorCode, Refusal};
use tracing::{debug, warn};

/// Maximum number of attempts for a request.
const ATTEMPTS: u32 = 5;

/// The delay before the second attempt; it doubles for each further attempt.
const PAUSE: Duration = Duration::from_millis(50);

/// The time limit of an attempt.
const LIMIT: Duration = Duration::from_secs(30);

/// Repeats a request until it succeeds, fails permanently, or has been made [`ATTEMPTS`] times.
///
/// A failed attempt may still have taken effect, so use this only for requests that may be executed twice.
pub(super) async fn again<T, F: Future<Output = Result<T>>>(mut request: impl FnMut() -> F) -> Result<T> {
    let mut pause = PAUSE;
    for attempt in 1.. {
        let result = tokio::time::timeout(LIMIT, request()).await.unwrap_or_else(|_| {
            Err(Error::Generic { store: "storage", source: format!("no answer within {} s", LIMIT.as_secs()).into() })
        });
        match result {
            Err(error) if attempt < ATTEMPTS && may_pass(&error) => debug!(%error, attempt, "request repeated"),
            result => return result,
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
    unreachable!("the last attempt returns")
}

/// True for failures of the network or the storage; false for definite answers.
fn may_pass(error: &Error) -> bool {
    matches!(error, Error::Generic { .. } | Error::JoinError { .. }) && !is_missing(error)
}

/// True if there is no such object; in a directory also because a parent is a file.
pub(super) fn is_missing(error: &Error) -> bool {
    let is_below_file = |error: &(dyn core::error::Error + 'static)| {
        error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::NotADirectory)
    };
    let mut causes = core::iter::successors(core::error::Error::source(error), |error| error.source());
    matches!(error, Error::NotFound { .. }) || causes.any(is_below_file)
}

/// The reply to a client whose request failed with this error.
pub(super) fn refuse(error: &Error) -> Refusal {
    match error {
        Error::NotFound { .. } => ErrorCode::NotFound.into(),
        Error::Precondition { .. } | Error::NotModified { .. } => ErrorCode::Changed.into(),
        Error::AlreadyExists { .. } => ErrorCode::Exists.into(),
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
            log(error, "refused");
            Refusal::new(ErrorCode::Io, "the object storage refuses the credentials of the server")
        }
        _ => {
            log(error, "failed");
            Refusal::new(ErrorCode::Io, "the object storage failed")
        }
    }
}

/// Logs an error whose details are not sent to the client.
pub(super) fn log(error: &Error, what: &str) {
    warn!(%error, "object storage: {what}");
}

/// `Ok(None)` for an object that does not exist.
pub(super) fn found<T>(result: Result<T>) -> Result<Option<T>, Refusal> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(refuse(&error)),
    }
}
