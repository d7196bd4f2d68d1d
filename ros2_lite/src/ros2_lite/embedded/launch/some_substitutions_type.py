"""What may be given wherever text is expected: text, a path, a substitution, or several to concatenate."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from .substitution import Substitution

SomeSubstitutionsType = str | Path | Substitution | Iterable[str | Path | Substitution]

# For isinstance checks.
SomeSubstitutionsType_types_tuple = (str, Path, Substitution, Iterable)
