"""Where installed packages are looked for."""

from __future__ import annotations

import os
import sys

from ament_index_python.constants import AMENT_PREFIX_PATH_ENV_VAR


def get_search_paths() -> list[str]:
    """The existing folders of AMENT_PREFIX_PATH, then the Python environment's own prefix.

    ROS 2 knows the variable only; a package that pip installed has its ``share/<name>`` below the environment.
    """
    paths = [path for path in os.environ.get(AMENT_PREFIX_PATH_ENV_VAR, "").split(os.pathsep) if path]
    return [path for path in dict.fromkeys([*paths, sys.prefix]) if os.path.isdir(path)]
