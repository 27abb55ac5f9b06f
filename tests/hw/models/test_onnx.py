"""Networks run on exactly the execution provider the settings name, or the agent says why not."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import pytest

from agent.base.errors import ModelError
from agent.hw.models.networks.onnx import PROVIDERS, check_running_on, open_session
from agent.packs.store import locate

DETECTOR = locate("buffalo_s", Path("none"), "research").paths["detector"]


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_provider_that_this_build_lacks_is_an_error_and_not_the_cpu(provider: str) -> None:
    if PROVIDERS[provider][0] in onnxruntime.get_available_providers():
        pytest.skip(f"this ONNX Runtime has {PROVIDERS[provider][0]}")
    with pytest.raises(ModelError, match=f'models.provider = "{provider}" needs ONNX Runtime with'):
        open_session(DETECTOR, 1, provider)


def test_a_provider_that_does_not_start_is_an_error_and_not_the_cpu() -> None:
    check_running_on(["CPUExecutionProvider"], DETECTOR, "cpu")
    gpu = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    check_running_on(gpu, DETECTOR, "tensorrt")
    for running in (["CPUExecutionProvider"], gpu[1:], []):
        with pytest.raises(ModelError, match="does not start here"):
            check_running_on(running, DETECTOR, "tensorrt")


def test_a_truncated_network_is_named_with_the_provider(tmp_path: Path) -> None:
    path = tmp_path / "short.onnx"
    path.write_bytes(DETECTOR.read_bytes()[:10_000])
    with pytest.raises(ModelError, match=r"short\.onnx cannot be opened .*\"cpu\""):
        open_session(path, 1, "cpu")
