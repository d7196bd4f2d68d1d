"""The model card of a policy, written from measured values."""

from __future__ import annotations

import dataclasses
import textwrap
from typing import Any

from robovlm_ros.checkpoints import Base
from robovlm_ros.training.switches import Switches
from robovlm_ros.vlm.processor import ActionTokenProcessor


def policy_card(processor: ActionTokenProcessor, figures: dict[str, Any], base: Base | None = None) -> str:
    """Markdown with the hub's front matter; ``base`` is what a folder of adapters rests on."""
    config, contract, options = processor.config, processor.contract, figures["options"]
    rows = "\n".join(f"| {row['part']} | {row['parameters']:,} | {row['trained']:,} |" for row in figures["trainable"])
    units = ", ".join(
        f"{dim.name} [{dim.unit}{', binary' if dim.kind == 'binary' else ''}]"
        + (f" relative to {relation}" if relation else "")
        for dim, relation in zip(contract.action_dims, contract.relations, strict=True)
    )
    error = figures["validation_error"]
    measured = "not measured: no episode was kept aside" if error is None else f"{error:.4f} in the actions' own units"
    names = [field.name for field in dataclasses.fields(Switches) if field.name in options]
    switches = ", ".join(f"`{name}` {_word(options[name])}" for name in names)
    holds = "The folder is complete: weights, configuration, contract, processor and normalisation statistics."
    if base is not None:
        holds = (
            f"The folder holds what was learned, and rests on the weights of `{figures['base']}` (SHA-256\n"
            f"`{base.sha256}`). `convert merge` makes a complete folder."
        )
    return f"""---
library_name: transformers
license: apache-2.0
pipeline_tag: robotics
---
# Action-token policy for `{contract.name}`

- **Made by** `finetune` from the vision-language model `{figures["base"]}`: {figures["steps"]} steps of
  {options["batch_size"]} observations in {figures["train_seconds"]:.0f} s, seed {options["seed"]}.
- **From what**: {figures["episodes"]} recorded episodes ({figures["observations"]} observations): images, state,
  instruction and the commands that were sent. This stage uses no other truth.
- **Sees**: cameras {", ".join(processor.cameras)}; state {", ".join(config.state or ()) or "none"}; the instruction.
- **Decides**: {config.chunk_size} steps of {contract.step_ns / 1e9:g} s at once: {units}.
- **Error on {figures["validation_episodes"]} episodes it never saw**: {measured} (mean absolute, continuous actions).
  A small error does not promise success: run `evaluate`.

{textwrap.fill(f"What learned, with {switches}:", 118)}

| part | parameters | trained |
|---|---|---|
{rows}

{holds}

```python
from robovlm_ros.vlm.checkpoint import load_policy

policy, processor = load_policy("THIS FOLDER, OR ITS NAME IN THE HUB")
```
"""


def _word(value: Any) -> str:
    return (" ".join(map(str, value)) or "all") if isinstance(value, (list, tuple)) else str(value)
