"""Episodes: rosbag2 folders in and out."""

from robovlm_ros.bags.interventions import TYPE as INTERVENTION_TYPE
from robovlm_ros.bags.metadata import OUTCOMES, OfferedQos, mark
from robovlm_ros.bags.reader import Commands, Episode, Message, Step, list_episodes, observations, read_episode
from robovlm_ros.bags.recording import Recording
from robovlm_ros.bags.repair import Repair, list_unfinished, recover
from robovlm_ros.bags.schedule import Schedule
from robovlm_ros.bags.watch import Watch
from robovlm_ros.bags.writer import EpisodeWriter

__all__ = [
    "INTERVENTION_TYPE",
    "OUTCOMES",
    "Commands",
    "Episode",
    "EpisodeWriter",
    "Message",
    "OfferedQos",
    "Recording",
    "Repair",
    "Schedule",
    "Step",
    "Watch",
    "list_episodes",
    "list_unfinished",
    "mark",
    "observations",
    "read_episode",
    "recover",
]
