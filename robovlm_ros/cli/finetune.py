"""Stage two: fine-tune a vision-language model on recorded episodes, with action tokens and a policy head.

Reads rosbag2 episodes, writes a complete policy folder with a model card and the training log.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

from robovlm_ros.cli.command import parser, run
from robovlm_ros.cli.options import add_options, read_options
from robovlm_ros.errors import UserError


def main() -> int:
    """Entry point of ``ros2 run robovlm_ros finetune``."""
    return run(_main)


def _main() -> int:
    from robovlm_ros.training.finetuning import FinetuneOptions

    arguments = parser("finetune", __doc__)
    arguments.add_argument(
        "--episodes", type=Path, nargs="+", required=True, metavar="FOLDER",
        help="folder with recorded episodes, or several, whose shares --mixture says",
    )  # fmt: skip
    arguments.add_argument("--base", required=True, help="vision-language model: a checkpoint folder or a hub name")
    arguments.add_argument("--output", type=Path, required=True, help="folder that receives the policy")
    add_options(arguments, FinetuneOptions, "training")
    parsed = arguments.parse_args()
    return _finetune(parsed, read_options(parsed, FinetuneOptions, "training"))


def _finetune(parsed: argparse.Namespace, options: Any) -> int:
    from robovlm_ros.training.finetuning import finetune
    from robovlm_ros.training.model_card import policy_card
    from robovlm_ros.training.reporting import Report
    from robovlm_ros.vlm.checkpoint import save_policy

    output: Path = parsed.output
    if output.exists() and not output.is_dir():
        raise UserError(f"--output {output} is a file: name a folder")
    if output.resolve() == Path(parsed.base).expanduser().resolve():
        raise UserError(f"--output {output} is the base itself: name another folder")
    report = Report("finetune")
    print(f"finetune: {', '.join(map(str, parsed.episodes))} on {parsed.base}", flush=True)
    trained = finetune(options, parsed.episodes, parsed.base, report)
    save_policy(output, trained.policy, trained.processor, trained.base)
    report.write(output / "train_log.json")
    figures = {**trained.figures, "options": dataclasses.asdict(options)}
    (output / "measured.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    (output / "README.md").write_text(policy_card(trained.processor, figures, trained.base), encoding="utf-8")
    error = figures["validation_error"]
    said = "" if error is None else f", mean error of held-out actions {error:.4f}"
    print(f"finetune: {figures['observations']} observations{said}, saved {output}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
