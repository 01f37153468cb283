from __future__ import annotations

import os
import stat
import threading
import time
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfuse.errors import ConfigError, NotFound
from perfuse.ids import SECRET_FILE, Minter, load_secret, token, uuid7

MINTER = Minter(bytes(32))


@given(st.integers(0, 2**48 - 1))
def test_a_uuid7_carries_its_time_version_and_variant(milliseconds: int) -> None:
    made = uuid7(milliseconds)
    assert made.int >> 80 == milliseconds
    assert (made.version, made.variant) == (7, "specified in RFC 4122")


def test_uuid7s_of_later_milliseconds_sort_later() -> None:
    first = str(uuid7())
    time.sleep(0.002)
    assert first < str(uuid7())


@given(st.text(min_size=1, max_size=20))
def test_an_id_is_accepted_for_its_tenant(tenant: str) -> None:
    identity = MINTER.mint(tenant)
    assert identity == f"gen_{MINTER.check(identity, tenant)}.{identity[41:]}"
    assert UUID(MINTER.check(identity, tenant)).version == 7


@given(st.text(max_size=80))
def test_what_was_not_minted_here_is_not_found(identity: str) -> None:
    with pytest.raises(NotFound, match=r"^no such generation$"):
        MINTER.check(identity, "a")


@given(st.data())
def test_every_changed_character_is_noticed(data: st.DataObject) -> None:
    identity = MINTER.mint("a")
    place = data.draw(st.integers(0, len(identity) - 1))
    other = data.draw(st.characters(codec="ascii").filter(lambda c: c != identity[place]))
    with pytest.raises(NotFound):
        MINTER.check(identity[:place] + other + identity[place + 1 :], "a")


def test_ids_of_other_tenants_and_other_secrets_are_refused() -> None:
    identity = MINTER.mint("a")
    for minter, tenant in ((MINTER, "b"), (MINTER, "a\x00"), (Minter(b"x" * 32), "a")):
        with pytest.raises(NotFound):
            minter.check(identity, tenant)


def test_the_secret_is_made_once_and_readable_by_its_owner_only(tmp_path: Path) -> None:
    secret = load_secret(tmp_path / SECRET_FILE)
    assert len(secret) == 32
    assert load_secret(tmp_path / SECRET_FILE) == secret
    assert stat.S_IMODE((tmp_path / SECRET_FILE).stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [SECRET_FILE]


def test_a_slower_process_takes_the_secret_of_the_faster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / SECRET_FILE).write_bytes(b"y" * 32)
    monkeypatch.setattr(Path, "exists", lambda path: False)
    assert load_secret(tmp_path / SECRET_FILE) == b"y" * 32


def test_a_secret_of_another_length_is_refused(tmp_path: Path) -> None:
    (tmp_path / SECRET_FILE).write_bytes(b"short")
    with pytest.raises(ConfigError, match=r"ids\.secret has 5 bytes instead of 32$"):
        load_secret(tmp_path / SECRET_FILE)
    with pytest.raises(ConfigError, match=r"^expected a secret of 32 bytes, got 5$"):
        Minter(b"short")


def test_checking_is_thread_safe() -> None:
    identity, found = MINTER.mint("a"), []
    threads = [threading.Thread(target=lambda: found.append(MINTER.check(identity, "a"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1


def test_a_minted_id_tells_the_uuid_inside_without_being_checked() -> None:
    identity = MINTER.mint("a")
    assert MINTER.inside(identity) == MINTER.check(identity, "a")


def test_a_forked_process_draws_other_random_bytes() -> None:
    drawn = token()
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        os.write(writing, token().encode())
        os._exit(0)
    os.waitpid(child, 0)
    of_child = os.read(reading, 64).decode()
    os.close(reading)
    os.close(writing)
    assert len({drawn, of_child, token()}) == 3
