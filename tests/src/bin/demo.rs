//! `cargo demo`: the embedded server on this machine, without root: a file goes up to it, is listed, comes back and is
//! compared.
//!
//! The server is the one of a microcontroller, with a TCP stack and memory of its own; the client's connection is carried to
//! it as over a cable. Nothing stays behind.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;

use skiff_device::serv;
use skiff_device::serv::options::{Options, StoreChoice};
use skiff_host::client::{self, Client, Download, DownloadOptions, Observer, Upload, UploadOptions};
use skiff_tests::device::Device;

/// Bytes of the file.
const FIRMWARE: u64 = 1_000_000;

/// Nobody watches the transfers: they are over before anybody could.
struct Silent;

impl Observer for Silent {}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let shown = runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(show()));
    match shown {
        Ok(()) => {
            println!("\nEverything that came back is what went up.");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn show() -> Result<(), Box<dyn core::error::Error>> {
    let here = tempfile::tempdir()?;
    // Something real to send: as much of this program as firmware is long, and a file that is not there yet.
    let (program, back) = (here.path().join("app.bin"), here.path().join("back"));
    std::io::copy(&mut File::open(std::env::current_exe()?)?.take(FIRMWARE), &mut File::create(&program)?)?;

    let room = 2 * FIRMWARE;
    let choose = |options: &mut Options| {
        options.sessions = 2;
        options.store = StoreChoice::Ram { size: room };
        options.name = Some("demo".to_owned());
    };
    let mut options = Options::default();
    choose(&mut options);
    let ram = serv::ram(&options).ok_or("no such number of sessions")?;
    let server = Device::with(choose);
    println!(
        "1. The embedded server is behind 127.0.0.1:{}: two sessions, a TCP stack of its own (smoltcp),",
        server.port()
    );
    println!("   {ram} bytes of RAM here, beside {room} bytes for files. (On a Cortex-M3: docs/DESIGN.md.)");

    let mut client = Client::connect("127.0.0.1", server.port(), client::Options::default()).await?;
    let hello = client.hello().await?.cloned().ok_or("a classic server?")?;
    println!("2. It says that it is {} and runs {}.", hello.host.as_deref().unwrap_or("nobody"), hello.server);

    let uploads = vec![Upload::new(&program, "app.bin")];
    let sent = client.upload(uploads, &UploadOptions::default(), &mut Silent).await.remove(0)?;
    let crc = sent.crc.ok_or("no checksum")?;
    println!(
        "3. put: {} bytes, CRC-32C {crc:08x}; the server says that they are stored: {}.",
        sent.size, sent.confirmed
    );

    println!("4. list:");
    for entry in client.list(None).await?.entries {
        println!("   {:>10} {}", entry.size, entry.name);
    }

    let downloads = vec![Download::new("app.bin", &back)];
    let received = client.download(downloads, &DownloadOptions::default(), &mut Silent).await.remove(0)?;
    println!("5. get: {} bytes, checksum verified: {}.", received.size, received.verified);
    compare(&program, &back)?;
    println!("6. The two files are the same, byte for byte.");

    client.rename("app.bin", "app.old").await?;
    let sum = client.sum("app.old", 0, None).await?;
    if sum.crc != Some(crc) {
        return Err("the server's file has another checksum".into());
    }
    println!("7. Renamed; the server's own checksum of it is {crc:08x} as well.");
    client.quit().await;
    Ok(())
}

fn compare(sent: &Path, received: &Path) -> Result<(), Box<dyn core::error::Error>> {
    if std::fs::read(sent)? == std::fs::read(received)? {
        return Ok(());
    }
    Err(format!("{} differs from {}", received.display(), sent.display()).into())
}
