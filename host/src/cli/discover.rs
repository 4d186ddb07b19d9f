//! `discover`: lists the servers of this network.

use core::net::SocketAddr;
use core::time::Duration;

use clap::Args;

use super::command::{Definition, Here, Local};
use super::failure::{Failure, io_text};
use super::json::Object;
use super::settings::seconds;
use crate::client::sanitize;
use crate::discovery::{Found, discover};

/// `discover`
pub(crate) struct Discover;

impl Definition for Discover {
    type Args = DiscoverArgs;

    const NAME: &'static str = "discover";
    const SUMMARY: &'static str = "Find servers on this network (mDNS)";
    const STANDALONE: bool = true;
}

/// Arguments of `discover`.
#[derive(Debug, Args)]
pub(crate) struct DiscoverArgs {
    /// How long to wait for answers
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
    timeout: Duration,
}

impl Local for Discover {
    fn run(here: &mut Here<'_>, args: Self::Args) -> Result<(), Failure> {
        let found = discover(args.timeout, || here.output.is_cancelled());
        let found = found.map_err(|error| Failure::whole("connect", &io_text(&error)))?;
        if found.is_empty() && !here.output.is_cancelled() {
            let text = format!(
                "no server answered within {} s; does it announce itself (host-serv --announce, device-serv --tap, \
                 firmware with the feature mdns), and does the firewall allow UDP port 5353?",
                args.timeout.as_secs_f64()
            );
            return Err(Failure::whole("not-found", &text));
        }
        let host = found.iter().map(|server| server.host.chars().count()).max().unwrap_or(0);
        let address = found.iter().map(|server| ip(server).len()).max().unwrap_or(0);
        for server in &found {
            let addresses = server.addresses.iter().map(ToString::to_string).collect::<Vec<_>>();
            let port = server.addresses[0].port();
            let object = Object::Found {
                name: &server.name,
                host: &server.host,
                address: ip(server),
                addresses,
                port,
                server: server.server.as_deref(),
            };
            here.output.result(&object, || {
                let product = server.server.as_deref().unwrap_or("-");
                let line = format!("{:host$}  {:address$}  {port:5}  {product}", server.host, ip(server));
                sanitize(&line).into_owned()
            });
        }
        Ok(())
    }
}

/// The address in the form that host-cli accepts: a link-local one with its scope.
fn ip(server: &Found) -> String {
    match server.addresses.first() {
        Some(SocketAddr::V6(v6)) if v6.scope_id() != 0 => format!("{}%{}", v6.ip(), v6.scope_id()),
        Some(address) => address.ip().to_string(),
        None => String::new(),
    }
}
