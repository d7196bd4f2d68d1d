"""Make other forms of episodes and of checkpoints."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from robovlm_ros.checkpoints import find_base, find_checkpoint
from robovlm_ros.cli import convert_calvin, convert_lerobot
from robovlm_ros.cli.command import HelpFormatter, parser, run
from robovlm_ros.errors import UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of ``ros2 run robovlm_ros convert``."""

    def command() -> int:
        top = parser("convert", __doc__)
        commands = top.add_subparsers(title="what to make", required=True, metavar="WHAT")
        merge = commands.add_parser(
            "merge",
            help="a complete policy of adapters and their base",
            description="Write a complete policy folder of one that holds adapters: their base's weights with what was "
            "learned added to them. It acts as the adapters do, needs neither the base nor peft, and loads faster.",
            formatter_class=HelpFormatter,
        )
        merge.add_argument("checkpoint", metavar="CHECKPOINT", help="policy folder, made by finetune --save adapters")
        merge.add_argument("output", type=Path, metavar="OUTPUT", help="folder that receives the complete policy")
        merge.add_argument("--base", type=Path, metavar="FOLDER", help="where the base lies, if not where it was")
        merge.set_defaults(command=_merge)
        convert_lerobot.add_commands(commands)
        convert_calvin.add_command(commands)
        options = top.parse_args(arguments)
        status: int = options.command(options)
        return status

    return run(command)


def _merge(options: argparse.Namespace) -> int:
    checkpoint, output = find_checkpoint(options.checkpoint), options.output
    if find_base(checkpoint) is None:
        raise UserError(f"checkpoint {checkpoint} is complete: there is nothing to merge")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"{output} exists already: name a new folder")
    from robovlm_ros.training.model_card import policy_card
    from robovlm_ros.vlm.checkpoint import load_policy, save_policy

    policy, processor = load_policy(checkpoint, base=options.base)
    save_policy(output, policy, processor)
    for name in ("train_log.json", "measured.json"):
        if (checkpoint / name).is_file():
            shutil.copyfile(checkpoint / name, output / name)
    if (output / "measured.json").is_file():
        figures = json.loads((output / "measured.json").read_text(encoding="utf-8"))
        (output / "README.md").write_text(policy_card(processor, figures), encoding="utf-8")
    size = sum(file.stat().st_size for file in output.glob("*.safetensors"))
    print(f"convert: merged {checkpoint} into {output} ({size / 1e6:.1f} MB of weights)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
