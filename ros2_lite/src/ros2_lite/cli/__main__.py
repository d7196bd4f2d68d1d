"""`python -m ros2_lite.cli`: the ``ros2`` command of this interpreter, whatever is on PATH."""

import sys

from ros2_lite.cli import main

sys.exit(main())
