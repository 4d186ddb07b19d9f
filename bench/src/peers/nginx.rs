//! nginx, with PUT, plain and over TLS 1.3. The number of workers is that of Debian's configuration.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};

use super::{Endpoint, Peer, Scheme, find, free_port, program, says};

const NGINX: &str = "nginx";

#[derive(Debug)]
pub(super) struct Nginx;

impl Peer for Nginx {
    fn name(&self) -> &'static str {
        NGINX
    }

    fn program(&self) -> &'static str {
        NGINX
    }

    fn version(&self) -> String {
        says(NGINX, &["-v"])
    }

    fn command(&self, root: &Path, config: &Path) -> Result<(Command, Endpoint)> {
        let port = free_port()?;
        Ok((command(root, config, &format!("listen 127.0.0.1:{port};"))?, Endpoint { scheme: Scheme::Http, port }))
    }
}

/// The same over TLS 1.3, with a certificate that is created for the run. The client chooses the cipher.
#[derive(Debug)]
pub(super) struct Tls;

impl Peer for Tls {
    fn name(&self) -> &'static str {
        "nginx-tls"
    }

    fn program(&self) -> &'static str {
        NGINX
    }

    fn obstacle(&self) -> Option<&'static str> {
        find("openssl").is_none().then_some("openssl, which makes its certificate, is not installed")
    }

    fn version(&self) -> String {
        format!("{}, {}", says(NGINX, &["-v"]), says("openssl", &["version"]))
    }

    fn command(&self, root: &Path, config: &Path) -> Result<(Command, Endpoint)> {
        let port = free_port()?;
        let (certificate, key) = (config.join("certificate"), config.join("key"));
        let mut openssl = program("openssl")?;
        openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]);
        openssl.args(["-subj", "/CN=bench", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout"]).arg(&key);
        let made = openssl.arg("-out").arg(&certificate).stdin(Stdio::null()).output()?;
        ensure!(made.status.success(), "{openssl:?}: {}", String::from_utf8_lossy(&made.stderr).trim());
        let listen = format!(
            "listen 127.0.0.1:{port} ssl; ssl_protocols TLSv1.3; ssl_certificate {}; ssl_certificate_key {};",
            certificate.display(),
            key.display()
        );
        Ok((command(root, config, &listen)?, Endpoint { scheme: Scheme::Https { certificate }, port }))
    }
}

/// The command of a server of `root` that has `listen` in its configuration.
fn command(root: &Path, config: &Path, listen: &str) -> Result<Command> {
    // What is uploaded goes through a file beside the root: on the same file system, so that putting it in place is a
    // rename.
    let (root, beside, config) = (root.display(), root.with_extension("nginx"), config.display());
    let beside = beside.display();
    let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
    let text = format!(
        "daemon off; {user} worker_processes auto; pid {config}/pid; error_log {config}/error;
events {{ worker_connections 4096; }}
http {{
    access_log off; sendfile on; tcp_nopush on; types_hash_max_size 2048;
    keepalive_timeout 3600s; keepalive_requests 100000000;
    client_max_body_size 0; client_body_temp_path {beside};
    proxy_temp_path {config}/proxy; fastcgi_temp_path {config}/fastcgi;
    uwsgi_temp_path {config}/uwsgi; scgi_temp_path {config}/scgi;
    server {{
        {listen} root {root};
        location / {{ dav_methods PUT; create_full_put_path on; }}
    }}
}}
"
    );
    let file = format!("{config}/nginx.conf");
    fs::write(&file, text)?;
    let mut command = program(NGINX)?;
    command.args(["-c", &file, "-e", &format!("{config}/error"), "-p", &config.to_string()]);
    Ok(command)
}
