from __future__ import annotations

from pathlib import Path

import pytest

from perfuse.config import ServeConfig, load
from perfuse.errors import ConfigError


def test_flags_win_over_environment_over_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "perfuse.yaml"
    file.write_text("port: 1\nworkers: 2\nthreads: 3\n")
    monkeypatch.setenv("PERFUSE_PORT", "10")
    monkeypatch.setenv("PERFUSE_WORKERS", "20")
    config = load({"port": 100}, file)
    assert (config.port, config.workers, config.threads) == (100, 20, 3)


@pytest.mark.parametrize(
    ("value", "folders"), [("", ()), ("a", ("a",)), ("/m/a:b", ("/m/a", "b"))], ids=["none", "one", "two"]
)
def test_the_environment_separates_model_folders_by_colons(
    value: str, folders: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERFUSE_MODEL", value)
    assert load({}).model == tuple(map(Path, folders))


def test_the_file_lists_model_folders(tmp_path: Path) -> None:
    file = tmp_path / "perfuse.yaml"
    file.write_text("model: [a, b]\n")
    assert load({}, file).model == (Path("a"), Path("b"))


def test_defaults_hold_where_nothing_is_said() -> None:
    config = load({})
    assert (config.host, config.port, config.queue) == ("127.0.0.1", 8000, "sqlite")


@pytest.mark.parametrize(
    ("flags", "message", "hint"),
    [
        (
            {"port": 70000},
            "port: Input should be less than or equal to 65535; got 70000",
            "set --port, PERFUSE_PORT or port in the configuration file",
        ),
        (
            {"queue": "kafka"},
            "queue: Value error, expected \"sqlite\" or a redis:// address, got 'kafka'; got 'kafka'",
            "set --queue, PERFUSE_QUEUE or queue in the configuration file",
        ),
    ],
)
def test_a_bad_value_names_the_setting(flags: dict[str, object], message: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(flags)
    assert (caught.value.detail, caught.value.hint) == (message, hint)


def test_an_unknown_setting_in_the_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "perfuse.yaml"
    file.write_text("prot: 1\n")
    with pytest.raises(ConfigError, match=r"^prot: Extra inputs are not permitted; got 1$"):
        load({}, file)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^no configuration file at .*nowhere\.yaml$"):
        load({}, tmp_path / "nowhere.yaml")


def test_a_redis_address_is_a_queue() -> None:
    assert ServeConfig(queue="redis://h:1/0").queue == "redis://h:1/0"
