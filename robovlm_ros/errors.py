"""The one exception for what a user can put right."""

from __future__ import annotations


class UserError(Exception):
    """A mistake outside the program: its text is one line that names the thing and the valid choices.

    Commands and nodes catch it once, at the top, print the line and exit with a non-zero status.
    """
