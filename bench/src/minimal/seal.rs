//! The lower bound for protected connections: sealing and opening every byte once, in memory.

use anyhow::{Result, anyhow};
use ring::aead::{AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

use crate::tools::Cipher;

/// Bytes of a record of host-serv.
const RECORD: usize = 60 << 10;

/// Seals and opens `size` bytes, record by record.
pub(super) fn limit(size: u64, cipher: Cipher) -> Result<()> {
    let algorithm = match cipher {
        Cipher::AesGcm => &AES_256_GCM,
        Cipher::ChaChaPoly => &CHACHA20_POLY1305,
    };
    let key = LessSafeKey::new(UnboundKey::new(algorithm, &[7; 32]).map_err(|_| anyhow!("the key"))?);
    let mut record = vec![7; RECORD + algorithm.tag_len()];
    for number in 0..size.div_ceil(RECORD as u64) {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&number.to_le_bytes());
        let nonce = || Nonce::assume_unique_for_key(nonce);
        let (text, end) = record.split_at_mut(RECORD);
        let tag = key.seal_in_place_separate_tag(nonce(), Aad::empty(), text).map_err(|_| anyhow!("sealing"))?;
        end.copy_from_slice(tag.as_ref());
        key.open_in_place(nonce(), Aad::empty(), &mut record).map_err(|_| anyhow!("opening"))?;
    }
    Ok(())
}
