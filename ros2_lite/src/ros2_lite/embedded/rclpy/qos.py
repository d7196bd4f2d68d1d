"""Quality of service profiles."""

# ruff: noqa: N818 (the names are ROS's)

from __future__ import annotations

import warnings
from enum import Enum, IntEnum
from typing import Any

from ros2_lite.dds import qos as dds_qos
from ros2_lite.dds.lib import INFINITY

from rclpy.duration import Duration, Infinite


class QoSPolicyKind(IntEnum):
    """Which policy an event or override speaks of."""

    INVALID = 1
    DURABILITY = 2
    DEADLINE = 4
    LIVELINESS = 8
    RELIABILITY = 16
    HISTORY = 32
    LIFESPAN = 64
    DEPTH = 128
    LIVELINESS_LEASE_DURATION = 256
    AVOID_ROS_NAMESPACE_CONVENTIONS = 512


def qos_policy_name_from_kind(policy_kind: QoSPolicyKind | int) -> str:
    """``DURABILITY`` for the kind of that number."""
    return QoSPolicyKind(policy_kind).name


class InvalidQoSProfileException(Exception):
    """Raised when a profile is not complete."""

    def __init__(self, *args: object) -> None:
        super().__init__("Invalid QoSProfile", *args)


class QoSPolicyEnum(IntEnum):
    """Base of the policies; they can be named by their short keys."""

    @classmethod
    def short_keys(cls) -> list[str]:
        """Names in lower case."""
        return [item.name.lower() for item in cls]

    @classmethod
    def get_from_short_key(cls, name: str) -> Any:
        """The number of a policy by its name, in any case."""
        return cls[name.upper()].value

    @property
    def short_key(self) -> str:
        return self.name.lower()


class HistoryPolicy(QoSPolicyEnum):
    SYSTEM_DEFAULT = 0
    KEEP_LAST = 1
    KEEP_ALL = 2
    UNKNOWN = 3


class ReliabilityPolicy(QoSPolicyEnum):
    SYSTEM_DEFAULT = 0
    RELIABLE = 1
    BEST_EFFORT = 2
    UNKNOWN = 3
    BEST_AVAILABLE = 4


class DurabilityPolicy(QoSPolicyEnum):
    SYSTEM_DEFAULT = 0
    TRANSIENT_LOCAL = 1
    VOLATILE = 2
    UNKNOWN = 3
    BEST_AVAILABLE = 4


class LivelinessPolicy(QoSPolicyEnum):
    SYSTEM_DEFAULT = 0
    AUTOMATIC = 1
    MANUAL_BY_TOPIC = 3
    UNKNOWN = 4
    BEST_AVAILABLE = 5


QoSHistoryPolicy = HistoryPolicy
QoSReliabilityPolicy = ReliabilityPolicy
QoSDurabilityPolicy = DurabilityPolicy
QoSLivelinessPolicy = LivelinessPolicy

_NO_LIMIT = Duration(nanoseconds=0)
"""rmw writes "no limit" as zero."""
DeadlineBestAvailable = Duration(nanoseconds=2**63 - 2)
"""How rmw writes a duration that is to follow the peers."""
LivelinessLeaseDurationeBestAvailable = DeadlineBestAvailable


_SHOWN = (
    "history", "depth", "reliability", "durability", "lifespan", "deadline", "liveliness", "liveliness_lease_duration",
    "avoid_ros_namespace_conventions",
)  # fmt: skip
"""The policies in the order in which a profile prints them."""


class QoSProfile:
    """A profile: a `depth` alone gives KEEP_LAST, reliable, volatile."""

    __slots__ = (
        "_avoid_ros_namespace_conventions",
        "_deadline",
        "_depth",
        "_durability",
        "_history",
        "_lifespan",
        "_liveliness",
        "_liveliness_lease_duration",
        "_reliability",
    )

    def __init__(self, **kwargs: Any) -> None:
        unknown = sorted(set(kwargs) - {slot[1:] for slot in self.__slots__})
        if unknown:
            raise AssertionError(f"Invalid arguments passed to constructor: {', '.join(unknown)}")
        if "history" not in kwargs:
            if "depth" not in kwargs:
                raise InvalidQoSProfileException("History and/or depth settings are required.")
            kwargs["history"] = HistoryPolicy.KEEP_LAST
        self.history = kwargs["history"]
        if self.history == HistoryPolicy.KEEP_LAST and "depth" not in kwargs:
            raise InvalidQoSProfileException("History set to KEEP_LAST without a depth setting.")
        self.depth = kwargs.get("depth", 10)
        self.reliability = kwargs.get("reliability", ReliabilityPolicy.RELIABLE)
        self.durability = kwargs.get("durability", DurabilityPolicy.VOLATILE)
        self.lifespan = kwargs.get("lifespan", _NO_LIMIT)
        self.deadline = kwargs.get("deadline", _NO_LIMIT)
        self.liveliness = kwargs.get("liveliness", LivelinessPolicy.SYSTEM_DEFAULT)
        self.liveliness_lease_duration = kwargs.get("liveliness_lease_duration", _NO_LIMIT)
        self.avoid_ros_namespace_conventions = kwargs.get("avoid_ros_namespace_conventions", False)

    @property
    def history(self) -> HistoryPolicy:
        return self._history

    @history.setter
    def history(self, value: HistoryPolicy | int) -> None:
        self._history = HistoryPolicy(value)

    @property
    def reliability(self) -> ReliabilityPolicy:
        return self._reliability

    @reliability.setter
    def reliability(self, value: ReliabilityPolicy | int) -> None:
        self._reliability = ReliabilityPolicy(value)

    @property
    def durability(self) -> DurabilityPolicy:
        return self._durability

    @durability.setter
    def durability(self, value: DurabilityPolicy | int) -> None:
        self._durability = DurabilityPolicy(value)

    @property
    def liveliness(self) -> LivelinessPolicy:
        return self._liveliness

    @liveliness.setter
    def liveliness(self, value: LivelinessPolicy | int) -> None:
        self._liveliness = LivelinessPolicy(value)

    @property
    def depth(self) -> int:
        return self._depth

    @depth.setter
    def depth(self, value: int) -> None:
        if not isinstance(value, int) or isinstance(value, bool):
            raise AssertionError("depth must be an int")
        if value < 0:
            raise ValueError("depth must be greater than or equal to zero")
        if self.history == HistoryPolicy.KEEP_LAST and value == 0:
            warnings.warn(
                "A zero depth with KEEP_LAST doesn't make sense; no data could be stored. "
                "This will be interpreted as SYSTEM_DEFAULT",
                stacklevel=2,
            )
        self._depth = value

    @property
    def lifespan(self) -> Duration:
        return self._lifespan

    @lifespan.setter
    def lifespan(self, value: Duration) -> None:
        self._lifespan = _duration(value)

    @property
    def deadline(self) -> Duration:
        return self._deadline

    @deadline.setter
    def deadline(self, value: Duration) -> None:
        self._deadline = _duration(value)

    @property
    def liveliness_lease_duration(self) -> Duration:
        return self._liveliness_lease_duration

    @liveliness_lease_duration.setter
    def liveliness_lease_duration(self, value: Duration) -> None:
        self._liveliness_lease_duration = _duration(value)

    @property
    def avoid_ros_namespace_conventions(self) -> bool:
        return self._avoid_ros_namespace_conventions

    @avoid_ros_namespace_conventions.setter
    def avoid_ros_namespace_conventions(self, value: bool) -> None:
        assert isinstance(value, bool)
        self._avoid_ros_namespace_conventions = value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, QoSProfile):
            return False
        return all(getattr(self, slot) == getattr(other, slot) for slot in QoSProfile.__slots__)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        values = ", ".join(f"{slot[1:]}={getattr(self, slot)!r}" for slot in QoSProfile.__slots__)
        return f"{type(self).__name__}({values})"

    def __str__(self) -> str:
        values = ", ".join(f"{name}={getattr(self, name)!s}" for name in _SHOWN)
        return f"{type(self).__name__}({values})"

    def get_c_qos_profile(self) -> Any:
        """What rclpy hands to its C++ extension: a copy, with `to_dict`."""
        return rmw_qos_profile_t(self)

    def _copy(self) -> QoSProfile:
        return QoSProfile(**{slot[1:]: getattr(self, slot) for slot in QoSProfile.__slots__})

    def _asks_for_best(self) -> bool:
        return (
            self.reliability == ReliabilityPolicy.BEST_AVAILABLE
            or self.durability == DurabilityPolicy.BEST_AVAILABLE
            or self.liveliness == LivelinessPolicy.BEST_AVAILABLE
            or DeadlineBestAvailable in (self.deadline, self.liveliness_lease_duration)
        )

    def _for_peers(self, peers: list[dds_qos.Qos], writer: bool) -> QoSProfile:
        """The profile with every best-available policy made what suits the peers of a new endpoint.

        As rmw_dds_common has it: a subscription asks for the most that all publishers offer, a publisher offers the
        most there is, but is only as punctual and lively as the most demanding subscription asks.
        """
        new = self._copy()
        manual = [peer.liveliness == dds_qos.MANUAL_BY_TOPIC for peer in peers]
        reliable = writer or all(peer.reliable for peer in peers)
        kept = writer or all(peer.transient_local for peer in peers)
        if new.reliability == ReliabilityPolicy.BEST_AVAILABLE:
            new.reliability = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
        if new.durability == DurabilityPolicy.BEST_AVAILABLE:
            new.durability = DurabilityPolicy.TRANSIENT_LOCAL if kept else DurabilityPolicy.VOLATILE
        if new.liveliness == LivelinessPolicy.BEST_AVAILABLE:
            by_topic = any(manual) if writer else all(manual)
            new.liveliness = LivelinessPolicy.MANUAL_BY_TOPIC if by_topic else LivelinessPolicy.AUTOMATIC
        chosen = min if writer else max
        if new.deadline == DeadlineBestAvailable:
            new.deadline = Duration(nanoseconds=chosen((peer.deadline for peer in peers), default=0))
        if new.liveliness_lease_duration == DeadlineBestAvailable:
            new.liveliness_lease_duration = Duration(nanoseconds=chosen((peer.lease for peer in peers), default=0))
        return new

    def _to_dds(self, user_data: bytes = b"") -> dds_qos.Qos:
        # rmw_cyclonedds reads SYSTEM_DEFAULT as KEEP_LAST 1; what is best available for services is the default.
        depth = self.depth if self.history == HistoryPolicy.KEEP_LAST else 1
        manual = self.liveliness == LivelinessPolicy.MANUAL_BY_TOPIC
        return dds_qos.Qos(
            reliable=self.reliability != ReliabilityPolicy.BEST_EFFORT,
            transient_local=self.durability == DurabilityPolicy.TRANSIENT_LOCAL,
            keep_all=self.history == HistoryPolicy.KEEP_ALL,
            depth=max(1, depth),
            deadline=_to_limit(self.deadline),
            lifespan=_to_limit(self.lifespan),
            liveliness=dds_qos.MANUAL_BY_TOPIC if manual else dds_qos.AUTOMATIC,
            lease=_to_limit(self.liveliness_lease_duration),
            user_data=user_data,
        )

    @classmethod
    def _from_dds(cls, qos: dds_qos.Qos) -> QoSProfile:
        return cls(
            history=HistoryPolicy.KEEP_ALL if qos.keep_all else HistoryPolicy.KEEP_LAST,
            depth=qos.depth,
            reliability=ReliabilityPolicy.RELIABLE if qos.reliable else ReliabilityPolicy.BEST_EFFORT,
            durability=DurabilityPolicy.TRANSIENT_LOCAL if qos.transient_local else DurabilityPolicy.VOLATILE,
            lifespan=Duration(nanoseconds=qos.lifespan),
            deadline=Duration(nanoseconds=qos.deadline),
            liveliness=(
                LivelinessPolicy.MANUAL_BY_TOPIC
                if qos.liveliness == dds_qos.MANUAL_BY_TOPIC
                else LivelinessPolicy.AUTOMATIC
            ),
            liveliness_lease_duration=Duration(nanoseconds=qos.lease),
        )


class rmw_qos_profile_t:  # noqa: N801
    """A profile as rclpy's C++ extension has it."""

    def __init__(self, profile: QoSProfile) -> None:
        self._profile = profile._copy()

    def to_dict(self) -> dict[str, Any]:
        """The keywords of an equal QoSProfile."""
        return {slot[1:]: getattr(self._profile, slot) for slot in QoSProfile.__slots__}

    @staticmethod
    def predefined(name: str) -> rmw_qos_profile_t:
        """The preset of a name such as ``qos_profile_default``; ValueError when there is none."""
        found = globals().get(name)
        if not name.startswith("qos_profile_") or not isinstance(found, QoSProfile):
            raise ValueError(f"Requested unknown rmw_qos_profile: {name}")
        return rmw_qos_profile_t(found)


def _duration(value: Duration) -> Duration:
    if not isinstance(value, Duration):
        raise AssertionError(f"a duration must be an rclpy.duration.Duration, not {type(value).__name__}")
    return value


def _to_limit(value: Duration) -> int:
    return INFINITY if value in (_NO_LIMIT, DeadlineBestAvailable, Infinite) else value.nanoseconds


_BEST: dict[str, Any] = {
    "reliability": ReliabilityPolicy.BEST_AVAILABLE,
    "durability": DurabilityPolicy.BEST_AVAILABLE,
    "liveliness": LivelinessPolicy.BEST_AVAILABLE,
    "deadline": DeadlineBestAvailable,
    "liveliness_lease_duration": DeadlineBestAvailable,
}
qos_profile_unknown = QoSProfile(
    history=HistoryPolicy.UNKNOWN,
    depth=0,
    reliability=ReliabilityPolicy.UNKNOWN,
    durability=DurabilityPolicy.UNKNOWN,
    liveliness=LivelinessPolicy.UNKNOWN,
)
qos_profile_default = QoSProfile(depth=10)
qos_profile_system_default = QoSProfile(
    history=HistoryPolicy.SYSTEM_DEFAULT,
    depth=0,
    reliability=ReliabilityPolicy.SYSTEM_DEFAULT,
    durability=DurabilityPolicy.SYSTEM_DEFAULT,
)
qos_profile_sensor_data = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
qos_profile_services_default = QoSProfile(depth=10)
qos_profile_parameters = QoSProfile(depth=1000)
qos_profile_parameter_events = QoSProfile(depth=1000)
qos_profile_action_status_default = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
qos_profile_best_available = QoSProfile(depth=10, **_BEST)
qos_profile_rosout_default = QoSProfile(
    depth=1000, durability=DurabilityPolicy.TRANSIENT_LOCAL, lifespan=Duration(seconds=10)
)


class QoSPresetProfiles(Enum):
    """The presets by name."""

    UNKNOWN = qos_profile_unknown
    DEFAULT = qos_profile_default
    SYSTEM_DEFAULT = qos_profile_system_default
    SENSOR_DATA = qos_profile_sensor_data
    SERVICES_DEFAULT = qos_profile_services_default
    PARAMETERS = qos_profile_parameters
    PARAMETER_EVENTS = qos_profile_parameter_events
    ACTION_STATUS_DEFAULT = qos_profile_action_status_default
    BEST_AVAILABLE = qos_profile_best_available

    @classmethod
    def short_keys(cls) -> list[str]:
        return [name.lower() for name in cls.__members__]

    @classmethod
    def get_from_short_key(cls, name: str) -> Any:
        return cls[name.upper()].value


class QoSCompatibility(Enum):
    """Whether a publisher and a subscription talk to each other."""

    OK = 0
    WARNING = 1
    ERROR = 2


"""Policies of which it is not known what they will be."""


def qos_check_compatible(publisher_qos: QoSProfile, subscription_qos: QoSProfile) -> tuple[QoSCompatibility, str]:
    """Whether two profiles fit, and why not, in the words of rmw_dds_common.

    ERROR where they never do; WARNING where a policy left to the system decides.
    """
    errors, doubts = [], []
    for name, weak, strong, error, open_publisher, open_subscription in _RULES:
        offered, requested = getattr(publisher_qos, name), getattr(subscription_qos, name)
        theirs, ours = offered.name.lower(), requested.name.lower()
        if (theirs, ours) == (weak, strong):
            errors.append(f"ERROR: {error};")
        elif theirs in _OPEN and ours in _OPEN:
            # "durabilty" is rmw_dds_common's own spelling.
            first = name.replace("durability", "durabilty")
            doubts.append(f"WARNING: Publisher {first} is {theirs} and subscription {name} is {ours};")
        elif theirs in _OPEN and ours == strong:
            doubts.append(f"WARNING: {open_publisher} is {theirs};")
        elif theirs == weak and ours in _OPEN:
            doubts.append(f"WARNING: {open_subscription} is {ours};")
        # rmw_dds_common reports a duration right after the policy that it belongs to.
        for duration, none, less in _DURATIONS.get(name, ()):
            given, wanted = getattr(publisher_qos, duration), getattr(subscription_qos, duration)
            if wanted != _NO_LIMIT and given == _NO_LIMIT:
                errors.append(f"ERROR: Subscription has a {none}, but publisher does not;")
            elif wanted != _NO_LIMIT and wanted < given:
                errors.append(f"ERROR: Subscription {less};")
    if errors:
        return QoSCompatibility.ERROR, "".join(errors)
    return (QoSCompatibility.WARNING, "".join(doubts)) if doubts else (QoSCompatibility.OK, "")


_OPEN = ("system_default", "unknown")
_RULES = (
    (
        "reliability", "best_effort", "reliable", "Best effort publisher and reliable subscription",
        "Reliable subscription, but publisher", "Best effort publisher, but subscription",
    ),
    (
        "durability", "volatile", "transient_local", "Volatile publisher and transient local subscription",
        "Transient local subscription, but publisher", "Volatile publisher, but subscription",
    ),
    (
        "liveliness", "automatic", "manual_by_topic",
        "Publisher's liveliness is automatic and subscription's is manual by topic",
        "Subscription's liveliness is manual by topic, but publisher's",
        "Publisher's liveliness is automatic, but subscription's",
    ),
)  # fmt: skip
_DURATIONS = {
    "durability": (("deadline", "deadline", "deadline is less than publisher deadline"),),
    "liveliness": (
        (
            "liveliness_lease_duration",
            "liveliness lease duration",
            "liveliness lease duration is less than publisher",
        ),
    ),
}
