"""A program of several processes, started by torchrun: small runs, whose losses and weights the first one writes.

``python -m torch.distributed.run ... together.py PLACE RESULTS`` with a JSON file of variants in the place.
"""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

# what pytest does for tests, whose package has the name of one of Python's own
package = types.ModuleType("tests")
package.__path__ = [str(Path(__file__).resolve().parent)]
sys.modules["tests"] = package

from tests.runs import small_run, weights  # noqa: E402

from robovlm_ros.errors import UserError  # noqa: E402
from robovlm_ros.training import processes  # noqa: E402
from robovlm_ros.training.reporting import Report  # noqa: E402
from robovlm_ros.vlm.checkpoint import save_policy  # noqa: E402


def main(place: Path, results: Path) -> None:
    """Run all variants, in every process."""
    found = {}
    for name, variant in json.loads((place / "variants.json").read_text()).items():
        report, resume = Report(name, every=1), variant.pop("resume", False)
        try:
            trained = small_run(place, variant.pop("output", f"{name}_together"), report, resume=resume, **variant)
        except UserError as error:
            found[name] = {"error": processes.everything(str(error))}
            continue
        if trained.weights is not None:  # they are spread over the processes
            found[name] = {"log": report.log, "weights": len(trained.weights)}
            if processes.is_first():
                save_policy(place / name, trained.policy, trained.processor, trained.base, trained.weights)
            continue
        own = {key: float(abs(value).sum()) for key, value in weights(trained).items()}
        found[name] = {
            "log": report.log,
            "weights": own,
            "same": processes.everything(own) == [own] * processes.count(),
        }
    if processes.is_first():
        results.write_text(json.dumps(found))
    processes.wait()
    processes.leave()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
