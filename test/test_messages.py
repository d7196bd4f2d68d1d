"""The message codec: what each type means, in both directions."""

from __future__ import annotations

import dataclasses
import importlib.util
import io
import tracemalloc
import types
from array import array
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from robovlm_ros import messages
from robovlm_ros.contract import ActionDimension, Command, Contract, StateSource
from robovlm_ros.errors import UserError
from robovlm_ros.images import ENCODINGS, decode_compressed, decode_image

COLOURS = np.array([[[250, 20, 3], [1, 200, 90]], [[7, 8, 9], [100, 110, 250]]], dtype=np.uint8)  # (2, 2, 3)
RAW = {
    "rgb8": COLOURS,
    "bgr8": COLOURS[..., ::-1],
    "rgba8": np.concatenate([COLOURS, np.full((2, 2, 1), 77, np.uint8)], axis=2),
    "bgra8": np.concatenate([COLOURS[..., ::-1], np.full((2, 2, 1), 77, np.uint8)], axis=2),
    "mono8": COLOURS[..., :1],
}
NAMES = {
    "geometry_msgs/msg/PoseStamped": ("x", "y", "z", "qx", "qy", "qz", "qw"),
    "geometry_msgs/msg/Twist": ("linear_x", "angular_z"),
    "geometry_msgs/msg/TwistStamped": ("angular_x", "linear_y"),
    "control_msgs/msg/GripperCommand": ("finger_joint",),
}


def blank(kind: str) -> Any:
    """An empty message; of packages that are not everywhere, one with their fields."""
    if kind == "control_msgs/msg/GripperCommand":
        return types.SimpleNamespace(position=0.0, max_effort=0.0)
    return messages.message_class(kind)()


def make_command(kind: str, names: tuple[str, ...], **dim: Any) -> Command:
    dims = tuple(ActionDimension(name=name, unit="rad", limits=(-2.0, 3.0), **dim) for name in names)
    return Command(name="part", topic="/part", type=kind, dims=dims, frame="base_link")


@pytest.mark.parametrize("encoding", RAW)
@pytest.mark.parametrize("padding", [0, 5])
def test_every_encoding_becomes_rgb_and_row_padding_is_skipped(encoding: str, padding: int) -> None:
    pixels = RAW[encoding]
    rows = pixels.reshape(2, -1)
    padded = np.concatenate([rows, np.full((2, padding), 99, np.uint8)], axis=1)
    expected = np.repeat(COLOURS[..., :1], 3, axis=2) if encoding == "mono8" else COLOURS
    for data in (padded.ravel(), padded.tobytes(), padded.ravel().tolist(), padded.tobytes()[: padded.size - padding]):
        image = decode_image(encoding, 2, 2, padded.shape[1], 0, data)
        assert image.flags.owndata or image.base is not padded
        np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize("bigendian", [0, 1])
def test_of_sixteen_bits_the_higher_eight_are_the_brightness(bigendian: int) -> None:
    wide = (COLOURS.astype(np.uint16) << 8) + 199
    data = wide.astype(">u2" if bigendian else "<u2").tobytes()
    np.testing.assert_array_equal(decode_image("rgb16", 2, 2, 12, bigendian, data), COLOURS)
    mono = wide[..., :1].astype(">u2" if bigendian else "<u2").tobytes()
    np.testing.assert_array_equal(
        decode_image("mono16", 2, 2, 4, bigendian, mono), np.repeat(COLOURS[..., :1], 3, axis=2)
    )


@pytest.mark.parametrize("encoding", [name for name in ENCODINGS if name.startswith("bayer")])
def test_a_mosaic_keeps_what_it_measured_and_a_smooth_image_comes_back(encoding: str) -> None:
    y, x = np.mgrid[0:6, 0:8]
    image = np.stack([10 + 4 * x, 50 + 8 * y, 200 - 4 * x - 8 * y], axis=2)  # (6, 8, 3), linear
    tiles = encoding[len("bayer_") :][:4]
    channel = np.array(["rgb".index(name) for name in tiles]).reshape(2, 2)[y % 2, x % 2]  # (6, 8)
    mosaic = np.take_along_axis(image, channel[..., None], axis=2)[..., 0]
    data = (mosaic << 8).astype("<u2").tobytes() if encoding.endswith("16") else mosaic.astype(np.uint8).tobytes()
    found = decode_image(encoding, 8, 6, 8 * (len(data) // 48), 0, data)
    np.testing.assert_array_equal(found[1:-1, 1:-1], image[1:-1, 1:-1])
    np.testing.assert_array_equal(np.take_along_axis(found, channel[..., None], axis=2)[..., 0], mosaic)


@given(st.lists(st.integers(0, 255), min_size=8, max_size=8))
def test_yuv_follows_its_recommendation_in_both_byte_orders(values: list[int]) -> None:
    y0, y1, y2, y3, u0, v0, u1, v1 = values
    expected = []
    for y, u, v in ((y0, u0, v0), (y1, u0, v0), (y2, u1, v1), (y3, u1, v1)):  # ITU-R BT.601, limited range
        luma, blue, red = (y - 16) / 219, (u - 128) / 224, (v - 128) / 224
        rgb = (luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue)
        expected.append([255 * min(max(part, 0.0), 1.0) for part in rgb])
    for encoding, data in (
        ("yuv422", [u0, y0, v0, y1, u1, y2, v1, y3]),
        ("yuv422_yuy2", [y0, u0, y1, v0, y2, u1, y3, v1]),
    ):
        image = decode_image(encoding, 4, 1, 8, 0, data)
        np.testing.assert_allclose(image[0], expected, atol=0.51)


@pytest.mark.parametrize("bigendian", [0, 1])
def test_depth_is_light_where_it_is_near_and_black_where_nothing_was_measured(bigendian: int) -> None:
    order = ">" if bigendian else "<"
    millimetres = np.array([[0, 500, 1000, 3000]]).astype(order + "u2")
    metres = np.array([[np.nan, 0.5, 1.0, np.inf]]).astype(order + "f4")
    for encoding, depth in (("16UC1", millimetres), ("32FC1", metres)):
        image = decode_image(encoding, 4, 1, depth.nbytes, bigendian, depth.tobytes(), (0.0, 2.0))
        assert image[0, :, 0].tolist() == [0, 191, 128, 0]
    with pytest.raises(UserError, match="give the camera 'depth"):
        decode_image("16UC1", 4, 1, 8, 0, millimetres.tobytes())


def test_the_contract_says_how_far_a_depth_camera_looks() -> None:
    values = Contract.load("tabletop").to_dict()
    values["cameras"][1] |= {"depth": [0.0, 2.0], "width": 2, "height": 1}
    camera = Contract.from_dict(values).cameras[1]
    message = messages.message_class(camera.type)()
    message.height, message.width, message.step, message.encoding = 1, 2, 4, "16UC1"
    message.data = np.array([0, 1000], "<u2").tobytes()
    assert messages.image(message, camera)[0, :, 0].tolist() == [0, 128]
    values["cameras"][1]["depth"] = [2.0, 1.0]
    with pytest.raises(UserError, match="camera 'wrist': depth must be"):
        Contract.from_dict(values)


def test_a_decoded_image_is_a_copy_of_the_message() -> None:
    data = bytearray(COLOURS.tobytes())
    image = decode_image("rgb8", 2, 2, 6, 0, data)
    data[:] = bytes(len(data))
    np.testing.assert_array_equal(image, COLOURS)


def test_an_image_of_rclpy_is_looked_at_where_the_message_holds_it() -> None:
    camera = Contract.load("tabletop").cameras[0]
    message = messages.message_class(camera.type)()
    message.encoding, message.width, message.height, message.step = "rgb8", 640, 480, 1920
    message.data = array("B", bytes(range(256)) * (640 * 480 * 3 // 256))
    tracemalloc.start()
    image = messages.image(message, camera)
    taken = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert taken < 10_000  # of 921,600 bytes: the copy from the wire is the only one
    assert image.shape == (480, 640, 3)
    assert image.tobytes() == message.data.tobytes()


@pytest.mark.parametrize(
    ("encoding", "width", "step", "text"),
    [
        ("64FC1", 2, 8, "not one of: rgb8"),
        ("rgb8", 2, 5, "step 5"),
        ("rgb8", 4, 12, "12 bytes"),
        ("rgb8", 0, 0, "0x2"),
        ("yuyv", 3, 6, "3x2 cannot be yuyv"),
        ("bayer_rggb8", 1, 6, "1x2 cannot be bayer_rggb8"),
    ],
)
def test_an_image_that_cannot_be_read_is_refused_in_one_line(encoding: str, width: int, step: int, text: str) -> None:
    with pytest.raises(UserError, match=text) as error:
        decode_image(encoding, width, 2, step, 0, COLOURS.tobytes())
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("file_format", ["PNG", "JPEG"])
def test_compressed_images_are_decoded(file_format: str) -> None:
    smooth = np.repeat(np.repeat(COLOURS, 16, axis=0), 16, axis=1)  # (32, 32, 3)
    stream = io.BytesIO()
    Image.fromarray(smooth).save(stream, file_format, quality=95, subsampling=0)
    image = decode_compressed(file_format.lower(), stream.getvalue())
    assert image.dtype == np.uint8
    np.testing.assert_allclose(image.astype(int), smooth.astype(int), atol=0 if file_format == "PNG" else 12)
    with pytest.raises(UserError, match="jpeg, png"):
        decode_compressed("jpeg", stream.getvalue()[:20])


@pytest.mark.parametrize("kind", messages.COMMAND_CODECS)
@given(data=st.data())
def test_what_is_written_into_a_command_is_read_back(kind: str, data: st.DataObject) -> None:
    command = make_command(kind, NAMES.get(kind, ("a", "b", "c")))
    numbers = st.floats(-1e6, 1e6, allow_nan=False)
    values = np.array(data.draw(st.lists(numbers, min_size=len(command.dims), max_size=len(command.dims))))
    message = blank(kind)
    assert messages.fill_command(message, command, values, 5_000_000_007, 100_000_000) is message
    np.testing.assert_array_equal(messages.command_values(message, command), values)
    assert messages.stamp_ns(message) == (5_000_000_007 if hasattr(message, "header") else None)


@pytest.mark.parametrize("kind", messages.STATE_CODECS)
def test_what_is_written_into_a_state_is_read_back(kind: str) -> None:
    names = NAMES.get(kind, ("a", "b", "c"))
    source = StateSource(name="part", topic="/part", type=kind, dims=names, unit="rad")
    values = np.arange(len(names)) + 0.25
    message = messages.fill_state(messages.message_class(kind)(), source, values, 7, "base_link")
    np.testing.assert_array_equal(messages.state_values(message, source), values)


def test_binary_actions_are_sent_as_their_limits() -> None:
    contract = Contract.load("tabletop")
    gripper = contract.commands[1]
    for action, position in ((0.0, 0.0), (1.0, 0.04)):
        message = messages.fill_command(
            messages.message_class(gripper.type)(), gripper, np.array([action]), 1, contract.step_ns
        )
        assert list(message.position) == [position]
        assert messages.command_values(message, gripper).tolist() == [action]
    message.position = [0.03]  # somebody else's gripper command, nearly open
    assert messages.command_values(message, gripper).tolist() == [1.0]


def test_a_pose_command_keeps_its_fixed_orientation_and_frame() -> None:
    arm = Contract.load("tabletop").commands[0]
    message = messages.fill_command(messages.message_class(arm.type)(), arm, np.array([0.1, 0.2, 0.3]), 1, 1)
    q = message.pose.orientation
    assert (q.x, q.y, q.z, q.w) == (1.0, 0.0, 0.0, 0.0)
    assert message.header.frame_id == "base_link"


def test_whole_numbers_in_a_contract_are_sent_as_floats() -> None:
    """rclpy refuses an int in a float field, and YAML's [0, 0, 0, 1] has only such."""
    values = Contract.load("tabletop").to_dict()
    arm, gripper = values["commands"]
    arm["orientation"], gripper["dims"][0]["limits"] = [0, 0, 0, 1], [0, 1]
    contract = Contract.from_dict(values)
    for command, action in zip(contract.commands, ([0.1, 0.2, 0.3], [1.0]), strict=True):
        message = messages.message_class(command.type)()
        assert messages.fill_command(message, command, np.array(action), 1, 1) is message
    assert list(message.position) == [1.0]


def test_a_trajectory_reaches_its_point_after_one_step() -> None:
    command = make_command("trajectory_msgs/msg/JointTrajectory", ("a", "b"))
    message = messages.fill_command(
        messages.message_class(command.type)(), command, np.array([1.0, 2.0]), 3, 1_500_000_000
    )
    duration = message.points[0].time_from_start
    assert (list(message.joint_names), duration.sec, duration.nanosec) == (["a", "b"], 1, 500_000_000)


def test_a_whole_trajectory_has_its_points_at_their_times() -> None:
    command = make_command("trajectory_msgs/msg/JointTrajectory", ("a", "b"))
    values, due_ns = np.array([[1.0, 2.0], [1.5, 2.5]]), np.array([1_200_000_000, 2_300_000_000])
    message = messages.fill_path(messages.message_class(command.type)(), command, values, due_ns, 1_000_000_000)
    assert (list(message.joint_names), message.header.frame_id) == (["a", "b"], "base_link")
    assert messages.stamp_ns(message) == 1_000_000_000
    assert [list(point.positions) for point in message.points] == values.tolist()
    times = [(point.time_from_start.sec, point.time_from_start.nanosec) for point in message.points]
    assert times == [(0, 200_000_000), (1, 300_000_000)]


def test_a_gripper_is_told_its_effort() -> None:
    kind = "control_msgs/msg/GripperCommand"
    command = dataclasses.replace(make_command(kind, ("finger",)), max_effort=40)
    message = messages.fill_command(blank(kind), command, np.array([0.02]), 1, 1)
    assert (message.position, message.max_effort) == (0.02, 40.0)


def test_a_contract_that_needs_a_package_that_is_not_there_names_it() -> None:
    values = Contract.load("tabletop").to_dict()
    messages.check_installed(Contract.from_dict(values))
    values["state"][0]["type"] = "sensor_msgs/msg/JointState"
    values["commands"][1]["type"] = "control_msgs/msg/GripperCommand"
    contract = Contract.from_dict(values)
    if importlib.util.find_spec("control_msgs") is not None:
        messages.check_installed(contract)
        return
    with pytest.raises(UserError, match=r"'gripper' \(/gripper/command\) needs package control_msgs"):
        messages.check_installed(contract)


def test_joints_are_matched_by_name_and_a_missing_one_is_named() -> None:
    source = StateSource(name="arm", topic="/s", type="sensor_msgs/msg/JointState", dims=("b", "a"), unit="rad")
    message = messages.message_class(source.type)()
    message.name, message.position = ["x", "a", "b"], [9.0, 1.0, 2.0]
    assert messages.state_values(message, source).tolist() == [2.0, 1.0]
    message.name, message.position = ["a", "x"], [1.0, 2.0]
    with pytest.raises(UserError, match=r"state 'arm' \(/s\): no joint 'b' in the message \(joints: a, x\)"):
        messages.state_values(message, source)


@pytest.mark.parametrize(("unit", "field"), [("rad", "position"), ("m / s", "velocity"), ("N m", "effort")])
def test_a_unit_says_which_numbers_of_joints_are_meant(unit: str, field: str) -> None:
    source = StateSource(name="arm", topic="/s", type="sensor_msgs/msg/JointState", dims=("b", "a"), unit=unit)
    message = messages.message_class(source.type)()
    message.name, message.position, message.velocity, message.effort = ["a", "b"], [1.0, 2.0], [3.0, 4.0], [5.0, 6.0]
    expected = list(reversed(getattr(message, field)))
    assert messages.state_values(message, source).tolist() == expected
    assert list(getattr(messages.fill_state(type(message)(), source, np.array([7.0, 8.0]), 1), field)) == [7.0, 8.0]
    setattr(message, field, [])  # many drivers measure no velocity
    with pytest.raises(UserError, match=rf"state 'arm' \(/s\): the message has joints \(a, b\), but no {field}"):
        messages.state_values(message, source)


def test_a_pose_in_another_frame_is_refused_where_the_contract_names_one() -> None:
    free = StateSource(name="ee", topic="/ee", type="geometry_msgs/msg/PoseStamped", dims=("z",), unit="m")
    bound = dataclasses.replace(free, frame="base_link")
    message = messages.fill_state(messages.message_class(free.type)(), bound, np.array([0.5]), 1, "tool0")
    assert messages.state_values(message, bound).tolist() == [0.5]
    message.header.frame_id = "map"
    assert messages.state_values(message, free).tolist() == [0.5]
    with pytest.raises(UserError, match=r"state 'ee' \(/ee\) is in frame 'map', not in 'base_link' as the contract"):
        messages.state_values(message, bound)


@pytest.mark.parametrize("bad", [np.array([np.nan, 0.0]), np.array([np.inf, 0.0]), np.array([1.0])])
def test_a_nan_or_a_wrong_number_of_values_never_gets_into_a_command(bad: np.ndarray) -> None:
    command = make_command("std_msgs/msg/Float64MultiArray", ("a", "b"))
    with pytest.raises(ValueError, match="2 finite values"):
        messages.fill_command(messages.message_class(command.type)(), command, bad, 1, 1)


def test_a_zero_stamp_counts_as_none() -> None:
    message = messages.message_class("sensor_msgs/msg/JointState")()
    assert messages.stamp_ns(message) is None
    messages.set_stamp(message, 12_000_000_034, "here")
    assert messages.stamp_ns(message) == 12_000_000_034
    assert messages.stamp_ns(messages.message_class("std_msgs/msg/String")()) is None


def test_a_contract_that_asks_a_message_for_what_it_cannot_carry_is_refused() -> None:
    contract = Contract.load("tabletop")
    messages.check_contract(contract)
    values = contract.to_dict()
    values["commands"][0]["dims"][0]["name"] = "height"
    with pytest.raises(UserError, match="command 'arm': dimension 'height' is not one of: x, y, z"):
        messages.check_contract(Contract.from_dict(values))


def test_an_unknown_message_type_is_refused() -> None:
    for name in ("sensor_msgs/Image", "sensor_msgs/msg/Picture", "no_such_msgs/msg/Image"):
        with pytest.raises(UserError, match=name):
            messages.message_class(name)
