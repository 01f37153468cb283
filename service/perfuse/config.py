"""Settings: one frozen object per component. YAML file < environment `PERFUSE_*` < flags.

Every field is a flag of `perfuse serve` (`max_backlog_seconds` → `--max-backlog-seconds`) and an environment variable
(`PERFUSE_MAX_BACKLOG_SECONDS`); the YAML file is named by `--config` or `PERFUSE_CONFIG`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)

from perfuse.errors import ConfigError

Device = Literal["auto", "cpu", "cuda"]
DType = Literal["auto", "bf16", "f32", "int8"]
_PORTS = 65536
LogLevel = Literal["debug", "info", "warning", "error"]


class ServeConfig(BaseSettings):
    """Everything `perfuse serve` can be told."""

    model_config = SettingsConfigDict(env_prefix="PERFUSE_", frozen=True, extra="forbid")
    _file: ClassVar[Path | None] = None

    host: str = Field("127.0.0.1", description="address to listen on; anything but loopback needs --keys")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(8000, description="TCP port; 0 picks a free one")
    data_dir: Path = Field(Path("perfuse-data"), description="store, ledger, inbox, sockets and logs")
    model: Annotated[tuple[Path, ...], NoDecode] = Field(
        (), description="model folders to serve instead of the shipped ones"
    )
    workers: Annotated[int, Field(ge=0, le=64)] = Field(
        1, description="engine processes (one per device; more on CPU); 0: only those of --engine"
    )
    engine: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="host:port of a `perfuse engine` on another host, beside the engines here; needs --evolution off",
    )
    engine_token: Path | None = Field(None, description="file of the token that this server and those engines know")
    threads: Annotated[int, Field(ge=0, le=256)] = Field(
        0, description="compute threads per engine; 0: cores / workers"
    )
    device: Device = Field("auto", description="where engines compute")
    dtype: DType = Field("auto", description="what text models compute in; auto: bf16 where it is native, else f32")
    follow: Path | None = Field(
        None,
        description="data directory of another server on this machine: answer with what that one learns, share its "
        "ledger and inbox, learn nothing here",
    )
    secret: Path | None = Field(
        None, description="file of the 32 bytes that sign generation ids; one for all servers that share a queue"
    )
    queue: str = Field("sqlite", description='"sqlite" (in the data directory) or "redis://host:port/db"')
    max_backlog_seconds: Annotated[float, Field(gt=0)] = Field(
        10.0, description="seconds of admitted work per engine beyond which requests get 429"
    )
    max_body_bytes: Annotated[int, Field(ge=1024)] = Field(1_000_000, description="largest request body")
    evolution: Literal["embedded", "off"] = Field(
        "embedded", description="embedded: a worker beside the engines learns from feedback; off: feedback only waits"
    )
    train_after: Annotated[int, Field(ge=4, le=100_000)] = Field(
        24, description="new verdicts on one kind of request after which an adaptation is trained"
    )
    train_steps: Annotated[int, Field(ge=1, le=100_000)] = Field(150, description="updates of a training")
    train_minutes: Annotated[float, Field(gt=0, le=1440)] = Field(20.0, description="after which a training is ended")
    canary_share: Annotated[float, Field(gt=0, le=1)] = Field(
        0.25, description="share of the matching requests that a canary answers"
    )
    reproducible: bool = Field(False, description="treat every request as reproducible")  # noqa: FBT003
    keys: Path | None = Field(None, description="file of API keys: one YAML list of {key, tenant, scopes}")
    console: bool = Field(True, description="serve the console at /")  # noqa: FBT003
    otlp: str | None = Field(
        None, description="address of an OpenTelemetry collector (OTLP over HTTP) that gets spans; needs perfuse[otel]"
    )
    ledger_ttl_seconds: Annotated[float, Field(gt=0)] = Field(7 * 86400.0, description="how long generations are kept")
    max_inbox_items: Annotated[int, Field(ge=1)] = Field(
        100_000, description="feedback not yet learned from beyond which more gets 429"
    )
    wedge_seconds: Annotated[float, Field(gt=0)] = Field(
        30.0, description="an engine whose step takes longer than this is killed"
    )
    drain_seconds: Annotated[float, Field(ge=0)] = Field(20.0, description="how long a stop waits for running requests")
    log_level: LogLevel = Field("info", description="least severe event logged")
    log_json: bool = Field(False, description="log JSON lines to the console")  # noqa: FBT003

    @field_validator("model", mode="before")
    @classmethod
    def _folders(cls, value: object) -> object:
        """Folders in one string, as the environment has them, are separated by colons."""
        return [folder for folder in value.split(":") if folder] if isinstance(value, str) else value

    @field_validator("engine", mode="before")
    @classmethod
    def _addresses(cls, value: object) -> object:
        """Addresses in one string, as the environment has them, are separated by commas."""
        return [address for address in value.split(",") if address] if isinstance(value, str) else value

    @field_validator("engine")
    @classmethod
    def _have_ports(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for address in value:
            host, _, port = address.rpartition(":")
            if not host or not port.isdigit() or not 0 < int(port) < _PORTS:
                msg = f"expected host:port, got {address!r}"
                raise ValueError(msg)
        return value

    @field_validator("queue")
    @classmethod
    def _known_queue(cls, value: str) -> str:
        if value == "sqlite" or value.startswith(("redis://", "rediss://", "unix://")):
            return value
        msg = f'expected "sqlite" or a redis:// address, got {value!r}'
        raise ValueError(msg)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, then environment, then the YAML file."""
        del dotenv_settings, file_secret_settings
        sources: tuple[PydanticBaseSettingsSource, ...] = (init_settings, env_settings)
        if cls._file is not None:
            sources += (YamlConfigSettingsSource(settings_cls, yaml_file=cls._file),)
        return sources


def load(flags: Mapping[str, object], file: Path | None = None) -> ServeConfig:
    """The settings of one server.

    Args:
        flags: values given on the command line, by field name; absent means not given.
        file: a YAML file of the same field names.

    Raises:
        ConfigError: a value is of the wrong kind or out of range; names the setting and what was expected.
    """
    if file is not None and not file.is_file():
        raise ConfigError(f"no configuration file at {file}", hint="check --config or PERFUSE_CONFIG")
    bound = type("ServeConfig", (ServeConfig,), {"_file": file, "__module__": __name__, "__doc__": ServeConfig.__doc__})
    try:
        config: ServeConfig = bound(**flags)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            f"{name}: {first['msg']}; got {first['input']!r}",
            hint=f"set --{name.replace('_', '-')}, PERFUSE_{name.upper()} or {name} in the configuration file",
        ) from None
    return config
