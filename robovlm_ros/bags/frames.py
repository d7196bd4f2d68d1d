"""Episodes written from frames: what conversions from other formats share."""

from __future__ import annotations

import dataclasses
import io
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robovlm_ros import messages
from robovlm_ros.bags.interventions import TYPE as INTERVENTION_TYPE
from robovlm_ros.bags.metadata import OfferedQos
from robovlm_ros.bags.schema import blank, serialize
from robovlm_ros.bags.writer import EpisodeWriter
from robovlm_ros.contract import Contract
from robovlm_ros.errors import UserError

IMAGES = ("contract", "raw", "png", "jpeg")
"""How images may be written: as the contract's type says (PNG where that is compressed), or as told."""
RAW, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
JPEG_QUALITY = 95


def with_images(contract: Contract, images: str) -> Contract:
    """The contract with cameras that send what ``images`` (one of IMAGES) says, on topics named accordingly."""
    if images not in IMAGES:
        raise UserError(f"images '{images}' is not one of: {', '.join(IMAGES)}")
    if images == "contract":
        return contract
    kind = RAW if images == "raw" else COMPRESSED
    cameras = []
    for camera in contract.cameras:
        topic = camera.topic
        if camera.type != kind:
            topic = topic.removesuffix("/compressed") if kind == RAW else f"{topic}/compressed"
        cameras.append(dataclasses.replace(camera, type=kind, topic=topic))
    return dataclasses.replace(contract, cameras=tuple(cameras))


class FrameWriter:
    """Writes frames as the messages of a contract; messages have their own stamps as time of receipt, too."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        contract: Contract,
        *,
        operator: str = "",
        jpeg: bool = False,
        compress: bool = False,
    ) -> None:
        """Begin the episode ``path``; compressed images are PNG, or JPEG; chunks are zstd-compressed or not."""
        self.contract = contract
        self._format = "JPEG" if jpeg else "PNG"
        self._writer = EpisodeWriter(path, contract, operator=operator, compress=compress)
        parts: list[Any] = [*contract.cameras, *contract.state, *contract.commands]
        for part in parts:
            self._writer.add_topic(part.topic, part.type)
        latched = OfferedQos(transient_local=True, depth=1)
        self._writer.add_topic(contract.instruction_topic, contract.instruction_type, latched)
        self._writer.add_topic(contract.intervention_topic, INTERVENTION_TYPE, latched)
        self._blanks = {part.topic: blank(part.type) for part in parts}
        self._written = {part.topic: 0 for part in parts}
        self._events: list[tuple[int, str, memoryview]] = []
        self._last: tuple[int, Mapping[str, NDArray[np.uint8]], NDArray[np.floating]] | None = None

    def instruct(self, text: str, time_ns: int) -> None:
        """An instruction, received at that time [ns]; to be told before the first frame of that time or later."""
        message = blank(self.contract.instruction_type)
        message.data = text
        self._events.append((time_ns, self.contract.instruction_topic, serialize(message)))

    def intervene(self, person: bool, time_ns: int) -> None:
        """From then on [ns] a person commands, or no longer; to be told as `instruct`."""
        message = blank(INTERVENTION_TYPE)
        message.data = person
        self._events.append((time_ns, self.contract.intervention_topic, serialize(message)))

    def add(
        self,
        stamp_ns: int,
        images: Mapping[str, NDArray[np.uint8]],
        state: NDArray[np.floating],
        action: NDArray[np.floating] | None,
        stamps: Mapping[str, int] | None = None,
    ) -> None:
        """One frame, later than the one before.

        ``images``: camera → (height, width, 3) RGB; ``state`` (state_dim,) and ``action`` (action_dim,) in the
        contract's units, no action where nothing was commanded yet; ``stamps``: topic → stamp of its sample [ns], where
        it is not that of the frame. A sample that was written with an earlier frame is not written again.
        """
        found = self._observed(images, state, lambda topic: stamps.get(topic, stamp_ns) if stamps else stamp_ns)
        self._last = (stamp_ns, images, state)
        first = 0
        for command in self.contract.commands if action is not None else ():
            assert action is not None
            values = action[first : first + len(command.dims)]
            first += len(command.dims)
            time_ns = self._new(command.topic, (stamps or {}).get(command.topic, stamp_ns))
            if time_ns:
                message = self._fill(messages.fill_command, command, values, time_ns, self.contract.step_ns)
                found.append((time_ns, command.topic, message))
        self._write(found, stamp_ns)

    def finish(self, **notes: Any) -> Path:
        """Complete the episode, with what else its metadata shall say; returns its path.

        A source whose newest sample is older than the last frame repeats it behind that frame: without a later one the
        frame would not be complete to a reader.
        """
        if self._last is not None:
            end_ns, images, state = self._last
            self._write(self._observed(images, state, lambda topic: end_ns + (self._written[topic] < end_ns)), end_ns)
        self._write([], None)
        return self._writer.finish(**notes)

    def discard(self) -> None:
        """Remove what was written."""
        self._writer.discard()

    def _observed(
        self, images: Mapping[str, NDArray[np.uint8]], state: NDArray[np.floating], stamp_of: Callable[[str], int]
    ) -> list[tuple[int, str, memoryview]]:
        """Stamp, topic and bytes of those samples of a frame that were not written yet."""
        found: list[tuple[int, str, memoryview]] = []
        for camera in self.contract.cameras:
            time_ns = self._new(camera.topic, stamp_of(camera.topic))
            if time_ns:
                found.append((time_ns, camera.topic, self._image(camera, images[camera.name], time_ns)))
        first = 0
        for source in self.contract.state:
            values = state[first : first + len(source.dims)]
            first += len(source.dims)
            time_ns = self._new(source.topic, stamp_of(source.topic))
            if time_ns:
                message = self._fill(messages.fill_state, source, values, time_ns)
                found.append((time_ns, source.topic, message))
        return found

    def _write(self, found: list[tuple[int, str, memoryview]], until_ns: int | None) -> None:
        """Messages and what was told until then [ns], or all of it, in the order of their times."""
        due = [event for event in self._events if until_ns is None or event[0] <= until_ns]
        self._events = [event for event in self._events if event not in due]
        for time_ns, topic, data in sorted([*due, *found], key=lambda item: item[0]):
            self._writer.write(topic, data, time_ns)

    def _new(self, topic: str, stamp_ns: int) -> int:
        """The stamp of a sample that is to be written; 0 if it was written already, or never was there."""
        if stamp_ns <= self._written[topic]:
            return 0
        self._written[topic] = stamp_ns
        return stamp_ns

    def _fill(self, fill: Any, part: Any, values: NDArray[np.floating], *rest: Any) -> memoryview:
        try:
            return serialize(fill(self._blanks[part.topic], part, values, *rest))
        except ValueError as error:
            raise UserError(f"'{part.name}' ({part.topic}): {error}") from error

    def _image(self, camera: Any, image: NDArray[np.uint8], stamp_ns: int) -> memoryview:
        if image.shape != (camera.height, camera.width, 3):
            raise UserError(
                f"camera '{camera.name}': image of {image.shape[1]}x{image.shape[0]}, "
                f"the contract says {camera.width}x{camera.height}"
            )
        message = self._blanks[camera.topic]
        messages.set_stamp(message, stamp_ns, camera.frame)
        if camera.type == RAW:
            message.height, message.width, message.encoding = camera.height, camera.width, "rgb8"
            message.step = camera.width * 3
            message.data = np.ascontiguousarray(image).reshape(-1)
        else:
            message.format = f"rgb8; {self._format.lower()} compressed rgb8"
            message.data = np.frombuffer(_encoded(image, self._format), np.uint8)
        return serialize(message)


def even_stamps(count: int, rate_hz: float, start_ns: int = 1_000_000_000) -> Sequence[int]:
    """Stamps of frames [ns] that came without any: at a rate, from one second after zero on."""
    return [start_ns + round(i * 1e9 / rate_hz) for i in range(count)]


def _encoded(image: NDArray[np.uint8], kind: str) -> bytes:
    from PIL import Image  # only where compressed images are written

    stream = io.BytesIO()
    options = {"quality": JPEG_QUALITY, "subsampling": 0} if kind == "JPEG" else {"compress_level": 1}
    Image.fromarray(image).save(stream, kind, **options)
    return stream.getvalue()
