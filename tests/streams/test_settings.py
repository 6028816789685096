"""Settings: what loads, what is refused with which words, and that no secret is ever shown."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from tapeline.schemas import TOPICS, SettingsError, UnavailableError
from tapeline.streams.home import Addresses, Home
from tapeline.streams.settings import (
    FileSettings,
    KafkaSettings,
    Settings,
    database_dsn,
    kafka_bootstrap,
    load_settings,
)

CONFIGURATION = Path(__file__).parents[2] / "docs" / "configuration.md"


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(text: str, env: Mapping[str, str] | None = None) -> Settings:
    Path("tapeline.toml").write_text(text)
    return load_settings(env=env or {})


def faults(text: str, env: Mapping[str, str] | None = None) -> list[str]:
    with pytest.raises(SettingsError) as raised:
        load(text, env)
    return str(raised.value).splitlines()


def test_nothing_configured_gives_the_defaults(tmp_path: Path) -> None:
    settings = load_settings(env={"TAPELINE_HOME": str(tmp_path / "home")})
    assert settings.source is None
    assert settings.home == tmp_path / "home"
    assert settings.kafka == KafkaSettings()
    assert {name: one.logic for name, one in settings.logics.items()} == {"ema_cross": "ema_cross"}
    assert settings.logics["ema_cross"].instruments == ("*",)
    for topic in TOPICS.values():
        assert settings.topics.partitions(topic) == topic.partitions
        assert settings.topics.retention_hours(topic) == topic.retention_hours
    assert load_settings(env={}).home == Path.home() / ".tapeline"


def test_which_file_is_read(tmp_path: Path) -> None:
    for name in ("given", "named", "tapeline"):
        (tmp_path / f"{name}.toml").write_text(f'[kafka]\nbootstrap_servers = "{name}:1"\n')
    env = {"TAPELINE_CONFIG": "named.toml"}
    assert load_settings(Path("given.toml"), env).kafka.bootstrap_servers == "given:1"
    assert load_settings(env=env).kafka.bootstrap_servers == "named:1"
    assert load_settings(env={}).kafka.bootstrap_servers == "tapeline:1"
    assert load_settings(env={}).source == tmp_path / "tapeline.toml"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('[kafka]\nbootstrap_server = "x"', "2: kafka.bootstrap_server: unknown key; did you mean bootstrap_servers?"),
        ("\n\n[kafk]", "3: kafk: unknown key; did you mean kafka?"),
        ("[frames]\nsnapshot_seconds = 3", "2: frames.snapshot_seconds: unknown key here; it belongs into [worker]"),
        ("[frames]\nzzz = 1", "2: frames.zzz: unknown key; known are messages_max, wait_ms, adaptive, compression"),
        (
            "home = 'x'",
            "1: home: unknown key; known are kafka, database, topics, frames, logics, bars, venues, worker, telemetry",
        ),
        (
            '[kafka]\nsecurity_protocol = "TLS"',
            "2: kafka.security_protocol: must be one of PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL, not 'TLS'",
        ),
        (
            "[frames]\nmessages_max = 0",
            "2: frames.messages_max: must be a whole number from 1 to 100000, not 0",
        ),
        (
            'frames.messages_max = "100"',
            "1: frames.messages_max: must be a whole number from 1 to 100000, not '100'",
        ),
        (
            '[bars]\nintervals = [\n"1m",\n"2d"]',
            "4: bars.intervals[1]: '2d': bars of time last whole seconds, from 1s to 1d",
        ),
        ('[bars]\nintervals = ["1h", "60m"]', "2: bars.intervals: '1h' stands there twice"),
        ("[bars]\nrevise_bars = -1", "2: bars.revise_bars: must be a whole number from 0 to 60, not -1"),
        ("frames = { wait_ms = inf }", "1: frames.wait_ms: must be a number from 0.1 to 10000, not inf"),
        ("frames = { wait_ms = true }", "1: frames.wait_ms: must be a number from 0.1 to 10000, not true"),
        ("frames = 3", "1: frames: must be a table, not 3"),
        ("[[frames]]", "1: frames: must be a table, not a list"),
        ("frames = 'x'", "1: frames: must be a table, not a text"),
        ('[kafka]\nsasl_username = ""', "2: kafka.sasl_username: must be a text that is not empty, not an empty text"),
        ("[kafka]\nsasl_username = 1979-05-27", "2: kafka.sasl_username: must be a text that is not empty, not a date"),
        (
            '[kafka]\nbootstrap_servers = "a:1,b"',
            "2: kafka.bootstrap_servers: must be host:port, several with commas between them, not 'b'",
        ),
        (
            '[kafka]\nbootstrap_servers = "a:70000"',
            "2: kafka.bootstrap_servers: must be host:port, several with commas between them, not 'a:70000'",
        ),
        (
            "[topics.raw]\nretention_hours = 0",
            "2: topics.raw.retention_hours: must be a whole number of hours from 1 to 1000000, or -1 for ever",
        ),
        (
            "[topics.state]\npartitions = 2",
            "1: topics.state: unknown key; known are raw, ticks, bars, signals, rejected",
        ),
        (
            "[logics.Fast]",
            "1: logics.Fast: a name must be a lower-case letter, then up to 63 lower-case letters, digits, _ or -",
        ),
        ("logics = 1", "1: logics: must be a table, not 1"),
        ("[logics]\na = 1", "2: logics.a: must be a table, not 1"),
        (
            "[logics.a.params]\nfast = 1\nslow = 'x'",
            "3: logics.a.params.slow: must be true or false or a number, not 'x'",
        ),
        (
            "[logics.a]\ninstruments = []",
            "2: logics.a.instruments: must be a list that is not empty, not an empty list",
        ),
        (
            "[logics.a]\ninstruments = [\n'a:*',\n3]",
            "4: logics.a.instruments[1]: must be a text that is not empty, not 3",
        ),
        (
            "[logics.a]\ninstruments = ['BTCUSDT']",
            "2: logics.a.instruments: 'BTCUSDT' matches no instrument; write venue:SYMBOL, such as 'binance:BTCUSDT'",
        ),
        (
            "[logics.a]\nvalid_seconds = 0",
            "2: logics.a.valid_seconds: must be a number above 0 and up to 3.1536e+07, not 0",
        ),
        (
            "[database]\nstore_ticks = true",
            "2: database.store_ticks: must be a list of patterns of venue:SYMBOL: "
            '["*"] for every instrument, [] for none',
        ),
        (
            "[database]\nstore_ticks = ['BTCUSDT']",
            "2: database.store_ticks: 'BTCUSDT' matches no instrument; write venue:SYMBOL, such as 'binance:BTCUSDT'",
        ),
        (
            "[database]\nticks_retention_days = 0",
            "2: database.ticks_retention_days: must be a whole number of days from 1 to 36500, or -1 for ever",
        ),
        ("[kafka]\nx = [1", "2: not valid TOML: Unclosed array"),
        ("[kafka]\n\nx = 1\nx = 2", "4: not valid TOML: Cannot overwrite a value"),
    ],
)
def test_a_fault_names_file_line_key_and_what_would_be_right(text: str, fault: str) -> None:
    assert faults(text) == [f"tapeline.toml:{fault}"]


def test_every_fault_is_reported_in_the_order_of_the_file() -> None:
    text = "[worker]\nsnapshot_seconds = 0\n[frames]\nwait = 1\n[logics.B]\n[logics.a]\nlogics = 1\n"
    text += "[kafka]\nreplication_factor = 99"
    env = {"TAPELINE_FRAMES__WAIT_MS": "soon", "TAPELINE_FRAMES_WAIT_MS": "3"}
    found = [fault.split(": ")[0] for fault in faults(text, env)]
    assert found == [
        "environment variable TAPELINE_FRAMES_WAIT_MS",
        "environment variable TAPELINE_FRAMES__WAIT_MS",
        *(f"tapeline.toml:{line}" for line in (2, 4, 5, 7, 9)),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[kafka]\nx = '\xff'", "tapeline.toml:2: not UTF-8; save the file as UTF-8"),
        (b"x = " + b"[" * 5000, "tapeline.toml: tables or lists are nested too deeply"),
    ],
)
def test_a_file_that_is_not_toml_at_all(content: bytes, message: str) -> None:
    Path("tapeline.toml").write_bytes(content)
    with pytest.raises(SettingsError, match=re.escape(message)):
        load_settings(env={})


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"^nowhere.toml: cannot be read \(No such file or directory\)"):
        load_settings(Path("nowhere.toml"), env={})
    with pytest.raises(SettingsError, match=r"cannot be read \(Is a directory\)"):
        load_settings(tmp_path, env={})
    with pytest.raises(SettingsError, match=r"variable TAPELINE_CONFIG: the file nowhere.toml does not exist"):
        load_settings(env={"TAPELINE_CONFIG": "nowhere.toml"})


def test_the_environment_goes_before_the_file() -> None:
    settings = load(
        "[frames]\nwait_ms = 1\nmessages_max = 7\n[logics.a]\nparams = { fast = 1, slow = 2 }",
        {
            "TAPELINE_FRAMES__WAIT_MS": "2.5",
            "TAPELINE_KAFKA__BOOTSTRAP_SERVERS": "h:1",
            "TAPELINE_TOPICS__RAW__PARTITIONS": "8",
            "TAPELINE_LOGICS__A__PARAMS__FAST": "10",
            "TAPELINE_LOGICS__A__PARAMS__ON": "true",
            "TAPELINE_LOGICS__A__TAGS__DESK": "12",
            "TAPELINE_LOGICS__B__INSTRUMENTS": "a:*, b:*",
            "TAPELINE_LOGICS__C__INSTRUMENTS": '["a:1,2"]',
        },
    )
    assert settings.frames.wait_ms == 2.5
    assert settings.frames.messages_max == 7
    assert settings.kafka.bootstrap_servers == "h:1"
    assert settings.topics.partitions(TOPICS["raw"]) == settings.topics.partitions(TOPICS["state"]) == 8
    assert settings.topics.partitions(TOPICS["ticks"]) == 4
    assert settings.logics["a"].params == {"fast": 10, "slow": 2, "on": True}
    assert isinstance(settings.logics["a"].params["fast"], int)
    assert settings.logics["a"].tags == {"desk": "12"}
    assert settings.logics["b"].instruments == ("a:*", "b:*")
    assert settings.logics["c"].instruments == ("a:1,2",)


@pytest.mark.parametrize(
    ("env", "fault"),
    [
        ({"TAPELINE_KAFKA__SERVERS": "x"}, "TAPELINE_KAFKA__SERVERS: kafka.servers: unknown key"),
        ({"TAPELINE_KAFK__X": "x"}, "TAPELINE_KAFK__X: kafk: unknown key; did you mean kafka?"),
        ({"TAPELINE_KAFKA__": "x"}, "TAPELINE_KAFKA__: kafka.'': unknown key"),
        (
            {"TAPELINE_KAFKA_BOOTSTRAP_SERVERS": "x"},
            "TAPELINE_KAFKA_BOOTSTRAP_SERVERS: nothing reads it; did you mean TAPELINE_KAFKA__BOOTSTRAP_SERVERS",
        ),
        (
            {"TAPELINE_FRAMES__WAIT_MS": "1", "TAPELINE_FRAMES__WAIT_MS__X": "1"},
            "TAPELINE_FRAMES__WAIT_MS__X: TAPELINE_FRAMES__WAIT_MS is set too; unset one of the two",
        ),
        (
            {"TAPELINE_FRAMES__MESSAGES_MAX": "many"},
            "TAPELINE_FRAMES__MESSAGES_MAX: frames.messages_max: must be a whole number from 1 to 100000, not 'many'",
        ),
    ],
)
def test_a_fault_in_the_environment_names_the_variable(env: dict[str, str], fault: str) -> None:
    (found,) = faults("", env)
    assert found.startswith(f"environment variable {fault}")


def test_variables_that_kubernetes_sets_for_a_service_are_left_alone() -> None:
    env = {"TAPELINE_KAFKA_PORT": "tcp://10.0.0.1:9092", "TAPELINE_KAFKA_SERVICE_HOST": "10.0.0.1", "TAPELINE_X": "1"}
    assert load("", env).kafka == KafkaSettings()


SASL = """\
[kafka]
bootstrap_servers = "h:1"
security_protocol = "SASL_SSL"
sasl_mechanism = "PLAIN"
sasl_username = "u"
"""


@pytest.mark.parametrize(
    ("password", "env"),
    [
        ('{ env = "PW" }', {"PW": "hunter2"}),
        ('{ file = "secrets/pw" }', {}),
        ('{ file = "secrets/unset" }', {"TAPELINE_KAFKA__SASL_PASSWORD": "hunter2"}),
        ('{ env = "UNSET" }', {"TAPELINE_KAFKA__SASL_PASSWORD": "hunter2"}),
    ],
)
def test_a_secret_is_fetched_and_not_shown(tmp_path: Path, password: str, env: dict[str, str]) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "pw").write_text("hunter2\n")
    settings = load(SASL + f"sasl_password = {password}", env)
    assert settings.kafka.sasl_password is not None
    assert settings.kafka.sasl_password.get_secret_value() == "hunter2"
    assert settings.kafka.librdkafka()["sasl.password"] == "hunter2"
    assert "hunter2" not in repr(settings) + str(settings) + settings.model_dump_json()


def test_a_secret_file_may_be_named_by_the_environment(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "tapeline.toml").write_text(SASL)
    (tmp_path / "pw").write_text("hunter2")
    env = {"TAPELINE_KAFKA__SASL_PASSWORD__FILE": "pw"}  # relative to the current directory, not to the file
    assert load_settings(Path("elsewhere/tapeline.toml"), env).kafka.librdkafka()["sasl.password"] == "hunter2"


@pytest.mark.parametrize(
    ("password", "env", "fault"),
    [
        ('"hunter2"', {}, 'secrets do not stand in this file; write { env = "NAME" } or { file = "path" }'),
        ("22", {}, 'must be { env = "NAME" } or { file = "path" }'),
        ('{ env = "A", file = "b" }', {}, 'must be { env = "NAME" } or { file = "path" }'),
        ('{ env = "PW" }', {}, "secret missing: the environment variable PW is not set"),
        ('{ env = "PW" }', {"PW": ""}, "secret missing: the environment variable PW is empty"),
        (
            '{ file = "/nowhere/pw" }',
            {},
            "secret missing: the file /nowhere/pw cannot be read (No such file or directory)",
        ),
    ],
)
def test_a_missing_secret_names_itself(password: str, env: dict[str, str], fault: str) -> None:
    assert faults(SASL + f"sasl_password = {password}", env) == [f"tapeline.toml:6: kafka.sasl_password: {fault}"]


@pytest.mark.slow
@given(st.text(st.characters(codec="ascii", exclude_characters='"\\', min_codepoint=33), min_size=6))
@example("000%80")
def test_no_error_shows_a_secret(secret: str) -> None:
    secret = f"s3cr3t{secret}"
    texts = [
        f'[kafka]\nsasl_password = "{secret}"\nreplication_factor = 0',
        f'[database]\npassword = ["{secret}"]',
        f'database = "postgresql://u:{secret}@h/d"',
        f'[database]\ndsn = "postgresql://u:{secret}@h/d"',
        f'[database]\ndsn = "host=h password={secret}"',
        f'[database]\ndsn = "host=h sslpassword={secret} port"',
    ]
    for text in texts:
        with pytest.raises(SettingsError) as raised:
            load(text)
        assert "s3cr3t" not in str(raised.value)
        assert raised.value.__suppress_context__ or raised.value.__context__ is None


@pytest.mark.parametrize(
    ("keys", "fault"),
    [
        (
            'security_protocol = "SASL_SSL"',
            "2: kafka.security_protocol: security_protocol SASL_SSL needs sasl_mechanism",
        ),
        (
            'security_protocol = "SASL_SSL"\nsasl_mechanism = "PLAIN"\nsasl_username = "u"',
            "2: kafka.security_protocol: security_protocol SASL_SSL needs sasl_password",
        ),
        (
            'sasl_username = "u"',
            "2: kafka.sasl_username: has no effect with security_protocol PLAINTEXT; use SASL_SSL or",
        ),
        (
            'security_protocol = "SSL"\nsasl_username = "u"',
            "3: kafka.sasl_username: has no effect with security_protocol SSL; use SASL_SSL",
        ),
        (
            'ssl_ca_location = "tapeline.toml"',
            "2: kafka.ssl_ca_location: has no effect with security_protocol PLAINTEXT; use SSL or SASL_SSL",
        ),
        ('ssl_ca_location = "ca.pem"', "2: kafka.ssl_ca_location: the file {here}/ca.pem does not exist"),
        (
            'security_protocol = "SSL"\nssl_key_location = "tapeline.toml"',
            "3: kafka.ssl_key_location: needs ssl_certificate_location beside it",
        ),
        (
            'security_protocol = "SSL"\nssl_key_password = { env = "PW" }',
            "3: kafka.ssl_key_password: needs ssl_key_location beside it",
        ),
        (
            'security_protocol = "SSL"',
            "2: kafka.security_protocol: the embedded server speaks PLAINTEXT; set bootstrap",
        ),
    ],
)
def test_kafka_keys_have_to_fit_together(tmp_path: Path, keys: str, fault: str) -> None:
    (found,) = faults(f"[kafka]\n{keys}", {"PW": "x"})
    assert found.startswith(f"tapeline.toml:{fault.format(here=tmp_path)}")


@pytest.mark.parametrize(
    ("keys", "fault"),
    [
        (
            'dsn = "postgresql://u:p@h/d"',
            "2: database.dsn: has a password in it; take it out and set password = { env =",
        ),
        (
            'dsn = "nonsense"',
            "2: database.dsn: not a PostgreSQL connection string, such as postgresql://user@host:5432/",
        ),
        ('password = { env = "PW" }', "2: database.password: the embedded server has no password; set dsn too"),
    ],
)
def test_database_keys_have_to_fit_together(keys: str, fault: str) -> None:
    (found,) = faults(f"[database]\n{keys}", {"PW": "x"})
    assert found.startswith(f"tapeline.toml:{fault}")


def test_settings_do_not_change() -> None:
    settings = load("")
    with pytest.raises(ValidationError, match="frozen"):
        settings.frames.wait_ms = 3


def test_others_can_raise_errors_that_name_the_line() -> None:
    settings = load("[logics.a]\nparams = { fast = 1 }", {"TAPELINE_LOGICS__A__PARAMS__SLOW": "2"})
    at = settings.error_at
    assert str(at(("logics", "a", "params", "fast"), "odd")) == "tapeline.toml:2: logics.a.params.fast: odd"
    assert str(at(("logics", "a", "logic"), "odd")) == "tapeline.toml:1: logics.a.logic: odd"
    assert str(at(("frames", "wait_ms"), "odd")) == "tapeline.toml: frames.wait_ms: odd"
    assert str(at(("logics", "a", "params", "slow"), "odd")).startswith(
        "environment variable TAPELINE_LOGICS__A__PARAMS__SLOW: "
    )
    assert str(load_settings(Path("/dev/null"), {}).error_at(("kafka",), "odd")) == "/dev/null: kafka: odd"
    Path("tapeline.toml").unlink()
    assert str(load_settings(env={}).error_at(("kafka",), "odd")) == "settings: kafka: odd"


def test_client_properties_of_a_plain_broker() -> None:
    kafka = load('kafka.bootstrap_servers = "h:1"').kafka
    always = {"topic.metadata.refresh.interval.ms": "5000"}
    assert kafka.librdkafka() == {"bootstrap.servers": "h:1", "security.protocol": "PLAINTEXT", **always}
    assert kafka.librdkafka("g:2")["bootstrap.servers"] == "g:2"


def test_servers_come_from_the_settings_else_from_a_running_up(tmp_path: Path) -> None:
    env = {"TAPELINE_HOME": str(tmp_path / "home")}
    settings = load_settings(env=env)
    for find, key in ((kafka_bootstrap, "[kafka] bootstrap_servers"), (database_dsn, "[database] dsn")):
        with pytest.raises(UnavailableError, match=re.escape(f"start one with `tapeline up`, or set {key}")):
            find(settings)
    home = Home(tmp_path / "home")
    with home.hold():
        home.publish(Addresses(1, 2, bootstrap_servers="up:1", dsn="host=/run/up dbname=tapeline"))
        assert kafka_bootstrap(settings) == "up:1"
        assert database_dsn(settings) == "connect_timeout=10 dbname=tapeline host=/run/up"
        configured = load(
            'kafka.bootstrap_servers = "own:1"\n'
            'database = { dsn = "postgresql://u@own/d?connect_timeout=3", password = { env = "PW" } }',
            env | {"PW": "p w"},
        )
        assert kafka_bootstrap(configured) == "own:1"
        assert database_dsn(configured) == r"connect_timeout=3 user=u dbname=d host=own password='p w'"


def leaves(schema: dict[str, Any], node: dict[str, Any], way: str = "") -> Iterator[str]:
    """Yield the dotted name of every key that the settings know; `*` stands for a name that is the user's."""
    if "$ref" in node:
        node = schema["$defs"][node["$ref"].rpartition("/")[2]]
    inner = {**node.get("properties", {})}
    if isinstance(node.get("additionalProperties"), dict) and "$ref" in node["additionalProperties"]:
        inner["*"] = node["additionalProperties"]
    if not inner:
        yield way
    for key, child in inner.items():
        yield from leaves(schema, child, f"{way}.{key}".lstrip("."))


PASSWORDS = {"KAFKA_PASSWORD": "a", "DATABASE_PASSWORD": "b", "ALPACA_KEY": "c", "ALPACA_SECRET": "d"}


def test_the_documentation_has_every_key_and_its_example_loads(tmp_path: Path) -> None:
    page = CONFIGURATION.read_text()
    (example,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    for name in (
        "certificates/ca.pem",
        "certificates/tapeline.pem",
        "certificates/tapeline.key",
        "secrets/key-password",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    settings = load(example, PASSWORDS)
    given_ = settings.model_dump(exclude_unset=True)
    schema = FileSettings.model_json_schema()
    keys = list(leaves(schema, schema))
    assert len(keys) > 30
    for key in keys:
        value: Any = given_
        table = key.partition(".")[0]
        for part in key.split("."):
            value = value.get({"logics": "fast_cross", "venues": "alpaca"}[table] if part == "*" else part, {})
        assert value != {}, f"the example in docs/configuration.md lacks {key}"
        assert f"`{key.rpartition('.')[2]}` |" in page, f"docs/configuration.md lacks {key}"
    assert given_["logics"]["breakout"]["logic"] == "breakout"


def test_the_documented_faults_are_what_is_printed() -> None:
    text = '[kafka]\nbootstrap_server = "x"\n\n\n\n[frames]\nmessages_max = 0\n'
    assert "tapeline: " + "\n".join(faults(text)) in CONFIGURATION.read_text()
