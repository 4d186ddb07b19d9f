//! The parts for a protected connection, and the handshake alone.

use core::time::Duration;

use skiff_device::server::{Entropy, Nonces, Protection};
use skiff_firmware::files::{Files, NAME};
use skiff_proto::Instant;
use skiff_proto::client::ClientSession;
use skiff_proto::command::{Command, VERSION, command_len};
use skiff_proto::secure::{self, Client, KeyId, Login, Noise, Secret, Security};
use skiff_proto::server::{Limits, ServerSession};
use static_cell::StaticCell;

use crate::{Server, Wrong, expect, ticks};

/// Fixed entropy, which is sufficient for counting.
struct Fixed;

impl Entropy for Fixed {
    fn next(&mut self) -> Option<[u8; 32]> {
        Some([1; 32])
    }
}

fn secret() -> Secret {
    Secret::new([7; 32])
}

/// Makes the server admit only clients with a key.
pub(crate) fn protect(server: &mut Server<'static, Files>) -> Result<(), Wrong> {
    static ENTROPY: StaticCell<Fixed> = StaticCell::new();
    let nonces = Nonces::Counted { start: 1 };
    let protection = Protection { secret: secret(), min_generation: 1, nonces, entropy: ENTROPY.init(Fixed) };
    server.protect(protection).map_err(|_| Wrong::Config)
}

/// A client with a key.
pub(crate) fn client() -> Result<Client<secure::ChaChaPoly>, Wrong> {
    let key = secret().key(KeyId::parse(b"rw.alice.1").ok_or(Wrong::Config)?);
    Ok(Login { key, ephemeral: [2; 32] }.start())
}

/// The ticks of only a session for `secure`, from the command to its reply. `wrong`: one bit of the tag is flipped.
#[inline(never)]
pub(crate) fn handshake(wrong: bool) -> Result<u64, Wrong> {
    let security = Security {
        nonce: secret().nonce(1, 1),
        secret: secret(),
        min_generation: 1,
        entropy: secure::Entropy::Pool([1; 32]),
        record_max: 1014,
        accepted: Instant::ZERO,
    };
    let mut server: ServerSession<{ command_len(NAME) }, Noise> = ServerSession::new(Limits::new(64));
    server.protect(security.guard().map_err(|_| Wrong::Config)?).map_err(|_| Wrong::Config)?;
    let mut session: ClientSession<400, 1, Noise> = ClientSession::new(Duration::from_secs(60));
    session.protect(client()?).map_err(|_| Wrong::Config)?;
    let mut client = session;
    client.request(&Command::Hello { version: VERSION }).map_err(|_| Wrong::Drive)?;
    let mut wire = [0; 400];
    for is_secure in [false, true] {
        let n = client.poll_transmit(&mut wire);
        if is_secure && wrong {
            wire[n - 1] = if wire[n - 1] == b'0' { b'1' } else { b'0' };
        }
        let before = ticks();
        expect(server.receive(&mut wire[..n]).is_ok_and(|received| received.taken == n))?;
        let n = server.poll_transmit(&mut wire);
        let took = ticks() - before;
        if is_secure {
            expect(wire[10..].starts_with(if wrong { "error denied" } else { "ok " }.as_bytes()))?;
            return Ok(took);
        }
        expect(client.receive(&mut wire[..n]).is_ok_and(|received| received.taken == n))?;
        _ = client.poll_event().map_err(|_| Wrong::Drive)?;
    }
    Err(Wrong::Answer)
}
