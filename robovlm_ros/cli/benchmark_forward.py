"""``benchmark forward``: one control step, against the plain forward of transformers and against the machine."""

from __future__ import annotations

import argparse
import functools
import itertools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robovlm_ros.checkpoints import find_checkpoint
from robovlm_ros.cli.command import Commands, HelpFormatter, needs_matplotlib, write_json
from robovlm_ros.contract import Contract
from robovlm_ros.errors import UserError

if TYPE_CHECKING:
    import torch

    from robovlm_ros.vlm.policy import ActionTokenPolicy
    from robovlm_ros.vlm.processor import ActionTokenProcessor

SMALL = 50e6
"""Parameters up to which one thread is fastest: threads that wait for each other cost more than they do."""
COPIES = 2.2
"""Memory that a step may take, as a multiple of the weights: the engine may keep merged ones of its own."""
KEYS = (
    "fast_p50_ms", "fast_p99_ms", "eager_p50_ms", "compiled_p50_ms", "speedup", "floor_ms", "share_of_floor", "stages",
)  # fmt: skip
"""What the first row is summed up in, at the top of the JSON."""


def add_command(commands: Commands) -> None:
    """Add ``forward`` to the things that `benchmark` measures."""
    forward = commands.add_parser(
        "forward",
        help="one control step: the engine, plain transformers, that compiled, and the machine's floor",
        description="Measures the engine's step (fast) in turns with the plain forward of transformers (eager: the "
        "backbone's own processor on each frame, attention written out, hidden states of all layers, scores of all "
        "words) and with torch.compile of that. Backbones have their true size and random weights. The floor is the "
        "larger of operations / matrix rate and bytes of weights / bandwidth, both rates measured in the same run; "
        "share is floor / fast. The engine's actions must be those of the plain forward. Each of --backbone, "
        "--cameras, --head and --history may name several: all combinations are measured.",
        formatter_class=HelpFormatter,
    )
    forward.add_argument("--backbone", nargs="+", default=["tabletop"], metavar="SHAPE", help="see the error for all")
    forward.add_argument("--policy", metavar="CHECKPOINT", help="measure this checkpoint instead of a shape")
    forward.add_argument("--cameras", type=int, nargs="+", default=[1], help="number of cameras")
    forward.add_argument("--head", nargs="+", default=["mlp"], help="policy head")
    forward.add_argument("--history", nargs="+", default=["one_step"], help="one_step, policy_head or interleaved")
    forward.add_argument("--window", type=int, default=8, help="observations of a history [steps]")
    forward.add_argument("--width", type=int, default=640, help="of a camera's image [px]")
    forward.add_argument("--height", type=int, default=480, help="of a camera's image [px]")
    forward.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    forward.add_argument(
        "--dtype",
        default="auto",
        help="float32 or bfloat16; auto: bfloat16 on a GPU, else float32 (a checkpoint's own)",
    )
    forward.add_argument("--threads", type=int, default=0, help="PyTorch's; 0: one for small models, else all cores")
    forward.add_argument(
        "--fast", default="auto", help="what is fast in the engine, as the policy node's parameter says"
    )
    forward.add_argument("--seconds", type=float, default=20.0, help="duration of each combination [s]")
    forward.add_argument("--no-compile", action="store_true", help="leave torch.compile out: it can take minutes")
    forward.add_argument("--plot", type=Path, metavar="FILE", help="draw the stages (.png, .svg, .pdf)")
    forward.add_argument("--json", type=Path, metavar="FILE", help="write figures and raw samples there, as JSON")
    forward.set_defaults(command=_forward)


def _forward(options: argparse.Namespace) -> int:
    from robovlm_ros.cli.forward_report import plot, table

    _check(options)
    if options.plot:
        needs_matplotlib()
    rows: list[dict[str, Any]] = []
    combinations: list[tuple[Any, ...]] = [(options.policy, 0, "", "")]
    if options.policy is None:
        combinations = list(itertools.product(options.backbone, options.cameras, options.head, options.history))
    for combination in combinations:
        row = _tried(options, combination, alone=len(combinations) == 1)
        rows += [] if row is None else [row]
    if not rows:
        raise UserError("none of the combinations can be measured; the reasons are above")
    print(table(rows))
    if options.plot:
        plot(rows, options.plot)
    if options.json:
        from robovlm_ros.cli.machine import machine, versions

        first = {key: rows[0][key] for key in KEYS}
        write_json(options.json, {**first, "machine": machine(), "versions": versions(), "rows": rows})
    return 0


def _check(options: argparse.Namespace) -> None:
    for name in ("width", "height", "window"):
        if getattr(options, name) < 1:
            raise UserError(f"--{name} must be at least 1, not {getattr(options, name)}")
    if not options.seconds > 0:
        raise UserError(f"--seconds must be above 0, not {options.seconds:g}")
    if options.threads < 0 or min(options.cameras) < 1:
        raise UserError("--threads must be at least 0 and --cameras at least 1")
    if options.dtype not in ("auto", "float32", "bfloat16"):
        raise UserError(f"--dtype '{options.dtype}' is not one of: auto, float32, bfloat16")


def _tried(options: argparse.Namespace, combination: tuple[Any, ...], *, alone: bool) -> dict[str, Any] | None:
    """The row of a combination; None after a line where it cannot be, and there are others."""
    try:
        return _row(options, *combination)
    except UserError as error:
        if alone:
            raise
        print(f"left out: {', '.join(map(str, combination))}: {error}", flush=True)
        return None


def _row(options: argparse.Namespace, backbone: str, cameras: int, head: str, history: str) -> dict[str, Any]:
    import torch

    from robovlm_ros.cli.forward import measure
    from robovlm_ros.runtime.costs import measure_ceilings
    from robovlm_ros.runtime.engine import PolicyEngine
    from robovlm_ros.runtime.starting import fast_parts
    from robovlm_ros.vlm.checkpoint import load_policy, resolve_device

    fast_parts(options.fast)  # what is wrong with it is said before anything is made
    device = resolve_device(options.device)
    if options.policy is None:
        policy, processor = _shaped(options, backbone, cameras, head, history, device)
    else:
        policy, processor = load_policy(find_checkpoint(options.policy), str(device), options.dtype)
    config, camera = processor.config, processor.contract.camera(processor.cameras[0])
    small = sum(weight.numel() for weight in policy.parameters()) < SMALL
    threads = options.threads or (1 if small else os.cpu_count() or 1)
    torch.set_num_threads(threads)
    ceilings = measure_ceilings(device, policy.dtype)
    configuration = {
        "backbone": Path(options.policy).name if options.policy else backbone,
        "cameras": len(processor.cameras),
        "head": (config.head or {}).get("type", "mlp"),
        "history": config.history,
        "window": config.window,
        "dtype": str(policy.dtype).removeprefix("torch."),
        "device": device.type,
        "threads": threads,
        "fast": options.fast,
        "image": [camera.width, camera.height],
    }
    make = functools.partial(PolicyEngine, fast=options.fast)
    print(f"measuring {', '.join(f'{key} {value}' for key, value in configuration.items())}", flush=True)
    row = measure(policy, processor, ceilings, options.seconds, compiled=not options.no_compile, make_engine=make)
    return {
        **configuration,
        **row,
        "ceilings": {"gb_per_s": ceilings.bytes_per_s / 1e9, "gflop_per_s": ceilings.flops_per_s / 1e9},
    }


def _shaped(
    options: argparse.Namespace, backbone: str, cameras: int, head: str, history: str, device: torch.device
) -> tuple[ActionTokenPolicy, ActionTokenProcessor]:
    import torch

    from robovlm_ros.cli.machine import available_bytes
    from robovlm_ros.vlm.shapes import make_policy, make_vlm

    name = options.dtype if options.dtype != "auto" else "bfloat16" if device.type == "cuda" else "float32"
    dtype: torch.dtype = getattr(torch, name)
    model, _ = make_vlm(backbone, dtype, "meta")
    needed = COPIES * sum(weight.numel() * weight.element_size() for weight in model.parameters())
    left = available_bytes() if device.type == "cpu" else torch.cuda.mem_get_info(device)[0]
    if left is not None and needed > left:
        raise UserError(
            f"'{backbone}' in {name} may need {needed / 1e9:.1f} GB, and {left / 1e9:.1f} GB are left: choose a "
            "smaller backbone, or --dtype bfloat16"
        )
    return make_policy(
        backbone,
        with_cameras(Contract.load("tabletop"), cameras, options.width, options.height),
        head=head,
        history=history,
        window=1 if history == "one_step" else options.window,
        dtype=dtype,
        device=device,
    )


def with_cameras(contract: Contract, count: int, width: int, height: int) -> Contract:
    """The contract with so many cameras of that size [px]."""
    values = contract.to_dict()
    one = {**values["cameras"][0], "width": width, "height": height}
    values["cameras"] = [
        {**one, "name": f"camera_{number}", "topic": f"/camera_{number}/image_raw"} for number in range(count)
    ]
    return Contract.from_dict(values)
