//! `cargo demo`: a server and a client on this machine, without root: a file goes up, is listed, comes back and is
//! compared.
//!
//! The server is the library that host-serv runs, on a port of its own in a directory of its own; nothing stays behind.

use std::path::Path;
use std::process::ExitCode;

use skiff_host::client::{Client, Download, DownloadOptions, Observer, Options, Upload, UploadOptions};
use skiff_tests::host::Host;

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
    // Something real to send: this program itself, and a file that is not there yet.
    let program = std::env::current_exe()?;
    let back = here.path().join("back");

    let server = Host::start();
    println!("1. A server on 127.0.0.1:{} serves an empty directory.", server.port());

    let mut client = Client::connect("127.0.0.1", server.port(), Options::default()).await?;
    let hello = client.hello().await?.map(|hello| hello.server.clone());
    println!("2. It says that it is {}.", hello.ok_or("a classic server?")?);

    let uploads = vec![Upload::new(&program, "firmware/app.bin")];
    let sent = client.upload(uploads, &UploadOptions::default(), &mut Silent).await.remove(0)?;
    let crc = sent.crc.ok_or("no checksum")?;
    println!(
        "3. put: {} bytes, CRC-32C {crc:08x}; the server says that it is stored, durably: {}.",
        sent.size, sent.confirmed
    );

    println!("4. list:");
    for entry in client.list(Some("firmware")).await?.entries {
        println!("   {:>10} {}", entry.size, entry.name);
    }

    let downloads = vec![Download::new("firmware/app.bin", &back)];
    let received = client.download(downloads, &DownloadOptions::default(), &mut Silent).await.remove(0)?;
    println!("5. get: {} bytes, checksum verified: {}.", received.size, received.verified);
    compare(&program, &back)?;
    println!("6. The two files are the same, byte for byte.");

    client.rename("firmware/app.bin", "firmware/app.old").await?;
    let sum = client.sum("firmware/app.old", 0, None).await?;
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
