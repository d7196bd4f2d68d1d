"""What a measurement was taken on: the machine without its name, and versions."""

from __future__ import annotations

import ctypes
import gc
import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "transformers", "numpy", "mujoco")


def machine() -> dict[str, Any]:
    """Processor, cores, memory [GB] and GPU; nothing that tells whose machine it is."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "gpu": gpu,
    }


def versions() -> dict[str, str]:
    """Of Python and of what the figures depend on; without what is not installed."""
    installed = {dist.name.lower().replace("-", "_"): dist.version for dist in importlib.metadata.distributions()}
    named = {name: installed[name] for name in ("robovlm_ros", *PACKAGES) if name in installed}
    return {"python": platform.python_version(), **named}


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("model name"):
            return " ".join(line.partition(":")[2].split())
    return platform.machine()


def available_bytes() -> int | None:
    """Memory that programs can still have; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable")), None)


class Peak:
    """The most memory that this process held at once since the object was made, above what it held then."""

    def __init__(self) -> None:
        gc.collect()
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc: what was freed is no longer held
        if trim is not None:
            trim(0)
        try:
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # see proc(5): resets VmHWM
        except OSError:
            self._before = None
        else:
            self._before = _status("VmRSS")

    def megabytes(self) -> float | None:
        """[MB]; None where the system does not tell."""
        peak = _status("VmHWM")
        return None if self._before is None or peak is None else round((peak - self._before) / 1e6, 1)


def _status(name: str) -> int | None:
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(name + ":")), None)
