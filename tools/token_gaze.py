"""How often a tabletop policy's action token looks at the block that the instruction names.

``python tools/token_gaze.py --checkpoint checkpoints/tabletop --json FILE`` sets up scenes that no training saw, names
each of their blocks in turn, and asks for each layer, and for the rollout through all of them, whether the image token
that gets most attention is the one that shows this block. The truth is the simulator's.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from robovlm_ros.cli.command import parser, print_rows, run, write_json
from robovlm_ros.cli.evaluate import wilson
from robovlm_ros.cli.inspect_attention import look_at
from robovlm_ros.observation import Observation
from robovlm_ros.runtime.engine import PolicyEngine
from robovlm_ros.sim.world import Tabletop
from robovlm_ros.vlm.attention import image_grids

FIRST_SEED = 5_000_000
"""Of the scenes; those of demonstrations and evaluations begin elsewhere."""


def gaze(checkpoint: Path, scenes: int) -> dict[str, list[bool]]:
    """View → whether its brightest image token showed the named block, for each block of each scene."""
    engine = PolicyEngine.load(checkpoint)
    camera, contract = engine.cameras[0], engine.contract
    world = Tabletop(contract)
    size = np.array([contract.camera(camera).width, contract.camera(camera).height])
    found: dict[str, list[bool]] = {}
    for seed in range(FIRST_SEED, FIRST_SEED + scenes):
        world.reset(seed)
        measured = world.measured()
        image = world.render(camera)
        state = np.array([measured[name.split(".")[1]] for name in contract.state_names], np.float32)
        images = {name: image if name == camera else world.render(name) for name in engine.cameras}
        for block in world.blocks:
            x, y = world.project(camera, block.position[None])[0] / size
            seen = Observation(stamp_ns=0, images=images, state=state, instruction=f"go to the {block.colour} block")
            grid = image_grids(
                engine.policy,
                engine.processor.backbone,
                engine.processor(seen),
                [images[c].shape for c in engine.cameras],
            )[0]
            left, top, right, bottom = grid.box
            own = (int((y - top) / (bottom - top) * grid.rows), int((x - left) / (right - left) * grid.columns))
            look = look_at(engine, seen)
            for name, view in look.views.items():
                weights = look.attention.maps(view, [grid])[0][0]  # (rows, columns)
                found.setdefault(name, []).append(divmod(int(weights.argmax()), grid.columns) == own)
    return found


def main() -> int:
    """Measure and print."""
    top = parser("token_gaze", __doc__)
    top.add_argument("--checkpoint", type=Path, required=True, help="folder of a tabletop policy")
    top.add_argument("--scenes", type=int, default=100, help="scenes, each with three blocks")
    top.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    options: argparse.Namespace = top.parse_args()
    return run(lambda: _report(options))


def _report(options: argparse.Namespace) -> None:
    rows = [["", "looks", "at the named block", "95 % interval"]]
    values = {}
    for name, hits in gaze(options.checkpoint, options.scenes).items():
        low, high = wilson(sum(hits), len(hits))
        values[name] = {
            "looks": len(hits),
            "hits": sum(hits),
            "rate": sum(hits) / len(hits),
            "interval_95": [low, high],
        }
        rows.append([name, str(len(hits)), f"{np.mean(hits):.0%}", f"{low:.0%} to {high:.0%}"])
    print_rows(rows, left=(0,))
    write_json(options.json, {"checkpoint": str(options.checkpoint), "scenes": options.scenes, "views": values})


if __name__ == "__main__":
    sys.exit(main())
