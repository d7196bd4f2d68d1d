"""Quality of service as bags keep it: a YAML list of the profiles that a topic's publishers offered."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import yaml
from rclpy.duration import Duration, Infinite
from rclpy.qos import (
    QoSDurabilityPolicy,
    QoSHistoryPolicy,
    QoSLivelinessPolicy,
    QoSProfile,
    QoSReliabilityPolicy,
)

_POLICIES: dict[str, Any] = {
    "history": QoSHistoryPolicy,
    "reliability": QoSReliabilityPolicy,
    "durability": QoSDurabilityPolicy,
    "liveliness": QoSLivelinessPolicy,
}
_DURATIONS = ("deadline", "lifespan", "liveliness_lease_duration")
_INFINITE = {"sec": 9223372036, "nsec": 854775807}
_LEAST_INFINITE = 0x7FFFFFFF
"""Seconds: some of Foxy's RMWs wrote this for no limit."""


class _NoAliases(yaml.SafeDumper):
    """Writes a value that occurs twice twice: rosbag2's parser reads no anchors here."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def to_text(profiles: Iterable[QoSProfile]) -> str:
    """Profiles as rosbag2 writes them until version 8: policies by their numbers."""
    entries: list[dict[str, Any]] = []
    for profile in profiles:
        entry: dict[str, Any] = {"history": int(profile.history), "depth": profile.depth}
        entry |= {name: int(getattr(profile, name)) for name in ("reliability", "durability")}
        entry |= {name: _seconds(getattr(profile, name)) for name in ("deadline", "lifespan")}
        entry["liveliness"] = int(profile.liveliness)
        entry["liveliness_lease_duration"] = _seconds(profile.liveliness_lease_duration)
        entry["avoid_ros_namespace_conventions"] = profile.avoid_ros_namespace_conventions
        if entry not in entries:
            entries.append(entry)
    return str(yaml.dump(entries, Dumper=_NoAliases, sort_keys=False)).strip()


def _seconds(duration: Duration) -> dict[str, int]:
    if duration.nanoseconds <= 0 or duration == Infinite:
        return dict(_INFINITE)
    return dict(zip(("sec", "nsec"), divmod(duration.nanoseconds, 10**9), strict=True))


def from_text(text: str) -> list[QoSProfile]:
    """The profiles in a bag's text; ValueError where it is none."""
    try:
        entries = yaml.safe_load(text) or []
        return [from_dict(entry) for entry in entries]
    except (AttributeError, KeyError, TypeError, yaml.YAMLError) as error:
        raise ValueError(f"no list of QoS profiles: {' '.join(str(error).split())}") from None


def from_dict(entry: dict[str, Any]) -> QoSProfile:
    """A profile from a bag, or from a file of overrides; ValueError or KeyError for what is no policy."""
    profile = QoSProfile(depth=10)
    for name, value in entry.items():
        if name in _POLICIES:
            policy = _POLICIES[name]
            setattr(profile, name, policy(value) if isinstance(value, int) else policy[str(value).upper()])
        elif name in _DURATIONS:
            if 0 <= int(value["sec"]) < _LEAST_INFINITE:
                setattr(profile, name, Duration(seconds=int(value["sec"]), nanoseconds=int(value["nsec"])))
        elif name == "depth":
            profile.depth = int(value)
        elif name != "avoid_ros_namespace_conventions":
            raise ValueError(f"unexpected key '{name}' in a QoS profile")
    return profile


def read_overrides(path: str | None) -> dict[str, QoSProfile]:
    """Profiles by topic from a YAML file; ValueError names the file."""
    if path is None:
        return {}
    try:
        with open(path, encoding="utf-8") as stream:
            return {str(topic): from_dict(entry) for topic, entry in (yaml.safe_load(stream) or {}).items()}
    except OSError as error:
        raise ValueError(f"cannot read the QoS overrides '{path}': {error.strerror}") from None
    except (AttributeError, KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        raise ValueError(f"QoS overrides '{path}': {' '.join(str(error).split())}") from None


def requested_from(offers: list[QoSProfile]) -> QoSProfile:
    """What to ask for to hear all of these publishers, and no less than they all offer."""
    reliable = bool(offers) and all(o.reliability == QoSReliabilityPolicy.RELIABLE for o in offers)
    local = bool(offers) and all(o.durability == QoSDurabilityPolicy.TRANSIENT_LOCAL for o in offers)
    return QoSProfile(
        depth=max([100, *(offer.depth for offer in offers)]),
        reliability=QoSReliabilityPolicy.RELIABLE if reliable or not offers else QoSReliabilityPolicy.BEST_EFFORT,
        durability=QoSDurabilityPolicy.TRANSIENT_LOCAL if local else QoSDurabilityPolicy.VOLATILE,
    )


def offered_from(recorded: list[QoSProfile]) -> tuple[QoSProfile, bool]:
    """The profile to play a topic with; False beside it where its publishers did not agree, and it is the default."""
    if not recorded:
        return QoSProfile(depth=10), True
    first = recorded[0]
    policies = ("reliability", "durability", "deadline", "liveliness", "liveliness_lease_duration")
    if any(getattr(other, name) != getattr(first, name) for other in recorded for name in policies):
        return QoSProfile(depth=10), False
    first.history = QoSHistoryPolicy.KEEP_LAST  # what the network does not tell is recorded as unknown
    first.depth = max([10, *(profile.depth for profile in recorded)])
    return first, True
