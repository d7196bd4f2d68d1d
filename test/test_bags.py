"""Episodes: written raw, readable by everybody, read back exactly; damaged ones are said in one line."""

from __future__ import annotations

import json
import tracemalloc
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from mcap.exceptions import EndOfFile
from mcap.reader import make_reader
from mcap.records import Message
from mcap.stream_reader import StreamReader
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from robovlm_ros.action import to_absolute, to_relative
from robovlm_ros.bags import (
    INTERVENTION_TYPE,
    EpisodeWriter,
    OfferedQos,
    list_episodes,
    mark,
    observations,
    read_episode,
)
from robovlm_ros.bags.writer import MCAP_RECORD
from robovlm_ros.cli.inspect import main as inspect
from robovlm_ros.contract import Contract
from robovlm_ros.errors import UserError

CONTRACT = Contract.load("tabletop")
STEP = CONTRACT.step_ns
START = 1_700_000_000_000_000_000
STORE = get_typestore(Stores.ROS2_JAZZY)
TYPES = STORE.types


def header(stamp: int) -> Any:
    return TYPES["std_msgs/msg/Header"](TYPES["builtin_interfaces/msg/Time"](*divmod(stamp, 10**9)), "")


def picture(camera: int, step: int) -> np.ndarray:
    shape = (CONTRACT.cameras[camera].height, CONTRACT.cameras[camera].width, 3)
    return np.random.default_rng([camera, step]).integers(0, 256, shape, dtype=np.uint8)


def image(stamp: int, pixels: np.ndarray) -> bytes:
    height, width, _ = pixels.shape
    return raw(TYPES["sensor_msgs/msg/Image"](header(stamp), height, width, "rgb8", 0, width * 3, pixels.ravel()))


def joints(stamp: int, names: list[str], positions: Any) -> bytes:
    empty = np.zeros(0)
    return raw(TYPES["sensor_msgs/msg/JointState"](header(stamp), names, np.array(positions, float), empty, empty))


def pose(stamp: int, *position: float) -> bytes:
    point = TYPES["geometry_msgs/msg/Point"](*map(float, position))
    quaternion = TYPES["geometry_msgs/msg/Quaternion"](0.0, 0.0, 0.0, 1.0)
    return raw(
        TYPES["geometry_msgs/msg/PoseStamped"](header(stamp), TYPES["geometry_msgs/msg/Pose"](point, quaternion))
    )


def text(words: str) -> bytes:
    return raw(TYPES["std_msgs/msg/String"](words))


def raw(message: Any) -> bytes:
    return bytes(STORE.serialize_cdr(message, message.__msgtype__))


def topics() -> dict[str, str]:
    parts = (*CONTRACT.cameras, *CONTRACT.state, *CONTRACT.commands)
    found = {part.topic: part.type for part in parts} | {CONTRACT.instruction_topic: CONTRACT.instruction_type}
    return {**found, CONTRACT.intervention_topic: INTERVENTION_TYPE}


def episode_messages(steps: int = 5) -> list[tuple[str, bytes, int]]:
    """(topic, bytes, time of receipt) of an episode in which the command at step i is (i, 2i, 3i), gripper i odd."""
    names = list(CONTRACT.state[0].dims)
    found = [("/instruction", text("reach the red block"), START - 1000)]
    for i in range(steps):
        t = START + i * STEP
        found += [
            ("/joint_states", joints(t, [*names[::-1], "extra"], [*(np.arange(7.0)[::-1] + i), 99.0]), t + 1_000_000),
            ("/ee_pose", pose(t, i, -i, 0.5), t + 1_100_000),
            ("/camera/image_raw", image(t, picture(0, i)), t + 2_000_000),
            ("/wrist_camera/image_raw", image(t, picture(1, i)), t + 3_000_000),
            ("/arm/target_pose", pose(t, i, 2 * i, 3 * i), t + 4_000_000),
            ("/gripper/command", joints(t, ["gripper"], [0.04 * (i % 2)]), t + 5_000_000),
        ]
    return found


def record(path: Path, messages: list[tuple[str, bytes, int]], **options: Any) -> Path:
    writer = EpisodeWriter(path, CONTRACT, **options)
    for topic, kind in topics().items():
        writer.add_topic(topic, kind, OfferedQos(transient_local=topic == CONTRACT.instruction_topic))
    for topic, data, receive_ns in messages:
        writer.write(topic, data, receive_ns)
    return writer.finish()


def test_an_episode_says_what_it_is(tmp_path: Path) -> None:
    messages = [*episode_messages(), ("/instruction", text("reach the blue block"), START + 2 * STEP)]
    path = record(tmp_path / "one", messages, operator="ada", ros_distro="jazzy")
    episode = read_episode(path)
    assert episode.contract == CONTRACT
    assert (episode.name, episode.instruction, episode.operator, episode.outcome) == (
        "one",
        "reach the red block",
        "ada",
        "unknown",
    )
    assert episode.instructions == (
        (START - 1000, "reach the red block"),
        (START + 2 * STEP, "reach the blue block"),
    )
    assert episode.versions["ros_distro"] == "jazzy"
    assert episode.counts == {topic: {"/instruction": 2, "/intervention": 0}.get(topic, 5) for topic in topics()}
    assert episode.duration_s == pytest.approx((4 * STEP + 5_000_000 + 1000) / 1e9)
    mark(path, "success")
    assert read_episode(path).outcome == "success"
    with pytest.raises(UserError, match="success, failure, unknown"):
        mark(path, "fine")


def test_every_byte_comes_back_with_its_times_through_two_independent_readers(tmp_path: Path) -> None:
    messages = episode_messages()
    path = record(tmp_path / "one", messages)
    expected = sorted((receive, topic, data) for topic, data, receive in messages)
    assert sorted((m.receive_ns, m.topic, m.data) for m in read_episode(path).messages()) == expected
    with Reader(path) as reader:
        assert sorted((t, c.topic, bytes(data)) for c, t, data in reader.messages()) == expected
        for connection in reader.connections:
            assert connection.msgdef.data == STORE.generate_msgdef(connection.msgtype, ros_version=2)[0]
            assert connection.digest == STORE.hash_rihs01(connection.msgtype)
            latched = connection.topic == CONTRACT.instruction_topic
            assert connection.ext.offered_qos_profiles[0].durability.name == (
                "TRANSIENT_LOCAL" if latched else "VOLATILE"
            )
    with next(path.glob("*.mcap")).open("rb") as stream:
        reader = make_reader(stream, validate_crcs=True)
        assert reader.get_header().profile == "ros2"
        summary = reader.get_summary()
        assert summary is not None
        assert all(chunk.compression == "zstd" and chunk.message_index_length for chunk in summary.chunk_indexes)
        assert {schema.encoding for schema in summary.schemas.values()} == {"ros2msg"}
        found = [(m.log_time, c.topic, m.data) for _, c, m in reader.iter_messages()]
        assert sorted(found) == expected
        for _, channel, message in reader.iter_messages(["/ee_pose"]):
            assert message.publish_time == message.log_time - 1_100_000, channel
        assert json.loads(next(iter(reader.iter_metadata())).metadata["contract"]) == CONTRACT.to_dict()
        assert next(iter(reader.iter_metadata())).name == MCAP_RECORD


def test_the_metadata_are_what_rosbag2_of_humble_to_kilted_reads(tmp_path: Path) -> None:
    path = record(tmp_path / "one", episode_messages())
    info = yaml.safe_load((path / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert info["version"] == 8  # from 9 on, Humble cannot read the QoS profiles
    assert info["storage_identifier"] == "mcap"
    assert info["relative_file_paths"] == [info["files"][0]["path"]] == ["one_0.mcap"]
    assert info["compression_mode"] == info["compression_format"] == ""
    assert all(isinstance(value, str) for value in info["custom_data"].values())
    for topic in info["topics_with_message_count"]:
        profiles = yaml.safe_load(topic["topic_metadata"]["offered_qos_profiles"])
        assert all(isinstance(profiles[0][key], int) for key in ("history", "reliability", "durability", "liveliness"))


def test_messages_from_before_simulated_time_began_get_the_time_of_what_follows(tmp_path: Path) -> None:
    messages = [("/instruction", text("a"), 0), ("/ee_pose", pose(START, 1, 2, 3), 0), *episode_messages(1)[1:]]
    episode = read_episode(record(tmp_path / "one", messages))
    assert [(m.topic, m.receive_ns) for m in episode.messages()][:2] == [("/instruction", START), ("/ee_pose", START)]
    assert episode.duration_s < 1.0
    only = read_episode(record(tmp_path / "two", messages[:1]))
    assert [m.receive_ns for m in only.messages()] == [0]


def test_an_episode_has_its_name_only_when_it_is_complete(tmp_path: Path) -> None:
    writer = EpisodeWriter(tmp_path / "one", CONTRACT)
    writer.add_topic("/instruction", "std_msgs/msg/String")
    writer.write("/instruction", text("a"), 1)
    writer.flush()
    assert list_episodes(tmp_path) == []
    assert not (tmp_path / "one").exists()
    with pytest.raises(UserError, match="exists already"):
        EpisodeWriter(tmp_path / "one", CONTRACT)
    writer.finish()
    assert [path.name for path in tmp_path.iterdir()] == ["one"]
    gone = EpisodeWriter(tmp_path / "two", CONTRACT)
    gone.discard()
    assert list_episodes(tmp_path) == [tmp_path / "one"]
    assert len(list(tmp_path.iterdir())) == 1


def test_what_was_flushed_can_be_read_although_the_recording_never_ended(tmp_path: Path) -> None:
    writer = EpisodeWriter(tmp_path / "one", CONTRACT)
    writer.add_topic("/instruction", "std_msgs/msg/String")
    for i in range(10):
        writer.write("/instruction", text(str(i)), i)
    writer.flush()
    found = []
    with next(writer.partial.glob("*.mcap")).open("rb") as stream, suppress(EndOfFile):
        for item in StreamReader(stream).records:  # as after a kill: no footer, no index
            if isinstance(item, Message):
                found.append(item.data)  # noqa: PERF401 - what came before the end of the file counts
    assert found == [text(str(i)) for i in range(10)]


def test_observations_carry_state_images_and_instruction_of_their_stamp(tmp_path: Path) -> None:
    steps = list(observations(read_episode(record(tmp_path / "one", episode_messages()))))
    assert [step.observation.stamp_ns for step in steps] == [START + i * STEP for i in range(5)]
    for i, step in enumerate(steps):
        assert step.observation.instruction == "reach the red block"
        np.testing.assert_array_equal(step.observation.state, np.float32([*(np.arange(7) + i), i, -i, 0.5]))
        np.testing.assert_array_equal(step.observation.images["static"], picture(0, i))
        np.testing.assert_array_equal(step.observation.images["wrist"], picture(1, i))


def test_targets_are_the_commands_in_force_and_masked_past_the_end(tmp_path: Path) -> None:
    steps = list(observations(read_episode(record(tmp_path / "one", episode_messages())), ["static"], chunk_size=3))
    for i, step in enumerate(steps):
        assert set(step.observation.images) == {"static"}
        assert step.valid.tolist() == [i + k <= 4 for k in range(3)]
        for k in np.flatnonzero(step.valid):
            assert step.actions[k].tolist() == [i + k, 2 * (i + k), 3 * (i + k), (i + k) % 2]
    relative = to_relative(CONTRACT, steps[2].actions, steps[2].observation.state)
    assert relative[1].tolist() == [1.0, 8.0, 8.5, 1.0]
    np.testing.assert_array_equal(to_absolute(CONTRACT, relative, steps[2].observation.state), steps[2].actions)


def test_commands_hold_until_the_next_one_and_nothing_is_valid_before_the_first(tmp_path: Path) -> None:
    seldom = [
        item
        for item in episode_messages()
        if item[0] not in ("/arm/target_pose", "/gripper/command") or START + STEP < item[2] < START + 2 * STEP
    ]
    steps = list(observations(read_episode(record(tmp_path / "one", seldom)), chunk_size=2))
    assert [step.valid.tolist() for step in steps] == [[False, True], [True] * 2, [True] * 2, [True] * 2, [True, False]]
    assert all(step.actions[0].tolist() == [1.0, 2.0, 3.0, 1.0] for step in steps[1:])


def test_each_step_tells_whether_a_person_commanded(tmp_path: Path) -> None:
    def says(person: bool, step: float) -> tuple[str, bytes, int]:
        return "/intervention", raw(TYPES[INTERVENTION_TYPE](person)), START + round(step * STEP)

    messages = [*episode_messages(), says(True, 0.5), says(True, 0.7), says(False, 2.5), says(True, 3.5)]
    path = record(tmp_path / "one", sorted(messages, key=lambda message: message[2]))
    episode = read_episode(path)
    assert [step.intervention for step in observations(episode)] == [False, True, True, False, True]
    spans = [((begin - START) / STEP, (end - START) / STEP) for begin, end in episode.interventions]
    assert spans == [(0.5, 2.5), (3.5, 4.05)]  # the last one lasts until the last message
    foreign = yaml.safe_load((path / "metadata.yaml").read_text())
    del foreign["rosbag2_bagfile_information"]["custom_data"]["interventions"]
    (path / "metadata.yaml").write_text(yaml.safe_dump(foreign))
    assert [step.intervention for step in observations(read_episode(path))] == [False, True, True, False, True]


def test_a_person_who_commanded_before_an_episode_began_did_so_at_its_first_image_too(tmp_path: Path) -> None:
    begin = START + 500_000  # the recorder begins when the first image was taken, but has not come yet
    standing = [("/instruction", text("go"), begin), ("/intervention", raw(TYPES[INTERVENTION_TYPE](True)), begin)]
    path = record(tmp_path / "one", [*standing, *episode_messages()[1:]])
    assert all(step.intervention for step in observations(read_episode(path)))


def test_the_order_of_receipt_does_not_matter(tmp_path: Path) -> None:
    messages = episode_messages()
    times = [receive for _, _, receive in messages[1:]]
    shuffled = [messages[0]]
    for i in range(5):  # within a step every order; header stamps decide
        part = messages[1 + 6 * i : 7 + 6 * i]
        np.random.default_rng(i).shuffle(part)
        shuffled += [(topic, data, times[6 * i + k]) for k, (topic, data, _) in enumerate(part)]
    first = list(observations(read_episode(record(tmp_path / "one", messages)), chunk_size=4))
    second = list(observations(read_episode(record(tmp_path / "two", shuffled)), chunk_size=4))
    assert len(first) == len(second) == 5
    for a, b in zip(first, second, strict=True):
        assert a.observation.stamp_ns == b.observation.stamp_ns
        assert a.observation.state.tobytes() == b.observation.state.tobytes()
        assert a.actions.tobytes() == b.actions.tobytes()
        assert all(np.array_equal(a.observation.images[k], b.observation.images[k]) for k in ("static", "wrist"))


def test_a_bag_of_another_recorder_serves_with_a_contract_given(tmp_path: Path) -> None:
    path = tmp_path / "foreign"
    with Writer(path, version=9, storage_plugin=StoragePlugin.SQLITE3) as writer:
        connections = {t: writer.add_connection(t, kind, typestore=STORE) for t, kind in topics().items()}
        for topic, data, receive_ns in episode_messages():
            writer.write(connections[topic], receive_ns, data)
    with pytest.raises(UserError, match="carries no contract"):
        read_episode(path)
    assert len(list(observations(read_episode(path, CONTRACT)))) == 5


def damage(path: Path, how: str) -> Path:
    bag = next(path.glob("*.mcap"))
    data = bag.read_bytes()
    if how == "truncated":
        bag.write_bytes(data[: len(data) // 2])
    elif how == "empty":
        bag.write_bytes(b"")
    elif how == "bits":
        middle = len(data) // 2
        bag.write_bytes(data[:middle] + bytes(255 - b for b in data[middle : middle + 64]) + data[middle + 64 :])
    elif how == "other file":
        bag.write_bytes(b"not a bag " * 100)
    elif how == "fewer messages":
        text = (path / "metadata.yaml").read_text()
        (path / "metadata.yaml").write_text(text.replace("message_count: 5\n", "message_count: 6\n"))
    elif how == "no file":
        bag.unlink()
    elif how == "no metadata":
        (path / "metadata.yaml").unlink()
    elif how == "metadata":
        (path / "metadata.yaml").write_text("rosbag2_bagfile_information: [1, 2")
    elif how == "foreign metadata":
        (path / "metadata.yaml").write_text("rosbag2_bagfile_information: {version: 5}")
    return path


@pytest.mark.parametrize(
    "how",
    [
        "truncated",
        "empty",
        "bits",
        "other file",
        "fewer messages",
        "no file",
        "no metadata",
        "metadata",
        "foreign metadata",
    ],
)
def test_a_damaged_episode_is_named_in_one_line(tmp_path: Path, how: str, capsys: pytest.CaptureFixture[str]) -> None:
    record(tmp_path / "good", episode_messages())
    path = damage(record(tmp_path / "bad", episode_messages()), how)
    with pytest.raises(UserError, match="cannot be read") as error:
        list(observations(read_episode(path)))
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert inspect(["episodes", str(tmp_path)]) == 1
    printed = capsys.readouterr()
    assert "good" in printed.out
    assert str(path) in printed.err
    assert "Traceback" not in printed.err


@pytest.mark.parametrize("compress", [False, True])
def test_a_recording_is_read_in_its_order_with_one_chunk_in_memory_and_every_byte_checked(
    tmp_path: Path, compress: bool
) -> None:
    rng, count = np.random.default_rng(0), 24
    writer = EpisodeWriter(tmp_path / "long", CONTRACT, compress=compress)
    writer.note("in_order", True)
    for topic, kind in topics().items():
        writer.add_topic(topic, kind)
    stamps = [START + (i if i < 15 else i - 10) * STEP for i in range(count)]  # the clock was set back
    for stamp in stamps:
        pixels = rng.integers(0, 256, (500, 500, 3), dtype=np.uint8)
        writer.write("/camera/image_raw", image(stamp, pixels), stamp)
        writer.write("/instruction", text("reach"), stamp)
    episode = read_episode(writer.finish())
    tracemalloc.start()
    times = [message.receive_ns for message in episode.messages({"/camera/image_raw"})]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert times == stamps
    assert peak < 6_000_000 < 0.5 * episode.files[0].stat().st_size
    assert [message.topic for message in episode.messages()] == ["/camera/image_raw", "/instruction"] * count
    with episode.files[0].open("r+b") as stream:
        stream.seek(9_000_000)
        old = stream.read(1)
        stream.seek(9_000_000)
        stream.write(bytes([old[0] ^ 1]))
    with pytest.raises(UserError, match="long cannot be read"):
        list(episode.messages())


def test_messages_that_are_not_what_the_contract_says_name_their_episode(tmp_path: Path) -> None:
    t = START + STEP // 2
    for i, (topic, data, said) in enumerate(
        (
            ("/joint_states", joints(t, ["elbow"], [1.0]), "no joint 'joint_1' in the message"),
            ("/gripper/command", joints(t, ["elbow"], [1.0]), "no joint 'gripper' in the message"),
            ("/camera/image_raw", image(t, picture(1, 0)), "image of 64x64, the contract says 96x96"),
            ("/ee_pose", b"\0\1\0\0broken", "are not a geometry_msgs/msg/PoseStamped"),
        )
    ):
        path = record(tmp_path / f"bad{i}", [*episode_messages(), (topic, data, t)])
        with pytest.raises(UserError, match=f"bad{i} cannot be used: .*{said}"):
            list(observations(read_episode(path)))


def test_missing_folders_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="does not exist"):
        read_episode(tmp_path / "none")
    with pytest.raises(UserError, match="does not exist"):
        list_episodes(tmp_path / "none")
    assert inspect(["episodes", str(tmp_path)]) == 1
    assert "holds no episodes" in capsys.readouterr().err


def test_inspect_lists_the_episodes_and_writes_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mark(record(tmp_path / "b", episode_messages(3)), "success")
    record(tmp_path / "a", episode_messages())
    assert inspect(["episodes", str(tmp_path), "--json", str(tmp_path / "out.json")]) == 0
    out = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in out[:3]] == ["name", "a", "b"]
    assert "2 episodes" in out[-1]
    listed = json.loads((tmp_path / "out.json").read_text())
    assert [item["outcome"] for item in listed["episodes"]] == ["unknown", "success"]
    assert listed["episodes"][1]["messages"]["/ee_pose"] == 3
