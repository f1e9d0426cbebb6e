"""What an operator may write in sensors.yaml."""

import math
from pathlib import Path

import pytest

from edge_agent.sensors.declarations import (
    FileSource,
    Form,
    HostSource,
    MqttSource,
    Source,
    StreamSource,
    parse_sources,
)
from fleet.errors import Code, FleetError


def document(*sources):
    return ("schema: fleet.sensors/v1\nsources:\n" + "".join(f"  - {source}\n" for source in sources)).encode()


def test_every_kind_of_source():
    sources = parse_sources(
        document(
            "{name: load, host: {measure: load, every: 5s}}",
            "{name: chip, file: {path: /sys/class/thermal/thermal_zone0/temp}, factor: 0.001, unit: celsius, low: -20}",
            "{name: log, file: {path: /var/log/x.csv, last_line: true, every: 1m}, column: 3, separator: ';'}",
            "{name: scale, stream: {path: /dev/ttyUSB0, baud: 115200}, rate: 1, max_age: 5s}",
            "{name: roof, mqtt: {host: broker, topic: site/roof, tls: true, authorities: /etc/ca.pem,"
            " credentials: /etc/mqtt}, pointer: /values/0}",
        )
    )
    assert sources == (
        Source("load", "host", HostSource("load", 5_000, "/")),
        Source(
            "chip",
            "file",
            FileSource("/sys/class/thermal/thermal_zone0/temp", 1_000, last_line=False),
            Form(factor=0.001),
            "celsius",
            low=-20.0,
        ),
        Source("log", "file", FileSource("/var/log/x.csv", 60_000, last_line=True), Form(column=3, separator=";")),
        Source("scale", "stream", StreamSource("/dev/ttyUSB0", 115200), rate=1, max_age_ms=5_000),
        Source(
            "roof",
            "mqtt",
            MqttSource("broker", 8883, "site/roof", tls=True, authorities="/etc/ca.pem", credentials="/etc/mqtt"),
            Form(pointer="/values/0"),
        ),
    )
    assert sources[0].high == math.inf
    assert parse_sources(b"schema: fleet.sensors/v1\n") == ()


@pytest.mark.parametrize(
    ("source", "place"),
    [
        ("{name: Roof, host: {measure: cpu}}", "sources[0].name"),
        ("{name: roof}", "sources[0]"),
        ("{name: roof, host: {measure: cpu}, file: {path: /x}}", "sources[0]"),
        ("{name: roof, host: {measure: gpu}}", "sources[0].host.measure"),
        ("{name: roof, host: {measure: cpu, every: 10ms}}", "sources[0].host.every"),
        ("{name: roof, host: {measure: cpu}, sound: loud}", "sources[0].sound"),
        ("{name: roof, file: {path: x}}", "sources[0].file.path"),
        ('{name: roof, file: {path: "/x\\0"}}', "sources[0].file.path"),
        ("{name: roof, stream: {path: /dev/x, baud: 9601}}", "sources[0].stream.baud"),
        ("{name: roof, mqtt: {host: '', topic: x}}", "sources[0].mqtt.host"),
        ("{name: roof, mqtt: {host: h, topic: ''}}", "sources[0].mqtt.topic"),
        ("{name: roof, mqtt: {host: h, topic: x, authorities: /ca}}", "sources[0].mqtt.authorities"),
        ("{name: roof, host: {measure: cpu}, unit: 'a\"b'}", "sources[0].unit"),
        ("{name: roof, host: {measure: cpu}, low: 2, high: 1}", "sources[0].low"),
        ("{name: roof, host: {measure: cpu}, low: cold}", "sources[0].low"),
        (f"{{name: roof, host: {{measure: cpu}}, low: 1{'0' * 400}}}", "sources[0].low"),
        ("{name: roof, file: {path: /x}, pointer: a}", "sources[0].pointer"),
        ("{name: roof, file: {path: /x}, pointer: /a~2}", "sources[0].pointer"),
        ("{name: roof, file: {path: /x}, pointer: /a, column: 1}", "sources[0].column"),
        ("{name: roof, file: {path: /x}, column: 0}", "sources[0].column"),
        ("{name: roof, file: {path: /x}, column: 1, separator: ab}", "sources[0].separator"),
        ("{name: roof, file: {path: /x}, rate: 0}", "sources[0].rate"),
        ("{name: roof, file: {path: /x}, max_age: 0s}", "sources[0].max_age"),
    ],
)
def test_what_is_refused(source, place):
    with pytest.raises(FleetError) as caught:
        parse_sources(document(source))
    assert caught.value.code is Code.CONFIG_INVALID
    assert caught.value.detail["place"] == f"sensors.yaml: {place}"


def test_a_name_is_declared_once():
    with pytest.raises(FleetError, match="'roof' is declared twice"):
        parse_sources(document(*["{name: roof, host: {measure: cpu}}"] * 2))


def test_an_unknown_schema():
    with pytest.raises(FleetError, match=r"fleet\.sensors/v1"):
        parse_sources(b"schema: fleet.sensors/v2\n")


def test_the_example_of_the_documentation_is_valid():
    text = (Path(__file__).parents[3] / "docs" / "events.md").read_text()
    example = text.partition("```yaml\nschema: fleet.sensors/v1")[2].partition("```")[0]
    assert {source.kind for source in parse_sources(f"schema: fleet.sensors/v1{example}".encode())} == {
        "host",
        "file",
        "stream",
        "mqtt",
    }
