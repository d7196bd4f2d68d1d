"""Parameters of the servo node."""

from __future__ import annotations

from dataclasses import dataclass

from robovlm_ros.nodes.parameters import fixed, limited


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Parameters of the servo node."""

    contract: str = fixed("tabletop")
    """Contract whose pose command becomes joint trajectories, a YAML file or a shipped name."""
    robot_description: str = fixed("")
    """The robot's URDF, its text; empty: the latched topic robot_description says it."""
    tool_frame: str = fixed("tool")
    """Link of the URDF that the pose command places."""
    trajectory_topic: str = fixed("/joint_trajectory_controller/joint_trajectory")
    """Where trajectories of the arm's joints go (trajectory_msgs/JointTrajectory)."""
    gripper_topic: str = fixed("")
    """Where the contract's other commands of joints go as trajectories, with joints that mimic; empty: nowhere."""
    rate_hz: float = limited(50.0, 1.0, 1000.0, fixed=True)
    """Rate of trajectories while the arm moves [Hz]."""
    speed_m_s: float = limited(0.25, 0.001, 5.0, fixed=True)
    """Largest speed of the tool where the contract gives no max_velocity [m/s]."""
    turn_speed_rad_s: float = limited(1.5, 0.01, 20.0, fixed=True)
    """Largest speed at which the tool turns [rad/s]."""
    send_velocities: bool = fixed(False)
    """Say in each trajectory how fast the joints pass its point; most controllers refuse one that ends in motion."""
    publish_pose: bool = fixed(False)
    """Publish where the tool is, from the joints' positions, on the topic of the contract's pose state."""
    pose_rate_hz: float = limited(100.0, 1.0, 1000.0, fixed=True)
    """Publish the tool's pose at most so often, however often the joints are told [Hz of the joints' stamps]."""
    max_age_s: float = limited(0.5, 0.02, 10.0, fixed=True)
    """The arm is left where it is when the joints' newest positions are older than this [s]."""
    max_deviation: float = limited(0.5, 0.01, 10.0, fixed=True)
    """The target is dropped when a joint is further than this from where it was sent [rad or m]."""
    emergency_stop_topic: str = fixed("/emergency_stop")
    """Topic (std_msgs/Bool) on which true, latched or not, ends all motion until ~/reset; empty: the service only."""
