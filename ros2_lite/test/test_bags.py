"""Bags: written here and read by others, written by others and read here."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from ros2_lite.bags.metadata import BagError
from ros2_lite.bags.reader import Bag
from ros2_lite.bags.writer import PRESETS, BagWriter
from ros2_lite.cli import main
from ros2_lite.cli.bag.play import Timeline
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

QOS = (
    "- history: 3\n  depth: 0\n  reliability: 1\n  durability: 1\n  deadline:\n    sec: 9223372036\n"
    "    nsec: 854775807\n  lifespan:\n    sec: 9223372036\n    nsec: 854775807\n  liveliness: 1\n"
    "  liveliness_lease_duration:\n    sec: 9223372036\n    nsec: 854775807\n  avoid_ros_namespace_conventions: false"
)
START = 1_700_000_000_000_000_000  # ns


def serialized(text: str) -> bytes:
    from rclpy.serialization import serialize_message
    from std_msgs.msg import String

    return bytes(serialize_message(String(data=text)))


def write(folder: Path, **options: object) -> Path:
    """A bag of ten strings, a tenth of a second apart, and one image at the end."""
    from rclpy.serialization import serialize_message
    from sensor_msgs.msg import Image

    writer = BagWriter(str(folder), **options)  # type: ignore[arg-type]
    writer.add_topic("/words", "std_msgs/msg/String", QOS)
    writer.add_topic("/image", "sensor_msgs/msg/Image", QOS)
    for number in range(10):
        writer.write("/words", serialized(f"word {number}"), START + number * 10**8, START)
    image = bytes(serialize_message(Image(height=2, width=2, step=2, encoding="mono8", data=b"abcd")))
    writer.write("/image", image, START + 10**9, START)
    writer.close()
    return folder


@pytest.mark.parametrize("preset", PRESETS)
def test_a_bag_written_here_is_read_elsewhere(tmp_path: Path, preset: str) -> None:
    folder = write(tmp_path / "bag", preset=preset, max_duration_ns=5 * 10**8, custom_data={"who": "me"})
    store = get_typestore(Stores.ROS2_JAZZY)
    with Reader(folder) as reader:
        assert reader.message_count == 11
        assert (reader.start_time, reader.duration) == (START, 10**9 + 1)  # the end is exclusive there
        words = [
            store.deserialize_cdr(data, connection.msgtype).data
            for connection, _, data in reader.messages()
            if connection.topic == "/words"
        ]
        (image,) = [connection for connection in reader.connections if connection.topic == "/image"]
        assert image.digest == store.hash_rihs01("sensor_msgs/msg/Image")
        assert "MSG: std_msgs/Header" in image.msgdef.data
        assert image.ext.offered_qos_profiles[0].durability.name == "TRANSIENT_LOCAL"  # type: ignore[union-attr]
    assert words == [f"word {number}" for number in range(10)]
    assert sorted(path.name for path in folder.iterdir()) == ["bag_0.mcap", "bag_1.mcap", "bag_2.mcap", "metadata.yaml"]
    assert Bag(str(folder)).info.custom_data == {"who": "me"}
    assert [message.time_ns for message in Bag(str(folder)).messages()] == [START + n * 10**8 for n in range(11)]


@pytest.mark.parametrize("storage", [StoragePlugin.SQLITE3, StoragePlugin.MCAP])
def test_a_bag_written_elsewhere_is_read_here(tmp_path: Path, storage: StoragePlugin) -> None:
    store = get_typestore(Stores.ROS2_JAZZY)
    folder = tmp_path / "bag"
    with Writer(folder, version=9, storage_plugin=storage) as writer:
        connection = writer.add_connection("/words", "std_msgs/msg/String", typestore=store)
        for number in range(3):
            writer.write(connection, START + number, serialized(str(number)))
    (single,) = (path for path in folder.iterdir() if path.suffix != ".yaml")
    for path in (folder, single):
        bag = Bag(str(path))
        assert [(topic.name, topic.type, topic.count) for topic in bag.info.topics] == [
            ("/words", "std_msgs/msg/String", 3)
        ]
        assert [(m.time_ns - START, m.data) for m in bag.messages(start_ns=START + 1)] == [
            (1, serialized("1")),
            (2, serialized("2")),
        ]
        assert list(bag.messages(lambda topic: topic == "/other")) == []


def test_info_is_laid_out_as_by_rosbag2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setenv("ROS_DISTRO", "jazzy")
    time.tzset()
    folder = write(tmp_path / "bag", max_duration_ns=10**9)
    assert main(["bag", "info", str(folder)]) == 0
    size = sum(path.stat().st_size for path in folder.glob("*.mcap")) / 1024
    assert capsys.readouterr().out == (
        f"""
Files:             bag_0.mcap
                   bag_1.mcap
Bag size:          {size:.1f} KiB
Storage id:        mcap
ROS Distro:        jazzy
Duration:          1.000000000s
Start:             Nov 14 2023 22:13:20.000000000 (1700000000.000000000)
End:               Nov 14 2023 22:13:21.000000000 (1700000001.000000000)
Messages:          11
Topic information: Topic: /words | Type: std_msgs/msg/String | Count: 10 | Serialization Format: cdr
                   Topic: /image | Type: sensor_msgs/msg/Image | Count: 1 | Serialization Format: cdr
Service:           0
Service information: """
        "\n"
    )
    assert main(["bag", "info", "-t", str(folder)]) == 0
    assert capsys.readouterr().out == "/words\n/image\n"


def test_a_bag_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BagError, match=r"empty.*No such file"):
        Bag(str(tmp_path / "empty"))
    folder = write(tmp_path / "cut")
    whole = (folder / "cut_0.mcap").read_bytes()
    (folder / "cut_0.mcap").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BagError, match=r"cut_0\.mcap' is no whole MCAP file"):
        list(Bag(str(folder)).messages())
    (folder / "metadata.yaml").write_text("rosbag2_bagfile_information: {}")
    with pytest.raises(BagError, match="not that of a rosbag2 bag"):
        Bag(str(folder))
    (tmp_path / "note.txt").touch()
    with pytest.raises(BagError, match="is no bag"):
        Bag(str(tmp_path / "note.txt"))


def test_the_time_of_the_bag_follows_rate_and_pauses() -> None:
    line = Timeline(START, 2.0, 10.0)
    assert line.time_ns(11.0) == START + 2 * 10**9
    assert line.due(START + 10**9) == 10.5
    line.change(11.0, is_paused=True)
    assert (line.time_ns(50.0), line.due(START + 3 * 10**9)) == (START + 2 * 10**9, float("inf"))
    line.change(60.0, is_paused=False, rate=1.0)
    assert line.due(START + 3 * 10**9) == 61.0


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("bag record", "Need to specify at least one option out of --all"),
        ("bag record -a -o .", "Output folder '.' already exists."),
        ("bag record -a --regex [", "'[' is no regular expression"),
        ("bag record -a --custom-data who", "--custom-data takes KEY=VALUE, not 'who'"),
        ("bag play no/such/bag", "Bag path 'no/such/bag' does not exist!"),
        ("bag play BAG --topics /wods", "the bag has no topic /wods; its topics are: /image, /words"),
        ("bag play BAG --remap /a", "--remap takes OLD:=NEW, not '/a'"),
    ],
)
def test_bad_input_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, expected: str) -> None:
    folder = write(tmp_path / "bag")
    try:
        code = main([str(folder) if word == "BAG" else word for word in line.split()])
    except SystemExit as done:
        code = int(done.code or 0)
    error = capsys.readouterr().err
    assert code != 0
    assert expected in error
    assert error.count("\n") == 1
