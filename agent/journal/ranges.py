"""Sequence numbers as inclusive ranges."""

from __future__ import annotations

from collections.abc import Iterable


def to_ranges(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Ascending *numbers* as the fewest inclusive (first, last) ranges."""
    ranges: list[tuple[int, int]] = []
    for number in numbers:
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1] = (ranges[-1][0], number)
        else:
            ranges.append((number, number))
    return ranges


def missing(first: int, last: int, there: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """What *there* (inclusive ranges) leaves uncovered of *first* to *last*."""
    holes = []
    for begin, end in sorted(there):
        if begin > first:
            holes.append((first, min(begin - 1, last)))
        first = max(first, end + 1)
        if first > last:
            break
    if first <= last:
        holes.append((first, last))
    return holes
