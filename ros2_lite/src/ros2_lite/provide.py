"""Module specs of the embedded names: files for code packages, modules made on demand for interface packages."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.abc import Loader
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from ros2_lite.messages import registry
from ros2_lite.messages.spec import InterfaceError
from ros2_lite.select import CODE_PACKAGES

EMBEDDED = Path(__file__).resolve().parent / "embedded"
_KINDS = ("msg", "srv", "action")


def find_spec(top: str, rest: str, fullname: str) -> ModuleSpec | None:
    """The spec of an embedded module; None where ROS 2 would have none either."""
    if top in CODE_PACKAGES:
        # Submodules are found through their package's __path__ by the ordinary finders.
        return None if rest else PathFinder.find_spec(top, [str(EMBEDDED)])
    if not rest:
        return ModuleSpec(fullname, _InterfaceLoader(top, ""), is_package=True)
    if rest in _KINDS and registry.names(top, rest):
        return ModuleSpec(fullname, _InterfaceLoader(top, rest), is_package=True)
    return None


class _InterfaceLoader(Loader):
    """Makes ``package``, ``package.msg``, ``.srv`` and ``.action``, whose classes appear when they are asked for."""

    def __init__(self, package: str, kind: str) -> None:
        self._package = package
        self._kind = kind

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        module.__path__ = []
        if not self._kind:
            return
        package, kind = self._package, self._kind
        known: Sequence[str] = registry.names(package, kind)

        def get(name: str) -> Any:
            # Here and not above: `ros2 launch` finds its modules through this one, and needs no NumPy.
            from ros2_lite.messages.classes import action_class, message_class, service_class

            if name not in known:
                # Services' halves are importable too, as std_srvs.srv.Trigger_Request is in ROS 2.
                stem, _, side = name.rpartition("_")
                if kind == "action":
                    stem, _, service = stem.rpartition("_")
                    stem = stem if service in ("SendGoal", "GetResult") else ""
                if kind != "msg" and side in ("Request", "Response", "Event") and stem in known:
                    return message_class(f"{package}/{kind}/{name}")
                raise AttributeError(f"module '{package}.{kind}' has no attribute '{name}'")
            try:
                if kind == "msg":
                    found = message_class(f"{package}/msg/{name}")
                else:
                    found = (service_class if kind == "srv" else action_class)(package, name)
            except InterfaceError as error:
                raise ImportError(str(error)) from error
            setattr(module, name, found)
            return found

        module.__getattr__ = get  # type: ignore[method-assign]
        module.__all__ = list(known)  # type: ignore[attr-defined]
        module.__dir__ = lambda: list(known)  # type: ignore[method-assign]
