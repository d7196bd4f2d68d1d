"""Parameters of the teleoperation node."""

from __future__ import annotations

from dataclasses import dataclass

from robovlm_ros.nodes.parameters import choice, fixed, limited
from robovlm_ros.teleoperation import FASTEST, SLOWEST


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Parameters of the teleoperation node."""

    contract: str = fixed("tabletop")
    """Contract of the robot, a YAML file or a shipped name."""
    input: str = choice("keyboard", ("keyboard", "joy", "expert"), fixed=True)
    """What commands: keys of a terminal, a gamepad on joy_topic, or the scripted expert of the simulator."""
    begin: str = choice("auto", ("auto", "person", "policy"), fixed=True)
    """Who commands at first; auto: the person, unless a policy runs already."""
    instruction: str = fixed("")
    """What is going to be shown: published on the instruction topic at the start; empty: nothing is published."""
    emergency_stop_topic: str = fixed("/emergency_stop")
    """Topic (std_msgs/Bool) on which true, latched or not, stops the robot until ~/reset; empty: the service only."""
    speed: float = limited(0.25, SLOWEST, FASTEST)
    """Share of full speed, which is max_velocity, or the whole range in 5 s; for velocities, their limits."""
    terminal: str = fixed("")
    """Device of the terminal whose keys are read; empty: the one that this node was started in."""
    keys: tuple[str, ...] = fixed(("",))
    """Keys as ACTION=KEYS, two letters (up, down) for a continuous action, one for a binary one; empty: by order."""
    key_release_s: float = limited(0.15, 0.02, 1.0, fixed=True)
    """A key of a terminal that reports no releases counts as held for this time after its newest repeat [s]."""
    joy_topic: str = fixed("/joy")
    """Topic of the gamepad, sensor_msgs/msg/Joy."""
    joy_axes: tuple[str, ...] = fixed(("",))
    """Axes as ACTION=AXIS (ACTION=-AXIS: reversed) of continuous actions; empty: by order."""
    joy_toggles: tuple[str, ...] = fixed(("",))
    """Buttons as ACTION=BUTTON that switch the binary actions; empty: by order."""
    joy_dead_man: int = limited(4, 0, 63, fixed=True)
    """Number of the button without which nothing moves."""
    joy_take_over: int = limited(7, 0, 63, fixed=True)
    """Number of the button that takes over from the policy."""
    joy_hand_back: int = limited(6, 0, 63, fixed=True)
    """Number of the button that hands back to the policy."""
    joy_faster: int = limited(3, 0, 63, fixed=True)
    """Number of the button for more speed."""
    joy_slower: int = limited(2, 0, 63, fixed=True)
    """Number of the button for less speed."""
    joy_timeout_s: float = limited(0.3, 0.05, 5.0, fixed=True)
    """A gamepad that says nothing for this time counts as gone [s]."""
