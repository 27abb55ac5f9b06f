"""Counters of a city worker and the lag of every device, for Prometheus, on loopback only.

Nothing about persons: devices by name, numbers beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from agent.base.errors import CityError, UsageError
from agent.cityos.events.health import Pulse
from agent.cityos.events.intake import IntakeStatus

_LOOPBACK = "127.0.0.1"
_COUNTERS = {
    "events": "Events taken since the start of this worker, repeats included.",
    "rejected_events": "Events refused, each by itself.",
    "refused_messages": "Messages that did not parse at all.",
    "stale_states": "Births and wills that came too late to count.",
    "commits": "Transactions that took events.",
    "unread_events": "Events of kinds not known here, kept as they came.",
    "asked": "Commands sent to devices, most of them replays.",
}


class CityCollector(Collector):
    """Asks *status* and *pulses* when Prometheus asks."""

    def __init__(
        self, status: Callable[[], IntakeStatus], pulses: Callable[[], list[Pulse]]
    ) -> None:
        self._status = status
        self._pulses = pulses

    def collect(self) -> Iterable[Metric]:
        status = self._status()
        for name, text in _COUNTERS.items():
            counter = CounterMetricFamily(f"kaopass_city_{name}", text)
            counter.add_metric([], getattr(status, name))
            yield counter
        try:
            pulses = self._pulses()
        except CityError:
            up = GaugeMetricFamily("kaopass_city_database_up", "Whether the database answers.")
            up.add_metric([], 0)
            yield up
            return
        up = GaugeMetricFamily("kaopass_city_database_up", "Whether the database answers.", 1)
        yield up
        gauges = {
            "online": "Whether the device is connected.",
            "lag_events": "Events the device is known to have made that the city lacks.",
            "last_seen_seconds": "Unix time of its last word.",
            "set_aside": "Whether nothing is taken from it until a person looks.",
        }
        found = {
            name: GaugeMetricFamily(f"kaopass_device_{name}", text, labels=["device"])
            for name, text in gauges.items()
        }
        for pulse in pulses:
            label = [pulse.name]
            found["online"].add_metric(label, float(pulse.online))
            found["lag_events"].add_metric(label, pulse.lag)
            found["last_seen_seconds"].add_metric(label, pulse.last_seen_ms / 1000)
            found["set_aside"].add_metric(label, float(pulse.aside))
        yield from found.values()


def serve_metrics(collector: CityCollector, port: int) -> Callable[[], None]:
    """Answer on http://127.0.0.1:*port*/metrics; returns what ends it. Raises UsageError."""
    registry = CollectorRegistry()
    registry.register(collector)
    try:
        server, thread = start_http_server(port, _LOOPBACK, registry)
    except OSError as error:
        raise UsageError(f"metrics port {port}: {error.strerror}; give another one") from error

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return stop
