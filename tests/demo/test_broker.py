"""The demo's brokers, both for real: a message through each, and nothing left behind."""

from __future__ import annotations

import socket
import threading
from typing import Literal

import pytest
from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from agent.demo.broker import DemoBroker
from agent.sim.net.mosquitto import find_mosquitto
from tests.waiting import LATE_SECONDS

KINDS = [
    pytest.param(
        "mosquitto", marks=pytest.mark.skipif(find_mosquitto() is None, reason="no Mosquitto here")
    ),
    "embedded",
]
Kind = Literal["mosquitto", "embedded"]


def connected(broker: DemoBroker) -> tuple[mqtt.Client, list[bytes], threading.Event]:
    version = MQTTProtocolVersion.MQTTv5
    if broker.protocol == "3.1.1":
        version = MQTTProtocolVersion.MQTTv311
    client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=version)
    listening = threading.Event()
    got: list[bytes] = []

    def subscribe(*_: object) -> None:
        client.subscribe("kp1/+/u/ev", qos=1)

    client.on_connect = subscribe
    client.on_subscribe = lambda *_: listening.set()
    client.on_message = lambda _client, _data, message: got.append(bytes(message.payload))
    client.connect(broker.host, broker.port)
    client.loop_start()
    assert listening.wait(LATE_SECONDS)
    return client, got, listening


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_messages_pass_at_qos_1_and_afterwards_nobody_listens(kind: Kind) -> None:
    with DemoBroker(kind) as broker:
        client, got, _ = connected(broker)
        sent = [b"%d" % number for number in range(20)]
        for payload in sent:
            client.publish("kp1/dev/u/ev", payload, qos=1).wait_for_publish(LATE_SECONDS)
        arrived = threading.Event()
        for _ in range(100):
            if len(got) == len(sent):
                break
            arrived.wait(0.02)
        assert got == sent
        client.disconnect()
        client.loop_stop()
    with (
        pytest.raises(ConnectionRefusedError),
        socket.create_connection((broker.host, broker.port)),
    ):
        pass


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_it_ends_while_a_client_is_connected(kind: Kind) -> None:
    before = set(threading.enumerate())
    with DemoBroker(kind) as broker:
        client, _, _ = connected(broker)
        left = threading.Event()
        client.on_disconnect = lambda *_: left.set()
    assert left.wait(LATE_SECONDS)
    client.loop_stop()
    assert not [t for t in set(threading.enumerate()) - before if t.name == "demo-broker"]


def test_two_run_beside_each_other_on_their_own_ports() -> None:
    with DemoBroker("embedded") as one, DemoBroker("embedded") as other:
        assert one.port != other.port
        for broker in (one, other):
            client, _, _ = connected(broker)
            client.disconnect()
            client.loop_stop()


def test_by_itself_it_takes_mosquitto_where_there_is_one() -> None:
    with DemoBroker() as broker:
        assert broker.name == ("mosquitto" if find_mosquitto() else "amqtt")
        assert broker.protocol == ("5" if find_mosquitto() else "3.1.1")
