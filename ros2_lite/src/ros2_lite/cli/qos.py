"""The quality-of-service options of `topic echo` and `topic pub`."""

from __future__ import annotations

import argparse
import copy
from typing import Any

from ros2_lite.cli.errors import count, positive_float

PROFILES = ("system_default", "sensor_data", "services_default", "parameters", "default", "best_available")
_POLICIES = {
    "reliability": ("system_default", "reliable", "best_effort", "best_available"),
    "durability": ("system_default", "transient_local", "volatile", "best_available"),
    "history": ("system_default", "keep_last", "keep_all"),
    "liveliness": ("system_default", "automatic", "manual_by_topic", "best_available"),
}
_GIVEN = ("depth", *_POLICIES, "liveliness_lease_duration_seconds")


def add_qos_arguments(parser: argparse.ArgumentParser, doing: str, profile: str) -> None:
    """Add ``--qos-profile``, ``--qos-depth`` and the policies."""
    parser.add_argument(
        "--qos-profile",
        choices=PROFILES,
        default=profile,
        help=f"Quality of service preset profile to {doing} with (default: {profile})",
    )
    parser.add_argument("--qos-depth", metavar="N", type=count, help=f"Queue size setting to {doing} with")
    for policy, values in _POLICIES.items():
        parser.add_argument(f"--qos-{policy}", choices=values, help=f"Quality of service {policy} to {doing} with")
    parser.add_argument(
        "--qos-liveliness-lease-duration-seconds",
        metavar="S",
        type=positive_float,
        help=f"Quality of service liveliness lease duration to {doing} with",
    )


def is_given(args: argparse.Namespace) -> bool:
    """Whether any policy was asked for."""
    return any(getattr(args, f"qos_{name}") is not None for name in _GIVEN)


def profile(args: argparse.Namespace) -> Any:
    """The profile that the options describe."""
    from rclpy.duration import Duration
    from rclpy.qos import (
        QoSDurabilityPolicy,
        QoSHistoryPolicy,
        QoSLivelinessPolicy,
        QoSPresetProfiles,
        QoSReliabilityPolicy,
    )

    result = copy.copy(QoSPresetProfiles.get_from_short_key(args.qos_profile))
    classes: dict[str, Any] = {
        "reliability": QoSReliabilityPolicy,
        "durability": QoSDurabilityPolicy,
        "history": QoSHistoryPolicy,
        "liveliness": QoSLivelinessPolicy,
    }
    for name, policy in classes.items():
        value = getattr(args, f"qos_{name}")
        if value is not None:
            setattr(result, name, policy[value.upper()])
    if args.qos_liveliness_lease_duration_seconds is not None:
        result.liveliness_lease_duration = Duration(seconds=args.qos_liveliness_lease_duration_seconds)
    if args.qos_depth is not None:
        result.depth = args.qos_depth
    elif result.durability == QoSDurabilityPolicy.TRANSIENT_LOCAL and result.depth == 0:
        result.depth = 1  # a depth of none would keep nothing for those who come late
    return result
