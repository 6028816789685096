"""The settings: one `tapeline.toml` plus environment, one typed frozen object, checked once on load.

Every command calls `load_settings` first (through `options.pass_settings`); docs/configuration.md has every key.
Secrets come from the environment or from files, never from the TOML file itself.
"""

import importlib
import os
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from tapeline.schemas.errors import SettingsError, UnavailableError
from tapeline.schemas.interval import Interval, IntervalError
from tapeline.schemas.topics import HOURS_FOREVER, STATE, TOPICS, Topic
from tapeline.streams.settings_check import Json, Sources

FILE_NAME = "tapeline.toml"
DAYS_FOREVER = -1
METADATA_MS = 5000
"""How often clients ask which brokers and topics there are."""


def _wrong(message: str, *keys: str) -> PydanticCustomError:
    """Make a validator's finding; `keys` lead from the validator's table to the key at fault."""
    return PydanticCustomError("settings", "{message}", {"message": message, "keys": keys})


def _secret(value: Any, info: ValidationInfo) -> SecretStr:
    """Fetch a secret from where the TOML file says it is; its value is never part of a message."""
    match value:
        case SecretStr():  # given directly, by the environment
            secret, place = value.get_secret_value(), "its value"
        case {"env": str(name), **others} if not others:
            secret, place = _sources(info).env.get(name, ""), f"the environment variable {name}"
            if name not in _sources(info).env:
                raise _wrong(f"secret missing: {place} is not set")
        case {"file": str(name), **others} if not others:
            path = _beside_file(name, _sources(info))
            try:
                secret, place = path.read_text().removesuffix("\n").removesuffix("\r"), f"the file {path}"
            except (OSError, UnicodeDecodeError) as error:
                reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
                raise _wrong(f"secret missing: the file {path} cannot be read ({reason})") from None
        case str():
            raise _wrong('secrets do not stand in this file; write { env = "NAME" } or { file = "path" }')
        case _:
            raise _wrong('must be { env = "NAME" } or { file = "path" }')
    if not secret:
        raise _wrong(f"secret missing: {place} is empty")
    return SecretStr(secret)


def _existing_file(value: Any, info: ValidationInfo) -> Any:
    """Make a path absolute and check that a file is there."""
    if not isinstance(value, str):
        return value
    path = _beside_file(value, _sources(info))
    if not path.is_file():
        raise _wrong(f"the file {path} does not exist")
    return path


def _beside_file(name: str, sources: Sources) -> Path:
    """Resolve a path of the TOML file: relative to that file, `~` allowed."""
    base = sources.file.parent if sources.file else Path()
    return (base / Path(name).expanduser()).absolute()


def _sources(info: ValidationInfo) -> Sources:
    assert isinstance(info.context, Sources), "settings are made by load_settings"  # noqa: S101 - ours to keep
    return info.context


def _plain(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


def _name(value: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9_-]{0,63}", value):
        raise _wrong("a name must be a lower-case letter, then up to 63 lower-case letters, digits, _ or -")
    return value


def _can_match(value: tuple[str, ...]) -> tuple[str, ...]:
    for pattern in value:
        if ":" not in pattern and "*" not in pattern:
            raise _wrong(f"{pattern!r} matches no instrument; write venue:SYMBOL, such as 'binance:{pattern}'")
    return value


def _no_switch(value: Any) -> Any:
    if isinstance(value, bool):
        raise _wrong('must be a list of patterns of venue:SYMBOL: ["*"] for every instrument, [] for none')
    return value


def _interval(value: str) -> str:
    try:
        Interval.parse(value)
    except IntervalError as error:
        raise _wrong(str(error)) from None
    return value


def _not_zero_days(value: int) -> int:
    if value == 0:
        raise _wrong("must be a whole number of days from 1 to 36500, or -1 for ever")
    return value


Text = Annotated[str, Field(min_length=1)]
Secret = Annotated[SecretStr, BeforeValidator(_secret), WithJsonSchema({"type": "string", "format": "password"})]
Name = Annotated[str, AfterValidator(_name)]
IntervalText = Annotated[str, AfterValidator(_interval)]
Kept = Annotated[tuple[Text, ...], Field(strict=False), AfterValidator(_can_match), BeforeValidator(_no_switch)]
"""Of which instruments something is kept: patterns of `venue:SYMBOL`."""
Days = Annotated[int, Field(ge=DAYS_FOREVER, le=36_500), AfterValidator(_not_zero_days)]
ExistingFile = Annotated[Path, BeforeValidator(_existing_file), WithJsonSchema({"type": "string", "format": "path"})]


StreamName = Literal["trade", "quote", "depth"]


class Table(BaseModel):
    """What all tables of the file share: frozen, no unknown keys, no silent conversions."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class KafkaSettings(Table):
    """`[kafka]`: which brokers, and how to talk to them."""

    bootstrap_servers: Text | None = None
    """`host:port`, several with commas; None = the embedded server of a running `tapeline up`."""
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    sasl_username: Text | None = None
    sasl_password: Secret | None = None
    ssl_ca_location: ExistingFile | None = None
    ssl_certificate_location: ExistingFile | None = None
    ssl_key_location: ExistingFile | None = None
    ssl_key_password: Secret | None = None
    replication_factor: int = Field(default=1, ge=1, le=16)
    """Of the topics that Tapeline creates; 3 is usual in production."""

    @field_validator("bootstrap_servers")
    @classmethod
    def _has_ports(cls, value: str | None) -> str | None:
        for address in (value or "").split(",") if value else ():
            host, _, port = address.strip().rpartition(":")
            if not host or not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
                raise _wrong(f"must be host:port, several with commas between them, not {address.strip()!r}")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        sasl, ssl = self.security_protocol.startswith("SASL"), self.security_protocol.endswith("SSL")
        for key in ("sasl_mechanism", "sasl_username", "sasl_password"):
            if sasl and getattr(self, key) is None:
                raise _wrong(f"security_protocol {self.security_protocol} needs {key}", "security_protocol")
            if not sasl and getattr(self, key) is not None:
                right = "SASL_SSL" if ssl else "SASL_SSL or SASL_PLAINTEXT"
                raise _wrong(f"has no effect with security_protocol {self.security_protocol}; use {right}", key)
        for key in ("ssl_ca_location", "ssl_certificate_location", "ssl_key_location", "ssl_key_password"):
            if not ssl and getattr(self, key) is not None:
                right = "SASL_SSL" if sasl else "SSL or SASL_SSL"
                raise _wrong(f"has no effect with security_protocol {self.security_protocol}; use {right}", key)
        if (self.ssl_certificate_location is None) != (self.ssl_key_location is None):
            one, other = "ssl_certificate_location", "ssl_key_location"
            if self.ssl_certificate_location is None:
                one, other = other, one
            raise _wrong(f"needs {other} beside it", one)
        if self.ssl_key_password is not None and self.ssl_key_location is None:
            raise _wrong("needs ssl_key_location beside it", "ssl_key_password")
        if self.security_protocol != "PLAINTEXT" and self.bootstrap_servers is None:
            raise _wrong("the embedded server speaks PLAINTEXT; set bootstrap_servers too", "security_protocol")
        return self

    def librdkafka(self, bootstrap: str | None = None) -> dict[str, str | int]:
        """Return confluent-kafka client properties (secrets in the clear); `bootstrap` overrides the servers."""
        properties = {
            "bootstrap.servers": bootstrap or self.bootstrap_servers,
            "security.protocol": self.security_protocol,
            "sasl.mechanism": self.sasl_mechanism,
            "sasl.username": self.sasl_username,
            "sasl.password": _plain(self.sasl_password),
            "ssl.ca.location": self.ssl_ca_location,
            "ssl.certificate.location": self.ssl_certificate_location,
            "ssl.key.location": self.ssl_key_location,
            "ssl.key.password": _plain(self.ssl_key_password),
            # A broker that has just started may name no broker at all, itself included, and librdkafka then forgets
            # those it knew until it asks again (its issue 5301): after 5 minutes, by default.
            "topic.metadata.refresh.interval.ms": METADATA_MS,
        }
        return {name: str(value) for name, value in properties.items() if value is not None}


class DatabaseSettings(Table):
    """`[database]`: where signals are kept, and ticks and bars where that is wanted."""

    dsn: Text | None = None
    """A libpq connection string without password; None = the embedded server of a running `tapeline up`."""
    password: Secret | None = None
    connect_timeout_seconds: int = Field(default=10, ge=1, le=300)
    store_ticks: Kept = ()
    """Of which instruments ticks are kept; () = of none, and there is no role persist-ticks."""
    store_bars: Kept = ()
    """The same of bars, and the role persist-bars."""
    ticks_retention_days: Days = DAYS_FOREVER
    """-1 = for ever."""
    bars_retention_days: Days = DAYS_FOREVER
    """Of bars, and of what is aggregated of ticks."""

    @field_validator("dsn")
    @classmethod
    def _parses(cls, value: str | None) -> str | None:
        from psycopg import ProgrammingError
        from psycopg.conninfo import conninfo_to_dict

        try:
            parts = conninfo_to_dict(value or "")
        except (ProgrammingError, UnicodeDecodeError):  # %80; their texts may hold a piece of a password
            raise _wrong("not a PostgreSQL connection string, such as postgresql://user@host:5432/name") from None
        if not re.fullmatch(r"[\d,]*", str(parts.get("port") or "")):  # a `/` in a password makes a port of it
            raise _wrong("the port is not a number; if a part has special characters, write them as %2F and so on")
        for key in ("password", "sslpassword"):
            if parts.get(key) is not None:
                raise _wrong(f'has a {key} in it; take it out and set password = {{ env = "NAME" }} in [database]')
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.password is not None and self.dsn is None:
            raise _wrong("the embedded server has no password; set dsn too", "password")
        return self


class TopicSettings(Table):
    """`[topics.NAME]`: what may differ from the topic table; None = as the table says."""

    partitions: int | None = Field(default=None, ge=1, le=1000)
    retention_hours: int | None = Field(default=None, ge=HOURS_FOREVER, le=1_000_000)
    """-1 = for ever."""

    @field_validator("retention_hours")
    @classmethod
    def _not_zero(cls, value: int | None) -> int | None:
        if value == 0:
            raise _wrong("must be a whole number of hours from 1 to 1000000, or -1 for ever")
        return value


class TopicsSettings(Table):
    """`[topics]`: the topics whose size is the user's choice."""

    raw: TopicSettings = TopicSettings()
    ticks: TopicSettings = TopicSettings()
    bars: TopicSettings = TopicSettings()
    signals: TopicSettings = TopicSettings()
    rejected: TopicSettings = TopicSettings()

    def partitions(self, topic: Topic) -> int:
        """Return how many partitions the topic is to have; `state` follows the inputs of the roles."""
        if topic.name == STATE.name:
            return max(self.partitions(TOPICS["raw"]), self.partitions(TOPICS["ticks"]))
        own = getattr(self, topic.name, None)
        return topic.partitions if own is None or own.partitions is None else int(own.partitions)

    def retention_hours(self, topic: Topic) -> int:
        """Return how long the topic keeps its records, in hours; -1 = for ever."""
        own = getattr(self, topic.name, None)
        return topic.retention_hours if own is None or own.retention_hours is None else int(own.retention_hours)


class FramesSettings(Table):
    """`[frames]`: how messages are put together into records.

    A raw frame closes at so many messages, or when its first message has waited so long, or (`adaptive`) as soon as
    the frame before it is confirmed, though not sooner than 4 ms after that.
    """

    messages_max: int = Field(default=1000, ge=1, le=100_000)
    wait_ms: float = Field(default=5.0, ge=0.1, le=10_000)
    adaptive: bool = True
    """Off: frames, and so the ids of signals, depend on the messages alone."""
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = "lz4"
    """Of every record that Tapeline sends."""


class LogicSettings(Table):
    """`[logics.NAME]`: one instance of a shipped logic."""

    logic: Text
    """Which shipped logic; left out = NAME."""
    params: dict[str, bool | int | float] = Field(default_factory=dict)
    instruments: Annotated[tuple[Text, ...], Field(strict=False, min_length=1), AfterValidator(_can_match)] = ("*",)
    """Patterns (`*`, `?`, `[...]`) of `venue:SYMBOL`."""
    valid_seconds: float = Field(default=60.0, gt=0, le=31_536_000)
    """How long a signal of it is valid."""
    tenant: Name = "local"
    tags: dict[str, str] = Field(default_factory=dict)
    """Put on every signal of it."""


class BarsSettings(Table):
    """`[bars]`: which bars are made of trades, and by which rules."""

    intervals: Annotated[tuple[IntervalText, ...], Field(strict=False)] = ()
    """Such as `1m`, `100t`; () = none, and there is no role bars."""
    instruments: Annotated[tuple[Text, ...], Field(strict=False, min_length=1), AfterValidator(_can_match)] = ("*",)
    grace_seconds: float = Field(default=1.0, ge=0, le=3600)
    """A bar of time is complete so long after its end."""
    revise_bars: int = Field(default=2, ge=0, le=60)
    """So many intervals longer, trades that come late revise it."""
    calendars: dict[Name, Text] = Field(default_factory=dict)
    """Venue -> exchange calendar, to whose sessions the bars of its instruments are aligned."""

    @field_validator("intervals")
    @classmethod
    def _no_repeats(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        written = [str(Interval.parse(text)) for text in value]
        for text, same in zip(value, written, strict=True):
            if written.count(same) > 1:
                raise _wrong(f"{text!r} stands there twice")
        return value


class VenueSettings(Table):
    """`[venues.NAME]`: a live venue that `tapeline ingest NAME` and `tapeline up` read."""

    symbols: Annotated[tuple[Text, ...], Field(strict=False, min_length=1)]
    """In the venue's own spelling."""
    streams: Annotated[tuple[StreamName, ...], Field(strict=False, min_length=1)] | None = None
    """None = trades and quotes, as far as the venue has them."""
    url: Text | None = None
    """WebSocket; None = the venue's public one."""
    rest: Text | None = None
    key: Secret | None = None
    secret: Secret | None = None
    symbols_per_connection: int | None = Field(default=None, ge=1, le=1000)
    """None = as many as the venue allows, with room."""
    silence_seconds: float | None = Field(default=None, ge=1, le=3600)
    """A connection on which no data came for so long is given up; None = as fits the venue: 30, Alpaca 900."""
    queue_messages: int = Field(default=100_000, ge=100, le=10_000_000)
    """Of a connection, that wait for Kafka; one more, and the connection is given up until half of them are sent."""

    @field_validator("symbols")
    @classmethod
    def _no_repeats(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for symbol in value:
            if " " in symbol or not symbol.isprintable():
                raise _wrong(f"{symbol!r} is no symbol")
            if value.count(symbol) > 1:
                raise _wrong(f"{symbol!r} stands there twice")
        return value

    @field_validator("url", "rest")
    @classmethod
    def _is_url(cls, value: str | None, info: ValidationInfo) -> str | None:
        schemes = ("wss://", "ws://") if info.field_name == "url" else ("https://", "http://")
        if value is not None and not value.startswith(schemes):
            raise _wrong(f"must begin with {schemes[0]} (or {schemes[1]})")
        return value


class WorkerSettings(Table):
    """`[worker]`: how roles run."""

    snapshot_seconds: float = Field(default=2.0, ge=0.1, le=60)
    """A role writes its state so often; a restart repeats at most that much work."""
    session_timeout_seconds: int = Field(default=10, ge=6, le=300)
    """A worker that was silent for so long loses its partitions."""
    stuck_seconds: float = Field(default=30.0, ge=5, le=3600)
    """A process whose work stands still for so long is ended, to be started again."""


class TelemetrySettings(Table):
    """`[telemetry]`: where a worker's numbers are read."""

    prometheus_host: Text = "127.0.0.1"
    """On which address each worker listens."""
    prometheus_port: int = Field(default=0, ge=0, le=65535)
    """0 = any free port: several workers share a machine."""


class FileSettings(Table):
    """What may stand in `tapeline.toml`."""

    kafka: KafkaSettings = KafkaSettings()
    database: DatabaseSettings = DatabaseSettings()
    topics: TopicsSettings = TopicsSettings()
    frames: FramesSettings = FramesSettings()
    logics: dict[Name, LogicSettings] = {"ema_cross": LogicSettings(logic="ema_cross")}
    bars: BarsSettings = BarsSettings()
    venues: dict[Name, VenueSettings] = Field(default_factory=dict)
    worker: WorkerSettings = WorkerSettings()
    telemetry: TelemetrySettings = TelemetrySettings()

    @field_validator("logics", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        """Let a table without `logic` run the logic of its own name."""
        if not isinstance(value, dict):
            return value
        return {name: {"logic": name} | one if isinstance(one, dict) else one for name, one in value.items()}


class Settings(FileSettings):
    """Everything a command needs to know, checked. Made by `load_settings`."""

    home: Path
    """Where data, logs and addresses of the embedded servers lie."""
    source: Path | None = None
    """The file that was read."""
    _sources: Sources | None = PrivateAttr(default=None)

    def error_at(self, keys: tuple[str | int, ...], message: str) -> SettingsError:
        """Return an error that says where `keys`, e.g. ("logics", "x", "params", "fast"), are set."""
        sources = self._sources or Sources(self.source, {}, _schema())
        return SettingsError(sources.fault(keys, message))


@cache
def _schema() -> Json:
    return FileSettings.model_json_schema()


def load_settings(path: Path | None = None, env: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings; raise SettingsError with every fault found, one a line.

    The file is `path`, else what TAPELINE_CONFIG names, else ./tapeline.toml if there is one. Environment
    variables such as TAPELINE_KAFKA__BOOTSTRAP_SERVERS (section, two underscores, key) go before the file.
    """
    if path is None and env.get("TAPELINE_CONFIG"):
        path = Path(env["TAPELINE_CONFIG"])
        if not path.is_file():
            raise SettingsError(f"environment variable TAPELINE_CONFIG: the file {path} does not exist")
    if path is None and Path(FILE_NAME).is_file():
        path = Path(FILE_NAME)
    sources = Sources(path, env, _schema())
    try:
        checked = FileSettings.model_validate(sources.data, context=sources)
    except ValidationError as error:
        # Not chained: pydantic's own text shows values, and a secret may be one of them.
        raise SettingsError("\n".join(sources.faults + sources.explain(error))) from None
    if sources.faults:
        raise SettingsError("\n".join(sources.faults))
    home = Path(env["TAPELINE_HOME"]).expanduser() if env.get("TAPELINE_HOME") else Path.home() / ".tapeline"
    sections = {name: getattr(checked, name) for name in FileSettings.model_fields}
    settings = Settings.model_construct(home=home.absolute(), source=path and path.absolute(), **sections)
    settings._sources = sources
    return settings


def check_logics(settings: Settings) -> None:
    """Raise SettingsError if [logics] asks for what the workers would refuse; they have the last word, so we ask them.

    Named by a string: streams/ does not import agents/.
    """
    importlib.import_module("tapeline.agents.logic_config").specs(settings)


def check_bars(settings: Settings) -> None:
    """Raise SettingsError if [bars] asks for what the role would refuse, or bars are to be kept that nobody makes.

    Named by a string: streams/ does not import agents/.
    """
    importlib.import_module("tapeline.agents.bars_config").specs(settings)
    if settings.database.store_bars and not settings.bars.intervals:
        raise settings.error_at(("database", "store_bars"), 'no bars are made: set [bars] intervals, such as ["1m"]')


def check_venues(settings: Settings) -> None:
    """Raise SettingsError if [venues] asks for what `tapeline ingest` would refuse.

    Named by a string: streams/ does not import connectors/.
    """
    importlib.import_module("tapeline.connectors.venues.live").check_venues(settings)


def kafka_bootstrap(settings: Settings) -> str:
    """Return the brokers to connect to: the configured ones, else those of a running `tapeline up`."""
    servers = settings.kafka.bootstrap_servers or _of_running_up(settings, "bootstrap_servers")
    if servers is None:
        raise UnavailableError(
            f"No Kafka here: start one with `tapeline up`, or set [kafka] bootstrap_servers in {FILE_NAME} "
            f"(TAPELINE_HOME: {settings.home})"
        )
    return servers


def database_dsn(settings: Settings) -> str:
    """Return the connection string of the database, password included: the configured one, else `tapeline up`'s."""
    from psycopg.conninfo import conninfo_to_dict, make_conninfo

    dsn = settings.database.dsn or _of_running_up(settings, "dsn")
    if dsn is None:
        raise UnavailableError(
            f"No PostgreSQL here: start one with `tapeline up`, or set [database] dsn in {FILE_NAME} "
            f"(TAPELINE_HOME: {settings.home})"
        )
    parts = {"connect_timeout": str(settings.database.connect_timeout_seconds)} | conninfo_to_dict(dsn)
    if password := _plain(settings.database.password):
        parts["password"] = password
    return make_conninfo("", **parts)


def _of_running_up(settings: Settings, name: Literal["bootstrap_servers", "dsn"]) -> str | None:
    from tapeline.streams.home import Home  # here, so that reading settings stays cheap

    return getattr(Home.at(settings.home).addresses(), name, None)
