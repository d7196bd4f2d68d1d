"""Kill the recorder at random moments and see what is lost.

``python tools/kill_recorder.py --kills 100 --json FILE``: each time two synthetic cameras and joint states are recorded
over DDS, episode after episode, until the recorder gets SIGKILL at a seeded random moment: while it starts an episode,
records, or completes one. Then every finished episode must open and hold all that was sent between its first and its
last message, and the one that broke off is repaired. Lost is the time between the newest message that was saved, of the
topic that lost most, and the kill, or ~/stop where the kill came while the recorder completed the episode. An episode
whose ~/start was not answered yet has nothing to lose. Messages that are missing in the midst of an episode were lost
before any kill: the machine is too slow for the traffic. Exits with 1 if an episode is unreadable or gone, or more than
a second was lost.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from robovlm_ros.bags import list_episodes, list_unfinished, read_episode, recover
from robovlm_ros.bags.schema import header_stamp_ns
from robovlm_ros.cli.command import parser, run, write_json
from robovlm_ros.cli.recorder_client import RecorderClient
from robovlm_ros.cli.session import local_environment
from robovlm_ros.cli.traffic import Sender, Sent, Traffic
from robovlm_ros.errors import UserError

EPISODE_S = (0.3, 2.5)
"""Shortest and longest episode [s]."""
SHORTEST_S = 0.1
"""Shortest time from the first ~/start to the kill [s]."""


def main(arguments: list[str] | None = None) -> int:
    """Entry point."""
    top = parser("kill_recorder.py", __doc__)
    top.formatter_class = argparse.RawDescriptionHelpFormatter
    top.add_argument("--kills", type=int, default=100, help="how many times (default: 100)")
    top.add_argument("--seed", type=int, default=0, help="seed of the moments (default: 0)")
    top.add_argument("--longest", type=float, default=6.0, help="longest life of a recorder [s] (default: 6)")
    top.add_argument("--width", type=int, default=640, help="image width [px] (default: 640)")
    top.add_argument("--height", type=int, default=480, help="image height [px] (default: 480)")
    top.add_argument("--camera-hz", type=float, default=30.0, help="images per second of each camera (default: 30)")
    top.add_argument("--joint-hz", type=float, default=500.0, help="joint states per second (default: 500)")
    top.add_argument("--compress", action="store_true", help="compress with zstd")
    top.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, as JSON")
    options = top.parse_args(arguments)
    return run(lambda: _kill(options))


def _kill(options: argparse.Namespace) -> int:
    traffic = Traffic(
        width=options.width, height=options.height, camera_hz=options.camera_hz, joint_hz=options.joint_hz
    )
    rng = np.random.default_rng(options.seed)
    os.environ.update(local_environment())
    rounds: list[dict[str, Any]] = []
    for number in range(1, options.kills + 1):
        with tempfile.TemporaryDirectory(prefix="kill_recorder_") as folder:
            life_s = rng.uniform(SHORTEST_S, options.longest)
            rounds.append(_round(Path(folder), number, traffic, life_s, options.compress, rng))
        print(f"{number:4d} {rounds[-1]['moment']:<12} {_words(rounds[-1])}", flush=True)
    result = _summary(rounds)
    print()
    print(table(result))
    write_json(options.json, {**result, "seed": options.seed, "rounds": rounds})
    return 0 if result["unreadable"] == result["gone"] == result["over_1_s"] == 0 else 1


def _round(folder: Path, number: int, traffic: Traffic, life_s: float, compress: bool, rng: Any) -> dict[str, Any]:
    """One life of a recorder."""
    contract, episodes = folder / "robot.yaml", folder / "episodes"
    contract.write_text(yaml.safe_dump(traffic.contract().to_dict()), encoding="utf-8")
    name = f"recorder_{number}"  # its own: DDS remembers for a while those that were killed
    command = [sys.executable, "-m", "robovlm_ros.nodes.recorder_node", "--ros-args", "-r", f"__node:={name}"]
    command += ["-p", f"contract:={contract}", "-p", f"directory:={episodes}", "-p", f"compress:={compress}".lower()]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        with Sender(traffic) as sender, RecorderClient(name) as recorder:
            recorder.wait_for_recorder()
            sender.wait()
            sender.go(1000.0)
            time.sleep(0.2)
            life = _live(recorder, process, life_s, rng)
            sent = sender.end()
    finally:
        process.kill()
        output, _ = process.communicate()
    if "Traceback" in output:
        raise UserError(f"the recorder failed by itself: {output}")
    return {"kill": number, **life, **_judge(episodes, life, sent)}


def _live(recorder: RecorderClient, process: subprocess.Popen[str], life_s: float, rng: Any) -> dict[str, Any]:
    """Record episodes until the kill; what had been answered until then."""
    kill_s = time.monotonic() + life_s
    answered: dict[str, list[str]] = {"start": [], "stop": []}

    def left_s() -> float:
        return max(0.0, kill_s - time.monotonic())

    moment, begin_ns, end_ns = "", 0, 0
    try:
        while left_s():
            moment, begin_ns, end_ns = "starting", 0, 0
            answered["start"].append(recorder.call("start", left_s()).name)
            moment, begin_ns = "recording", time.time_ns()
            recorder.spin(min(rng.uniform(*EPISODE_S), left_s()))
            if left_s():
                moment, end_ns = "completing", time.time_ns()
                answered["stop"].append(recorder.call("stop", left_s()).name)
    except TimeoutError:
        pass  # it is time
    process.send_signal(signal.SIGKILL)
    end_ns = end_ns or time.time_ns()
    process.wait()
    return {"moment": moment, "begin_ns": begin_ns, "end_ns": end_ns, "answered": answered}


def _judge(folder: Path, life: dict[str, Any], sent: Sent) -> dict[str, Any]:
    """What is left of the episodes of one life."""
    begin_ns, end_ns = life["begin_ns"], life["end_ns"]
    finished, partials = list_episodes(folder), list_unfinished(folder)
    names = {path.name for path in finished} | {path.name[1:].removesuffix(".partial") for path in partials}
    gone = [name for name in life["answered"]["start"] if name not in names]
    gone += [name for name in life["answered"]["stop"] if name not in {path.name for path in finished}]
    found = {"finished": len(finished), "recovered": 0, "empty": 0, "lost_s": None, "gone": gone, "unreadable": []}
    recovered: list[Path] = []
    for partial in partials:
        try:
            done = recover(partial)
        except UserError as error:
            found["unreadable"].append(str(error))
            continue
        if done.path is None:
            found["empty"] += 1
            found["lost_s"] = (end_ns - begin_ns) / 1e9 if begin_ns else 0.0
        else:
            found["recovered"] += 1
            recovered.append(done.path)
    missing = 0
    for path in [*finished, *recovered]:
        try:
            saved = _stamps(path, sent)
        except UserError as error:
            found["unreadable"].append(str(error))
            continue
        missing += sum(_holes(np.array(sent.stamps[topic]), stamps) for topic, stamps in saved.items())
        if path in recovered:
            newest = min(int(stamps.max()) if stamps.size else 0 for stamps in saved.values())
            found["lost_s"] = max(0, end_ns - max(newest, begin_ns)) / 1e9 if begin_ns else 0.0
    return {**found, "missing_messages": missing}


def _stamps(path: Path, sent: Sent) -> dict[str, np.ndarray]:
    """Topic → header stamps of all messages of an episode, every byte of which is read."""
    found: dict[str, list[int]] = {topic: [] for topic in sent.stamps}
    for message in read_episode(path).messages():
        if message.topic in found:
            found[message.topic].append(header_stamp_ns(message.data) or 0)
    return {topic: np.array(stamps, dtype=np.int64) for topic, stamps in found.items()}


def _holes(sent: np.ndarray, saved: np.ndarray) -> int:
    """How many of the messages sent between the first and the last that were saved were not."""
    if not saved.size:
        return 0
    between = sent[(sent >= saved.min()) & (sent <= saved.max())]
    return int(np.setdiff1d(between, saved).size)


def _summary(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    lost = sorted(item["lost_s"] for item in rounds if item["lost_s"] is not None)
    return {
        "kills": len(rounds),
        "moments": dict(Counter(item["moment"] for item in rounds)),
        "finished": sum(item["finished"] for item in rounds),
        "recovered": sum(item["recovered"] for item in rounds),
        "empty": sum(item["empty"] for item in rounds),
        "unreadable": sum(len(item["unreadable"]) for item in rounds),
        "gone": sum(len(item["gone"]) for item in rounds),
        "missing_messages": sum(item["missing_messages"] for item in rounds),
        "lost_s": {"median": float(np.median(lost)), "max": lost[-1]} if lost else None,
        "over_1_s": sum(value > 1.0 for value in lost),
    }


def table(result: dict[str, Any]) -> str:
    """The summary in Markdown."""
    moments = ", ".join(f"{count} while {moment}" for moment, count in sorted(result["moments"].items()))
    lost = result["lost_s"]
    rows = {
        "SIGKILLs": f"{result['kills']} ({moments})",
        "finished episodes": f"{result['finished']}, {result['unreadable']} unreadable, {result['gone']} gone",
        "recordings that broke off": f"{result['recovered']} recovered, {result['empty']} had no message yet",
        "lost of those [s]": f"median {lost['median']:.2f}, at most {lost['max']:.2f}" if lost else "none broke off",
        "lost above 1 s": str(result["over_1_s"]),
        "messages missing within an episode": str(result["missing_messages"]),
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])


def _words(item: dict[str, Any]) -> str:
    lost = "" if item["lost_s"] is None else f", lost {item['lost_s']:.2f} s"
    broken = (
        f"{item['recovered']} recovered" if item["recovered"] else "1 without a message" if item["empty"] else "none"
    )
    bad = f", UNREADABLE {item['unreadable']}" if item["unreadable"] else ""
    bad += f", GONE {item['gone']}" if item["gone"] else ""
    bad += f", {item['missing_messages']} messages missing" if item["missing_messages"] else ""
    return f"{item['finished']} finished, broken off: {broken}{lost}{bad}"


if __name__ == "__main__":
    sys.exit(main())
