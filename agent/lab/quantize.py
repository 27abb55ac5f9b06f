"""Makes a network lighter: weights and activations in 8 bits, ranges taken from real inputs.

Needs the ``onnx`` package, which insightface brings. Only ``scripts/quantize`` comes here.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from agent.base.errors import ModelError
from agent.base.values import Vector

LEAST_OPSET = 13  # scales for each channel, which the older exports cannot say
MOST_INPUTS = 64

Feed = Mapping[str, Vector]


class _Inputs(CalibrationDataReader):  # type: ignore[misc]  # ONNX Runtime has no types
    def __init__(self, feeds: Sequence[Feed]) -> None:
        self._feeds: Iterator[Feed] = iter(feeds)

    def get_next(self) -> Feed | None:
        return next(self._feeds, None)


def to_int8(source: Path, target: Path, feeds: Sequence[Feed]) -> None:
    """Write *source* to *target* in 8 bits: weights signed by channel, activations unsigned.

    The ranges of the activations are the least and most that *feeds*, inputs by name, bring about
    (at most 64 of them, spread over all). Raises ModelError when the network does not allow it.
    """
    step = max(1, len(feeds) // MOST_INPUTS)
    # Its progress is not ours, and it warns of what is done here already.
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="kaopass-quantize-") as scratch:
        prepared = Path(scratch) / source.name
        try:
            model = onnx.load(str(source))
            constants = {item.name for item in model.graph.initializer}
            for item in [i for i in model.graph.input if i.name in constants]:
                model.graph.input.remove(item)  # old exports list their weights as inputs
            if model.opset_import[0].version < LEAST_OPSET:
                model = onnx.version_converter.convert_version(model, LEAST_OPSET)
            onnx.save(model, str(prepared))
            quant_pre_process(str(prepared), str(prepared), skip_symbolic_shape=True)
            quantize_static(
                str(prepared),
                str(target),
                _Inputs(feeds[::step][:MOST_INPUTS]),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
        except Exception as error:
            raise ModelError(f"model {source} cannot be made lighter: {error}") from error
        finally:
            root.setLevel(level)
