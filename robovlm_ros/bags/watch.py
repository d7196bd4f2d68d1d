"""What a person must hear at once while an episode is recorded: a silent topic, another image size, a clock that jumps,
a machine that is too slow.

Pure: messages and times come in, sentences go out. Nothing here touches what is recorded.
"""

from __future__ import annotations

from robovlm_ros.bags.schema import definition, header_stamp_ns, image_size
from robovlm_ros.contract import Camera, Contract, StateSource

CLOCK_JUMP_NS = 100_000_000
"""A clock that gains or loses this much against the steady one between two looks has been set [ns]."""
BEHIND_NS, LATE_NS = 300_000_000, 1_000_000_000
"""Messages that are taken this much later after their stamp than others were [ns]: they pile up; to be said aloud."""


class Watch:
    """Watches the cameras and the state of a contract.

    A topic is silent after its ``max_age_s``, for from then on a policy would hold, too. Commands may be silent.
    """

    def __init__(self, contract: Contract, *, simulated: bool = False) -> None:
        """``simulated``: time comes from a simulator, which may stop or speed up but not go back."""
        self._simulated = simulated
        self._names = {camera.topic: f"camera '{camera.name}'" for camera in contract.cameras}
        self._names |= {source.topic: f"state '{source.name}'" for source in contract.state}
        parts: list[Camera | StateSource] = [*contract.cameras, *contract.state]
        self._longest_ns = {part.topic: round(part.max_age_s * 1e9) for part in parts}
        self._types = {camera.topic: camera.type for camera in contract.cameras}
        self._wanted = {camera.topic: (camera.width, camera.height) for camera in contract.cameras}
        self._sizes: dict[str, tuple[int, int] | None] = dict(self._wanted)
        self._last_ns: dict[str, int] = {}  # when the newest message came
        self._begin_ns = 0
        self._silent: set[str] = set()
        self._stamped = {part.topic for part in parts if definition(part.type).stamped}
        self._lag_ns: dict[str, int] = {}  # from the stamp of the newest message until it came
        self._least_lag_ns: dict[str, int] = {}  # the shortest; negative where the sender's clock is ahead
        self._late = False
        self._clocks: tuple[int, int] | None = None  # (time, steady time) of the last look

    def begin(self, now_ns: int) -> None:
        """An episode begins: from now on silence counts, also of topics that never said anything."""
        self._silent.clear()
        self._begin_ns = now_ns

    def message(self, topic: str, data: bytes, now_ns: int) -> str | None:
        """Take note of a message (CDR bytes) and when it came [ns]; a sentence if its size is news."""
        if topic in self._names:
            self._last_ns[topic] = now_ns
        if topic in self._stamped and (stamp_ns := header_stamp_ns(data)) is not None:
            self._lag_ns[topic] = lag_ns = now_ns - stamp_ns
            self._least_lag_ns[topic] = min(lag_ns, self._least_lag_ns.get(topic, lag_ns))
        if topic not in self._wanted:
            return None
        size, wanted = image_size(data, self._types[topic]), self._wanted[topic]
        if size == self._sizes[topic]:
            return None
        self._sizes[topic] = size
        where, said = f"{self._names[topic]} ({topic})", f"{wanted[0]}x{wanted[1]}"
        if size is None:
            return f"{where} sends images whose size cannot be read"
        if size == wanted:
            return f"{where} sends images of {said} again, as the contract says"
        return f"{where} sends images of {size[0]}x{size[1]}, not of {said} as the contract says"

    def look(self, now_ns: int, steady_ns: int, recording: bool) -> list[str]:
        """What is news: call it several times a second with the node's time and with a steady one [ns]."""
        if not now_ns:  # simulated time has not begun
            return []
        news = self._check_clock(now_ns, steady_ns)
        if recording:
            news += self._check_silence(now_ns) + self._check_lag()
        return news

    def behind_ns(self) -> int:
        """How much later messages are taken after their stamp than they were at best [ns]: they pile up somewhere.

        The clock of a sender need not agree with ours: only what changed counts.
        """
        lags = {topic: lag_ns for topic, lag_ns in self._lag_ns.items() if topic not in self._silent}
        return max((lag_ns - self._least_lag_ns[topic] for topic, lag_ns in lags.items()), default=0)

    def troubles(self) -> list[str]:
        """What is wrong now and lasts."""
        sizes = {topic for topic, size in self._sizes.items() if size != self._wanted[topic]}
        return [f"{self._names[topic]} ({topic}) is silent" for topic in sorted(self._silent)] + [
            f"{self._names[topic]} ({topic}) sends images of another size than the contract says"
            for topic in sorted(sizes)
        ]

    def is_ready(self, now_ns: int) -> bool:
        """Whether every camera and state source of the contract has been heard lately."""
        return all(
            topic in self._last_ns and now_ns - self._last_ns[topic] <= longest_ns
            for topic, longest_ns in self._longest_ns.items()
        )

    def _check_clock(self, now_ns: int, steady_ns: int) -> list[str]:
        before, self._clocks = self._clocks, (now_ns, steady_ns)
        if before is None:
            return []
        elapsed_ns = now_ns - before[0]
        jump_ns = min(0, elapsed_ns) if self._simulated else elapsed_ns - (steady_ns - before[1])
        if abs(jump_ns) < CLOCK_JUMP_NS:
            return []
        for topic in list(self._last_ns):  # otherwise all would seem silent, or fresh for as long as the jump
            self._last_ns[topic] += jump_ns
        self._begin_ns += jump_ns
        self._lag_ns.clear()
        self._least_lag_ns.clear()
        direction = "forward" if jump_ns > 0 else "back"
        return [
            f"the clock jumped {direction} by {abs(jump_ns) / 1e9:.3f} s: stamps before and after do not fit together"
        ]

    def _check_lag(self) -> list[str]:
        behind_ns = self.behind_ns()
        if not self._late and behind_ns > LATE_NS:
            self._late = True
            return [f"messages are taken {behind_ns / 1e9:.1f} s late: this machine is too slow, or a sender is"]
        if self._late and behind_ns < BEHIND_NS:
            self._late = False
            return ["messages are taken in time again"]
        return []

    def _check_silence(self, now_ns: int) -> list[str]:
        news = []
        for topic, longest_ns in self._longest_ns.items():
            silence_ns = now_ns - max(self._begin_ns, self._last_ns.get(topic, self._begin_ns))
            if silence_ns > longest_ns and topic not in self._silent:
                self._silent.add(topic)
                news.append(f"{self._names[topic]} ({topic}) is silent since {silence_ns / 1e9:.1f} s")
            elif silence_ns <= longest_ns and topic in self._silent:
                self._silent.remove(topic)
                news.append(f"{self._names[topic]} ({topic}) is back")
        return news
