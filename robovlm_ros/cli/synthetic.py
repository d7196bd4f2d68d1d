"""Episodes made on the spot, for measurements: a moving picture, a moving arm, nothing to be learned."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robovlm_ros import messages
from robovlm_ros.bags import EpisodeWriter
from robovlm_ros.contract import Contract

START_NS = 1_700_000_000_000_000_000
_PICTURES = 16


def write_episodes(folder: Path, contract: Contract, count: int, length: int, seed: int = 0) -> None:
    """``count`` episodes of ``length`` observations at the contract's rate, with a command for each."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        _write_episode(folder / f"episode_{number:05d}", contract, length, rng)


def sized(contract: Contract, width: int, height: int) -> Contract:
    """The contract with cameras of another size [px]."""
    cameras = tuple(dataclasses.replace(camera, width=width, height=height) for camera in contract.cameras)
    return dataclasses.replace(contract, cameras=cameras)


def _write_episode(path: Path, contract: Contract, length: int, rng: np.random.Generator) -> None:
    from rclpy.serialization import serialize_message

    writer = EpisodeWriter(path, contract)
    parts: tuple[Any, ...] = (*contract.cameras, *contract.state, *contract.commands)
    for part in parts:
        writer.add_topic(part.topic, part.type)
    writer.add_topic(contract.instruction_topic, contract.instruction_type)
    said = messages.message_class(contract.instruction_type)(data="reach the red block")
    writer.write(contract.instruction_topic, serialize_message(said), START_NS)
    pictures = {camera.name: _pictures(camera.height, camera.width, rng) for camera in contract.cameras}
    for step in range(length):
        stamp_ns = START_NS + step * contract.step_ns
        for camera in contract.cameras:
            message = messages.message_class(camera.type)()
            fill_image(message, pictures[camera.name][step % _PICTURES])
            messages.set_stamp(message, stamp_ns)
            writer.write(camera.topic, serialize_message(message), stamp_ns)
        for source in contract.state:
            values = 0.1 * np.sin(0.1 * step + np.arange(len(source.dims)))
            message = messages.fill_state(messages.message_class(source.type)(), source, values, stamp_ns)
            writer.write(source.topic, serialize_message(message), stamp_ns)
        for command in contract.commands:
            low, high = np.array([dim.limits for dim in command.dims]).T
            values = low + (high - low) * rng.random(len(low))
            message = messages.message_class(command.type)()
            messages.fill_command(message, command, values, stamp_ns, contract.step_ns)
            writer.write(command.topic, serialize_message(message), stamp_ns)
    writer.finish()


def fill_image(message: Any, pixels: NDArray[np.uint8]) -> None:
    """Write (H, W, 3) RGB into an ``Image``, or into a ``CompressedImage`` as JPEG."""
    if hasattr(message, "format"):
        import io

        from PIL import Image

        encoded = io.BytesIO()
        Image.fromarray(pixels).save(encoded, "jpeg")
        message.format, message.data = "jpeg", encoded.getvalue()
        return
    message.height, message.width = pixels.shape[:2]
    message.encoding, message.step, message.data = "rgb8", 3 * pixels.shape[1], pixels.tobytes()


def _pictures(height: int, width: int, rng: np.random.Generator) -> list[NDArray[np.uint8]]:
    """Gradients that move, with a camera's noise."""
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    found = []
    for number in range(_PICTURES):
        planes = [110 + 80 * np.sin((rows + (c + 1) * columns) / 70 + number / 2 + c) for c in range(3)]
        noise = rng.integers(-3, 4, (height, width, 3))
        found.append(np.clip(np.stack(planes, 2) + noise, 0, 255).astype(np.uint8))
    return found
