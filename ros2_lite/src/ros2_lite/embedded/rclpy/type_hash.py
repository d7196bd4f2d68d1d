"""Hashes of interface types (REP-2016)."""

from __future__ import annotations

_SIZE = 32


class TypeHash:
    """A version and 32 bytes; as text ``RIHS01_`` and 64 hexadecimal digits."""

    __slots__ = ["_value", "_version"]

    def __init__(self, version: int = -1, value: bytes = bytes(_SIZE)) -> None:
        self.version = version
        self.value = value

    @classmethod
    def _from_text(cls, text: str) -> TypeHash:
        """From ``RIHS01_...``; the invalid hash for anything else."""
        prefix, _, digits = text.partition("_")
        try:
            return cls(int(prefix.removeprefix("RIHS")), bytes.fromhex(digits))
        except ValueError:
            return cls()

    @property
    def version(self) -> int:
        return self._version

    @version.setter
    def version(self, value: int) -> None:
        assert isinstance(value, int)
        self._version = value

    @property
    def value(self) -> bytes:
        return self._value

    @value.setter
    def value(self, value: bytes) -> None:
        assert isinstance(value, bytes)
        self._value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TypeHash) and (self._version, self._value) == (other._version, other._value)

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        if self._version <= 0 or len(self._value) != _SIZE:
            return "INVALID"
        return f"RIHS{self._version:02}_{self._value.hex()}"
