//! Checks at startup which conditional writes the storage supports, instead of inferring it from the vendor.

use core::sync::atomic::Ordering;
use core::time::Duration;

use object_store::path::Path;
use object_store::{Error, ObjectStoreExt as _, PutMode, PutOptions, PutPayload, UpdateVersion};
use skiff_proto::Refusal;
use tracing::{error, warn};

use super::request::{again, found};
use super::{Inner, Objects, OpenError};

/// How often the only instance of a store renews its claim.
const HEARTBEAT: Duration = Duration::from_secs(2);

/// A claim that does not change for this long belongs to a dead instance.
const PATIENCE: Duration = Duration::from_secs(6);

/// Whether create-if-absent and compare-and-swap work. Some storages accept the request and ignore the condition.
pub(super) async fn conditional_writes(inner: &Inner) -> Result<bool, OpenError> {
    let path = own(inner, &format!("probe/{}", inner.instance))?;
    let works = probe(inner, &path).await;
    inner.delete_quietly(&path).await;
    works.map_err(OpenError::Storage)
}

async fn probe(inner: &Inner, path: &Path) -> Result<bool, Error> {
    let put = |mode: PutMode, text: &'static str| async move {
        let result = again(|| {
            let payload = PutPayload::from_static(text.as_bytes());
            inner.storage.objects.put_opts(path, payload, PutOptions::from(mode.clone()))
        });
        match result.await {
            Ok(result) => Ok(Some(result)),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    };
    // The version of the object if its content is `text`. If the response to an attempt is lost, the object may have
    // been stored, and the retry is then refused.
    let stored = |text: &'static str| async move {
        let read = || async {
            let result = inner.storage.objects.get(path).await?;
            let meta = result.meta.clone();
            Ok((UpdateVersion { e_tag: meta.e_tag, version: meta.version }, result.bytes().await?))
        };
        let (version, bytes) = again(read).await?;
        Ok::<_, Error>((bytes == text).then_some(version))
    };
    let supported = async {
        let created = put(PutMode::Create, "1").await?.map(UpdateVersion::from);
        let first = match created {
            Some(first) => first,
            None => match stored("1").await? {
                Some(first) => first,
                None => return Ok(false),
            },
        };
        if put(PutMode::Create, "2").await?.is_some() {
            warn!("the object storage ignores create-if-absent");
            return Ok(false);
        }
        if put(PutMode::Update(first.clone()), "3").await?.is_none() && stored("3").await?.is_none() {
            warn!("the object storage refuses a valid compare-and-swap");
            return Ok(false);
        }
        if put(PutMode::Update(first), "4").await?.is_some() {
            warn!("the object storage ignores compare-and-swap");
            return Ok(false);
        }
        Ok(true)
    };
    match supported.await {
        Err(Error::NotImplemented { .. } | Error::NotSupported { .. }) => Ok(false),
        supported => supported,
    }
}

fn own(inner: &Inner, what: &str) -> Result<Path, OpenError> {
    inner.keys.own(what).map_err(OpenError::Refused)
}

/// Claims a store that only one instance may serve, and keeps the claim.
pub(super) async fn claim(objects: &Objects) -> Result<(), OpenError> {
    let inner = objects.inner();
    let path = own(inner, "instance")?;
    if let Some(other) = owner(inner, &path).await.map_err(OpenError::Refused)? {
        // Alive if its claim changes.
        tokio::time::sleep(PATIENCE).await;
        let now = owner(inner, &path).await.map_err(OpenError::Refused)?;
        if now.is_some_and(|now| now != other) {
            return Err(OpenError::Occupied);
        }
    }
    beat(inner, &path, 0).await.map_err(OpenError::Storage)?;
    let weak = std::sync::Arc::downgrade(&objects.0);
    tokio::spawn(async move {
        for count in 1.. {
            tokio::time::sleep(HEARTBEAT).await;
            let Some(inner) = weak.upgrade() else { return };
            let _claim = inner.claim.lock().await;
            if inner.fenced.load(Ordering::Relaxed) {
                return;
            }
            match owner(&inner, &path).await {
                Ok(Some(now)) if !now.starts_with(&inner.instance) => {
                    error!("another host-serv has claimed this store, which allows only one; refusing changes");
                    inner.fenced.store(true, Ordering::Relaxed);
                    return;
                }
                Ok(_) => _ = beat(&inner, &path, count).await,
                Err(refusal) => warn!(%refusal, "can't check the claim to the store"),
            }
        }
    });
    Ok(())
}

/// Releases the claim, so that the next instance need not wait.
pub(super) async fn release(inner: &Inner) {
    // Not between the check and the next beat of the claim, which would come after the release.
    let _claim = inner.claim.lock().await;
    if !inner.shared
        && !inner.options.read_only
        && !inner.fenced.load(Ordering::Relaxed)
        && let Ok(path) = inner.keys.own("instance")
    {
        inner.fenced.store(true, Ordering::Relaxed);
        inner.delete_quietly(&path).await;
    }
}

/// The content of the claim.
async fn owner(inner: &Inner, path: &Path) -> Result<Option<String>, Refusal> {
    let read = || async { inner.storage.objects.get(path).await?.bytes().await };
    Ok(found(again(read).await)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

async fn beat(inner: &Inner, path: &Path, count: u64) -> Result<(), Error> {
    inner.put_own(path, format!("{} {count}", inner.instance).into_bytes()).await
}
