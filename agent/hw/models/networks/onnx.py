"""ONNX Runtime sessions on exactly the execution provider the settings name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnxruntime

from agent.base.errors import ModelError

PROVIDERS = {
    "cpu": ["CPUExecutionProvider"],
    "cuda": ["CUDAExecutionProvider"],
    "tensorrt": ["TensorrtExecutionProvider", "CUDAExecutionProvider"],
}


def open_session(path: Path, threads: int, provider: str) -> onnxruntime.InferenceSession:
    """An ONNX Runtime session for *path* on exactly the named *provider*.

    Raises ModelError if the provider is not in this build of ONNX Runtime or the file is no model:
    ONNX Runtime alone would fall back to the CPU without a word.
    """
    wanted = PROVIDERS[provider]
    available = onnxruntime.get_available_providers()
    if wanted[0] not in available:
        raise ModelError(
            f'models.provider = "{provider}" needs ONNX Runtime with {wanted[0]}; this one has '
            f"{', '.join(available)}. Install the matching onnxruntime, or set it to "
            '"cpu".'
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Spinning threads burn a small board's battery and heat budget between frames.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        # Without the last argument it tries the CPU when the provider fails, and says so to nobody.
        session = onnxruntime.InferenceSession(
            str(path), sess_options=options, providers=wanted, enable_fallback=False
        )
    except Exception as error:  # ONNX Runtime raises a family of its own without a common base
        raise ModelError(
            f'model {path} cannot be opened with models.provider = "{provider}": '
            f"{_first_line(error)}"
        ) from error
    check_running_on(session.get_providers(), path, provider)
    return session


def check_running_on(running: Sequence[str], path: Path, provider: str) -> None:
    """Raise ModelError unless the first provider *running* is the one that *provider* means.

    A provider whose library or driver is missing is only left out of the session's list.
    """
    wanted = PROVIDERS[provider][0]
    if list(running[:1]) != [wanted]:
        raise ModelError(
            f'model {path}: models.provider = "{provider}" is in this ONNX Runtime, but {wanted} '
            f"does not start here (running: {', '.join(running)}); check its driver and libraries, "
            'or set it to "cpu"'
        )


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
