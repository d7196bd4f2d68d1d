"""A program of several processes, started by torchrun, that trains with FSDP on CPUs: `together.py`, but for that.

accelerate shards on accelerators alone; here it is told that these processes have one each. Everything else is real:
torch's FSDP2 over gloo.
"""

from __future__ import annotations

import os
import runpy
from pathlib import Path
from typing import Any

import yaml
from accelerate import state
from accelerate.utils import DistributedType

HERE = Path(__file__).resolve().parent
join = state.PartialState.__init__


def join_as_accelerators(self: Any, *arguments: Any, **more: Any) -> None:
    """Join as ever, and call it GPUs."""
    join(self, *arguments, **more)
    if self.distributed_type == DistributedType.MULTI_CPU:
        self.distributed_type = DistributedType.MULTI_GPU


if __name__ == "__main__":
    state.PartialState.__init__ = join_as_accelerators
    shipped = yaml.safe_load((HERE.parent / "config" / "accelerate" / "fsdp_8_gpus.yaml").read_text())
    os.environ["ACCELERATE_USE_FSDP"] = "true"
    for name, value in shipped["fsdp_config"].items():  # as accelerate launch hands them on
        os.environ[name.upper()] = str(value).lower() if isinstance(value, bool) else str(value)
    runpy.run_path(str(HERE / "together.py"), run_name="__main__")
