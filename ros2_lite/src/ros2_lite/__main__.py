"""``python -m ros2_lite doctor``: which ROS is in use here, and why."""

from __future__ import annotations

import sys


def main(arguments: list[str]) -> int:
    """Run a command; the exit status."""
    if arguments and arguments[0] in ("-h", "--help"):
        print("usage: python -m ros2_lite [doctor]\n\ndoctor: says which ROS is in use here, and why")
        return 0
    if arguments and arguments != ["doctor"]:
        print(f"unknown command '{' '.join(arguments)}'; there is: doctor", file=sys.stderr)
        return 2
    from ros2_lite.doctor import report

    return report()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
