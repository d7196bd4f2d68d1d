"""A node's place in the graph, and how it is given up: by the node, or because the node is no more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rclpy._entity import Handle, leave_later

if TYPE_CHECKING:
    from rclpy.context import Context


class Membership(Handle):
    """What `Node.handle` is.  As rcl's it goes with its last owner, so a node that nobody destroys leaves too."""

    def __init__(self, context: Context, name: str, namespace: str) -> None:
        super().__init__(self._leave)
        self._name, self._namespace = name, namespace
        self.graph = context._join()
        self._context = context
        self.entry = self.graph.add_node(name, namespace)

    @property
    def name(self) -> str:
        return self._name

    @property
    def namespace(self) -> str:
        return self._namespace

    @property
    def fully_qualified_name(self) -> str:
        return f"{self._namespace.rstrip('/')}/{self._name}"

    def _leave(self) -> None:
        self.graph.remove_node(self.entry)
        self._context._release()

    def __del__(self) -> None:
        if not self._gone and hasattr(self, "entry"):
            self._gone = True
            leave_later(self._leave)
