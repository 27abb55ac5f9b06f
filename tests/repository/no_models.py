"""A pytest plugin under which opening a network or reading a picture is an error."""

from __future__ import annotations

from typing import NoReturn

import cv2
import onnxruntime
import pytest

OPENERS = ((onnxruntime, "InferenceSession"), (cv2, "imread"), (cv2, "imdecode"))


def pytest_configure(config: pytest.Config) -> None:
    del config

    def refuse(*_: object, **__: object) -> NoReturn:
        raise AssertionError("a model or a picture was opened while tests were collected")

    for library, name in OPENERS:
        setattr(library, name, refuse)
