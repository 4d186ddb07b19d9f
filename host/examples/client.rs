//! A complete client: stores a file, lists the files on the server and downloads the file again. It connects to
//! `host-serv 50000`.

use skiff_host::client::{Client, Error, Options, sanitize};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let mut client = Client::connect("localhost", 50000, Options::default()).await?;
    client.put_bytes("hello.txt", "Hello, board!\n").await?;
    for entry in client.list(None).await?.entries {
        println!("{:>10} {}", entry.size, sanitize(&entry.name));
    }
    client.get("hello.txt", "copy.txt").await?;
    client.quit().await;
    Ok(())
}
