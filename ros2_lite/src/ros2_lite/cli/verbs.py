"""Commands with verbs (`ros2 topic echo`): a verb is a module with ``add_arguments(parser)`` and ``main(args)``."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Mapping, Sequence

from ros2_lite.cli.errors import Parser


def run(command: str, verbs: Mapping[str, str], arguments: Sequence[str], flag: str = "") -> int:
    """Run one verb of a command; `verbs` maps each to its line of help.

    Only the module of the verb that is asked for is imported. `flag` may stand before the verb, for those that know it.
    """
    is_flagged = bool(flag) and list(arguments[:1]) == [flag]
    arguments = arguments[int(is_flagged) :]
    listing = "\n".join(f"  {name:<8} {text}" for name, text in verbs.items())
    parser = Parser(
        prog=f"ros2 {command}",
        description=f"Various {command} related sub-commands",
        usage="%(prog)s [-h] VERB ...",
        epilog=f"Commands:\n{listing}\n\n  Call `ros2 {command} VERB -h` for more detailed usage.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("verb", metavar="VERB", choices=verbs, nargs="?", help=argparse.SUPPRESS)
    if not arguments:
        parser.print_help()
        return 0
    verb = parser.parse_args(arguments[:1]).verb
    module = importlib.import_module(f"ros2_lite.cli.{command}.{verb}")
    inner = Parser(prog=f"ros2 {command} {verb}", description=verbs[verb])
    module.add_arguments(inner)
    args = inner.parse_intermixed_args(arguments[1:])
    if is_flagged:
        setattr(args, flag.lstrip("-").replace("-", "_"), True)
    return int(module.main(args) or 0)
