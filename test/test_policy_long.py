"""The policy node over a long time: many instructions, flat memory."""

from __future__ import annotations

import random
import resource
import time
from pathlib import Path
from typing import Any

import pytest
from std_msgs.msg import String

from .test_policy_node import World, make_checkpoint

WORDS = ("reach", "the", "red", "blue", "green", "block", "slowly", "then", "wait", "beside", "it", "übrigens", "…")
CHANGES, SETTLED = 1000, 300


def memory_mb() -> float:
    """Memory that this process holds now [MB]."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


@pytest.mark.slow
def test_a_thousand_instructions_of_varying_length_are_each_used_by_the_next_inference_in_flat_memory(
    domain_id: int, tmp_path: Path
) -> None:
    world = World({"checkpoint": str(make_checkpoint(tmp_path / "policy"))})
    try:
        robot, node = world.robot, world.start_policy()
        run = node.policy
        assert run is not None
        used: list[tuple[int, str]] = []  # (stamp of the observation [ns], its instruction, which was asked for later)
        infer = run.engine.infer

        def remember(observation: Any, **more: Any) -> Any:
            used.append((observation.stamp_ns, observation.instruction))
            return infer(observation, **more)

        run.engine.infer = remember  # type: ignore[method-assign]
        robot.create_timer(0.01, lambda: robot.observe(robot.get_clock().now().nanoseconds))
        rng, settled_mb = random.Random(0), 0.0
        for i in range(CHANGES):
            said = f"{i} " + " ".join(rng.choices(WORDS, k=rng.randint(1, 60)))
            robot.volatile.publish(String(data=said))
            world.wait(lambda said=said: run.controller.instruction == said, "the instruction")  # type: ignore[misc]
            heard_ns = time.time_ns()
            world.wait(lambda since_ns=heard_ns: bool(used) and used[-1][0] > since_ns, "an inference")  # type: ignore[misc]
            following = [text for stamp_ns, text in used if stamp_ns > heard_ns]
            assert following[0] == said
            used.clear()
            if i == SETTLED:
                settled_mb = memory_mb()
        assert memory_mb() - settled_mb < 20.0
        assert node.failure is None
    finally:
        world.close()
