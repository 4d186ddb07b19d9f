"""Keys and encryption: PROTOCOL section 8. Needs the package `cryptography` (`pip install 'skiff-client[secure]'`)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
import stat
from typing import TYPE_CHECKING, List, Optional, Tuple, Union

from .errors import ConnectionLost, KeyFileError, KeyRefused, ProtocolError, printable
from .messages import Messages, text_of
from .stream import Stream

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

PATTERN = b"Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s"
_TAG = 16
#: A direction carries at most this many messages.
_MESSAGES_MAX = 1 << 32
_KEYID = re.compile(r"(ro|rw)\.[0-9a-z-]{1,16}\.([1-9][0-9]{0,9})")


class Key:
    """The key of one client, as `host-cli key grant` prints it."""

    def __init__(self, keyid: str, psk: bytes) -> None:
        matched = _KEYID.fullmatch(keyid)
        if matched is None or int(matched[2]) >= 1 << 32 or len(psk) != 32:
            raise ValueError("not a key")
        self.keyid = keyid
        self._psk = psk

    def __repr__(self) -> str:
        return f"Key({self.keyid})"

    @classmethod
    def parse(cls, text: str) -> Key:
        """Parses the line `skiff-key-1 KEYID BASE64`.

        Raises:
            ValueError: it is something else.
        """
        words = text.strip().split(" ")
        if len(words) != 3 or words[0] != "skiff-key-1":
            raise ValueError("not a client's key (skiff-key-1 KEYID ...)")
        try:
            return cls(words[1], base64.b64decode(words[2].encode("ascii"), validate=True))
        except (ValueError, binascii.Error):
            raise ValueError("a damaged key") from None

    @classmethod
    def read(cls, path: Union[str, os.PathLike[str]]) -> Key:
        """Reads a key file, which only its owner may be able to read.

        Raises:
            KeyFileError: it is something else, or others can read it.
        """
        name = printable(os.fspath(path))
        with open(path, "rb") as file:
            if hasattr(os, "geteuid") and stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise KeyFileError(f"{name}: other users can read or change it; run: chmod 600 {name}")
            data = file.read(257)
        try:
            return cls.parse(data.decode("ascii"))
        except ValueError as error:
            why = "not a key file" if isinstance(error, UnicodeDecodeError) else str(error)
            raise KeyFileError(f"{name}: {why}") from None

    def fingerprint(self) -> str:
        """16 hex digits that identify the key, in names of partial files."""
        digest = hashlib.blake2s(b"skiff/1 fingerprint", key=self._psk).digest()
        return f"{int.from_bytes(digest[:8], 'little'):016x}"

    def handshake(self, hello: bytes, ephemeral: Optional[bytes] = None) -> Handshake:
        """Begins a handshake on a connection with this hello. `ephemeral` is for tests."""
        return Handshake(self.keyid, self._psk, hello, ephemeral or os.urandom(32))


class Handshake:
    """The client's side of Noise NNpsk0, with empty payloads (Noise revision 34)."""

    def __init__(self, keyid: str, psk: bytes, hello: bytes, ephemeral: bytes) -> None:
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        self._secret = X25519PrivateKey.from_private_bytes(ephemeral)
        public = self._secret.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        begin = b"secure " + PATTERN + b" " + keyid.encode()
        # The name is longer than a hash.
        self._hash = self._chain = hashlib.blake2s(PATTERN).digest()
        self._mix_hash(hello + b"\n" + begin)
        self._chain, mixed, self._key = _hkdf(self._chain, psk, 3)
        self._mix_hash(mixed)
        self._mix_hash(public)
        self._chain, self._key = _hkdf(self._chain, public, 2)
        tag = _cipher(self._key).encrypt(bytes(12), b"", self._hash)
        self._mix_hash(tag)
        #: The command that starts the handshake.
        self.command = begin + b" " + (public + tag).hex().encode()

    def finish(self, reply: bytes) -> Tuple[bytes, bytes]:
        """The keys to the server and from it.

        Raises:
            KeyRefused: the server refuses the key, or does not have it.
        """
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

        if not re.fullmatch(rb"ok [0-9a-f]{96}", reply):
            said = printable(text_of(reply)[:200])
            raise KeyRefused(f"the server refuses the key: {said.replace('error ', '', 1)}")
        message = bytes.fromhex(reply[3:].decode())
        public, tag = message[:32], message[32:]
        try:
            # Raises ValueError for a shared secret of zeros.
            shared = self._secret.exchange(X25519PublicKey.from_public_bytes(public))
            self._mix_hash(public)
            self._chain, self._key = _hkdf(self._chain, public, 2)
            self._chain, self._key = _hkdf(self._chain, shared, 2)
            _cipher(self._key).decrypt(bytes(12), tag, self._hash)
        except (InvalidTag, ValueError):
            raise KeyRefused("the server does not have this key's secret") from None
        up, down = _hkdf(self._chain, b"", 2)
        return up, down

    def _mix_hash(self, data: bytes) -> None:
        self._hash = hashlib.blake2s(self._hash + data).digest()


class Sealed(Messages):
    """The messages of a protected connection: each one is a record."""

    def __init__(self, stream: Stream, keys: Tuple[bytes, bytes], record_max: int) -> None:
        super().__init__(stream)
        self._up, self._down = (_cipher(key) for key in keys)
        self._sent = self._received = 0
        self._record_max = record_max
        self._plain = b""

    def send(self, *payloads: bytes) -> None:
        """Sends messages, all in one write; data that is too long for one record takes several."""
        most = self._record_max - _TAG
        records: List[bytes] = []
        for payload in payloads:
            for at in range(0, max(len(payload), 1), most):
                if self._sent >= _MESSAGES_MAX:
                    raise ConnectionLost("a protected connection can't carry more messages")
                record = self._up.encrypt(_nonce(self._sent), payload[at : at + most], None)
                self._sent += 1
                records += (b"%010d" % len(record), record)
        self.stream.send(b"".join(records))

    def begin(self) -> int:
        """Receives and verifies a whole record: nothing of it is used before."""
        from cryptography.exceptions import InvalidTag

        length = super().begin()
        if not _TAG <= length <= self._record_max or self._received >= _MESSAGES_MAX:
            self.stream.reset()
            raise ProtocolError(f"the server sent a record of {length} bytes")
        record = self.stream.exactly(length)
        try:
            self._plain = self._down.decrypt(_nonce(self._received), record, None)
        except InvalidTag:
            self.stream.reset()
            raise ProtocolError("a record from the server was altered on the way") from None
        self._received += 1
        return len(self._plain)

    def take(self, limit: int) -> bytes:
        """The next bytes of the record."""
        data, self._plain = self._plain[:limit], self._plain[limit:]
        return data

    def receive(self, limit: int, what: str = "reply") -> bytes:
        """A whole message."""
        length = self.begin()
        if length > limit:
            raise ProtocolError(f"the server sent a {what} of {length} bytes")
        return self.take(length)


def protect(stream: Stream, key: Key) -> Tuple[bytes, Sealed]:
    """Asks for the hello and performs the handshake. Returns the hello and the messages from now on.

    Raises:
        KeyRefused: the server does not offer protection, or refuses the key. Nothing was sent unprotected.
    """
    plain = Messages(stream)
    plain.send(b"get /skiff/1")
    hello = plain.receive(65_536)
    offer = dict(word.partition("=")[::2] for word in text_of(hello).split(" ")[1:])
    if not hello.startswith(b"skiff/1 ") or PATTERN.decode() not in offer.get("noise", "").split(","):
        raise KeyRefused("the server does not encrypt, but a key was given")
    most = offer.get("record-max", "")
    if not re.fullmatch(r"[0-9]{3,5}", most) or not 600 <= int(most) <= 65_535:
        raise ProtocolError("the server's hello has no valid record-max")
    handshake = key.handshake(hello)
    plain.send(handshake.command)
    return hello, Sealed(stream, handshake.finish(plain.receive(65_536)), int(most))


def _hkdf(chain: bytes, data: bytes, count: int) -> List[bytes]:
    secret = hmac.new(chain, data, "blake2s").digest()
    outputs: List[bytes] = []
    for number in range(1, count + 1):
        before = outputs[-1] if outputs else b""
        outputs.append(hmac.new(secret, before + bytes([number]), "blake2s").digest())
    return outputs


def _nonce(number: int) -> bytes:
    return bytes(4) + number.to_bytes(8, "little")


def _cipher(key: bytes) -> ChaCha20Poly1305:
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    return ChaCha20Poly1305(key)
