//! An S3 server: s3s-fs in this process, or the server that `scripts/objects-servers.sh` has started.

use core::net::SocketAddr;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use object_store::path::Path;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use skiff_host::objects::{Options, Storage, connect};
use tempfile::TempDir;
use tokio::net::TcpListener;

/// An S3 server with one bucket. If `SKIFF_S3_ENDPOINT` is set, it is that server, with the bucket `SKIFF_S3_BUCKET`
/// and the credentials in `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`. Otherwise it is s3s-fs on loopback, whose
/// buckets are directories.
#[derive(Debug)]
pub struct S3 {
    endpoint: String,
    bucket: String,
    prefix: String,
    key: [String; 2],
    signed: bool,
    requests: Requests,
    root: Option<TempDir>,
}

/// Counts of requests by kind.
type Requests = Arc<Mutex<BTreeMap<&'static str, u64>>>;

impl S3 {
    /// Uses the server in `SKIFF_S3_ENDPOINT`, or starts one, which ends with the current tokio runtime.
    ///
    /// # Panics
    /// If that fails.
    #[must_use]
    pub fn start() -> Self {
        let of = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
        let Ok(endpoint) = std::env::var("SKIFF_S3_ENDPOINT") else { return Self::local(None) };
        Self {
            endpoint,
            bucket: of("SKIFF_S3_BUCKET"),
            prefix: format!("test-{:016x}", fastrand::u64(..)),
            key: ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"].map(of),
            signed: true,
            requests: Requests::default(),
            root: None,
        }
    }

    /// Starts s3s-fs. In requests that store an object, it ignores the header `ignored`, such as `if-match`.
    ///
    /// # Panics
    /// If that fails.
    #[must_use]
    pub fn local(ignored: Option<&'static str>) -> Self {
        let root = tempfile::tempdir().unwrap();
        let bucket = "skiff".to_owned();
        std::fs::create_dir(root.path().join(&bucket)).unwrap();
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(root.path()).unwrap());
        let key = ["key", "secret"].map(str::to_owned);
        // A signature covers the headers, so it can't be verified when one is removed.
        let signed = ignored.is_none();
        if signed {
            builder.set_auth(SimpleAuth::from_single(key[0].clone(), key[1].clone()));
        }
        let requests = Requests::default();
        let addr = serve(builder.build(), Arc::clone(&requests), ignored);
        let (endpoint, prefix) = (format!("http://{addr}"), "boards".to_owned());
        Self { endpoint, bucket, prefix, key, signed, requests, root: Some(root) }
    }

    /// The URL for `--store`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("s3://{}/{}", self.bucket, self.prefix)
    }

    /// The options for `--store-option`.
    #[must_use]
    pub fn options(&self) -> Vec<(String, String)> {
        let signed = (!self.signed).to_string();
        [
            ("endpoint", self.endpoint.as_str()),
            ("allow_http", "true"),
            ("region", "us-east-1"),
            ("access_key_id", &self.key[0]),
            ("secret_access_key", &self.key[1]),
            ("skip_signature", &signed),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .to_vec()
    }

    /// A client of the bucket.
    ///
    /// # Panics
    /// If the options are wrong.
    #[must_use]
    pub fn storage(&self) -> Storage {
        connect(&self.url(), &self.options()).unwrap().0
    }

    /// The options to serve the bucket below the prefix of this test.
    #[must_use]
    pub fn serving(&self) -> Options {
        Options { prefix: self.prefix.clone(), ..Options::default() }
    }

    /// The object of the file `name`.
    ///
    /// # Panics
    /// If the name can't be a key.
    #[must_use]
    pub fn path(&self, name: &str) -> Path {
        Path::parse(format!("{}/{name}", self.prefix)).unwrap()
    }

    /// Parts of multipart uploads in progress.
    ///
    /// # Panics
    /// If the server is not s3s-fs.
    #[must_use]
    pub fn parts(&self) -> usize {
        let files = std::fs::read_dir(self.root.as_ref().unwrap().path()).unwrap();
        files.filter(|file| file.as_ref().unwrap().file_name().to_string_lossy().starts_with(".upload_id-")).count()
    }

    /// The requests since the last call, by kind. Nothing if the server is not in this process.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn take_requests(&self) -> BTreeMap<&'static str, u64> {
        core::mem::take(&mut self.requests.lock().unwrap())
    }
}

fn serve(service: S3Service, requests: Requests, ignored: Option<&'static str>) -> SocketAddr {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let addr = listener.local_addr().unwrap();
    let listener = TcpListener::from_std(listener).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (service, requests) = (service.clone(), Arc::clone(&requests));
            let counted = hyper::service::service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
                let is_list = request.uri().query().is_some_and(|query| query.contains("list-type="));
                let kind = match request.method().as_str() {
                    "PUT" => "PUT",
                    "POST" => "POST",
                    "HEAD" => "HEAD",
                    "DELETE" => "DELETE",
                    _ if is_list => "LIST",
                    _ => "GET",
                };
                *requests.lock().unwrap().entry(kind).or_default() += 1;
                if let Some(header) = ignored.filter(|_| kind == "PUT") {
                    request.headers_mut().remove(header);
                }
                // A lost connection must not stop s3s-fs between writing a file and its metadata: real storage has no
                // incomplete objects.
                let answer = tokio::spawn(hyper::service::Service::call(&service, request));
                async move { answer.await.unwrap() }
            });
            tokio::spawn(async move {
                let server = auto::Builder::new(TokioExecutor::new());
                _ = server.serve_connection(TokioIo::new(stream), counted).await;
            });
        }
    });
    addr
}
