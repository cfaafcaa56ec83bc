"""Confidentiality: payloads are encrypted before they leave the process (AES-256-GCM).

What Temporal, its database, its UI and whoever backs them up see of inputs, signals, updates, queries,
results, failures, heartbeats, memos and summaries is ciphertext. Workflow ids, types, names of signals and
search attributes stay clear: the server works with them. See docs/security.md.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Mapping, Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from google.protobuf.message import DecodeError
from temporalio.api.common.v1 import Payload
from temporalio.converter import PayloadCodec

ENCRYPTION_KEYS = "ERLMCP_DEPLOY_ENCRYPTION_KEYS"
"""``ID:KEY,ID:KEY``, each key the base64 of 32 bytes. The first one encrypts, all decrypt."""
ENCRYPTION_REQUIRED = "ERLMCP_DEPLOY_ENCRYPTION_REQUIRED"
"""``true``: what is not encrypted is not read."""

ENCRYPTED = b"binary/encrypted"
REFUSED = b"binary/refused"
"""Marks, within the process only, what is not read; the data say why."""
KEY_ID = "encryption-key-id"
_CIPHER = "encryption-cipher"
_KEY_BYTES = 32
_NONCE_BYTES = 12
_TAG_BYTES = 16
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


UNENCRYPTED = (
    f"it is not encrypted, and {ENCRYPTION_REQUIRED} is true: send it with erlmcp-deploy, "
    "or through the codec server (temporal --codec-endpoint)"
)


class UnreadablePayloadError(Exception):
    """A payload cannot be read: not encrypted though it has to be, changed, or its key is missing here."""


class UnknownKeyError(UnreadablePayloadError):
    """The key of a payload is not here; a process that has it may read the payload."""


class EncryptionKeys:
    """The keys, by their ids; the first one encrypts. They are never shown.

    Raises:
        ValueError: there are none, or one is not usable; names its id, never the key.
    """

    def __init__(self, keys: Sequence[tuple[str, bytes]]) -> None:
        if not keys:
            raise ValueError("there is no key")
        self._ciphers: dict[str, AESGCM] = {}
        for name, key in keys:
            if len(key) != _KEY_BYTES:
                raise ValueError(f"key {name!r} has {len(key)} bytes instead of {_KEY_BYTES}")
            if name in self._ciphers:
                raise ValueError(f"key id {name!r} is there twice")
            self._ciphers[name] = AESGCM(key)
        self.current = keys[0][0]

    def __repr__(self) -> str:
        return f"EncryptionKeys({', '.join(self._ciphers)})"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> EncryptionKeys | None:
        """The keys of the variable; none if it is not set.

        Raises:
            ValueError: it is set and unusable.
        """
        value = environment.get(ENCRYPTION_KEYS, "").strip()
        if not value:
            return None
        try:
            return cls([_key(entry) for entry in value.split(",") if entry.strip()])
        except ValueError as error:
            raise ValueError(
                f"{ENCRYPTION_KEYS} cannot be used: {error}; write ID:KEY,ID:KEY and "
                "make a key with: erlmcp-deploy keys new encryption"
            ) from None

    def encrypt(self, payload: Payload) -> Payload:
        """The whole payload, its metadata too, under the current key and a random nonce."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._ciphers[self.current].encrypt(
            nonce, payload.SerializeToString(), _bound_to(self.current)
        )
        metadata = {"encoding": ENCRYPTED, _CIPHER: b"AES-256-GCM", KEY_ID: self.current.encode()}
        return Payload(metadata=metadata, data=nonce + sealed)

    def decrypt(self, payload: Payload) -> Payload:
        """What was encrypted.

        Raises:
            UnknownKeyError: the key is not here.
            UnreadablePayloadError: no key can read it: it was changed, or never encrypted.
        """
        name = _name_of_key(payload)
        cipher = self._ciphers.get(name)
        if cipher is None:
            raise UnknownKeyError(
                f"a payload is encrypted with the key {name!r}, and {ENCRYPTION_KEYS} has only "
                f"{', '.join(self._ciphers)}; add that key behind the first one"
            )
        nonce, sealed = payload.data[:_NONCE_BYTES], payload.data[_NONCE_BYTES:]
        try:
            return Payload.FromString(cipher.decrypt(nonce, sealed, _bound_to(name)))
        except (InvalidTag, ValueError, DecodeError):
            raise UnreadablePayloadError(
                f"a payload that says it is encrypted with the key {name!r} is not, or was changed since; "
                f"if another key goes by that id elsewhere, correct {ENCRYPTION_KEYS}"
            ) from None


def generate_key() -> str:
    """A new random key, in base64: a secret."""
    return base64.b64encode(AESGCM.generate_key(_KEY_BYTES * 8)).decode()


def key_id(payload: Payload) -> str:
    """The key that a payload says it is encrypted with."""
    return payload.metadata.get(KEY_ID, b"").decode(errors="replace")


def _name_of_key(payload: Payload) -> str:
    """The id of the key of a payload that at least looks encrypted.

    Raises:
        UnreadablePayloadError: no key can read this.
    """
    name = key_id(payload)
    if _ID.fullmatch(name) is None or len(payload.data) < _NONCE_BYTES + _TAG_BYTES:
        raise UnreadablePayloadError(
            "a payload says that it is encrypted, and is not: it names no key, or is too short; "
            "send it with erlmcp-deploy, or through the codec server"
        )
    return name


def _key(entry: str) -> tuple[str, bytes]:
    name, _, encoded = entry.strip().partition(":")
    # An entry without a colon may be a bare key: it is not shown.
    if not encoded or _ID.fullmatch(name) is None:
        raise ValueError("an entry is not ID:KEY, with letters, digits, dots, dashes, underscores as ID")
    try:
        return name, base64.b64decode(encoded, validate=True)
    except ValueError:
        raise ValueError(f"the key {name!r} is not base64") from None


def _bound_to(name: str) -> bytes:
    # Neither workflow nor namespace: payloads go from one workflow to another, and the codec server is not
    # told where those that it shows come from.
    return b"erlmcp-deploy payload v1\n" + name.encode()


class PayloadEncryption(PayloadCodec):
    """Encrypts what goes to Temporal, and decrypts what comes from there.

    What is not encrypted is read all the same, so that encryption can be switched on while workflows run.

    What nobody may read (with `required`, what is not encrypted) or can read (changed, malformed) is marked,
    and the payload converter refuses it: one such signal is dropped, and stops nothing else. A payload whose
    key is missing here is an error for the whole task, which Temporal tries again until the key is there: it
    may as well be an input or a result of another worker as a stray signal, and a codec is told neither.

    Args:
        keys: without any, nothing is encrypted, and what is encrypted cannot be read.
    """

    def __init__(self, keys: EncryptionKeys | None, *, required: bool = False) -> None:
        if required and keys is None:
            raise ValueError(
                f"{ENCRYPTION_REQUIRED} is true and {ENCRYPTION_KEYS} is not set; "
                "make a key with: erlmcp-deploy keys new encryption"
            )
        self.keys = keys
        self._required = required

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> PayloadEncryption:
        """As the two variables say.

        Raises:
            ValueError: they cannot be used; names what is wrong, never a key.
        """
        required = environment.get(ENCRYPTION_REQUIRED, "").strip().lower()
        if required not in ("", "true", "false"):
            raise ValueError(f"{ENCRYPTION_REQUIRED} is {required!r}; write true or false")
        return cls(EncryptionKeys.from_environment(environment), required=required == "true")

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        if self.keys is None:
            return list(payloads)
        return [self.keys.encrypt(payload) for payload in payloads]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [self._decoded(payload) for payload in payloads]

    def _decoded(self, payload: Payload) -> Payload:
        encoding = payload.metadata.get("encoding")
        if encoding == ENCRYPTED:
            try:
                return self._decrypted(payload)
            except UnknownKeyError:
                raise
            except UnreadablePayloadError as error:
                return _refused(str(error))
        if self._required:
            return _refused(UNENCRYPTED)
        if encoding == REFUSED:
            return _refused("a payload bears a mark that only its reader sets")
        return payload

    def _decrypted(self, payload: Payload) -> Payload:
        if self.keys is not None:
            return self.keys.decrypt(payload)
        raise UnknownKeyError(
            f"a payload is encrypted with the key {_name_of_key(payload)!r}, and {ENCRYPTION_KEYS} is "
            "not set; set it to what the workers have"
        )


def _refused(reason: str) -> Payload:
    return Payload(metadata={"encoding": REFUSED}, data=reason.encode())
