"""Keys of a device: the ring derived from its one key, keys that last, certificates, pseudonyms."""
