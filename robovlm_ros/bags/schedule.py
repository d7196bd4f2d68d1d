"""When episodes begin and end by themselves: fixed length, number of episodes. Pure; time is an argument."""

from __future__ import annotations

from robovlm_ros.errors import UserError


class Schedule:
    """Asked now and then what is due; told when an episode begins and ends, by whomever."""

    def __init__(self, *, episodes: int = 0, episode_ns: int = 0, reset_ns: int = 0) -> None:
        """``episodes``: begin and count so many (0: begin none); ``episode_ns``: their length [ns] (0: until told);
        ``reset_ns``: time between two of them [ns]. UserError if episodes would begin and never end.
        """
        if episodes and not episode_ns:
            raise UserError("parameter 'episodes' needs 'episode_seconds': how long is each?")
        self.episodes = episodes
        """How many are to be recorded; 0: as many as people begin."""
        self.kept = 0
        """How many were kept."""
        self._episode_ns, self._reset_ns = episode_ns, reset_ns
        self._began_ns: int | None = None
        self._next_ns: int | None = None

    def began(self, now_ns: int) -> None:
        """An episode began."""
        self._began_ns = now_ns

    def ended(self, now_ns: int, *, kept: bool) -> None:
        """An episode ended; one that is not kept does not count and comes again."""
        self._began_ns, self._next_ns = None, now_ns + self._reset_ns
        self.kept += kept

    def due(self, now_ns: int, ready: bool) -> str | None:
        """What to do now: ``stop`` the episode, ``start`` one (if ``ready``: all that is recorded arrives),
        ``end``, for all are recorded, or nothing.
        """
        if self._began_ns is not None:
            return "stop" if self._episode_ns and now_ns - self._began_ns >= self._episode_ns else None
        if not self.episodes:
            return None
        if self.kept >= self.episodes:
            return "end"
        return "start" if ready and (self._next_ns is None or now_ns >= self._next_ns) else None

    def seconds_to_next(self, now_ns: int) -> float:
        """Time until the next episode begins by itself [s]."""
        return 0.0 if self._next_ns is None else max(0, self._next_ns - now_ns) / 1e9
