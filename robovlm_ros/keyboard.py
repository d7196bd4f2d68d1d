"""Keys of a terminal as wishes. Pure: bytes in, wishes out.

A plain terminal tells that a key was pressed, and repeats it while it is held, but not when it is released: there a key
counts as held for a short time after its newest press or repeat, and one at a time can be held. Terminals with the
progressive keyboard protocol (kitty, foot, WezTerm, Ghostty, Alacritty, ...) tell every press and release; where their
reports come, they are used. Reference: https://sw.kovidgoyal.net/kitty/keyboard-protocol.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from robovlm_ros.contract import Contract
from robovlm_ros.errors import UserError
from robovlm_ros.teleoperation import Wish, assignments, by_order

PAIRS = ("ws", "ad", "rf", "tg", "yh", "uj", "ik", "ol")
"""Keys that move the continuous actions up and down, in order."""
SWITCHES = ("e", "q", "z", "x", "c", "v")
"""Keys that switch the binary actions, in order."""
COMMANDS = {
    "enter": "take_over",
    "backspace": "hand_back",
    "+": "faster",
    "=": "faster",
    "-": "slower",
    "?": "help",
    "/": "help",
    "ctrl+c": "interrupt",
    "1": "begin",
    "2": "success",
    "3": "failure",
    "0": "discard",
    "9": "scene",
}
"""Keys that ask for something else than motion; they need no dead-man's key."""
EPISODES = {
    "begin": "begin an episode",
    "success": "end the episode as a success",
    "failure": "end the episode as a failure",
    "discard": "discard the episode",
    "scene": "make a new scene",
}
"""Those of them that concern episodes, in words."""
ASK = b"\x1b[?u"
"""Asks a terminal whether it reports releases; one that does not know the question says nothing."""
ENABLE, DISABLE = b"\x1b[>11u\x1b[?1004h", b"\x1b[?1004l\x1b[<u"
"""Presses, releases and modifiers of all keys, and whether the terminal has the focus; and back to what it was."""
SILENCE_NS = 1_000_000_000
"""A held key is repeated; when nothing comes for so long, its release got lost [ns]."""
SWITCH_NS = 700_000_000
"""In a plain terminal, a key that comes again sooner is still held: it does not switch again [ns]."""

_SEQUENCE = re.compile(r"\x1b(?:\[([<-?]*)([0-9;:]*)[ -/]*([@-~])|O(.)|([^\[O\x1b]))", re.DOTALL)
_BEGUN = re.compile(r"\x1b(?:\[[<-?]*[0-9;:]*[ -/]*|O)?\Z")
_NAMES = {13: "enter", 10: "enter", 127: "backspace", 8: "backspace", 57441: "shift", 57447: "right shift"}
_LONGEST = 64  # characters of a sequence; what is longer is none


@dataclass(frozen=True, kw_only=True)
class Key:
    """One thing that a terminal reports."""

    name: str
    """The character without shift, a word for other keys, or ``supported``, ``focus in``, ``focus out``."""
    shift: bool = False
    """Shift is held with it."""
    event: str = "press"
    """``press`` (or its repeat) or ``release``."""
    repeated: bool = False
    """It is a repeat, as far as the terminal says so."""
    exact: bool = False
    """The terminal reports releases."""


class KeyDecoder:
    """Bytes of a terminal to keys; sequences may arrive in pieces."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""

    def feed(self, data: bytes) -> list[Key]:
        """The keys that these bytes complete."""
        text = self._rest + self._decoder.decode(data)
        self._rest = ""
        keys: list[Key] = []
        place = 0
        while place < len(text):
            if text[place] != "\x1b":
                keys.append(_plain(text[place]))
                place += 1
                continue
            found = _SEQUENCE.match(text, place)
            if found is None:
                if _BEGUN.match(text, place) and len(text) - place < _LONGEST:
                    self._rest = text[place:]
                    return keys
                place += 1
                continue
            place = found.end()
            key = _special(*(part or "" for part in found.group(1, 2, 3)))
            if key is not None:
                keys.append(key)
        return keys


class Keyboard:
    """Which keys are held, and what they ask for. SHIFT is the dead-man's key: letters act only with it."""

    def __init__(self, contract: Contract, *, keys: Sequence[str] = (), release_ns: int) -> None:
        """`keys`: ``name=ws`` (up, down) of continuous actions, ``name=e`` of binary ones; empty: by their order in the
        contract. `release_ns`: how long a key of a plain terminal counts as held [ns].
        """
        names = contract.action_names
        continuous = [dim.name for dim in contract.action_dims if dim.kind != "binary"]
        binary = [dim.name for dim in contract.action_dims if dim.kind == "binary"]
        given = assignments(keys, names, "keys", "KEYS") or {
            **by_order(continuous, PAIRS, "keys", "ws"),
            **by_order(binary, SWITCHES, "keys", "e"),
        }
        self._moves: dict[str, tuple[int, float]] = {}
        self._switches: dict[str, int] = {}
        for name, text in given.items():
            letters, place = text.lower(), names.index(name)
            if len(letters) != (1 if name in binary else 2) or not letters.isalpha() or not letters.isascii():
                kind = "one letter, for it is binary" if name in binary else "two letters, up and down"
                raise UserError(f"parameter 'keys': '{name}={text}' must be {kind}")
            for letter, sign in zip(letters, (1.0, -1.0), strict=False):
                if letter in self._moves or letter in self._switches:
                    raise UserError(f"parameter 'keys': letter '{letter}' occurs twice")
                if name in binary:
                    self._switches[letter] = place
                else:
                    self._moves[letter] = place, sign
        self.exact = False
        """The terminal reports releases."""
        self._names = names
        self._release_ns = release_ns
        self._decoder = KeyDecoder()
        self._held: dict[str, int] = {}  # letter → when it was last heard of [ns]
        self._shifts: set[str] = set()
        self._pressed: set[str] = set()  # since the last wish, however short
        self._switched: set[int] = set()
        self._heard: dict[str, int] = {}  # switch → when its key last came [ns]
        self._newest_ns = 0

    @property
    def table(self) -> tuple[tuple[str, str], ...]:
        """(keys, what they do) for people."""
        rows = [("SHIFT", "dead-man's key: hold it with the letters")]
        for place, name in enumerate(self._names):
            pair = [letter.upper() for letter, (at, _) in self._moves.items() if at == place]
            if pair:
                rows.append((" ".join(pair), f"{name} up, down"))
            rows += [(letter.upper(), f"switch {name}") for letter, at in self._switches.items() if at == place]
        return (
            *rows,
            ("Enter", "take over from the policy"),
            ("Backspace", "hand back to the policy"),
            ("+ -", "faster, slower"),
            *((key, EPISODES[order]) for key, order in COMMANDS.items() if order in EPISODES),
            ("?", "this table"),
            ("Ctrl-C", "end"),
        )

    def feed(self, data: bytes, now_ns: int) -> list[str]:
        """Take what the terminal sent; the orders in it, and ``supported`` when it says that it can report releases."""
        orders = []
        for key in self._decoder.feed(data):
            if key.name == "supported":
                orders.append(key.name)
            elif key.name.startswith("focus"):
                self.release()  # releases go to whoever has the focus now
            elif key.exact:
                self._take_exact(key, now_ns)
            elif not self.exact:
                self._take_plain(key, now_ns)
            if key.event == "press" and not key.repeated and key.name in COMMANDS:
                orders.append(COMMANDS[key.name])
        return orders

    def release(self) -> None:
        """Let go of everything."""
        self._held.clear()
        self._shifts.clear()
        self._pressed.clear()
        self._switched.clear()

    def wish(self, now_ns: int) -> Wish:
        """What is asked for now; a key that was pressed and released since the last wish counts once."""
        if self.exact:
            if now_ns - self._newest_ns > SILENCE_NS:
                self.release()
            alive = bool(self._shifts or self._pressed)
        else:
            self._held = {k: heard for k, heard in self._held.items() if now_ns - heard <= self._release_ns}
            alive = bool(self._held or self._pressed)
        direction, toggled = np.zeros(len(self._names)), np.zeros(len(self._names), np.bool_)
        if alive:
            for letter in {*self._held, *self._pressed}:
                place, sign = self._moves.get(letter, (0, 0.0))
                direction[place] += sign
            toggled[list(self._switched)] = True
        self._pressed.clear()
        self._switched.clear()
        return Wish(alive=alive, direction=direction, toggled=toggled)

    def _take_exact(self, key: Key, now_ns: int) -> None:
        if not self.exact:
            self.release()
            self.exact = True
        self._newest_ns = now_ns
        if key.name.endswith("shift"):
            if key.event == "press":
                self._shifts.add(key.name)
            else:
                self._shifts.discard(key.name)
            if not self._shifts:
                self._pressed.clear()
            return
        if not key.shift:  # authoritative, should the release of a shift key have got lost
            self._shifts.clear()
        elif not self._shifts:
            self._shifts.add("shift")
        if key.event == "release":
            self._held.pop(key.name, None)
        elif key.name in self._moves:
            self._held[key.name] = now_ns
            if key.shift and not key.repeated:
                self._pressed.add(key.name)
        elif key.name in self._switches and key.shift and not key.repeated:
            self._pressed.add(key.name)
            self._switched.add(self._switches[key.name])

    def _take_plain(self, key: Key, now_ns: int) -> None:
        if not key.shift:
            self.release()  # the dead-man's key is not held, or something else was pressed
        elif key.name in self._moves or key.name in self._switches:
            # The terminal repeats one key: another one means that the first is held no more.
            self._held = {key.name: now_ns}
            self._pressed.add(key.name)
            if key.name in self._switches:
                if now_ns - self._heard.get(key.name, -SWITCH_NS) >= SWITCH_NS:
                    self._switched.add(self._switches[key.name])
                self._heard[key.name] = now_ns


def _plain(character: str) -> Key:
    if character.isalpha():
        return Key(name=character.lower(), shift=character != character.lower())
    return Key(name=_NAMES.get(ord(character), {"\x03": "ctrl+c"}.get(character, character)))


def _special(prefix: str, parameters: str, final: str) -> Key | None:
    """The key of a control sequence; None for one that means nothing to us."""
    if final == "u" and prefix == "?":
        return Key(name="supported")
    if final in "IO" and final and not prefix and not parameters:
        return Key(name="focus in" if final == "I" else "focus out")
    fields = [[int(number or 0) for number in field.split(":")] for field in parameters.split(";")]
    code = fields[0][0]
    if final != "u" or prefix or not 0 < code < 0x110000:
        return None
    modifiers, event = (*(fields[1] if len(fields) > 1 else []), 0, 0)[:2]
    held = max(modifiers, 1) - 1
    name = _NAMES.get(code, chr(code).lower())
    return Key(
        name=f"ctrl+{name}" if held & 4 else name,
        shift=bool(held & 1),
        event="release" if event == 3 else "press",
        repeated=event == 2,
        exact=True,
    )
