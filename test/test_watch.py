"""What the recorder notices by itself, and what it does by itself: pure, with times as arguments."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from robovlm_ros.bags import Schedule, Watch
from robovlm_ros.bags.schema import image_size
from robovlm_ros.errors import UserError

from .test_bags import CONTRACT, START, TYPES, header, image, joints, pose, raw

MS = 1_000_000
STATIC, WRIST = (camera.topic for camera in CONTRACT.cameras)
SIZES = {STATIC: (96, 96), WRIST: (64, 64)}


def small(width: int, height: int, stamp_ns: int = START) -> bytes:
    return image(stamp_ns, np.zeros((height, width, 3), np.uint8))


def all_say(watch: Watch, now_ns: int, but: str = "") -> None:
    names = list(CONTRACT.state[0].dims)
    sent = {"/joint_states": joints(now_ns, names, np.zeros(7)), "/ee_pose": pose(now_ns, 0, 0, 0)}
    for topic, data in (sent | {topic: small(*size, now_ns) for topic, size in SIZES.items()}).items():
        if topic != but:
            assert watch.message(topic, data, now_ns) is None


def test_a_camera_that_vanishes_is_said_once_and_so_is_its_return() -> None:
    watch = Watch(CONTRACT)
    watch.begin(START)
    said = []
    for ms in range(0, 4000, 100):
        now = START + ms * MS
        all_say(watch, now, but=WRIST if 1000 <= ms < 3000 else "")
        said += [(ms, text) for text in watch.look(now, now, recording=True)]
        assert bool(watch.troubles()) == (1500 <= ms < 3000)
    assert said == [
        (1500, f"camera 'wrist' ({WRIST}) is silent since 0.6 s"),
        (3000, f"camera 'wrist' ({WRIST}) is back"),
    ]


def test_a_topic_that_never_said_anything_is_silent_from_the_beginning_of_the_episode_on() -> None:
    watch = Watch(CONTRACT)
    assert watch.look(START, START, recording=False) == []
    assert watch.look(START + 5000 * MS, START + 5000 * MS, recording=False) == []  # nobody asked for it yet
    watch.begin(START + 5000 * MS)
    assert watch.look(START + 5400 * MS, START + 5400 * MS, recording=True) == []
    assert len(watch.look(START + 5600 * MS, START + 5600 * MS, recording=True)) == 4


def test_another_image_size_is_said_when_it_comes_and_when_it_goes() -> None:
    watch = Watch(CONTRACT)
    assert watch.message(STATIC, small(96, 96), START) is None
    assert watch.message(STATIC, small(48, 32), START) == (
        f"camera 'static' ({STATIC}) sends images of 48x32, not of 96x96 as the contract says"
    )
    assert watch.message(STATIC, small(48, 32), START) is None
    assert len(watch.troubles()) == 1
    assert "of 96x96 again" in str(watch.message(STATIC, small(96, 96), START))
    assert watch.troubles() == []
    assert "cannot be read" in str(watch.message(STATIC, b"\0\1\0\0what", START))


@pytest.mark.parametrize("frame", ["", "c", "cam", "camera_optical_frame"])
@pytest.mark.parametrize("kind", ["raw", "jpeg", "png"])
def test_the_size_of_an_image_is_read_from_its_first_bytes(frame: str, kind: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    head = dataclasses.replace(header(START), frame_id=frame)
    if kind == "raw":
        message = TYPES["sensor_msgs/msg/Image"](head, 30, 40, "rgb8", 0, 120, pixels.ravel())
    else:
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, kind)
        data = np.frombuffer(stream.getvalue(), np.uint8)
        message = TYPES["sensor_msgs/msg/CompressedImage"](head, f"rgb8; {kind} compressed bgr8", data)
    assert image_size(raw(message), message.__msgtype__) == (40, 30)


@pytest.mark.parametrize("jump_ms", [3000, -3000])
def test_a_clock_that_is_set_is_said_and_makes_nobody_silent(jump_ms: int) -> None:
    watch = Watch(CONTRACT)
    watch.begin(START)
    said = []
    for ms in range(0, 2000, 100):
        now = START + (ms + (jump_ms if ms >= 1000 else 0)) * MS
        if ms != 1000:
            all_say(watch, now)
        said += watch.look(now, ms * MS, recording=True)
    direction = "forward" if jump_ms > 0 else "back"
    assert said == [f"the clock jumped {direction} by 3.000 s: stamps before and after do not fit together"]


def test_a_clock_that_is_set_forward_makes_nobody_silent_who_has_not_begun_yet() -> None:
    watch = Watch(CONTRACT)
    watch.begin(START)
    assert watch.look(START, 0, recording=True) == []
    (said,) = watch.look(START + 9100 * MS, 100 * MS, recording=True)
    assert "forward by 9.000 s" in said


@pytest.mark.parametrize("offset_ms", [0, 7000, -7000])
def test_messages_that_pile_up_are_said_whatever_the_clock_of_the_sender_says(offset_ms: int) -> None:
    watch = Watch(CONTRACT)
    watch.begin(START)
    said = []
    for ms in range(0, 6000, 100):
        now = START + ms * MS
        lag_ms = 20 if ms < 2000 else min(ms - 2000, 1500) if ms < 5000 else 30
        watch.message("/ee_pose", pose(now - (lag_ms + offset_ms) * MS, 0, 0, 0), now)
        said += [(ms, text) for text in watch.look(now, now, recording=True) if "taken" in text]
        if ms < 2000 or ms >= 5000:
            assert watch.behind_ns() < 100 * MS
    assert said == [
        (3100, "messages are taken 1.1 s late: this machine is too slow, or a sender is"),
        (5000, "messages are taken in time again"),
    ]


def test_simulated_time_may_stop_and_hurry_but_not_go_back() -> None:
    watch = Watch(CONTRACT, simulated=True)
    said = []
    for steady_ms, ms in ((0, 0), (10_000, 1), (10_100, 5000), (10_200, 1000)):
        said += watch.look(ms * MS, steady_ms * MS, recording=False)
    assert len(said) == 1
    assert "back by 4.000 s" in said[0]


def test_episodes_of_a_fixed_length_follow_each_other_until_enough_are_kept() -> None:
    schedule = Schedule(episodes=2, episode_ns=300 * MS, reset_ns=200 * MS)
    happened = []
    discarded = False
    for ms in range(0, 3000, 100):
        due = schedule.due(ms * MS, ready=ms >= 500)
        if due is not None:
            happened.append((ms, due))
        if due == "start":
            schedule.began(ms * MS)
        elif due == "stop":  # the first is not kept: it comes again
            schedule.ended(ms * MS, kept=discarded)
            discarded = True
        elif due == "end":
            break
    assert happened == [
        *[(500, "start"), (800, "stop")],
        *[(1000, "start"), (1300, "stop")],
        *[(1500, "start"), (1800, "stop"), (1900, "end")],
    ]


def test_without_parameters_people_begin_and_end_episodes() -> None:
    schedule = Schedule()
    assert schedule.due(0, ready=True) is None
    schedule.began(0)
    assert schedule.due(10**15, ready=True) is None
    with pytest.raises(UserError, match="'episodes' needs 'episode_seconds'"):
        Schedule(episodes=3)
