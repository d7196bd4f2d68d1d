"""The web page of the cameras, asked as a browser does."""

from __future__ import annotations

import io
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import rclpy
from PIL import Image
from rclpy.executors import SingleThreadedExecutor

from robovlm_ros import messages
from robovlm_ros.nodes.view_node import ViewNode

from .robots import CONTRACT, Robot, end_spinning


@pytest.fixture
def stage(domain_id: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[ViewNode, Robot]]:
    """The node in this process, on a free port, and a robot that publishes."""
    rclpy.init(args=["--ros-args", "-p", "port:=0"])
    node = ViewNode()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    thread = threading.Thread(target=executor.spin)
    thread.start()
    robot = Robot(CONTRACT)
    yield node, robot
    robot.close()
    node.close()
    end_spinning(executor, thread)


def test_a_browser_gets_the_page_and_each_new_image(stage: tuple[ViewNode, Robot]) -> None:
    node, robot = stage
    base = f"http://127.0.0.1:{node.port}"
    page = urllib.request.urlopen(base, timeout=10).read().decode()
    assert all(f'src="/{camera.name}"' in page for camera in CONTRACT.cameras)
    camera = CONTRACT.cameras[0]
    picture = np.zeros((camera.height, camera.width, 3), np.uint8)

    def publish() -> None:
        message = messages.message_class(camera.type)(height=camera.height, width=camera.width, encoding="rgb8")
        message.step, message.data = 3 * camera.width, picture.tobytes()
        robot.publishers[camera.topic].publish(message)

    robot.node.create_timer(0.1, publish)
    with urllib.request.urlopen(f"{base}/{camera.name}", timeout=30) as stream:
        for value in (40, 200):
            picture[:, : camera.width // 2] = value
            for _ in range(50):  # those of before may come first
                seen = next_image(stream)
                assert seen.shape == picture.shape
                if np.abs(seen.astype(int) - picture).mean() < 2:  # JPEG
                    break
            else:
                pytest.fail(f"no image of {value}")


def next_image(stream: Any) -> np.ndarray:
    """(H, W, 3) of the next part of a multipart answer."""
    head: dict[str, str] = {}
    while (line := stream.readline().strip().decode()) or not head:
        head.update([line.partition(": ")[::2]] if line else [])
    return np.array(Image.open(io.BytesIO(stream.read(int(head["Content-Length"])))))


def test_what_there_is_not_is_said_with_what_there_is(stage: tuple[ViewNode, Robot]) -> None:
    with pytest.raises(urllib.error.HTTPError, match="/instruction, /static, /wrist"):
        urllib.request.urlopen(f"http://127.0.0.1:{stage[0].port}/nowhere", timeout=10)
