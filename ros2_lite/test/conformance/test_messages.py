"""Message classes and their serialisation."""

from __future__ import annotations

import array
from typing import Any

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, PoseStamped, PoseWithCovariance, Quaternion
from rcl_interfaces.msg import ParameterType
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import Image, JointState, NavSatStatus
from std_msgs.msg import Header, MultiArrayDimension, String
from std_srvs.srv import SetBool


def test_fields_begin_as_their_definition_says() -> None:
    assert String().data == ""
    assert Point() == Point(x=0.0, y=0.0, z=0.0)
    assert Quaternion().w == 1.0
    assert NavSatStatus().status == NavSatStatus.STATUS_UNKNOWN
    assert ParameterType.PARAMETER_STRING_ARRAY == 9
    assert PoseStamped().header.frame_id == ""
    assert SetBool.Response().success is False


def test_fields_are_given_by_keyword() -> None:
    message = JointState(header=Header(stamp=Time(sec=3), frame_id="base"), name=["a"], position=[1.5])
    assert (message.header.stamp.sec, message.header.frame_id, message.name) == (3, "base", ["a"])


def test_messages_compare_and_print_their_fields() -> None:
    assert Point(x=1.0) == Point(x=1.0) != Point(x=2.0)
    assert Point() != Quaternion()
    assert repr(Point(x=1.0)) == "geometry_msgs.msg.Point(x=1.0, y=0.0, z=0.0)"
    assert String.get_fields_and_field_types() == {"data": "string"}
    assert Image.get_fields_and_field_types()["data"] == "sequence<uint8>"
    assert PoseWithCovariance.get_fields_and_field_types()["covariance"] == "double[36]"
    assert list(MultiArrayDimension.get_fields_and_field_types()) == ["label", "size", "stride"]


def test_numbers_in_arrays_are_arrays() -> None:
    assert isinstance(JointState(position=[0.5]).position, array.array)
    assert JointState(position=[0.5]).position.typecode == "d"
    covariance = PoseWithCovariance().covariance
    assert isinstance(covariance, np.ndarray)
    assert (covariance.dtype, covariance.shape) == (np.float64, (36,))
    image = Image(data=b"\x01\x02")
    assert isinstance(image.data, array.array)
    assert image.data.tobytes() == b"\x01\x02"


def test_assignments_are_checked_only_where_a_message_is_asked_to() -> None:
    loose, strict = JointState(check_fields=False), JointState(check_fields=True)
    loose.name = "elbow"
    assert loose.name == "elbow"
    with pytest.raises(AssertionError):
        strict.name = "elbow"
    with pytest.raises(AssertionError):
        strict.position = np.zeros(2)
    JointState(check_fields=False, colour="red")
    with pytest.raises(AssertionError):
        JointState(check_fields=True, colour="red")


def test_numbers_assigned_without_checks_are_copied() -> None:
    mine = array.array("d", [1.0, 2.0])
    loose = JointState(check_fields=False)
    for source in (mine, np.array(mine), list(mine)):
        loose.position = source
        assert loose.position == mine
        assert loose.position is not mine


@pytest.mark.parametrize(
    "message",
    [
        String(data="grüße"),
        JointState(name=["a", "bc"], position=[1.0, -2.5], velocity=[], effort=[float("inf"), 0.0]),
        PoseWithCovariance(covariance=np.arange(36, dtype=np.float64)),
        Image(header=Header(frame_id="cam"), height=1, width=2, encoding="rgb8", step=6, data=bytes(range(6))),
        SetBool.Response(success=True, message="done"),
    ],
)
def test_messages_survive_serialisation(message: Any) -> None:
    data = serialize_message(message)
    assert isinstance(data, bytes)
    again = deserialize_message(data, type(message))
    assert type(again) is type(message)
    assert again == message
    assert repr(again) == repr(message)


def test_the_bytes_are_those_of_cdr() -> None:
    assert serialize_message(String(data="hi")).startswith(b"\x00\x01\x00\x00\x03\x00\x00\x00hi\x00")


def test_only_messages_of_the_class_are_serialised() -> None:
    with pytest.raises(Exception):  # noqa: B017, PT011 (which one is not documented)
        deserialize_message(b"\x00\x01\x00\x00", String)  # a head, and nothing behind it
