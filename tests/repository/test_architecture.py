"""The layout keeps its promises: imports go one way, hardware stays behind its door."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

AGENT = Path(__file__).parents[2] / "agent"

STAGES = ("vision", "identity", "journey", "journal", "sync", "feedback", "device", "packs")
BASE = ("values", "errors", "ports", "durable")
NEAR = ("steering", "online", "audit", "wire")  # what the agent has to do with its city
# Each part and the parts it may import; its own folder always.
ALLOWED: dict[str, tuple[str, ...]] = {
    "values": (),
    "errors": (),
    "ports": ("values",),
    "durable": (),
    "overlay": ("errors", "durable"),
    "mistakes": (),
    "settings_sources": ("errors",),
    "settings": ("errors", "overlay", "mistakes", "settings_sources"),
    "online": (*BASE, "audit", "sync", "wire", "hw", "settings", "steering", "joining"),
    "steering": (*BASE, "sync", "wire", "settings", "overlay"),
    "wire": BASE,
    **dict.fromkeys(STAGES, BASE),
    "sync": (*BASE, "wire"),
    "identity": (*BASE, "wire"),
    "downlink": (*BASE, "wire", "identity", "sync"),
    "packs": (*BASE, "packaged"),
    "packaged": ("errors",),
    "hw": BASE,
    "audit": ("errors",),
    "rotation": (*BASE, "identity", "journal", "device"),
    "subject": (*BASE, "identity", "journal", "journey", "wire"),
    "enrolling": (*BASE, "identity", "journey", "wire"),
    "faces": (*BASE, "identity", "downlink", "recognise", "rules", "wire"),
    "joining": (*BASE, "sync", "hw", "settings", "audit", "wire"),
    "accuracy": (*BASE, "identity"),
    "recognise": (*BASE, "vision", "identity"),
    "examine": (*BASE, "vision"),
    "pipeline": (*BASE, "vision", "journey", "recognise"),
    "rules": (*BASE, "identity", "packs", "settings"),
    "devices": (*BASE, "hw", "settings"),
    "parts": (*BASE, *STAGES, "settings", "hw", "recognise", "rules", "devices"),
    "gallerylink": (
        *(*BASE, "identity", "downlink", "settings", "joining"),
        *("faces", "rules", "parts"),
    ),
    "app": (
        *(*BASE, *STAGES, "settings", "hw", "downlink", "faces", "gallerylink"),
        *("recognise", "pipeline", "parts", "devices", "joining", "rules", *NEAR),
    ),
    "bench": (
        *(*BASE, *STAGES, "settings", "hw"),
        *("recognise", "parts", "app", "cli", "accuracy", "rules"),
    ),
    "cityos": (*BASE, "wire", "sync", "hw", "audit", "identity", "notices"),
    "notices": (*BASE, "wire", "packaged"),
    "demo": (
        *(*BASE, *STAGES, "settings", "hw"),
        *("recognise", "parts", "devices", "app", "cityos"),
    ),
}
FREE = ("cli", "__main__", "__init__")
FOREIGN = {"cv2", "insightface", "onnxruntime", "paho", "gpiozero", "picamera2", "lgpio"}
# OpenCV's image operations (not its cameras) are part of looking at faces and of drawing the demo.
IMAGE_WORK = ("vision", "demo")
LONGEST_FILE = 400


def modules() -> list[Path]:
    return sorted(p for p in AGENT.rglob("*.py") if "_data" not in p.parts)


def part_of(path: Path) -> str:
    first = path.relative_to(AGENT).parts[0]
    return first.removesuffix(".py")


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(str(node.module))
            if node.module == "agent":
                found |= {f"agent.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(AGENT)))
def test_imports_go_one_way(path: Path) -> None:
    part = part_of(path)
    if part in FREE:
        return
    assert part in ALLOWED, f"{part} has no place in the architecture yet"
    used = {name.split(".")[1] for name in imports_of(path) if name.startswith("agent.")}
    used -= {"__version__"}
    backwards = used - set(ALLOWED[part]) - {part}
    assert not backwards, f"{path.name} imports {sorted(backwards)}"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(AGENT)))
def test_hardware_libraries_stay_behind_their_door(path: Path) -> None:
    part = part_of(path)
    if part == "hw":
        return
    used = {name.split(".")[0] for name in imports_of(path)} & FOREIGN
    if part in IMAGE_WORK:
        used -= {"cv2"}
    assert not used, f"{path.name} imports {sorted(used)}"


def test_nothing_on_the_device_imports_the_city_side() -> None:
    for path in modules():
        if part_of(path) in ("cityos", "demo", "cli"):
            continue
        assert not any(name.startswith("agent.cityos") for name in imports_of(path)), path


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(AGENT)))
def test_every_module_says_what_it_is_for_and_can_be_read_in_a_sitting(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(text)), f"{path} has no docstring"
    assert text.count("\n") <= LONGEST_FILE, f"{path} wants splitting"


def test_no_image_and_no_weights_are_in_the_checkout() -> None:
    import subprocess

    names = subprocess.run(
        ["git", "ls-files"], cwd=AGENT.parent, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    weights = [n for n in names if n.endswith((".onnx", ".tflite", ".pth", ".dat", ".npz", ".npy"))]
    assert not weights
    pictures = [n for n in names if n.endswith((".jpg", ".jpeg", ".png", ".gif", ".webp"))]
    assert all(n.startswith("docs/") for n in pictures), pictures
