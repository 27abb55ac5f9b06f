"""Collecting the tests costs seconds: it opens no model and reads no picture."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COLLECT = ("-m", "pytest", "--collect-only", "-q", "-p", "tests.repository.no_models")


def collected(*files: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *COLLECT, *files], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_no_test_module_opens_a_model_or_a_picture() -> None:
    found = collected()
    assert found.returncode == 0, found.stdout[-4_000:]
    assert " tests collected" in found.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    "line",
    [
        'import cv2; IMAGE = cv2.imread("face.jpg")',
        'import onnxruntime; NETWORK = onnxruntime.InferenceSession("model.onnx")',
    ],
)
def test_a_module_that_does_is_found(tmp_path: Path, line: str) -> None:
    module = tmp_path / "test_module.py"
    module.write_text(f"{line}\ndef test_nothing(): pass\n")
    found = collected(str(module))
    assert found.returncode != 0
    assert "a model or a picture was opened" in found.stdout
