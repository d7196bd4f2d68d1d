"""The value of a small Python expression, evaluated without ``eval``.

Launch files and command lines put text into these expressions, so only what conditions and simple
arithmetic need is understood: literals, operators, comparisons, ``x if c else y``, subscripts, a few
built-in functions, the methods of text that change or test it, and public names of the given modules.
"""

from __future__ import annotations

import ast
import importlib
import operator
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

from ..launch_context import LaunchContext
from ..some_substitutions_type import SomeSubstitutionsType
from ..substitution import Substitution
from ..utilities import normalize_to_list_of_substitutions, perform_substitutions
from .substitution_failure import SubstitutionFailure
from .values import describe_all

_FUNCTIONS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        abs, all, any, bool, dict, divmod, float, int, len, list, max, min, pow, range, repr, round,
        set, sorted, str, sum, tuple,
    )
}  # fmt: skip
_TEXT_METHODS = frozenset(
    name
    for names in (
        "capitalize count endswith find index isalnum isalpha isdigit islower isnumeric isspace isupper",
        "join lower lstrip removeprefix removesuffix replace rfind rsplit rstrip split splitlines",
        "startswith strip title upper zfill get keys values items",
    )
    for name in names.split()
)
_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
}
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.Not: operator.not_,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Invert: operator.invert,
}
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
}


class _Evaluator:
    """Walks the tree of one expression."""

    def __init__(self, modules: dict[str, Any], names: dict[str, Any]) -> None:
        self._modules = modules
        self._names = names

    def __call__(self, node: ast.AST) -> Any:
        method = getattr(self, f"_{type(node).__name__.lower()}", None)
        if method is None:
            raise ValueError(f"{type(node).__name__} is not allowed here")
        return method(node)

    def _expression(self, node: ast.Expression) -> Any:
        return self(node.body)

    def _constant(self, node: ast.Constant) -> Any:
        return node.value

    def _list(self, node: ast.List) -> Any:
        return [self(item) for item in node.elts]

    def _tuple(self, node: ast.Tuple) -> Any:
        return tuple(self(item) for item in node.elts)

    def _set(self, node: ast.Set) -> Any:
        return {self(item) for item in node.elts}

    def _dict(self, node: ast.Dict) -> Any:
        if None in node.keys:
            raise ValueError("** is not allowed here")
        return {self(k): self(v) for k, v in zip(node.keys, node.values, strict=False) if k is not None}

    def _name(self, node: ast.Name) -> Any:
        for names in (self._names, self._modules, _FUNCTIONS):
            if node.id in names:
                return names[node.id]
        known = sorted({*self._names, *self._modules, *_FUNCTIONS})
        raise NameError(f"name '{node.id}' is not known (text needs quotes around it); known are {', '.join(known)}")

    def _attribute(self, node: ast.Attribute) -> Any:
        value = self(node.value)
        if isinstance(value, ModuleType):  # one that the launch file named, or one inside it
            if node.attr.startswith("_"):
                raise ValueError(f"'{node.attr}' is private")
            return getattr(value, node.attr)
        if isinstance(value, (str, dict, list, tuple)) and node.attr in _TEXT_METHODS:
            return getattr(value, node.attr)
        raise ValueError(f"the attribute '{node.attr}' is not allowed here")

    def _call(self, node: ast.Call) -> Any:
        if any(isinstance(arg, ast.Starred) for arg in node.args) or any(
            keyword.arg is None for keyword in node.keywords
        ):
            raise ValueError("* and ** are not allowed here")
        function = self(node.func)
        args = [self(arg) for arg in node.args]
        if function is pow:
            _check_power(args[-1])
        return function(*args, **{str(k.arg): self(k.value) for k in node.keywords})

    def _boolop(self, node: ast.BoolOp) -> Any:
        value: Any = None
        for item in node.values:
            value = self(item)
            if bool(value) is isinstance(node.op, ast.Or):
                return value
        return value

    def _binop(self, node: ast.BinOp) -> Any:
        if type(node.op) not in _BINARY:
            raise ValueError(f"{type(node.op).__name__} is not allowed here")
        left, right = self(node.left), self(node.right)
        if isinstance(node.op, ast.Pow):
            _check_power(right)
        return _BINARY[type(node.op)](left, right)

    def _unaryop(self, node: ast.UnaryOp) -> Any:
        return _UNARY[type(node.op)](self(node.operand))

    def _compare(self, node: ast.Compare) -> Any:
        left = self(node.left)
        for comparison, comparator in zip(node.ops, node.comparators, strict=False):
            right = self(comparator)
            if not _COMPARE[type(comparison)](left, right):
                return False
            left = right
        return True

    def _ifexp(self, node: ast.IfExp) -> Any:
        return self(node.body) if self(node.test) else self(node.orelse)

    def _subscript(self, node: ast.Subscript) -> Any:
        return self(node.value)[self(node.slice)]

    def _slice(self, node: ast.Slice) -> Any:
        return slice(*(None if part is None else self(part) for part in (node.lower, node.upper, node.step)))


class UnknownNameError(SubstitutionFailure, NameError):
    """A name that the expression may not use, or text without quotes."""


def _check_power(exponent: Any) -> None:
    """Refuse exponents that would keep the launch busy for ever."""
    if isinstance(exponent, (int, float)) and abs(exponent) > 1000:
        raise ValueError(f"the exponent {exponent} is above 1000")


class PythonExpression(Substitution):
    """The text of the value of a Python expression, which may itself be made of substitutions."""

    def __init__(
        self, expression: SomeSubstitutionsType, python_modules: Iterable[SomeSubstitutionsType] = ("math",)
    ) -> None:
        self.__expression = normalize_to_list_of_substitutions(expression)
        modules = [python_modules] if isinstance(python_modules, str) else python_modules
        self.__modules = [normalize_to_list_of_substitutions(module) for module in modules]

    @property
    def expression(self) -> list[Substitution]:
        """The parts of the expression."""
        return self.__expression

    def describe(self) -> str:
        modules = ", ".join(describe_all(module) for module in self.__modules)
        return f"PythonExpr({describe_all(self.__expression)}, [{modules}])"

    def perform(self, context: LaunchContext) -> str:
        text = perform_substitutions(context, self.__expression)
        modules = {}
        for parts in self.__modules:
            name = perform_substitutions(context, parts)
            try:
                modules[name] = importlib.import_module(name)
            except ImportError as error:
                raise SubstitutionFailure(f"the module '{name}' of the expression '{text}': {error}") from error
        # As in the original, `pi` and `math.pi` are both understood; a launch file may write true as well.
        names = {"true": True, "false": False}
        if "math" in modules:
            math = modules["math"]
            names = {**{n: getattr(math, n) for n in dir(math) if not n.startswith("_")}, **names}
            names.pop("pow", None)
        try:
            return str(_Evaluator(modules, names)(ast.parse(text.strip(), mode="eval")))
        except SyntaxError as error:
            raise SubstitutionFailure(f"the expression '{text}' is not Python: {error.msg}") from None
        except NameError as error:
            raise UnknownNameError(f"the expression '{text}' cannot be evaluated: {error}") from None
        except Exception as error:
            raise SubstitutionFailure(f"the expression '{text}' cannot be evaluated: {error}") from error
