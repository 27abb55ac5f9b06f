"""The reference city side; nothing on the device imports it."""
