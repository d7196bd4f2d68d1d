"""Reading episodes: their metadata, their messages, and aligned observations with the commands in force."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from mcap.reader import make_reader
from numpy.typing import NDArray

from robovlm_ros import messages as codec
from robovlm_ros.alignment import Aligner
from robovlm_ros.bags import metadata
from robovlm_ros.bags.chunks import Found, messages_in_order
from robovlm_ros.bags.interventions import Interventions, Span, during
from robovlm_ros.bags.schema import deserialize
from robovlm_ros.contract import Contract
from robovlm_ros.errors import UserError
from robovlm_ros.observation import Observation


class Message(NamedTuple):
    """One recorded message."""

    topic: str
    type: str
    receive_ns: int
    """When it was received [ns]."""
    data: bytes
    """As it came: CDR."""
    definition: str
    """Definition of its type, from the bag."""

    def decode(self) -> Any:
        """The message object; UserError if the bytes are not of its type."""
        return deserialize(self.data, self.type, self.definition)


class Step(NamedTuple):
    """One instant of an episode: what was observed and what was commanded from there on."""

    observation: Observation
    actions: NDArray[np.float64]
    """(chunk_size, action_dim) absolute actions, row i in force at the observation's stamp + i x step."""
    valid: NDArray[np.bool_]
    """(chunk_size,) False where the episode had ended, or nothing was commanded yet."""
    intervention: bool = False
    """A person commanded the robot in the policy's place when this was observed."""


@dataclass(frozen=True, kw_only=True)
class Episode:
    """One recorded demonstration; the messages stay on the disk until they are asked for."""

    path: Path
    contract: Contract
    instruction: str
    """What was to be done when the episode began."""
    instructions: tuple[tuple[int, str], ...]
    """Each instruction with the time of its receipt [ns]."""
    outcome: str
    """One of OUTCOMES."""
    operator: str
    versions: Mapping[str, str]
    counts: Mapping[str, int]
    """Topic → number of messages."""
    start_ns: int
    duration_s: float
    dropped: Mapping[str, int]
    """Topic → number of messages that the recorder received and could not write; only those where any were lost."""
    incidents: tuple[tuple[int, str], ...]
    """What went wrong meanwhile, each with its time [ns]: a camera vanished, the clock jumped."""
    interventions: tuple[Span, ...]
    """[begin, end) of each time in which a person commanded the robot in the policy's place [ns]."""
    recovered: bool
    """It broke off, and a repair made an episode of what had reached the disk."""
    _source: Path
    """What the reader opens: the MCAP file, or the folder where it is another kind of bag."""
    _in_order: bool
    """The file holds the messages in the order of their receipt, whatever their times say."""

    @property
    def name(self) -> str:
        """Name of its folder."""
        return self.path.name

    @property
    def files(self) -> list[Path]:
        """The files that hold its messages."""
        if self._source.is_file():
            return [self._source]
        return sorted(path for path in self.path.iterdir() if path.is_file() and path.name != metadata.FILE_NAME)

    @property
    def reading(self) -> dict[str, Any]:
        """What decides, beside the bytes of its files, what is read from them; plain values."""
        return {"contract": self.contract.to_dict(), "counts": dict(self.counts), "in_order": self._in_order}

    def messages(self, topics: Collection[str] | None = None) -> Iterator[Message]:
        """All messages, or those of some topics, in the order of their receipt.

        That is the order in which the recorder wrote them, also where the clock was set back meanwhile. Bags of
        another making tell it by the times of receipt.

        UserError naming path and reason if the bag is damaged, even half-way, or holds other numbers of messages
        than its metadata say.
        """
        left = {topic: count for topic, count in self.counts.items() if topics is None or topic in topics}
        with _readable(self.path):
            is_mcap = self._source.suffix == ".mcap"
            found = _from_mcap(self._source, topics, self._in_order) if is_mcap else _from_any_bag(self._source, topics)
            for message in found:
                left[message.topic] = left.get(message.topic, 0) - 1
                yield message
        for topic, count in left.items():
            if count:
                raise UserError(
                    f"episode {self.path} cannot be read: it has {self.counts.get(topic, 0) - count} "
                    f"of {self.counts.get(topic, 0)} messages on {topic}"
                )

    @contextmanager
    def named(self) -> Iterator[None]:
        """A message in it that is not what the contract says is an error of this episode."""
        with _named(self.path):
            yield


Track = tuple[NDArray[np.int64], NDArray[np.float64]]
"""(n,) stamps in order [ns] and (n, dims) values of one command of a contract."""


class Commands:
    """The commands of an episode, asked by time."""

    def __init__(self, contract: Contract, tracks: Sequence[Track]) -> None:
        """``tracks``: one for each command of the contract, in its order."""
        self.contract = contract
        self.tracks = list(tracks)
        self.end_ns = max((int(stamps[-1]) for stamps, _ in self.tracks if len(stamps)), default=-(2**63))
        """Stamp of the last command [ns]."""

    @classmethod
    def of(cls, episode: Episode, found: Iterable[Message] | None = None) -> Commands:
        """All commands: by header stamp, or by time of receipt where a type has no header.

        ``found``: the messages on the command topics, where they were read already.
        """
        contract = episode.contract
        by_topic = {command.topic: command for command in contract.commands}
        given: dict[str, list[tuple[int, NDArray[np.float64]]]] = {topic: [] for topic in by_topic}
        for message in episode.messages(by_topic) if found is None else found:
            with _named(episode.path):
                decoded = message.decode()
                values = codec.command_values(decoded, by_topic[message.topic])
            stamp_ns = codec.stamp_ns(decoded)
            given[message.topic].append((message.receive_ns if stamp_ns is None else stamp_ns, values))
        tracks: list[Track] = []
        for command in contract.commands:
            track = sorted(given[command.topic], key=lambda item: item[0])
            stamps = np.array([stamp for stamp, _ in track], dtype=np.int64)
            values = np.array([values for _, values in track], dtype=np.float64).reshape(len(track), len(command.dims))
            tracks.append((stamps, values))
        return cls(contract, tracks)

    def in_force(self, times_ns: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """At each of (n,) times: (n, action_dim) newest commands, 0 before the first; (n,) whether all were given."""
        columns = []
        valid = np.ones(len(times_ns), np.bool_)
        for stamps, values in self.tracks:
            place = np.searchsorted(stamps, times_ns, side="right") - 1  # (n,)
            valid &= place >= 0
            padded = np.concatenate([values, np.zeros((1, values.shape[1]))])  # (commands + 1, dims); -1 takes zeros
            columns.append(padded[place])  # (n, dims)
        return np.concatenate(columns, axis=1), valid

    def chunk(self, stamp_ns: int, size: int, end_ns: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """(size, action_dim) commands in force at an observation's stamp + i x step, and (size,) which of them count.

        None does behind ``end_ns`` [ns], where the episode ended: its last observation or command.
        """
        due_ns = stamp_ns + np.arange(size, dtype=np.int64) * self.contract.step_ns  # (size,)
        actions, valid = self.in_force(due_ns)  # (size, action_dim), (size,)
        return actions, valid & (due_ns <= end_ns)

    def stamps_in_force(self, times_ns: NDArray[np.int64]) -> NDArray[np.int64]:
        """At each of (n,) times: (n, commands) stamps of the newest commands [ns], 0 before the first."""
        columns = []
        for stamps, _ in self.tracks:
            place = np.searchsorted(stamps, times_ns, side="right") - 1  # (n,)
            columns.append(np.append(stamps, 0)[place])  # (n,); -1 takes the zero
        return np.stack(columns, axis=1)


def read_episode(path: str | os.PathLike[str], contract: Contract | None = None) -> Episode:
    """Open an episode; ``contract`` serves bags that carry none (those that `recorder_node` did not make).

    UserError naming path and reason if it is missing, foreign or damaged.
    """
    path = Path(path)
    info = metadata.read(path)["rosbag2_bagfile_information"]
    with _readable(path):
        custom = {str(key): str(value) for key, value in (info.get("custom_data") or {}).items()}
        topics = info["topics_with_message_count"]
        files = [path / Path(name).name for name in info["relative_file_paths"]]
        missing = [file.name for file in files if not file.is_file()]
        if missing:
            raise UserError(f"episode {path} cannot be read: its file {missing[0]} is missing")
        if "contract" in custom:
            contract = Contract.from_dict(json.loads(custom["contract"]), where=f"contract of episode {path}")
        if contract is None:
            raise UserError(f"episode {path} carries no contract: name one")
        plain = info["storage_identifier"] == "mcap" and not info.get("compression_mode") and len(files) == 1
        return Episode(
            path=path,
            contract=contract,
            instruction=custom.get("instruction", ""),
            instructions=_timed(custom, "instructions"),
            outcome=custom.get("outcome", "unknown"),
            operator=custom.get("operator", ""),
            versions=json.loads(custom.get("versions", "{}")),
            counts={topic["topic_metadata"]["name"]: int(topic["message_count"]) for topic in topics},
            start_ns=int(info["starting_time"]["nanoseconds_since_epoch"]),
            duration_s=int(info["duration"]["nanoseconds"]) / 1e9,
            dropped={
                topic: int(counts["dropped"])
                for topic, counts in json.loads(custom.get("messages", "{}")).items()
                if counts["dropped"]
            },
            incidents=_timed(custom, "incidents"),
            interventions=tuple(
                (int(span["begin_ns"]), int(span["end_ns"])) for span in json.loads(custom.get("interventions", "[]"))
            ),
            recovered=custom.get("recovered") == "true",
            _source=files[0] if plain else path,
            _in_order=custom.get("in_order") == "true",
        )


def _timed(custom: Mapping[str, str], key: str) -> tuple[tuple[int, str], ...]:
    return tuple((int(item["time_ns"]), str(item["text"])) for item in json.loads(custom.get(key, "[]")))


def list_episodes(directory: str | os.PathLike[str]) -> list[Path]:
    """The episodes in a folder, oldest first; UserError if there is no such folder.

    Recordings that are not complete (hidden folders) are left out.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise UserError(f"folder {directory} does not exist")
    return sorted(
        path
        for path in directory.iterdir()
        if path.is_dir()
        and not path.name.startswith(".")
        and ((path / metadata.FILE_NAME).exists() or any(path.glob("*.mcap")))
    )


def observations(
    episode: Episode,
    cameras: Sequence[str] | None = None,
    chunk_size: int = 1,
    commands: Commands | None = None,
) -> Iterator[Step]:
    """The observations of an episode, exactly as the policy node would have made them, and the commands in force.

    Of all cameras or of those named; the others are not decoded, and neither are images that no observation uses.
    The episode ends with its last observation or command, whichever is later. ``commands`` are the episode's, where
    they were read already.
    """
    contract = episode.contract
    aligner = Aligner(contract, cameras)
    topics = {contract.instruction_topic}
    topics.update(camera.topic for camera in aligner.cameras)
    topics.update(source.topic for source in contract.state)
    commands = Commands.of(episode) if commands is None else commands
    by_person, reach_ns = intervention_spans(episode), (chunk_size - 1) * contract.step_ns
    end_ns = commands.end_ns
    waiting: deque[Observation] = deque()  # those whose chunk reaches past the end that is known so far

    def step(observation: Observation) -> Step:
        actions, valid = commands.chunk(observation.stamp_ns, chunk_size, end_ns)
        return Step(observation, actions, valid, during(by_person, observation.stamp_ns))

    for observation in _observed(episode, aligner, topics):
        end_ns = max(end_ns, observation.stamp_ns)
        waiting.append(observation)
        while waiting and waiting[0].stamp_ns + reach_ns <= end_ns:
            yield step(waiting.popleft())
    yield from map(step, waiting)


def intervention_spans(episode: Episode, found: Iterable[Message] | None = None) -> tuple[Span, ...]:
    """When a person commanded, by the messages: bags of another making say it nowhere else.

    ``found``: the messages on the intervention topic, where they were read already.
    """
    heard, topic = Interventions(), episode.contract.intervention_topic
    if found is None:
        found = episode.messages({topic}) if episode.counts.get(topic) else ()
    for message in found:
        heard.hear(message.data, message.receive_ns)
    spans = heard.spans(2**63 - 1)
    if spans and spans[0][0] <= episode.start_ns:  # in force before the episode began; its first image is older, too
        spans = ((0, spans[0][1]), *spans[1:])
    return spans


def _observed(episode: Episode, aligner: Aligner, topics: Collection[str]) -> Iterator[Observation]:
    for message in episode.messages(topics):
        with _named(episode.path):
            aligner.add_message(message.topic, message.decode(), message.receive_ns)
        while True:
            with _named(episode.path):
                observation = aligner.next_observation()
            if observation is None:
                break
            yield observation


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """A message that is not what the contract says is an error of its episode."""
    try:
        yield
    except UserError as error:
        raise UserError(f"episode {path} cannot be used: {error}") from error


def _from_mcap(source: Path, topics: Collection[str] | None, in_order: bool) -> Iterator[Message]:
    with source.open("rb") as stream:
        reader = make_reader(stream, validate_crcs=True)
        by_time = (Found(s, c, message.log_time, message.data) for s, c, message in reader.iter_messages(topics))
        for schema, channel, receive_ns, data in messages_in_order(reader, stream, topics) if in_order else by_time:
            text = schema.data.decode() if schema is not None and schema.encoding == "ros2msg" else ""
            name = schema.name if schema is not None else ""
            yield Message(channel.topic, name, receive_ns, data, text)


def _from_any_bag(source: Path, topics: Collection[str] | None) -> Iterator[Message]:
    """Bags of other recorders: SQLite storage, several files, whole files or messages compressed."""
    from rosbags.rosbag2 import Reader  # a quarter of what importing this module would cost

    with Reader(source) as reader:
        wanted = [c for c in reader.connections if topics is None or c.topic in topics]
        if wanted:  # no connection at all would mean every connection to the reader
            for connection, receive_ns, data in reader.messages(wanted):
                yield Message(connection.topic, connection.msgtype, receive_ns, data, connection.msgdef.data)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Whatever reading a damaged bag leads to (five libraries take part in it) becomes one line that names it."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"episode {path} cannot be read: {reason}") from error
