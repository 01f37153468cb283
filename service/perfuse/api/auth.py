"""Who may do what: API keys from a file, each with a tenant and scopes. Without keys only loopback is served.

Keys are compared by a keyed hash drawn at start, so neither the look-up nor its time says anything about a key.
"""

from __future__ import annotations

import functools
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from perfuse.errors import ConfigError, Forbidden, Unauthenticated

Scope = Literal["generate", "feedback", "admin"]
ALL_SCOPES: frozenset[Scope] = frozenset(("generate", "feedback", "admin"))
LOCAL_TENANT = "local"
_HOST = re.compile(r"(?P<name>\[[0-9a-fA-F:.]+\]|[^:\[\]/@]+)(:\d+)?\Z")


@dataclass(frozen=True, slots=True)
class Principal:
    """Whom a request comes from."""

    tenant: str
    scopes: frozenset[Scope]

    def require(self, scope: Scope) -> None:
        """Raise Forbidden if the key lacks the scope."""
        if scope not in self.scopes:
            raise Forbidden(
                f"this needs a key with scope {scope!r}; yours has {sorted(self.scopes)}",
                hint="ask whoever keeps the key file",
            )


LOCAL = Principal(LOCAL_TENANT, ALL_SCOPES)


class KeyEntry(BaseModel):
    """One entry of the key file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: Annotated[str, Field(min_length=16, max_length=512, pattern=r"^[\x21-\x7e]+$")]
    tenant: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")] = LOCAL_TENANT
    scopes: Annotated[frozenset[Scope], Field(min_length=1)] = frozenset(("generate", "feedback"))


_FILE: TypeAdapter[list[KeyEntry]] = TypeAdapter(Annotated[list[KeyEntry], Field(min_length=1)])


class Keyring:
    """The keys of a server; empty means that everybody on this machine may do everything."""

    def __init__(self, entries: Sequence[KeyEntry] = ()) -> None:
        self._pepper = secrets.token_bytes(32)
        self._known = {self._digest(entry.key.encode()): Principal(entry.tenant, entry.scopes) for entry in entries}

    @property
    def empty(self) -> bool:
        """Whether no key is asked for."""
        return not self._known

    def principal(self, authorization: str | None) -> Principal:
        """Whom an `Authorization` header stands for.

        Raises:
            Unauthenticated: there is none, or its key is unknown.
        """
        if self.empty:
            return LOCAL
        if authorization is None:
            raise Unauthenticated("this server needs a key", hint="send `Authorization: Bearer KEY`")
        kind, _, key = authorization.partition(" ")
        found = self._known.get(self._digest(key.strip().encode("latin-1")))
        if kind.lower() != "bearer" or found is None:
            raise Unauthenticated("the key is not known here", hint="send `Authorization: Bearer KEY`")
        return found

    def _digest(self, key: bytes) -> bytes:
        return hmac.digest(self._pepper, key, sha256)


def load_keys(path: Path | None) -> Keyring:
    """The keys in a YAML list of {key, tenant, scopes}; an empty keyring without a file.

    Raises:
        ConfigError: the file is missing or malformed. The message never shows a key.
    """
    if path is None:
        return Keyring()
    import yaml

    hint = "a YAML list of {key, tenant, scopes}; keys have at least 16 visible characters"
    try:
        entries = _FILE.validate_python(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the key file {path} cannot be read: {type(error).__name__}", hint=hint) from None
    except yaml.YAMLError:
        raise ConfigError(f"the key file {path} is not YAML", hint=hint) from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ConfigError(f"the key file {path}: {where}: {first['msg']}", hint=hint) from None
    if len({entry.key for entry in entries}) != len(entries):
        raise ConfigError(f"the key file {path} names a key twice", hint=hint)
    return Keyring(entries)


def check_exposure(host: str, keyring: Keyring) -> None:
    """Without keys a server listens on loopback only. Raises ConfigError."""
    if keyring.empty and not is_loopback(host):
        raise ConfigError(
            f"without keys only loopback addresses are served, not {host}", hint="give --keys FILE or --host 127.0.0.1"
        )


def is_loopback(host: str) -> bool:
    """Whether a host name or address, without port, can only be this machine."""
    name = host.strip("[]").lower()
    if name == "localhost":
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def check_local(host: str | None, origin: str | None) -> None:
    """Refuse what a foreign web page could make a browser on this machine send (DNS rebinding, cross-site posts).

    Args:
        host: the `Host` header.
        origin: the `Origin` header, if any.

    Raises:
        Forbidden: one of them is not this machine.
    """
    hint = "use http://127.0.0.1:PORT, or start the server with --keys"
    if not _is_here(host or ""):
        raise Forbidden(f"without keys the Host header must be this machine, got {host!r}", hint=hint)
    if origin is not None:
        scheme, _, rest = origin.partition("://")
        if scheme not in {"http", "https"} or not _is_here(rest):
            raise Forbidden(f"without keys the Origin must be this machine, got {origin!r}", hint=hint)


@functools.lru_cache(maxsize=32)
def _is_here(authority: str) -> bool:
    """Whether a host with or without a port is this machine."""
    match = _HOST.match(authority)
    return match is not None and is_loopback(match["name"])
