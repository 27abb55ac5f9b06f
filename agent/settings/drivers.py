"""What the settings may choose among: the drivers of each kind, by name and unread."""

from __future__ import annotations

from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from agent.base.drivers import (
    CameraDriver,
    Drivers,
    KeySourceDriver,
    LampDriver,
    ModelDriver,
    SensorDriver,
)

CAMERAS = Drivers(
    CameraDriver, "camera", "kaopass.cameras", "agent.hw.cameras", "agent.sim.cameras"
)
LAMPS = Drivers(LampDriver, "lamps", "kaopass.lamps", "agent.hw.lamps", without="none")
KEY_SOURCES = Drivers(
    KeySourceDriver,
    "key source",
    "kaopass.keystores",
    "agent.hw.keystores",
    "agent.sim.keystores",
)
SENSORS = Drivers(
    SensorDriver, "liveness sensor", "kaopass.sensors", "agent.sim.sensors", without="none"
)
MODELS = Drivers(ModelDriver, "runtime of models", "kaopass.models", "agent.hw.models")


def choices(field: FieldInfo) -> list[Any]:
    """The values that a setting is one of; none where it is no choice."""
    if get_origin(field.annotation) is Literal:
        return list(get_args(field.annotation))
    for each in field.metadata:
        drivers = getattr(getattr(each, "func", None), "__self__", None)
        if isinstance(drivers, Drivers):
            return drivers.names()
    return []
