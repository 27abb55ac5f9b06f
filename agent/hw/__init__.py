"""Drivers behind the ports; each is imported only when the settings name it."""

import os

# insightface sets this before it reads ONNX Runtime, which asks for it while it is being read.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
