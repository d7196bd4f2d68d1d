"""Stage one: make the tiny VLM and teach it to see the tabletop, by questions about rendered scenes.

The result is an ordinary transformers checkpoint folder (AutoModelForImageTextToText, AutoProcessor)
that knows nothing of actions.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

from robovlm_ros.cli.command import parser, run
from robovlm_ros.cli.options import add_options, read_options
from robovlm_ros.contract import Contract
from robovlm_ros.errors import UserError


def main() -> int:
    """Entry point of ``ros2 run robovlm_ros pretrain``."""
    return run(_main)


def _main() -> int:
    from robovlm_ros.training.pretraining import PretrainOptions

    arguments = parser("pretrain", __doc__)
    add_options(arguments, PretrainOptions, "training")
    made = arguments.add_mutually_exclusive_group(required=True)
    made.add_argument("--output", type=Path, help="folder that receives the checkpoint")
    made.add_argument(
        "--export",
        type=Path,
        help="folder that receives scenes and questions for `finetune --cotrain-data`, instead",
    )
    arguments.add_argument("--contract", default="tabletop", help="contract: a YAML file or a shipped name")
    arguments.add_argument("--cache", type=Path, help="file that keeps the scenes (default: scenes.npz beside output)")
    arguments.add_argument("--workers", type=int, default=2, help="processes that render scenes (default: 2)")
    parsed = arguments.parse_args()
    return _pretrain(parsed, read_options(parsed, PretrainOptions, "training"))


def _pretrain(parsed: argparse.Namespace, options: Any) -> int:
    import numpy as np

    from robovlm_ros.grounding import Scenes
    from robovlm_ros.sim.questions import ask, render_scenes, where_phrase
    from robovlm_ros.training.cotraining import export_questions
    from robovlm_ros.training.pretraining import pretrain
    from robovlm_ros.training.reporting import Report
    from robovlm_ros.vlm.checkpoint import save_vlm
    from robovlm_ros.vlm.tiny import TinyVLMConfig, build_model, build_processor

    contract = Contract.load(parsed.contract)
    if contract.simulator != "mujoco":
        raise UserError(f"contract '{contract.name}' names no simulator to render questions in (simulator: mujoco)")
    output: Path = parsed.output or parsed.export
    output.mkdir(parents=True, exist_ok=True)
    camera = contract.cameras[0]
    total = options.scenes + (0 if parsed.export else options.held_out)
    cache = parsed.cache or output.parent / "scenes.npz"

    def progress(done: int, of: int) -> None:
        if done % 5000 < 500 or done == of:
            print(f"pretrain: {done}/{of} scenes", flush=True)

    start = time.monotonic()
    scenes = render_scenes(
        contract, camera.name, total, options.seed,
        pads=options.pads, workers=parsed.workers, cache=cache, progress=progress,
    )  # fmt: skip
    rendering = time.monotonic() - start

    def asker(scenes: Scenes, index: int, rng: np.random.Generator) -> Any:
        return ask(scenes, index, rng, options.questions)

    if parsed.export:
        count = export_questions(output, scenes, asker, options.seed)
        print(f"pretrain: {count} questions about {len(scenes)} scenes in {output}", flush=True)
        return 0

    def part(where: slice) -> Scenes:
        return Scenes(images=scenes.images[where], points=scenes.points[where], labels=scenes.labels)

    size = TinyVLMConfig(image_size=max(camera.width, camera.height))
    processor = build_processor(size)
    model = build_model(size, processor, options.seed)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"pretrain: {parameters:,} parameters, {options.scenes} scenes, {options.steps} steps", flush=True)
    report = Report("pretrain")
    start = time.monotonic()
    figures = pretrain(
        model, processor, part(slice(options.scenes)), part(slice(options.scenes, total)), asker, where_phrase,
        options, report,
    )  # fmt: skip
    save_vlm(output, model, processor)
    report.write(output / "train_log.json")
    numbers = {
        **figures,
        "parameters": parameters,
        "render_seconds": round(rendering, 1),
        "train_seconds": round(time.monotonic() - start, 1),
        "options": dataclasses.asdict(options),
        "camera": camera.name,
        "contract": contract.name,
    }
    (output / "measured.json").write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")
    (output / "README.md").write_text(_card(numbers), encoding="utf-8")
    print(
        f"pretrain: held-out localisation error {figures['error_px_mean']:.2f} px (mean per axis), saved {output}",
        flush=True,
    )
    return 0


def _card(numbers: dict[str, Any]) -> str:
    """The model card, from measured values."""
    options = numbers["options"]
    return f"""---
library_name: transformers
license: apache-2.0
pipeline_tag: image-text-to-text
---
# A tiny vision-language model of the tabletop

An Idefics3 model (the class of SmolVLM) of {numbers["parameters"]:,} parameters with a word-level vocabulary. It
stands in for an internet-scale VLM: it knows how the tabletop looks and what words mean there, and nothing
of actions.

- **Made by** `pretrain` from random weights: {options["steps"]} steps of {options["batch_size"]} images with
  {options["questions"]} questions each, in {numbers["train_seconds"]:.0f} s on one CPU thread.
- **From what truth**: {options["scenes"]} rendered scenes of contract `{numbers["contract"]}`, camera
  `{numbers["camera"]}`; the simulator said where each block and the gripper are{_with_pads(options["pads"])}.
  Losses: answers through the language model's head, and which image token a named thing lies in. No robot action was
  used.
- **How well**: mean error per axis {numbers["error_px_mean"]:.2f} px (median {numbers["error_px_median"]:.2f},
  95 % {numbers["error_px_p95"]:.2f}) on {options["held_out"]} scenes that it never saw, asked "where is the red
  block ?" and alike.
- **Limits**: this renderer, these colours and this camera only; a place is answered in words `<x00>`..`<x31>`
  and `<y00>`..`<y31>`.
"""


def _with_pads(share: float) -> str:
    return f",\n  in {share:.0%} of scenes also where pads are and which block is in the hand" if share else ""


if __name__ == "__main__":
    raise SystemExit(main())
