"""A function of tensors as the list of the operations that it came down to: recorded once, then replayed.

What does not depend on the inputs is computed while recording, and what is left has no Python of the model's own in
it: no masks made anew, no checks, no output classes. Such a program can be captured in a CUDA graph as it is, for
nothing in it waits for a number.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx
from torch.utils._python_dispatch import TorchDispatchMode

_aten = torch.ops.aten
_ASKING = {
    _aten._local_scalar_dense.default,
    _aten.is_nonzero.default,
    _aten.equal.default,
    _aten.nonzero.default,
    _aten.masked_select.default,
    _aten._unique2.default,
}
"""Operations whose result decides what Python does next, or how large a tensor becomes."""
_INDEXING = {_aten.index.Tensor, _aten.index_put.default, _aten.index_put_.default, _aten._unsafe_index.Tensor}
_LINEAR = {_aten.addmm.default: (0, 1, 2), _aten.mm.default: (None, 0, 1)}
"""Matrix product → places of its bias, its input and its weight (K, N) among its arguments."""


_VIEWS = {_aten.view.default, _aten._unsafe_view.default}
_DIRECT: dict[str, Callable[..., Any]] = {
    "gelu": torch.nn.functional.gelu,
    **{
        name: getattr(torch, name)
        for name in (
            "add", "addmm", "clone", "convolution", "mm", "mul", "native_layer_norm", "permute", "split_with_sizes",
            "transpose",
        )
    },
}  # fmt: skip
"""Operations that a binding of their own calls with less ado."""


class NotRecordableError(Exception):
    """Why a function cannot be replayed."""


class Tape:
    """A recorded function: call it with tensors of the shapes that it was recorded with."""

    def __init__(self, module: fx.GraphModule) -> None:
        self.module = module
        self.run: Callable[..., torch.Tensor] = module.forward

    def __call__(self, *inputs: torch.Tensor) -> torch.Tensor:
        """What the function gives for these inputs."""
        return self.run(*inputs)

    @property
    def operations(self) -> list[str]:
        """Names of its operations, in their order."""
        return [str(node.target) for node in self.module.graph.nodes if node.op == "call_function"]


def record(function: Callable[..., torch.Tensor], *inputs: torch.Tensor) -> Tape:
    """The tape of a function that gives one tensor; NotRecordableError when what it does depends on values.

    Projections of the same input become one. The result shares weights with the function wherever it can.
    """
    recorder = _Recorder(inputs)
    with recorder:
        out = function(*inputs)
    if not isinstance(out, torch.Tensor) or id(out) not in recorder.known:
        raise NotRecordableError("what it gives does not depend on its inputs")
    recorder.graph.output(recorder.known[id(out)])
    module = fx.GraphModule(recorder.root, recorder.graph)
    _join_views(module.graph)
    _merge_projections(module)
    _call_directly(module.graph)
    module.graph.eliminate_dead_code()
    module.recompile()
    for name in list(module._buffers):  # a plain attribute is found faster than a buffer
        module.__dict__[name] = module._buffers.pop(name)
    return Tape(module)


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes each operation on what depends on the inputs, and lets the rest pass."""

    def __init__(self, inputs: Sequence[torch.Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.root, self.graph = torch.nn.Module(), fx.Graph()
        self.known = {id(item): self.graph.placeholder(f"input_{i}") for i, item in enumerate(inputs)}
        self.alive: list[Any] = [inputs]  # an id stays that of one tensor as long as the tensor lives
        self.constants: dict[int, fx.Node] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        depends: list[bool] = []
        fx.node.map_aggregate((args, kwargs), lambda item: depends.append(id(item) in self.known))
        if not any(depends):
            out = func(*args, **kwargs)
            self.alive.append(out)
            return out
        if func in _ASKING:
            raise NotRecordableError(f"{func} asks for a value")
        for item, value in zip(func._schema.arguments, args, strict=False):
            written = item.alias_info is not None and item.alias_info.is_write
            if written and isinstance(value, torch.Tensor) and id(value) not in self.known:
                raise NotRecordableError(f"{func} writes into what does not depend on the inputs")
        if func in _INDEXING:
            args = (args[0], self._places(args[1]), *args[2:])
        node = self.graph.call_function(
            func, fx.node.map_aggregate(args, self._noted), fx.node.map_aggregate(kwargs, self._noted)
        )
        out = func(*args, **kwargs)
        self.alive.append(out)
        for index, item in enumerate(out if isinstance(out, (tuple, list)) else ()):
            if isinstance(item, torch.Tensor):
                self.known[id(item)] = self.graph.call_function(operator.getitem, (node, index))
        if isinstance(out, torch.Tensor):
            self.known[id(out)] = node
            node.meta["shape"] = list(out.shape)
        return out

    def _noted(self, item: Any) -> Any:
        """The node of a tensor; anything else as it is."""
        if not isinstance(item, torch.Tensor):
            return item
        if id(item) in self.known:
            return self.known[id(item)]
        if id(item) not in self.constants:
            name = f"constant_{len(self.constants)}"
            self.root.register_buffer(name, item.detach(), persistent=False)
            self.alive.append(item)
            with torch.utils._python_dispatch._disable_current_modes():
                self.constants[id(item)] = self.graph.get_attr(name)
        return self.constants[id(item)]

    def _places(self, index: Sequence[Any]) -> list[Any]:
        """Indices with masks as the places where they are true: how many these are is known once and for all."""
        places: list[Any] = []
        for item in index:
            if isinstance(item, torch.Tensor) and item.dtype in (torch.bool, torch.uint8):
                if id(item) in self.known:
                    raise NotRecordableError("a mask that depends on the inputs decides the size of a tensor")
                with torch.utils._python_dispatch._disable_current_modes():
                    found = list(item.nonzero(as_tuple=True))
                self.alive.append(found)
                places += found
            else:
                places.append(item)
        return places


def _join_views(graph: fx.Graph) -> None:
    """Of views of views only the last, and each of them once."""
    known: dict[tuple[Any, ...], Any] = {}
    nodes: Any = graph.nodes
    for node in nodes:
        if node.op != "call_function" or node.target not in _VIEWS:
            continue
        source, shape = node.args[0], node.meta["shape"]
        if source.op == "call_function" and source.target in _VIEWS:
            source = source.args[0]
        node.target, node.args = _aten.view.default, (source, shape)
        first = known.setdefault((source, *shape), node)
        if source.meta.get("shape") == shape:
            node.replace_all_uses_with(source)
        elif first is not node:
            node.replace_all_uses_with(first)


def _call_directly(graph: fx.Graph) -> None:
    """Views as methods, and common operations by their bindings."""
    nodes: Any = list(graph.nodes)
    for node in nodes:
        if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
            continue
        name = node.target._schema.name.split("::")[1]
        if node.target in _VIEWS:
            with graph.inserting_before(node):
                node.replace_all_uses_with(graph.call_method("view", (node.args[0], *node.args[1])))
        elif name in _DIRECT:
            node.target = _DIRECT[name]


def _merge_projections(module: Any) -> None:
    """One matrix product for all those of the same input, such as queries, keys and values."""
    groups: dict[tuple[Any, ...], list[Any]] = {}
    for node in module.graph.nodes:
        if node.op != "call_function" or node.target not in _LINEAR or node.kwargs:
            continue
        bias, place, weight = _LINEAR[node.target]
        fixed = [node.args[weight]] + ([] if bias is None else [node.args[bias]])
        if all(isinstance(item, fx.Node) and item.op == "get_attr" for item in fixed):
            groups.setdefault((node.target, node.args[place]), []).append(node)
    for (target, source), nodes in groups.items():
        bias, _, weight = _LINEAR[target]
        weights = [getattr(module, str(node.args[weight].target)) for node in nodes]
        biases = [] if bias is None else [getattr(module, str(node.args[bias].target)) for node in nodes]
        if len(nodes) < 2 or any(item.ndim != 1 for item in biases):
            continue
        name = f"merged_{nodes[0].name}"
        module.register_buffer(name, torch.cat([item.t() for item in weights]).t(), persistent=False)
        if biases:
            module.register_buffer(f"{name}_bias", torch.cat(biases), persistent=False)
        with module.graph.inserting_before(nodes[0]):
            parts = [module.graph.get_attr(f"{name}_bias")] if biases else []
            joined = module.graph.call_function(target, (*parts, source, module.graph.get_attr(name)))
            split = module.graph.call_function(
                _aten.split_with_sizes.default, (joined, [item.shape[1] for item in weights], 1)
            )
            for index, node in enumerate(nodes):
                node.replace_all_uses_with(module.graph.call_function(operator.getitem, (split, index)))
