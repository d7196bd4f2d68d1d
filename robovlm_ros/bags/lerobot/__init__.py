"""LeRobotDataset v3.0 in and out: parquet files for numbers, mp4 files for images, and their metadata.

Reference: ``lerobot/datasets`` of the ``lerobot`` package, versions 0.4 to 0.6. Nothing of it is needed here.
"""

from robovlm_ros.bags.lerobot.derived import check_fit, derive_contract
from robovlm_ros.bags.lerobot.export import EpisodePart, export_part
from robovlm_ros.bags.lerobot.reader import LeRobotReader
from robovlm_ros.bags.lerobot.restore import restore
from robovlm_ros.bags.lerobot.video import CODECS, VideoOptions
from robovlm_ros.bags.lerobot.writer import LeRobotWriter

__all__ = [
    "CODECS",
    "EpisodePart",
    "LeRobotReader",
    "LeRobotWriter",
    "VideoOptions",
    "check_fit",
    "derive_contract",
    "export_part",
    "restore",
]
