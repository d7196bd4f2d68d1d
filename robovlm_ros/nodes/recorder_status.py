"""What the recorder says of itself on ``/diagnostics``."""

from __future__ import annotations

from diagnostic_msgs.msg import DiagnosticArray

from robovlm_ros.bags import Recording, Schedule, Watch
from robovlm_ros.nodes.diagnostics import diagnostics


def recorder_status(
    name: str,
    robot: str,
    recording: Recording | None,
    schedule: Schedule,
    watch: Watch,
    *,
    news: str,
    free_mb: float,
    seconds_to_next: float,
    stamp_ns: int,
) -> DiagnosticArray:
    """OK while all is well, WARN with what is wrong (``news`` first), ERROR when the recording broke off.

    Its figures: received, written and dropped messages of each topic, and the space that is left [MB].
    """
    values = {"free on disk": f"{free_mb:.0f} MB", "episodes kept": str(schedule.kept)}
    sentence, failure = "waits for ~/start", None
    if recording is not None:
        sentence, failure = f"records {recording.writer.path.name}", recording.failure
        values["waiting to be written"] = f"{recording.waiting_bytes / 1e6:.1f} MB"
        for topic, counts in recording.counts().items():
            values[topic] = ", ".join(f"{key} {value}" for key, value in counts.items())
        if recording.dropped:
            news = news or "the disk is too slow: messages are dropped"
    elif schedule.episodes:
        sentence = f"episode {schedule.kept + 1} of {schedule.episodes} begins in {seconds_to_next:.0f} s"
    troubles = [text for text in (failure, news, *watch.troubles()) if text]
    return diagnostics(
        f"{name}: recording",
        robot,
        well=not troubles,
        failed=failure is not None,
        sentence="; ".join(dict.fromkeys(troubles)) or sentence,
        values=values,
        stamp_ns=stamp_ns,
    )
