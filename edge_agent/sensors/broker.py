"""Readings from topics of an MQTT 5 broker.

Owns: `watch_topic`, the one door to aiomqtt. A broker is told the largest packet that this node takes (MQTT 5, section
3.1.2.11.4), so that it never sends a larger one; of what it sends too fast, the newest messages wait and the rest is
dropped. Reconnecting is `run`'s business.
"""

from __future__ import annotations

import logging
import os
import ssl
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge_agent.sensors.values import MAX_PAYLOAD
from fleet.errors import Code, FleetError

if TYPE_CHECKING:
    from edge_agent.sensors.declarations import MqttSource
    from edge_agent.sensors.table import SensorTable

MAX_PACKET = MAX_PAYLOAD + 8 * 1024
"""Bytes of one packet: a payload, its topic and its properties."""

MAX_WAITING = 100
"""Messages of one topic that may wait."""

MAX_CREDENTIALS = 4096
KEEPALIVE_S = 30
TIMEOUT_S = 10.0

_log = logging.getLogger(__name__)
_log.setLevel(logging.ERROR)  # aiomqtt warns of every message that it drops


async def watch_topic(name: str, origin: MqttSource, table: SensorTable) -> None:
    """Take messages until the connection ends.

    Raises:
        FleetError: UNAVAILABLE when there is no connection or it ends; CONFIG_INVALID for files that cannot be used.
    """
    user, password = _credentials(origin.credentials)
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho has no hint here
    properties.MaximumPacketSize = MAX_PACKET
    client = aiomqtt.Client(
        origin.host,
        origin.port,
        username=user,
        password=password,
        protocol=aiomqtt.ProtocolVersion.V5,
        clean_start=True,
        properties=properties,
        keepalive=KEEPALIVE_S,
        timeout=TIMEOUT_S,
        max_queued_incoming_messages=MAX_WAITING,
        tls_context=_tls(origin),
        logger=_log,
    )
    broker = f"{origin.host}:{origin.port}"
    try:
        async with client:
            await client.subscribe(origin.topic)
            async for message in client.messages:
                if isinstance(message.payload, bytes | bytearray):
                    table.take(name, bytes(message.payload))
    except aiomqtt.MqttError as error:
        raise FleetError(Code.UNAVAILABLE, f"{broker}: {error}") from error
    except OSError as error:  # TLS and name resolution
        raise FleetError(Code.UNAVAILABLE, f"{broker}: {error.strerror or error}") from error
    raise FleetError(Code.UNAVAILABLE, f"{broker} ended the subscription")


def _tls(origin: MqttSource) -> ssl.SSLContext | None:
    if not origin.tls:
        return None
    try:
        return ssl.create_default_context(cafile=origin.authorities or None)
    except OSError as error:
        raise FleetError(Code.CONFIG_INVALID, f"{origin.authorities} holds no certificates") from error


def _credentials(path: str) -> tuple[str | None, str | None]:
    if not path:
        return None, None
    try:
        with Path(path).open("rb") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise FleetError(Code.CONFIG_INVALID, f"{path} is open to other users: chmod 600 it")
            lines = file.read(MAX_CREDENTIALS).decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FleetError(Code.CONFIG_INVALID, f"{path} cannot be read") from error
    if len(lines) != 2:
        raise FleetError(Code.CONFIG_INVALID, f"{path}: expected a user name and a password, a line each")
    return lines[0], lines[1]
