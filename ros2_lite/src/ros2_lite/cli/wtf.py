"""`ros2 wtf`: `ros2 doctor` by its other name."""

from __future__ import annotations

from collections.abc import Sequence

from ros2_lite.cli import doctor


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    return doctor.main(arguments, prog="ros2 wtf")
