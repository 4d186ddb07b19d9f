//! Writes a file to the server as a stream. Without `finish`, the server keeps the old file.

use skiff_host::client::{Client, Options};
use tokio::io::AsyncWriteExt as _;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn core::error::Error>> {
    let mut client = Client::connect("localhost", 50000, Options::default()).await?;
    let mut writer = client.write("hello.txt", 14).await?;
    writer.write_all(b"Hello, board!\n").await?;
    println!("stored {} bytes", writer.finish().await?.size);
    Ok(())
}
