"""Descriptions of what processes run."""

from .executable import Executable

__all__ = ["Executable"]
