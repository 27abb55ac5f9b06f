"""What is said beside figures that are not the board's own."""

from __future__ import annotations

from agent.bench.board import Machine


def load_warning(board: Machine) -> str:
    """A line to print when the figures are worse than the board."""
    if board.load < board.cores / 2:
        return ""
    return (
        f"  note: something else is running (load {board.load} on {board.cores} cores); "
        "stop the agent and measure again\n"
    )


def liveness_note(*, judged: bool) -> str:
    """A line that says so where liveness was not measured."""
    if judged:
        return ""
    return (
        "  note: without liveness, whose pack is not installed: kaopass models install faceplugin\n"
    )
