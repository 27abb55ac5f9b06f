"""The hardware's own number, which a claim is bound to."""

from __future__ import annotations

from pathlib import Path

from agent.base.errors import ProvisioningError

# Both a Raspberry Pi and a Jetson put it here; it ends with a zero byte.
DEVICE_TREE = Path("/sys/firmware/devicetree/base/serial-number")
# Made when the system was installed: it goes with the card, not with the board (machine-id(5)).
MACHINE_ID = Path("/etc/machine-id")
_LONGEST = 64  # ub-serial-number of X.520


def hardware_serial(
    given: str = "", *, device_tree: Path = DEVICE_TREE, machine_id: Path = MACHINE_ID
) -> str:
    """*given* (the setting ``device.serial``), else the board's, else the installed system's.

    Raises ProvisioningError where there is none.
    """
    if given:
        return given
    for source in (device_tree, machine_id):
        try:
            found = source.read_bytes().decode("ascii").strip("\0 \t\r\n")
        except (OSError, UnicodeDecodeError):
            continue
        if found and len(found) <= _LONGEST and found.isprintable():
            return found
    raise ProvisioningError(
        f"this machine tells no serial number ({device_tree}, {machine_id}); set device.serial"
    )
