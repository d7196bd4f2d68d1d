"""Stage two: fine-tune a vision-language model on recorded episodes, with action tokens and a policy head.

Reads rosbag2 episodes, writes a complete policy folder with a model card and the training log. Starts as one process,
or as many by torchrun or accelerate launch (-m robovlm_ros.cli.finetune).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from robovlm_ros.cli.command import parser, run
from robovlm_ros.cli.options import add_options, given_options
from robovlm_ros.errors import UserError
from robovlm_ros.options import build


def main() -> int:
    """Entry point of ``ros2 run robovlm_ros finetune``."""
    return run(_main)


def _main() -> int:
    from robovlm_ros.training import processes
    from robovlm_ros.training.finetuning import FinetuneOptions

    arguments = parser("finetune", __doc__)
    arguments.add_argument(
        "--episodes", type=Path, nargs="+", metavar="FOLDER",
        help="folder with recorded episodes, or several, whose shares --mixture says",
    )  # fmt: skip
    arguments.add_argument("--base", help="vision-language model: a checkpoint folder or a hub name")
    arguments.add_argument("--output", type=Path, required=True, help="folder that receives the policy")
    arguments.add_argument(
        "--resume", action="store_true",
        help="go on from the newest checkpoint in the output folder; what is not given is as the run began",
    )  # fmt: skip
    add_options(arguments, FinetuneOptions, "training")
    parsed = arguments.parse_args()
    try:
        return _finetune(parsed, _options(parsed, FinetuneOptions))
    except UserError:
        if processes.local_rank() == 0:
            raise
        return 1  # the first process of this machine says it
    finally:
        processes.leave()


def _options(parsed: argparse.Namespace, cls: type[Any]) -> Any:
    """The options; of a run that is resumed those with which it began, unless others are given."""
    from robovlm_ros.training.runs import FOLDER, Checkpoints, Run, check_options, check_unused

    folder = parsed.output / FOLDER
    given = given_options(parsed, cls, "training")
    if parsed.resume and Checkpoints(folder).newest() is not None:
        begun = Run.read(folder)
        options = build(cls, {**begun.options, **given}, "options")
        defaults = dataclasses.asdict(cls())
        check_options(dataclasses.asdict(options), begun.options, defaults, Checkpoints(folder).steps()[-1])
        parsed.episodes = parsed.episodes or [Path(source) for source in begun.sources]
        parsed.base = parsed.base or begun.base
        return options
    missing = [name for name in ("episodes", "base") if getattr(parsed, name) is None]
    if missing:
        why = f": there is no checkpoint in {folder} to go on from" if parsed.resume else ""
        raise UserError(f"--{missing[0]} is missing{why}")
    check_unused(folder)
    return build(cls, given, "options")


def _finetune(parsed: argparse.Namespace, options: Any) -> int:
    from robovlm_ros.training import processes
    from robovlm_ros.training.curves import draw, event_writer
    from robovlm_ros.training.finetuning import finetune
    from robovlm_ros.training.model_card import policy_card
    from robovlm_ros.training.reporting import Report, say
    from robovlm_ros.vlm.checkpoint import save_policy

    output: Path = parsed.output
    if output.exists() and not output.is_dir():
        raise UserError(f"--output {output} is a file: name a folder")
    if output.resolve() == Path(parsed.base).expanduser().resolve():
        raise UserError(f"--output {output} is the base itself: name another folder")
    report = Report("finetune")
    if options.tensorboard:
        report.listeners.append(event_writer(output / "tensorboard"))
    say(f"finetune: {', '.join(map(str, parsed.episodes))} on {parsed.base}")

    def evaluate(checkpoint: Path, results: Path) -> float:
        say(f"finetune: {checkpoint.name} is evaluated")
        return success_of(checkpoint, results, options.evaluate_episodes, options.evaluate_flags)

    trained = finetune(
        options, parsed.episodes, parsed.base, report, output, resume=parsed.resume, evaluate=evaluate
    )  # fmt: skip
    if not processes.is_first():
        return 0
    save_policy(output, trained.policy, trained.processor, trained.base, trained.weights)
    report.write(output / "train_log.json")
    draw(report.log, output / "loss.png")
    figures = {**trained.figures, "options": options.told()}
    (output / "measured.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    (output / "README.md").write_text(policy_card(trained.processor, figures, trained.base), encoding="utf-8")
    error = figures["validation_error"]
    said = "" if error is None else f", mean error of held-out actions {error:.4f}"
    say(f"finetune: {figures['observations']} observations{said}, saved {output}")
    return 0


def success_of(checkpoint: Path, results: Path, episodes: int, flags: str) -> float:
    """Share of episodes in which a policy succeeds, measured by the command evaluate in a domain of its own.

    ``results`` receives its JSON when it is whole; UserError with its last line when it fails.
    """
    from robovlm_ros.cli.session import local_environment
    from robovlm_ros.training.runs import read_json_mapping

    kept = {name: value for name, value in os.environ.items() if name not in _OF_PROCESSES}
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "results.json"
        command = [
            *(sys.executable, "-m", "robovlm_ros.cli.evaluate", "--checkpoint", str(checkpoint.resolve())),
            *("--contract", str(checkpoint.resolve() / "contract.yaml"), "--episodes", str(episodes)),
            *("--lockstep", "--no-control", "--json", str(written), *shlex.split(flags)),
        ]
        environment = {**kept, **local_environment(EVALUATION_DOMAIN)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            lines = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()
            raise UserError(f"evaluate ended with status {done.returncode}: {lines[-1].removeprefix('error: ')}")
        found = read_json_mapping(written)
        results.with_name(f".{results.name}").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        results.with_name(f".{results.name}").replace(results)
    return float(found["success_rate"])


EVALUATION_DOMAIN = 37
"""Added to the ROS_DOMAIN_ID of this command for that of its evaluations."""
_OF_PROCESSES = frozenset({"RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"})
"""Variables that would make a command believe that it is one of several processes."""


if __name__ == "__main__":
    raise SystemExit(main())
