//! Reads a file on the server as a stream, and prints its checksum, which is verified at the end.

use skiff_host::client::{Client, Options};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn core::error::Error>> {
    let mut client = Client::connect("localhost", 50000, Options::default()).await?;
    let mut reader = client.read("hello.txt").await?;
    println!("{} bytes, version {}", reader.len(), reader.tag().as_str());
    tokio::io::copy(&mut reader, &mut tokio::io::sink()).await?;
    println!("crc32c {:08x?}", reader.crc());
    Ok(())
}
