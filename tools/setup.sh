#!/bin/sh
# Make the virtual environment with pinned packages. Called by `make setup`.
set -eu
PYTHON=${PYTHON:-python3}
VENV=${VENV:-.venv}

"$PYTHON" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' || {
    echo "setup: $("$PYTHON" --version 2>&1) will not do: set PYTHON to a Python 3.10, 3.11, 3.12 or 3.13" >&2
    exit 1
}
if [ ! -x "$VENV/bin/python" ] || ! "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
    echo "setup: making $VENV"
    if ! "$PYTHON" -m venv "$VENV" >/dev/null 2>&1; then
        # Debian and Ubuntu ship Python without ensurepip: virtualenv brings its own.
        echo "setup: this Python has no venv; using virtualenv through pip instead"
        rm -rf "$VENV"
        "$PYTHON" -m pip install -q --target "$VENV-bootstrap" virtualenv
        PYTHONPATH="$VENV-bootstrap" "$PYTHON" -m virtualenv -q "$VENV"
        rm -rf "$VENV-bootstrap"
    fi
fi
echo "setup: installing the pinned packages of requirements.txt (minutes on a slow line)"
"$VENV/bin/python" -m pip install -q --disable-pip-version-check pip==26.3  # older ones get lost in the pins
"$VENV/bin/python" -m pip install -q --disable-pip-version-check -r requirements.txt
# Editable: an edit takes effect at once. "compat" puts this folder on the path, so that a folder of the same name (the
# clone itself, seen from its parent) never takes precedence over the package.
PYTHONWARNINGS=ignore "$VENV/bin/python" -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation \
    -e ros2_lite --config-settings editable_mode=compat -e .
