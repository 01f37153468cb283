"""Generation ids: `gen_<uuid7>.<signature of id and tenant>`. Forged and foreign ids are refused without a look-up."""

from __future__ import annotations

import hmac
import os
import secrets
import threading
import time
from base64 import urlsafe_b64encode
from hashlib import sha256
from pathlib import Path
from uuid import UUID

from perfuse.errors import ConfigError, NotFound

SECRET_FILE = "ids.secret"  # noqa: S105 (a file name)
SECRET_BYTES = 32
_PREFIX = "gen_"
_SIGNATURE_BYTES = 15
_SEPARATOR = b"\x00"
_FETCHED = 4096
"""Random bytes fetched at a time."""


class _Entropy:
    """Random bytes of the system, fetched many at a time: a system call costs more than all else about an id."""

    def __init__(self) -> None:
        self.forget()
        os.register_at_fork(after_in_child=self.forget)

    def forget(self) -> None:
        """Drop what was fetched: a forked child must not use its parent's."""
        self._lock = threading.Lock()
        self._bytes, self._used = b"", 0

    def take(self, count: int) -> bytes:
        """`count` bytes that nobody else gets."""
        with self._lock:
            if len(self._bytes) - self._used < count:
                self._bytes, self._used = os.urandom(_FETCHED), 0
            self._used += count
            return self._bytes[self._used - count : self._used]


_entropy = _Entropy()


def token(count: int = 8) -> str:
    """`count` random bytes as hexadecimal digits."""
    return _entropy.take(count).hex()


def uuid7(milliseconds: int | None = None) -> UUID:
    """A UUID of version 7: 48 bits of Unix milliseconds, then random bits (RFC 9562 §5.7)."""
    stamp = time.time_ns() // 1_000_000 if milliseconds is None else milliseconds
    number = (stamp & (2**48 - 1)) << 80 | int.from_bytes(_entropy.take(10))
    number = number & ~(0xF << 76) | 0x7 << 76
    return UUID(int=number & ~(0x3 << 62) | 0x2 << 62)


class Minter:
    """Makes and checks generation ids with one secret.

    Args:
        secret: 32 random bytes, the same in every front of one server.
    """

    def __init__(self, secret: bytes) -> None:
        if len(secret) != SECRET_BYTES:
            raise ConfigError(f"expected a secret of {SECRET_BYTES} bytes, got {len(secret)}")
        self._keyed = hmac.new(secret, digestmod=sha256)

    def mint(self, tenant: str) -> str:
        """A new id that only `tenant` may use."""
        body = str(uuid7())
        return f"{_PREFIX}{body}.{self._signature(body, tenant)}"

    @staticmethod
    def inside(identity: str) -> str:
        """The uuid inside an id that was just minted; ids that come from outside must be checked."""
        return identity.removeprefix(_PREFIX).partition(".")[0]

    def check(self, identity: str, tenant: str) -> str:
        """The uuid inside an id that was minted here for `tenant`. Takes the same time for every wrong signature.

        Raises:
            NotFound: the id is malformed, forged or another tenant's.
        """
        body, _, signature = identity.removeprefix(_PREFIX).partition(".")
        expected = self._signature(body, tenant)
        if not identity.startswith(_PREFIX) or not hmac.compare_digest(expected.encode(), signature.encode()):
            raise NotFound("no such generation", hint="use an id as it was returned, with the key of the same tenant")
        return body

    def _signature(self, body: str, tenant: str) -> str:
        mac = self._keyed.copy()
        mac.update(body.encode() + _SEPARATOR + tenant.encode())
        return urlsafe_b64encode(mac.digest()[:_SIGNATURE_BYTES]).decode()


def load_secret(path: Path) -> bytes:
    """The secret in the file `path`, made on first use with mode 0600.

    Raises:
        ConfigError: the file has another length.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    if not path.exists():
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(SECRET_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            path.hardlink_to(draft)  # unlike a rename it never replaces the secret of a faster process
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    secret = path.read_bytes()
    if len(secret) != SECRET_BYTES:
        raise ConfigError(
            f"{path} has {len(secret)} bytes instead of {SECRET_BYTES}",
            hint="remove it; ids given out so far become invalid",
        )
    return secret
