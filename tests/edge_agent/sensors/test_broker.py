"""Sources behind an MQTT broker, against a real Mosquitto: `make sensors`."""

import ssl
import subprocess
from datetime import UTC, datetime, timedelta

import aiomqtt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edge_agent.sensors import run
from edge_agent.sensors.declarations import Form, MqttSource
from edge_agent.sensors.values import MAX_PAYLOAD
from tests.fakes.mosquitto import Mosquitto, find
from tests.fakes.ports import free_port
from tests.fakes.sensed import reading
from tests.fakes.wait import until

pytestmark = pytest.mark.slow

TOPIC = "site/roof"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(run, "FIRST_DELAY_S", 0.05)
    monkeypatch.setattr(run, "LONGEST_DELAY_S", 0.2)


@pytest.fixture
def broker(tmp_path):
    broker = Mosquitto(tmp_path)
    broker.start()
    yield broker
    broker.stop()


def origin(port, **parts):
    settings = {"tls": False, "authorities": "", "credentials": ""}
    return MqttSource("127.0.0.1", port, TOPIC, **{**settings, **parts})


async def publish(port, *payloads, **client):
    """Send messages, kept by the broker so that a subscriber that comes later gets the last one."""
    async with aiomqtt.Client("127.0.0.1", port, **client) as sender:
        for payload in payloads:
            await sender.publish(TOPIC, payload, qos=1, retain=True)


async def test_values_arrive_and_junk_is_counted(broker):
    async with reading(origin(broker.port), form=Form(pointer="/celsius")) as bench:
        await publish(broker.port, b'{"celsius": 20.5}')
        await bench.value("20.5")
        await publish(broker.port, b"junk", b"", bytes(range(256)), b"[" * 30_000)
        await until(lambda: bench.table.counts("s")[0] == 4, "four pieces of junk")
        await publish(broker.port, b'{"celsius": 21}')
        await bench.value("21.0")
    assert [kind for kind, _ in bench.told] == ["node:sensor:malformed"]


async def test_a_broker_that_restarts_is_found_again(broker):
    async with reading(origin(broker.port)) as bench:
        await publish(broker.port, b"1")
        await bench.value("1.0")
        broker.stop()
        await until(lambda: bench.state.state == "unavailable", "the loss of the broker")
        assert bench.state.value == "1.0"
        broker.start()
        await publish(broker.port, b"2")
        await bench.value("2.0")
        assert [kind for kind, _ in bench.told] == ["node:sensor:unavailable", "node:sensor:recovered"]


async def test_a_broker_that_is_not_there_yet(tmp_path):
    broker = Mosquitto(tmp_path, port=free_port())
    async with reading(origin(broker.port)) as bench:
        await until(lambda: bench.state.fault, "a fault")
        broker.start()
        try:
            await publish(broker.port, b"3")
            await bench.value("3.0")
        finally:
            broker.stop()


async def test_a_message_that_is_too_large_is_never_sent_here(broker):
    async with reading(origin(broker.port)) as bench:
        await publish(broker.port, b"1")
        await bench.value("1.0")
        await publish(broker.port, b"x" * (MAX_PAYLOAD * 4))
        await publish(broker.port, b"2")
        await bench.value("2.0")
        assert bench.table.counts("s")[0] == 0
    assert bench.told == []


async def test_a_flood_is_taken_at_the_rate_of_the_source(broker):
    async with reading(origin(broker.port), rate=5) as bench:
        await publish(broker.port, b"1")
        await bench.value("1.0")
        heard = []
        bench.table.subscribe("s", heard.append)
        await publish(broker.port, *[b"%d" % number for number in range(2000)])
        await until(lambda: bench.table.counts("s")[1] > 100, "readings above the rate")
        assert len(heard) < 200


@pytest.fixture
def passwords(tmp_path):
    file = tmp_path / "passwords"
    file.touch(mode=0o600)
    subprocess.run([find("mosquitto_passwd"), "-b", str(file), "node", "secret"], check=True, capture_output=True)
    return file


async def test_credentials_come_from_a_file_of_the_operator(tmp_path, passwords):
    broker = Mosquitto(tmp_path, "allow_anonymous false", f"password_file {passwords}")
    broker.start()
    try:
        async with reading(origin(broker.port)) as bench:
            await until(lambda: bench.state.fault, "a refusal")
            assert "uthori" in bench.state.fault
        file = tmp_path / "credentials"
        file.write_text("node\nsecret\n")
        file.chmod(0o644)
        async with reading(origin(broker.port, credentials=str(file))) as bench:
            await until(lambda: "chmod 600" in bench.state.fault, "a refusal of the file")
            file.chmod(0o600)
            await publish(broker.port, b"4", username="node", password="secret")
            await bench.value("4.0")
    finally:
        broker.stop()


def certificates(folder):
    """An authority, and a certificate of it for 127.0.0.1."""
    now = datetime.now(UTC)
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)]) for text in ("authority", "broker")]
    for number, (file, basic) in enumerate((("ca", True), ("broker", False))):
        builder = (
            x509.CertificateBuilder()
            .subject_name(names[number])
            .issuer_name(names[0])
            .public_key(keys[number].public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=basic, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(keys[number].public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(keys[0].public_key()), critical=False)
        )
        if not basic:
            address = x509.SubjectAlternativeName([x509.DNSName("localhost")])
            builder = builder.add_extension(address, critical=False)
        certificate = builder.sign(keys[0], hashes.SHA256())
        (folder / f"{file}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        key = keys[number].private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (folder / f"{file}.key").write_bytes(key)


# paho leaves the socket of a handshake that failed to the garbage collector, which closes it at once.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_broker_is_verified(tmp_path):
    certificates(tmp_path)
    broker = Mosquitto(
        tmp_path,
        "allow_anonymous true",
        f"cafile {tmp_path / 'ca.crt'}",
        f"certfile {tmp_path / 'broker.crt'}",
        f"keyfile {tmp_path / 'broker.key'}",
    )
    broker.start()
    try:
        good = origin(broker.port, tls=True, authorities=str(tmp_path / "ca.crt"))
        async with reading(good) as bench:  # the certificate is for localhost, not for an address
            await until(lambda: "certificate" in bench.state.fault.lower(), "a refusal of the name")
        named = MqttSource("localhost", broker.port, TOPIC, True, str(tmp_path / "ca.crt"), "")
        async with reading(named) as bench:
            context = ssl.create_default_context(cafile=str(tmp_path / "ca.crt"))
            async with aiomqtt.Client("localhost", broker.port, tls_context=context) as sender:
                await sender.publish(TOPIC, b"5", retain=True)
            await bench.value("5.0")
        stranger = MqttSource("localhost", broker.port, TOPIC, True, "", "")
        async with reading(stranger) as bench:
            await until(lambda: "certificate" in bench.state.fault.lower(), "a refusal of the authority")
    finally:
        broker.stop()
