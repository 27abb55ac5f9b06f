"""What crosses between a device and its city beyond events: signed messages and signed galleries.

Formats alone: bytes in, frozen values out, and back. Nothing here keeps state or does I/O.
"""
