"""``benchmark record``: what the recorder takes from synthetic cameras and joint states without losing a message."""

from __future__ import annotations

import argparse
import dataclasses
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from robovlm_ros.bags import read_episode
from robovlm_ros.cli.command import Commands, HelpFormatter, write_json
from robovlm_ros.cli.processes import Nodes
from robovlm_ros.cli.traffic import Sender, Traffic
from robovlm_ros.errors import UserError
from robovlm_ros.options import field_docs

BISECTIONS = 3
"""The highest rate is found to within the last factor of two by so many halvings."""
KEPT_UP = 0.97
"""A sender that sent less than this share of what it should is itself the limit."""


def add_command(commands: Commands) -> None:
    """Add ``record`` to the things that `benchmark` measures."""
    record = commands.add_parser(
        "record",
        help="the recorder: messages received, written and lost, and the highest rate without loss",
        description="Sends raw images and joint states from one process and records them with the recorder node in "
        "another, through DDS on this machine. Dropped counts every message that was sent and is not in the episode, "
        "wherever it was lost. Then the cameras' rate is raised until messages are lost or the sender cannot go "
        "faster. MB are 10^6 bytes of messages as they were received, before compression.",
        formatter_class=HelpFormatter,
    )
    record.add_argument("--seconds", type=float, default=60.0, help="duration of the measurement [s]")
    record.add_argument("--search-seconds", type=float, default=10.0, help="duration at each rate [s]; 0: no search")
    docs = field_docs(Traffic)
    for field in dataclasses.fields(Traffic):
        kind = type(field.default)
        record.add_argument(
            f"--{field.name.replace('_', '-')}", type=kind, default=field.default, help=docs[field.name]
        )
    record.add_argument("--compress", action="store_true", help="compress with zstd")
    record.add_argument(
        "--directory", type=Path, default=Path(), help="where a folder is made and removed again: the disk to measure"
    )
    record.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, as JSON")
    record.set_defaults(command=_record)


def _record(options: argparse.Namespace) -> int:
    from robovlm_ros.cli.recorder_client import RecorderClient
    from robovlm_ros.cli.session import local_environment

    traffic = Traffic(**{field.name: getattr(options, field.name) for field in dataclasses.fields(Traffic)})
    for name in ("seconds", "camera_hz", "joint_hz", "cameras", "width", "height"):
        if not getattr(options, name) > 0:
            raise UserError(f"--{name.replace('_', '-')} must be above 0, not {getattr(options, name)}")
    environment = local_environment()
    os.environ.update(environment)
    with RecorderClient() as twin:
        if twin.is_there(1.0):
            raise UserError("a recorder runs in this ROS domain already: end it, or choose another ROS_DOMAIN_ID")
    with (
        tempfile.TemporaryDirectory(dir=options.directory, prefix="benchmark_record_") as name,
        Nodes(environment) as nodes,
    ):
        folder = Path(name)
        contract = folder / "robot.yaml"
        contract.write_text(yaml.safe_dump(traffic.contract().to_dict()), encoding="utf-8")
        settings = {"contract": contract, "directory": folder / "episodes", "compress": options.compress}
        nodes.start("recorder_node", settings)
        with RecorderClient(check=nodes.check) as recorder:
            recorder.wait_for_recorder()

            def measured(seconds: float, camera_hz: float) -> dict[str, Any]:
                return _trial(recorder, dataclasses.replace(traffic, camera_hz=camera_hz), seconds)

            result = measured(options.seconds, traffic.camera_hz)
            _say(result)
            tried = _search(measured, traffic.camera_hz, options.search_seconds) if options.search_seconds else []
        nodes.check()
    result |= {"compress": options.compress, "cores": os.cpu_count(), "search": tried}
    if tried:
        best = max((trial for trial in [result, *tried] if trial["well"]), key=_rate, default=None)
        first_bad = min((trial for trial in tried if not trial["well"]), key=_rate)
        result["highest_mb_per_s"] = best["mb_per_s"] if best else None
        result["limited_by"] = "recorder" if first_bad["dropped"] else "sender"
        said = f"{best['mb_per_s']:.1f} MB/s at {best['camera_hz']:g} Hz" if best else "none"
        print(f"highest rate without loss: {said} (beyond it, the limit is the {result['limited_by']})")
    write_json(options.json, result)
    return 0


def _trial(recorder: Any, traffic: Traffic, seconds: float) -> dict[str, Any]:
    """Record the traffic for a while."""
    with Sender(traffic) as sender:
        sender.wait()
        recorder.call("start")
        sender.go(seconds)
        sent = sender.end(seconds)
        try:
            path = recorder.call("stop")
        except UserError as error:  # messages were dropped: the answer names the episode, which is kept
            path = Path(str(error).partition(": ")[2].partition(" is kept")[0])
            if not path.is_dir():
                raise
    episode = read_episode(path)
    written = {topic: episode.counts.get(topic, 0) for topic in sent.stamps}
    stamps = {topic: len(found) for topic, found in sent.stamps.items()}
    planned = sum(rate * seconds for rate in traffic.rates().values())
    size_mb = sum(count * sent.message_bytes[topic] for topic, count in written.items()) / 1e6
    on_disk_mb = sum(file.stat().st_size for file in path.iterdir()) / 1e6
    shutil.rmtree(path)
    limited = sum(stamps.values()) < KEPT_UP * planned
    dropped = sum(stamps.values()) - sum(written.values())
    return {
        "camera_hz": traffic.camera_hz,
        "seconds": round(sent.seconds, 3),
        "sent": sum(stamps.values()),
        "received": sum(written.values()) + sum(episode.dropped.values()),
        "written": sum(written.values()),
        "dropped": dropped,
        "topics": {topic: {"sent": stamps[topic], "written": written[topic]} for topic in stamps},
        "mb_per_s": round(size_mb / sent.seconds, 3),
        "disk_mb_per_s": round(on_disk_mb / sent.seconds, 3),
        "sender_limited": limited,
        "well": not dropped and not limited,
    }


def _search(measured: Callable[[float, float], dict[str, Any]], from_hz: float, seconds: float) -> list[dict[str, Any]]:
    """Trials at rates that double until something gives, and then close in on the highest one that goes well."""
    tried: list[dict[str, Any]] = []
    good, bad = 0.0, 0.0
    rate, left = from_hz, BISECTIONS + 1
    while left:
        tried.append(measured(seconds, rate))
        _say(tried[-1])
        good, bad = (rate, bad) if tried[-1]["well"] else (good, rate)
        left -= bad > 0.0
        rate = (good + bad) / 2 if bad else rate * 2
    return tried


def _rate(trial: dict[str, Any]) -> float:
    return float(trial["camera_hz"])


def _say(trial: dict[str, Any]) -> None:
    note = " (the sender could not keep up)" if trial["sender_limited"] else ""
    print(
        f"{trial['camera_hz']:7.2f} Hz cameras, {trial['seconds']:.1f} s: sent {trial['sent']}, received "
        f"{trial['received']}, written {trial['written']}, dropped {trial['dropped']}; {trial['mb_per_s']:.1f} MB/s, "
        f"{trial['disk_mb_per_s']:.1f} MB/s on the disk{note}",
        flush=True,
    )
