from __future__ import annotations

from pathlib import Path

import pytest

from perfuse.api.auth import LOCAL, Keyring, check_exposure, load_keys
from perfuse.errors import ConfigError, Forbidden

HINT = "a YAML list of {key, tenant, scopes}; keys have at least 16 visible characters"


def written(folder: Path, text: str) -> Path:
    path = folder / "keys.yaml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    return path


def test_without_a_file_everybody_is_local() -> None:
    assert load_keys(None).principal(None) is LOCAL


def test_a_key_has_its_tenant_and_scopes(tmp_path: Path) -> None:
    ring = load_keys(written(tmp_path, "- key: 0123456789abcdef\n  tenant: acme\n  scopes: [generate]\n"))
    found = ring.principal("bearer 0123456789abcdef")
    assert (found.tenant, found.scopes) == ("acme", {"generate"})
    with pytest.raises(Forbidden, match=r"^this needs a key with scope 'admin'; yours has \['generate'\]$"):
        found.require("admin")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("- key: [", "is not YAML"),
        ("[]", ": the file: List should have at least 1 item after validation, not 0"),
        ("- key: short", ": 0.key: String should have at least 16 characters"),
        ("- key: 0123456789abcdef\n  scope: x", ": 0.scope: Extra inputs are not permitted"),
        ("- key: 0123456789abcdef\n  tenant: a/b", r": 0.tenant: String should match pattern '^[A-Za-z0-9._-]{1,64}$'"),
        ("- key: 0123456789abcdef\n- key: 0123456789abcdef", "names a key twice"),
        ("\udcff", "cannot be read: UnicodeDecodeError"),
    ],
)
def test_a_bad_file_is_said_without_showing_a_key(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_keys(written(tmp_path, text))
    assert reason in caught.value.detail
    assert caught.value.hint == HINT
    assert "0123456789abcdef" not in caught.value.detail


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"keys\.yaml cannot be read: FileNotFoundError$"):
        load_keys(tmp_path / "keys.yaml")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "perfuse.example", "192.168.0.1"])
def test_without_keys_nothing_but_loopback_is_served(host: str) -> None:
    with pytest.raises(ConfigError, match=rf"^without keys only loopback addresses are served, not {host}$"):
        check_exposure(host, Keyring())


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_loopback_needs_no_keys(host: str) -> None:
    check_exposure(host, Keyring())
