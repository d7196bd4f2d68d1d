"""cv_bridge and ament_index_python."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ament_index_python.packages import PackageNotFoundError, get_package_share_directory, get_packages_with_prefixes
from cv_bridge import CvBridge, CvBridgeError
from sensor_msgs.msg import Image

BRIDGE = CvBridge()
PICTURE = np.random.default_rng(3).integers(0, 256, (6, 8, 3), dtype=np.uint8)


def test_an_image_comes_back_as_it_went_and_shares_the_messages_memory() -> None:
    message = BRIDGE.cv2_to_imgmsg(PICTURE, "rgb8")
    assert (message.height, message.width, message.step, message.encoding) == (6, 8, 24, "rgb8")
    view = BRIDGE.imgmsg_to_cv2(message)
    assert np.array_equal(view, PICTURE)
    message.data[0] = 255 - message.data[0]
    assert view[0, 0, 0] == message.data[0]


def test_rows_with_padding_and_big_endian_numbers_are_understood() -> None:
    message = Image(height=2, width=2, encoding="mono8", step=3, data=[1, 2, 99, 3, 4, 99])
    assert BRIDGE.imgmsg_to_cv2(message).tolist() == [[1, 2], [3, 4]]
    deep = Image(height=1, width=2, encoding="16UC1", step=4, is_bigendian=1, data=[1, 0, 0, 2])
    assert BRIDGE.imgmsg_to_cv2(deep).tolist() == [[256, 2]]


@pytest.mark.parametrize(
    ("want", "expected"),
    [
        ("bgr8", [[[3, 2, 1]]]),
        ("rgba8", [[[1, 2, 3, 255]]]),
        ("bgra8", [[[3, 2, 1, 255]]]),
        ("rgb16", [[[257, 514, 771]]]),
        ("mono8", [[2]]),  # 0.299 * 1 + 0.587 * 2 + 0.114 * 3, rounded
    ],
)
def test_colours_are_converted(want: str, expected: Any) -> None:
    message = Image(height=1, width=1, encoding="rgb8", step=3, data=[1, 2, 3])
    assert BRIDGE.imgmsg_to_cv2(message, want).tolist() == expected


@pytest.mark.parametrize("form", ["png", "jpg"])
def test_compressed_images_come_back(form: str) -> None:
    smooth = np.tile(np.linspace(0, 255, 64, dtype=np.uint8)[None, :, None], (48, 1, 3))
    message = BRIDGE.cv2_to_compressed_imgmsg(smooth, form)
    back = BRIDGE.compressed_imgmsg_to_cv2(message)
    assert back.shape == smooth.shape
    assert np.abs(back.astype(int) - smooth).max() <= (0 if form == "png" else 4)
    coloured = BRIDGE.compressed_imgmsg_to_cv2(BRIDGE.cv2_to_compressed_imgmsg(PICTURE, "png"), "rgb8")
    assert np.array_equal(coloured, PICTURE[..., ::-1])  # what goes in is BGR


@pytest.mark.parametrize(
    ("message", "part"),
    [
        (Image(height=2, width=2, encoding="rgb8", step=6, data=bytes(11)), "do not hold it"),
        (Image(height=1, width=1, encoding="purple", step=1, data=bytes(1)), "Unrecognized image encoding"),
        (Image(height=1, width=1, encoding="32FC1", step=4, data=bytes(4)), "not a color format"),
    ],
)
def test_images_that_make_no_sense_are_refused(message: Any, part: str) -> None:
    with pytest.raises(CvBridgeError, match=part):
        BRIDGE.imgmsg_to_cv2(message, "bgr8")


def test_a_package_installed_in_editable_mode_has_its_source_folder_as_share(tmp_path: Path) -> None:
    source = tmp_path / "src"
    source.mkdir()
    (source / "package.xml").write_text('<package format="3"><name>my_robot</name></package>')
    info = tmp_path / "site" / "my_robot-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my_robot\nVersion: 1.0\n")
    url = {"url": source.as_uri(), "dir_info": {"editable": True}}
    (info / "direct_url.json").write_text(json.dumps(url))
    code = "from ament_index_python import get_package_share_directory as f; print(f('my_robot'))"
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    result = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=20)
    assert result.stdout.strip() == str(source), result.stderr


def test_the_ament_index_is_searched_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marker = tmp_path / "share" / "ament_index" / "resource_index" / "packages" / "sensor_msgs"
    marker.parent.mkdir(parents=True)
    marker.write_text("")
    (tmp_path / "share" / "sensor_msgs").mkdir()
    assert Path(get_package_share_directory("sensor_msgs"), "msg", "Image.msg").is_file()
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))
    assert get_package_share_directory("sensor_msgs") == str(tmp_path / "share" / "sensor_msgs")
    assert get_packages_with_prefixes()["sensor_msgs"] == str(tmp_path)


def test_an_unknown_package_is_named() -> None:
    with pytest.raises(PackageNotFoundError, match="'no_such_robot' not found, searching"):
        get_package_share_directory("no_such_robot")
