//! Faults between host-serv and its storage: errors before and after the effect of a request, slow answers, and the end
//! of the instance at any request. A seed determines them.

use core::fmt;
use core::future::pending;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use core::time::Duration;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartId, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use skiff_host::objects::Storage;
use tokio::sync::Notify;
use tokio::time::Instant;

/// The clock of a storage, finer than that of `InMemory`, which all instances share.
#[derive(Debug, Clone)]
pub struct Clock {
    begin: Instant,
    epoch: SystemTime,
    written: Arc<Mutex<HashMap<String, Duration>>>,
}

impl Clock {
    /// A clock that begins now.
    #[must_use]
    pub fn new() -> Self {
        Self { begin: Instant::now(), epoch: SystemTime::now(), written: Arc::default() }
    }

    fn write(&self, path: &Path) {
        self.written.lock().unwrap().insert(path.to_string(), self.begin.elapsed());
    }

    fn stamp(&self, meta: &mut ObjectMeta) {
        let at = self.written.lock().unwrap().get(meta.location.as_ref()).copied();
        meta.last_modified = (self.epoch + at.unwrap_or_default()).into();
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

/// What goes wrong.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Of a thousand requests, this many fail.
    pub errors: u32,
    /// The longest time that a request takes.
    pub slow: Duration,
    /// Each request takes at least this long.
    pub delay: Duration,
    /// The instance ends at this request; 0: it does not.
    pub kill_at: usize,
}

/// The storage of one instance, with faults.
pub struct Faults {
    inner: Storage,
    clock: Clock,
    plan: Plan,
    rng: Mutex<fastrand::Rng>,
    count: AtomicUsize,
    flying: AtomicUsize,
    most: AtomicUsize,
    failed: AtomicUsize,
    dead: AtomicBool,
    killed: Notify,
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faults")
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("faults")
    }
}

/// The end of a request.
enum Fault {
    None,
    Before,
    After,
}

impl Faults {
    /// Faults for one instance.
    #[must_use]
    pub fn new(inner: &Storage, clock: &Clock, plan: Plan, seed: u64) -> Arc<Self> {
        Arc::new(Self {
            inner: inner.clone(),
            clock: clock.clone(),
            plan,
            rng: Mutex::new(fastrand::Rng::with_seed(seed)),
            count: AtomicUsize::new(0),
            flying: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            failed: AtomicUsize::new(0),
            dead: AtomicBool::new(false),
            killed: Notify::new(),
        })
    }

    /// What the instance uses.
    #[must_use]
    pub fn storage(self: &Arc<Self>) -> Storage {
        let multipart = self.inner.multipart.is_some().then(|| Arc::clone(self) as Arc<dyn MultipartStore>);
        Storage { objects: Arc::clone(self) as _, multipart, pages: None, metadata: self.inner.metadata }
    }

    /// Ends the instance: no request has an effect or an answer any more.
    pub fn kill(&self) {
        self.dead.store(true, Ordering::SeqCst);
        self.killed.notify_one();
    }

    /// Waits until the instance has ended.
    pub async fn killed(&self) {
        if !self.dead.load(Ordering::SeqCst) {
            self.killed.notified().await;
        }
    }

    /// Requests so far, those that failed, and the largest number at the same time.
    #[must_use]
    pub fn counts(&self) -> (usize, usize, usize) {
        let count = |count: &AtomicUsize| count.load(Ordering::SeqCst);
        (count(&self.count), count(&self.failed), count(&self.most))
    }

    async fn request<T>(&self, request: impl Future<Output = Result<T>>) -> Result<T> {
        if self.dead.load(Ordering::SeqCst) {
            return pending().await;
        }
        let number = self.count.fetch_add(1, Ordering::SeqCst) + 1;
        let (fault, slow, happens) = {
            let mut rng = self.rng.lock().unwrap();
            let fault = match rng.u32(..1000) < self.plan.errors {
                false => Fault::None,
                true if rng.bool() => Fault::Before,
                true => Fault::After,
            };
            (fault, self.plan.slow.mul_f64(rng.f64()), rng.bool())
        };
        if number == self.plan.kill_at {
            // With its effect or without.
            if happens {
                _ = request.await;
            }
            self.kill();
            return pending().await;
        }
        let flying = self.flying.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(flying, Ordering::SeqCst);
        let time = self.plan.delay + slow;
        if !time.is_zero() {
            tokio::time::sleep(time / 2).await;
        }
        let result = match fault {
            Fault::Before => Err(failure()),
            _ if self.dead.load(Ordering::SeqCst) => return pending().await,
            Fault::After => request.await.and_then(|_| Err(failure())),
            Fault::None => request.await,
        };
        if !time.is_zero() {
            tokio::time::sleep(time / 2).await;
        }
        self.flying.fetch_sub(1, Ordering::SeqCst);
        if self.dead.load(Ordering::SeqCst) {
            return pending().await;
        }
        if !matches!(fault, Fault::None) {
            self.failed.fetch_add(1, Ordering::SeqCst);
        }
        result
    }

    fn multipart(&self) -> &Arc<dyn MultipartStore> {
        self.inner.multipart.as_ref().expect("offered only if there is one")
    }
}

fn failure() -> Error {
    Error::Generic { store: "faults", source: "503 Slow Down".into() }
}

#[async_trait]
impl ObjectStore for Faults {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let put = async {
            let result = self.inner.objects.put_opts(path, payload, options).await?;
            self.clock.write(path);
            Ok(result)
        };
        self.request(put).await
    }

    async fn put_multipart_opts(&self, path: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.clock.write(path);
        self.request(self.inner.objects.put_multipart_opts(path, options)).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        let mut result = self.request(self.inner.objects.get_opts(path, options)).await?;
        self.clock.stamp(&mut result.meta);
        Ok(result)
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let (fault, dead) = {
            let mut rng = self.rng.lock().unwrap();
            let fault = match rng.u32(..1000) < self.plan.errors {
                false => Fault::None,
                true if rng.bool() => Fault::Before,
                true => Fault::After,
            };
            let number = self.count.fetch_add(1, Ordering::SeqCst) + 1;
            let dead = self.dead.load(Ordering::SeqCst);
            if number == self.plan.kill_at {
                self.kill();
            }
            (fault, dead)
        };
        if dead {
            return stream::pending().boxed();
        }
        match fault {
            Fault::None => self.inner.objects.delete_stream(paths),
            Fault::Before => stream::once(async { Err(failure()) }).boxed(),
            Fault::After => self.inner.objects.delete_stream(paths).map(|_| Err(failure())).boxed(),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let clock = self.clock.clone();
        let list = self.inner.objects.list(prefix);
        list.map(move |meta| {
            let mut meta = meta?;
            clock.stamp(&mut meta);
            Ok(meta)
        })
        .boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.request(self.inner.objects.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let copy = async {
            self.inner.objects.copy_opts(from, to, options).await?;
            self.clock.write(to);
            Ok(())
        };
        self.request(copy).await
    }
}

#[async_trait]
impl MultipartStore for Faults {
    async fn create_multipart(&self, path: &Path) -> Result<MultipartId> {
        self.request(self.multipart().create_multipart(path)).await
    }

    async fn create_multipart_opts(&self, path: &Path, options: PutMultipartOptions) -> Result<MultipartId> {
        self.request(self.multipart().create_multipart_opts(path, options)).await
    }

    async fn put_part(&self, path: &Path, id: &MultipartId, index: usize, data: PutPayload) -> Result<PartId> {
        self.request(self.multipart().put_part(path, id, index, data)).await
    }

    async fn complete_multipart(&self, path: &Path, id: &MultipartId, parts: Vec<PartId>) -> Result<PutResult> {
        let complete = async {
            let result = self.multipart().complete_multipart(path, id, parts).await?;
            self.clock.write(path);
            Ok(result)
        };
        self.request(complete).await
    }

    async fn abort_multipart(&self, path: &Path, id: &MultipartId) -> Result<()> {
        self.request(self.multipart().abort_multipart(path, id)).await
    }
}
