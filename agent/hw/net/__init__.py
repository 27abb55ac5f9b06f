"""The network: MQTT, TLS, EST."""
