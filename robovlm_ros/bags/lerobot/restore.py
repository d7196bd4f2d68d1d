"""An episode of a LeRobot data set as a rosbag2 episode."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robovlm_ros.bags.frames import COMPRESSED, FrameWriter, even_stamps, with_images
from robovlm_ros.bags.lerobot import layout
from robovlm_ros.bags.lerobot.derived import check_fit, order
from robovlm_ros.bags.lerobot.reader import LeRobotReader
from robovlm_ros.contract import Contract
from robovlm_ros.errors import UserError

OWN = (layout.STAMP, layout.STAMPS, layout.EXACT_ACTION, layout.VALID)
"""Columns by which to know that an episode was one of ours."""


def restore(
    reader: LeRobotReader,
    number: int,
    folder: Path,
    contract: Contract | None = None,
    *,
    images: str = "contract",
    compress: bool = False,
) -> tuple[Path, int]:
    """Write episode ``number`` into ``folder``, under its old name where it has one; (its path, frames).

    ``contract`` is needed where the data set carries none; ``images`` is one of `frames.IMAGES`. Of an episode that
    this package converted, stamps, numbers, instructions, interventions and outcome are as they were. UserError if the
    data set is broken or the contract does not fit.
    """
    record = _record(reader, number)
    if contract is None:
        if not reader.contracts:
            raise UserError(f"{reader.path} carries no contract: name one, or let one be derived")
        contract = Contract.from_dict(reader.contracts[record.get("contract", 0)], f"contract in {reader.path}")
    keys = check_fit(reader, contract)
    numbers = _numbers(reader, number, contract)
    frames = reader.episodes[number]["length"]
    stamps = numbers.get(layout.STAMP)
    stamps = np.array(even_stamps(frames, reader.fps)) if stamps is None else stamps
    places = layout.topics(contract)
    given = numbers.get(layout.STAMPS)
    if given is not None and given.shape != (frames, len(places)):
        given = None  # other topics than when it was converted
    sent = with_images(contract, images)
    renamed = [camera.topic for camera in sent.cameras] + list(places[len(sent.cameras) :])
    jpeg = images == "jpeg" and sent.cameras[0].type == COMPRESSED
    writer = FrameWriter(
        folder / reader.name(number, record),
        sent,
        operator=str(record.get("operator", "")),
        jpeg=jpeg,
        compress=compress,
    )
    try:
        _tell(writer, reader, record, numbers, stamps)
        times_s = (np.arange(frames) / reader.fps).tolist()
        if layout.STAMP not in numbers:
            times_s = numbers["timestamp"].astype(np.float64).tolist()
        videos = {name: reader.images(number, key, times_s) for name, key in keys.items()}
        for i, stamp in enumerate(stamps.tolist()):
            seen = {name: _next(video, keys[name], reader) for name, video in videos.items()}
            own = None if given is None else dict(zip(renamed, given[i].tolist(), strict=True))
            action = numbers[layout.ACTION][i] if numbers[layout.VALID][i] else None
            writer.add(stamp, seen, numbers[layout.STATE][i], action, own)
        done = writer.finish(**_notes(reader, number, record, numbers))
    except BaseException:
        writer.discard()
        raise
    return done, frames


def _next(video: Iterator[NDArray[np.uint8]], key: str, reader: LeRobotReader) -> NDArray[np.uint8]:
    for image in video:
        return image
    raise UserError(f"{reader.path} has fewer images of {key} than frames")


def _record(reader: LeRobotReader, number: int) -> dict[str, Any]:
    """What this package kept of an episode, if it is still that episode."""
    if layout.STAMP not in reader.features:
        return {}
    first = reader.columns(number, [layout.STAMP])[layout.STAMP]
    return reader.record(number, int(first[0]))


def _numbers(reader: LeRobotReader, number: int, contract: Contract) -> dict[str, NDArray[Any]]:
    """State and action (frames, d) in the contract's order, as exact as they are there, and what else is there."""
    own = all(key in reader.features for key in OWN)
    exact = own and len(reader.names(layout.EXACT_ACTION)) == len(contract.action_names)
    state_key = layout.EXACT_STATE if exact and layout.EXACT_STATE in reader.features else layout.STATE
    action_key = layout.EXACT_ACTION if exact else layout.ACTION
    wanted = [action_key, "timestamp", "task_index"]
    wanted += [key for key in (*OWN, layout.INTERVENTION, layout.SUCCESS) if key in reader.features]
    if contract.state_names:
        wanted.append(state_key)
    found = reader.columns(number, list(dict.fromkeys(wanted)))
    frames = len(found["timestamp"])
    where = f"contract '{contract.name}' does not fit {reader.path}"
    actions = found[action_key].reshape(frames, -1)[:, order(reader, action_key, contract.action_names, where)]
    actions = actions.astype(np.float64)  # (frames, action_dim)
    if not exact:  # a foreign action is what was sent; a binary one is 0 or 1 here
        middle = contract.limits.mean(axis=1)
        actions = np.where(contract.binary, actions > middle, actions).astype(np.float64)
    found[layout.ACTION] = actions
    found.setdefault(layout.VALID, np.ones(frames, np.bool_))
    state: NDArray[np.float64] = np.zeros((frames, 0))
    if contract.state_names:
        places = order(reader, state_key, contract.state_names, where)
        state = found[state_key].reshape(frames, -1)[:, places].astype(np.float64)
    found[layout.STATE] = state  # (frames, state_dim)
    return found


def _tell(
    writer: FrameWriter,
    reader: LeRobotReader,
    record: dict[str, Any],
    numbers: dict[str, NDArray[Any]],
    stamps: NDArray[np.int64],
) -> None:
    """Instructions and interventions, from the record or else from the frames."""
    if record.get("instructions"):
        for time_ns, text in record["instructions"]:
            writer.instruct(str(text), int(time_ns))
    else:
        before = None
        for stamp, task in zip(stamps.tolist(), numbers["task_index"].tolist(), strict=True):
            if task != before:
                writer.instruct(reader.tasks.get(task, ""), stamp)
                before = task
    if "interventions" in record:
        for begin_ns, end_ns in record["interventions"]:
            writer.intervene(True, int(begin_ns))
            writer.intervene(False, int(end_ns))
    elif layout.INTERVENTION in numbers:
        before = False
        for stamp, person in zip(stamps.tolist(), numbers[layout.INTERVENTION].tolist(), strict=True):
            if person != before:
                writer.intervene(person, stamp)
                before = person


def _notes(
    reader: LeRobotReader, number: int, record: dict[str, Any], numbers: dict[str, NDArray[Any]]
) -> dict[str, Any]:
    """What the episode's metadata say."""
    row = reader.episodes[number]
    outcome = record.get("outcome") or row.get("outcome")
    if outcome is None:
        told = layout.SUCCESS in numbers
        outcome = "unknown" if not told else "success" if numbers[layout.SUCCESS].any() else "failure"
    source = {"format": f"LeRobotDataset {reader.info['codebase_version']}", "episode": number}
    notes = {"outcome": outcome, "converted_from": {**source, "versions": record.get("versions", {})}}
    if record.get("incidents"):
        notes["incidents"] = [{"time_ns": time_ns, "text": text} for time_ns, text in record["incidents"]]
    if record.get("recovered"):
        notes["recovered"] = "true"
    return notes
