"""The parts of a contract: cameras, state, actions and commands, and the words that each may be made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

KINDS = ("continuous", "binary")
NORMALISATIONS = ("quantile", "min_max", "mean_std", "mu_law", "limits", "identity")
"""How numbers may be brought to about [-1, 1] for training; `robovlm_ros.vlm.normalisation` says what each does."""
CAMERA_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
STATE_TYPES = ("sensor_msgs/msg/JointState", "geometry_msgs/msg/PoseStamped", "std_msgs/msg/Float64MultiArray")
INSTRUCTION_TYPES = ("std_msgs/msg/String",)
GRIPPER_TYPE = "control_msgs/msg/GripperCommand"
COMMAND_TYPES = (
    "geometry_msgs/msg/PoseStamped",
    "sensor_msgs/msg/JointState",
    "std_msgs/msg/Float64MultiArray",
    "trajectory_msgs/msg/JointTrajectory",
    "geometry_msgs/msg/Twist",
    "geometry_msgs/msg/TwistStamped",
    GRIPPER_TYPE,
)
TRAJECTORIES = ("point", "chunk")
"""What a trajectory message may hold."""
VELOCITY_TYPES = ("geometry_msgs/msg/Twist", "geometry_msgs/msg/TwistStamped")
"""Commands that stay in motion when nothing more is sent."""
POSITION = ("x", "y", "z")
ORIENTATION = ("qx", "qy", "qz", "qw")
"""Names of a pose's dimensions: position [m] and orientation, a quaternion with its real part last."""
SIMULATORS = ("mujoco", "none")
LOWEST_HZ, HIGHEST_HZ = 0.01, 10_000.0
"""What a rate may be."""


@dataclass(frozen=True, kw_only=True)
class Camera:
    """One camera stream that a policy may look at."""

    name: str
    """Key of this camera in observations and checkpoints."""
    topic: str
    """Image topic."""
    type: str = "sensor_msgs/msg/Image"
    """Message type, one of CAMERA_TYPES."""
    width: int
    """Image width [px]."""
    height: int
    """Image height [px]."""
    frame: str = ""
    """Optical frame, ``frame_id`` of the images; others are taken, with a warning."""
    depth: tuple[float, float] | None = None
    """Distances that a depth camera's images show, from white to black [m]; None: it has no depth."""
    max_age_s: float = 0.5
    """The robot holds when the newest image is older than this [s]."""
    max_frozen_s: float | None = None
    """The robot holds when the same image has come again and again for longer than this, bit for bit, under whatever
    stamps [s]: real cameras have noise, and one that repeats itself has died. None: it may, as a simulator's does."""

    @property
    def unchanged(self) -> str:
        """Name under which the age of its newest change goes, among the ages of sources."""
        return f"{self.name}, unchanged"


@dataclass(frozen=True, kw_only=True)
class StateSource:
    """One topic that measures a part of the robot's state."""

    name: str
    """Prefix of its dimensions: dimension ``x`` of source ``ee`` is ``ee.x``."""
    topic: str
    """State topic."""
    type: str
    """Message type, one of STATE_TYPES."""
    dims: tuple[str, ...]
    """Joint names (JointState, matched by name), of x y z qx qy qz qw (PoseStamped), or free names in order."""
    unit: str
    """Unit of all its dimensions, SI. Of a JointState, rad/s and m/s are read from its velocities, N m and N from its
    efforts."""
    frame: str | None = None
    """``frame_id`` that the messages of a PoseStamped must have; those in another frame are refused. None: any."""
    normalise: dict[str, str] | None = None
    """Dimension → how a policy's training normalises it, one of NORMALISATIONS; a single word in YAML: all of them.
    Others: as the training's options say."""
    max_age_s: float = 0.5
    """The robot holds when the newest sample is older than this [s]."""


@dataclass(frozen=True, kw_only=True)
class ActionDimension:
    """One number that the policy decides."""

    name: str
    """Joint name, or x, y, z of a pose; unique among all actions."""
    unit: str
    """SI unit; for binary dimensions the unit of ``limits``."""
    kind: str = "continuous"
    """One of KINDS. A binary action is 0 or 1 to the policy and ``limits[0]`` or ``limits[1]`` in the message."""
    limits: tuple[float, float]
    """Smallest and largest value that may ever be sent [unit]."""
    max_velocity: float | None = None
    """Largest rate of change of the sent value [unit/s], of a velocity its acceleration; None: unlimited."""
    max_acceleration: float | None = None
    """Largest rate of change of that rate [unit/s^2]; of a velocity, of the velocity itself; None: unlimited."""
    max_jump: float | None = None
    """The first value after a pause is refused when it is further than this from the measured one [unit]: the policy
    then means another robot, or another place. None: the robot goes there at `max_velocity`."""
    reference: str | None = None
    """State dimension (``ee.x``) that the policy's number is relative to; None: absolute."""
    normalise: str | None = None
    """How a policy's training normalises it, one of NORMALISATIONS; None: as the training's options say."""


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """Where a tool may be whose velocity is commanded; at least one of x, y and z."""

    pose: str
    """State source (PoseStamped, in the frame of the command) that measures where the tool is."""
    x: tuple[float, float] | None = None
    """Smallest and largest x [m]; None: any."""
    y: tuple[float, float] | None = None
    """Smallest and largest y [m]; None: any."""
    z: tuple[float, float] | None = None
    """Smallest and largest z [m]; None: any."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """One topic on which a part of the action is sent."""

    name: str
    """Key of this command, for messages and logs."""
    topic: str
    """Command topic."""
    type: str
    """Message type, one of COMMAND_TYPES."""
    dims: tuple[ActionDimension, ...]
    """The actions this topic carries, in order."""
    frame: str = ""
    """``frame_id`` of the message."""
    orientation: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 1.0)
    """Fixed orientation (x, y, z, w) of pose commands whose dims hold no orientation."""
    trajectory: str | None = None
    """What a JointTrajectory holds, one of TRAJECTORIES: at each command the next ``point``, or at each decision all
    that is left of the ``chunk``, which the robot's controller then interpolates; None: a point."""
    max_effort: float | None = None
    """``max_effort`` of a GripperCommand [N]; None: 0, which most grippers take as their own limit."""
    workspace: Workspace | None = None
    """Of Twist and TwistStamped: walls that the tool must not pass. None: anywhere. The limits of a PoseStamped's x, y
    and z are such walls."""
    relative_to: str | None = None
    """State source with a pose (x y z qx qy qz qw, in the same frame as the command) in whose own axes the policy
    decides this pose: a tool's pose makes its numbers relative to the tool frame. PoseStamped with x y z, or with all
    of x y z qx qy qz qw; None: as the dims say. Limits and velocities stay those of the numbers that are sent."""


@dataclass(frozen=True, kw_only=True)
class ToolFrame:
    """Where a command that is relative to a tool frame, and the pose of that tool, lie in action and state vectors."""

    position: NDArray[np.int64]
    """(3,) index of x, y, z into the action vector."""
    orientation: NDArray[np.int64]
    """(4,) index of qx, qy, qz, qw into the action vector; (0,) where only the position is decided."""
    tool_position: NDArray[np.int64]
    """(3,) index into the state vector."""
    tool_orientation: NDArray[np.int64]
    """(4,) index into the state vector."""


def is_rate(unit: str) -> bool:
    """Whether this is a unit of velocities."""
    return unit.replace(" ", "").endswith("/s")


def is_velocity(type_name: str, dim: ActionDimension) -> bool:
    """Whether a command of that message type sets this dimension in motion, rather than moving it somewhere."""
    return dim.kind != "binary" and (type_name in VELOCITY_TYPES or is_rate(dim.unit))


def joint_field(unit: str) -> str:
    """The array of a ``sensor_msgs/msg/JointState`` that holds numbers of this unit."""
    if is_rate(unit):
        return "velocity"
    return "effort" if unit.replace(" ", "") in ("N", "Nm") else "position"
