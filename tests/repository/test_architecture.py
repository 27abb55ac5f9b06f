"""Every file can be read in a sitting and says what it is for; imports are the linter's business.

Which room may import which stands in ``pyproject.toml`` and is checked by ``scripts/check``.
"""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
AGENT = CHECKOUT / "agent"
LONGEST_FILE = 330


def modules() -> list[Path]:
    found = sorted(p for p in AGENT.rglob("*.py") if "_data" not in p.parts)
    assert len(found) > 200
    return found


def test_every_module_says_what_it_is_for() -> None:
    texts = {path: path.read_text(encoding="utf-8") for path in modules()}
    assert [p for p, text in texts.items() if not ast.get_docstring(ast.parse(text))] == []


def test_every_module_can_be_read_in_a_sitting() -> None:
    lines = {path: path.read_text(encoding="utf-8").count("\n") for path in modules()}
    assert {path: count for path, count in lines.items() if count > LONGEST_FILE} == {}


def test_only_the_entry_point_lies_loose() -> None:
    assert sorted(p.name for p in AGENT.glob("*.py")) == ["__init__.py", "__main__.py"]


def test_no_image_and_no_weights_are_in_the_checkout() -> None:
    names = subprocess.run(
        ["git", "ls-files"], cwd=CHECKOUT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    weights = (".onnx", ".tflite", ".pth", ".dat", ".npz", ".npy")
    assert [name for name in names if name.endswith(weights)] == []
    pictures = [n for n in names if n.endswith((".jpg", ".jpeg", ".png", ".gif", ".webp"))]
    assert all(name.startswith("docs/") for name in pictures), pictures


def test_no_public_class_name_occurs_twice() -> None:
    """One name, one thing: docs/glossary.md."""
    found: dict[str, list[str]] = {}
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found.setdefault(node.name, []).append(str(path.relative_to(AGENT)))
    assert {name: paths for name, paths in found.items() if len(paths) > 1} == {}
