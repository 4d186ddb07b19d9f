//! nginx, with PUT. The number of workers is that of Debian's configuration.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::{Endpoint, Peer, Scheme, free_port, program, says};

#[derive(Debug)]
pub(super) struct Nginx;

impl Peer for Nginx {
    fn name(&self) -> &'static str {
        "nginx"
    }

    fn program(&self) -> &'static str {
        "nginx"
    }

    fn version(&self) -> String {
        says(self.program(), &["-v"])
    }

    fn command(&self, root: &Path, config: &Path) -> Result<(Command, Endpoint)> {
        let port = free_port()?;
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
        listen 127.0.0.1:{port}; root {root};
        location / {{ dav_methods PUT; create_full_put_path on; }}
    }}
}}
"
        );
        let file = format!("{config}/nginx.conf");
        fs::write(&file, text)?;
        let mut command = program(self.program())?;
        command.args(["-c", &file, "-e", &format!("{config}/error"), "-p", &config.to_string()]);
        Ok((command, Endpoint { scheme: Scheme::Http, port }))
    }
}
