//! Builds the storage client from a URL and options.

use core::str::FromStr;
use core::time::Duration;
use std::io;
use std::sync::Arc;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3CopyIfNotExists};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::{BackoffConfig, RetryConfig};
use skiff_proto::Refusal;
use url::Url;

use super::{BadPrefix, Storage};

/// Why a store can't be served.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The text is not a URL.
    #[error("not a URL such as s3://BUCKET/PREFIX: {0}")]
    Url(#[from] url::ParseError),
    /// The scheme of the URL is not supported.
    #[error("unknown kind of store {0:?}: use s3, gs, az, file or memory")]
    Scheme(String),
    /// The option is unknown.
    #[error("unknown option {0:?} for this kind of store")]
    Option(String),
    /// The prefix is not valid.
    #[error(transparent)]
    Prefix(#[from] BadPrefix),
    /// The storage can't be used.
    #[error("can't use the object storage")]
    Storage(#[from] object_store::Error),
    /// The storage gave an unexpected answer.
    #[error("can't use the object storage: {0}")]
    Refused(Refusal),
    /// The system provides no random bytes.
    #[error("the system provides no random numbers")]
    Random(io::Error),
    /// Another instance serves the store.
    #[error(
        "another host-serv serves this store, and the storage does not support conditional writes (or --single is used)"
    )]
    Occupied,
}

/// The retry policy of the client, for broken connections only: `request::again` repeats other failed requests.
fn retry() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig { init_backoff: Duration::from_millis(50), ..BackoffConfig::default() },
        max_retries: 2,
        retry_timeout: Duration::from_secs(25),
    }
}

/// Returns the client for a URL, and the prefix in the URL. Credentials and endpoint come from the environment
/// variables that the storage's own tools use; `options` are applied after them.
///
/// # Errors
/// The URL or an option is not valid.
pub fn connect(url: &str, options: &[(String, String)]) -> Result<(Storage, String), OpenError> {
    // Another library of the process may have installed the same one.
    _ = rustls::crypto::ring::default_provider().install_default();
    let parsed = Url::parse(url)?;
    let prefix = parsed.path().trim_matches('/');
    let prefix = percent_decode(prefix);
    let bucket = || Url::parse(&format!("{}://{}", parsed.scheme(), parsed.host_str().unwrap_or_default()));
    let storage = match parsed.scheme() {
        "s3" | "s3a" => {
            let mut builder = AmazonS3Builder::from_env().with_url(bucket()?).with_retry(retry());
            builder = builder.with_copy_if_not_exists(S3CopyIfNotExists::Multipart);
            for (key, value) in options {
                builder = builder.with_config(known::<AmazonS3ConfigKey>(key)?, value);
            }
            full(builder.build()?)
        }
        "gs" => {
            let mut builder = GoogleCloudStorageBuilder::from_env().with_url(bucket()?).with_retry(retry());
            for (key, value) in options {
                builder = builder.with_config(known::<GoogleConfigKey>(key)?, value);
            }
            full(builder.build()?)
        }
        "az" => {
            let mut builder = MicrosoftAzureBuilder::from_env().with_url(bucket()?).with_retry(retry());
            for (key, value) in options {
                builder = builder.with_config(known::<AzureConfigKey>(key)?, value);
            }
            full(builder.build()?)
        }
        "memory" => {
            none(options)?;
            let memory = Arc::new(InMemory::new());
            Storage { objects: Arc::clone(&memory) as _, multipart: Some(memory), pages: None, metadata: true }
        }
        "file" => {
            none(options)?;
            let local = LocalFileSystem::new_with_prefix(percent_decode(parsed.path()))?.with_automatic_cleanup(true);
            let storage = Storage { objects: Arc::new(local), multipart: None, pages: None, metadata: false };
            return Ok((storage, String::new()));
        }
        other => return Err(OpenError::Scheme(other.to_owned())),
    };
    Ok((storage, prefix))
}

fn full<S>(store: S) -> Storage
where
    S: object_store::ObjectStore + object_store::multipart::MultipartStore + object_store::list::PaginatedListStore,
{
    let store = Arc::new(store);
    Storage {
        objects: Arc::clone(&store) as _,
        multipart: Some(Arc::clone(&store) as _),
        pages: Some(store),
        metadata: true,
    }
}

fn known<K: FromStr>(key: &str) -> Result<K, OpenError> {
    key.to_ascii_lowercase().parse().map_err(|_| OpenError::Option(key.to_owned()))
}

fn none(options: &[(String, String)]) -> Result<(), OpenError> {
    options.first().map_or(Ok(()), |(key, _)| Err(OpenError::Option(key.clone())))
}

fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let digits = tail.get(..2).and_then(|digits| core::str::from_utf8(digits).ok());
        let decoded = digits.filter(|_| *first == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(decoded.unwrap_or(*first));
        rest = if decoded.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_options_are_checked() {
        let option = [("region".to_owned(), "x".to_owned())];
        assert!(matches!(connect("ftp://x", &[]), Err(OpenError::Scheme(_))));
        assert!(matches!(connect("bucket", &[]), Err(OpenError::Url(_))));
        assert!(matches!(connect("memory:", &option), Err(OpenError::Option(_))));
        let wrong = [("colour".to_owned(), "x".to_owned())];
        assert!(matches!(connect("s3://b", &wrong), Err(OpenError::Option(_))));
        let (_, prefix) = connect("s3://b/x/a%20b/", &option).unwrap();
        assert_eq!(prefix, "x/a b");
    }
}
