"""Images, state and instruction aligned by their stamps: the same code live and from bags.

An observation at stamp t is the reference camera's image of stamp t together with, for every other source, the
newest sample whose stamp is not after t. It is complete once every source has a sample of stamp t or later: from
then on nothing that arrives in order can change it, so that the order in which the topics arrive cannot matter.
"""

from __future__ import annotations

import bisect
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robovlm_ros import messages
from robovlm_ros.contract import Contract
from robovlm_ros.errors import UserError
from robovlm_ros.observation import Observation

LazyImage = NDArray[np.uint8] | Callable[[], NDArray[np.uint8]]
"""A (height, width, 3) RGB image, or a function that decodes it when (and only if) it is used."""

NEW_RUN_NS = 1_000_000_000
"""A stamp that lies further than this behind the newest of its source begins a new run [ns]."""
MAX_IMAGES = 64
"""Images kept of each camera while an observation waits for other sources; the oldest go first."""
MAX_SAMPLES = 8192
"""Samples kept of each state source, likewise."""

_EARLIEST = -(2**63)


class Aligner:
    """Turns stamped samples into observations; pure, bounded in memory, not thread-safe (the caller locks).

    The reference camera, whose stamps are those of the observations, is the first of the contract's cameras that
    are used. Samples may come in any order; of several with one stamp the first counts. An observation is left out,
    rather than made of old data, when a source has no sample at its stamp or one older than its ``max_age_s``.

    A stamp more than `NEW_RUN_NS` behind the newest of its source means that time began anew (a simulator or a
    bag was restarted): all samples of the old run are dropped, the instruction stays.
    """

    def __init__(self, contract: Contract, cameras: Sequence[str] | None = None, grace_s: float = 0.05) -> None:
        """Of all the contract's cameras or of those named; ``grace_s`` [s] is used by `newest_observation` only.

        UserError if a camera is unknown or a camera has the name of a state source.
        """
        wanted = {contract.camera(name).name for name in cameras} if cameras is not None else None
        self.cameras = tuple(camera for camera in contract.cameras if wanted is None or camera.name in wanted)
        """The cameras in use, in the order of the contract."""
        if not self.cameras:
            raise UserError(f"contract '{contract.name}': at least one camera must be used")
        self.contract = contract
        self._grace_ns = round(grace_s * 1e9)
        self._images = {camera.name: _Track(MAX_IMAGES) for camera in self.cameras}
        self._states = {source.name: _Track(MAX_SAMPLES) for source in contract.state}
        self._tracks: dict[str, _Track] = {**self._images, **self._states}
        if len(self._tracks) < len(self._images) + len(self._states):
            raise UserError(f"contract '{contract.name}': a camera and a state source have one name; rename one")
        max_age_s = {camera.name: camera.max_age_s for camera in self.cameras}
        max_age_s.update({source.name: source.max_age_s for source in contract.state})
        self._max_age_ns = {name: round(age * 1e9) for name, age in max_age_s.items()}
        self._newest_images: dict[str, tuple[Any, int]] = {}  # (bytes, stamp of the first that had them), if watched
        self._instructions = _Track(MAX_SAMPLES)
        self._reference = self._images[self.cameras[0].name]
        self._last_ns = _EARLIEST
        self.last_samples: dict[str, tuple[int, Any]] = {}
        """Of the last observation given out, each camera and state source: the stamp [ns] of what was used, and the
        sample itself: the decoded image, or the (len(dims),) float64 values as they were sent."""
        self.newest_states: dict[str, NDArray[np.floating]] = {}
        """State source → (len(dims),) values of its newest sample; may be read without a lock."""
        self._waiting_since: tuple[int, int] | None = None  # (stamp of the newest pending image, when first asked)

    @property
    def last_stamp_ns(self) -> int | None:
        """Stamp of the last observation given out [ns]; an image with this or an older stamp gives no other."""
        return None if self._last_ns == _EARLIEST else self._last_ns

    def add_image(self, camera: str, stamp_ns: int, image: LazyImage) -> None:
        """A camera's image, (height, width, 3) RGB or a function that decodes it; unused cameras are ignored."""
        track = self._images.get(camera)
        if track is None:
            self.contract.camera(camera)  # a name that nobody has is an error
            return
        self._begin_new_run(track, stamp_ns)
        if track is not self._reference or stamp_ns > self._last_ns:
            track.add(stamp_ns, image)
        else:
            track.newest_ns = max(track.newest_ns, stamp_ns)

    def add_state(self, source: str, stamp_ns: int, values: NDArray[np.floating]) -> None:
        """Values of one state source, in the order of its dims."""
        if source not in self._states:
            raise UserError(
                f"contract '{self.contract.name}' has no state '{source}' (states: {', '.join(self._states) or 'none'})"
            )
        track = self._states[source]
        self._begin_new_run(track, stamp_ns)
        if stamp_ns >= track.newest_ns:
            self.newest_states[source] = values
        track.add(stamp_ns, values)

    def add_message(self, topic: str, message: Any, receive_ns: int) -> None:
        """A message on a topic of the contract, stamped by its header, or by ``receive_ns`` [ns] where it has none.

        The one way in for live messages and for those from a bag. Other topics are ignored. UserError if a state
        message lacks what the contract asks for.
        """
        stamp_ns = messages.stamp_ns(message)
        stamp_ns = receive_ns if stamp_ns is None else stamp_ns
        if topic == self.contract.instruction_topic:
            self.set_instruction(messages.instruction(message), stamp_ns)
        for camera in self.cameras:
            if camera.topic == topic:
                if camera.max_frozen_s is not None:
                    self._watch(camera.name, stamp_ns, message.data)
                self.add_image(camera.name, stamp_ns, functools.partial(messages.image, message, camera))
        for source in self.contract.state:
            if source.topic == topic:
                self.add_state(source.name, stamp_ns, messages.state_values(message, source))

    def set_instruction(self, text: str, stamp_ns: int | None = None) -> None:
        """From ``stamp_ns`` on [ns] this is to be done; None: for every observation that is not given out yet.

        The first instruction also holds for observations before it. Of several with one stamp the last holds: while
        simulated time stands still, a person may change their mind.
        """
        if stamp_ns is None or stamp_ns < self._instructions.newest_ns - NEW_RUN_NS:
            self._instructions.clear()
        if stamp_ns is None:
            stamp_ns = _EARLIEST
        self._instructions.add(stamp_ns, text, last=True)

    def next_observation(self) -> Observation | None:
        """The oldest complete observation that was not given out yet, or None: for reading bags in order.

        UserError if an image cannot be decoded or has not the contract's size; the next call goes on behind it.
        """
        complete_ns = self._complete_until()
        while self._reference.stamps and self._reference.stamps[0] <= complete_ns:
            observation = self._take(0)
            if observation is not None:
                return observation
        return None

    def newest_observation(self, now_ns: int | None = None) -> Observation | None:
        """The newest observation that is complete, or None; older ones are dropped: for acting.

        With ``now_ns`` [ns], an image that has waited for ``grace_s`` since this was first asked about it is used
        with what there is. UserError as in `next_observation`.
        """
        pending = self._reference.stamps
        complete = bisect.bisect_right(pending, self._complete_until())
        if now_ns is not None and complete < len(pending):
            if self._waiting_since is None or self._waiting_since[0] not in pending[complete:]:
                self._waiting_since = (pending[-1], now_ns)
            elif now_ns - self._waiting_since[1] >= self._grace_ns:
                complete = pending.index(self._waiting_since[0]) + 1
        usable = (index for index in reversed(range(complete)) if self._at(pending[index]) is not None)
        newest = next(usable, complete - 1)
        return None if newest < 0 else self._take(newest)

    def ages(self, now_ns: int) -> dict[str, float]:
        """Source (camera or state) → time since its newest stamp [s]; infinite if it has none yet.

        Of cameras with ``max_frozen_s`` also, under `Camera.unchanged`, the time since the image was another one.
        """
        ages = {
            name: math.inf if track.newest_ns == _EARLIEST else (now_ns - track.newest_ns) / 1e9
            for name, track in self._tracks.items()
        }
        for camera in self.cameras:
            if camera.name in self._newest_images:
                ages[camera.unchanged] = (now_ns - self._newest_images[camera.name][1]) / 1e9
        return ages

    def reset(self) -> None:
        """Forget all samples and the instruction."""
        self._forget()
        self._instructions.clear()

    def _forget(self) -> None:
        for track in self._tracks.values():
            track.clear()
        self._last_ns = _EARLIEST
        self._waiting_since = None

    def _watch(self, camera: str, stamp_ns: int, data: Any) -> None:
        """Note when the camera's image was last another one; what is sent is compared, before it is decoded."""
        before = self._newest_images.get(camera)
        if before is None or before[0] != data or stamp_ns < before[1]:
            self._newest_images[camera] = data, stamp_ns

    def _begin_new_run(self, track: _Track, stamp_ns: int) -> None:
        if stamp_ns < track.newest_ns - NEW_RUN_NS:
            self._forget()
            if self._instructions.stamps:
                self.set_instruction(self._instructions.values[-1])

    def _complete_until(self) -> int:
        """Stamp up to which every source has spoken [ns]."""
        return min(track.newest_ns for track in self._tracks.values())

    def _take(self, index: int) -> Observation | None:
        """Make the observation of a pending reference image; it and all older ones are gone then."""
        stamp_ns = self._reference.stamps[index]
        places = self._at(stamp_ns)
        try:
            if places is None:
                return None
            images = {camera.name: self._decode(camera.name, places[camera.name]) for camera in self.cameras}
            state = [self._states[source.name].values[places[source.name]] for source in self.contract.state]
            self.last_samples = {
                name: (track.stamps[places[name]], track.values[places[name]]) for name, track in self._tracks.items()
            }
            said = self._instructions.at(stamp_ns) or 0
            return Observation(
                stamp_ns=stamp_ns,
                images=images,
                state=np.concatenate([np.zeros(0), *state]).astype(np.float32),  # (state_dim,)
                instruction=self._instructions.values[said] if self._instructions.values else "",
            )
        finally:
            self._last_ns = stamp_ns
            self._waiting_since = None
            for track in (*self._tracks.values(), self._instructions):
                track.drop_before(stamp_ns)
            self._reference.drop_until(stamp_ns)

    def _at(self, stamp_ns: int) -> dict[str, int] | None:
        """Source → index of its newest sample at this stamp; None: one of them has none, or one that is too old."""
        places: dict[str, int] = {}
        for name, track in self._tracks.items():
            place = track.at(stamp_ns)
            if place is None or stamp_ns - track.stamps[place] > self._max_age_ns[name]:
                return None
            places[name] = place
        return places

    def _decode(self, camera: str, index: int) -> NDArray[np.uint8]:
        track = self._images[camera]
        image = track.values[index]
        decoded: NDArray[np.uint8] = image() if callable(image) else image
        expected = self.contract.camera(camera)
        if decoded.shape != (expected.height, expected.width, 3):
            raise UserError(
                f"camera '{camera}' ({expected.topic}): image of {decoded.shape[1]}x{decoded.shape[0]}, "
                f"the contract says {expected.width}x{expected.height}"
            )
        track.values[index] = decoded
        return decoded


class _Track:
    """Samples of one source in the order of their stamps."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.stamps: list[int] = []
        self.values: list[Any] = []
        self.newest_ns = _EARLIEST

    def add(self, stamp_ns: int, value: Any, *, last: bool = False) -> None:
        """Keep a sample; of several with one stamp the first counts, or the last."""
        self.newest_ns = max(self.newest_ns, stamp_ns)
        place = bisect.bisect_left(self.stamps, stamp_ns)
        if place < len(self.stamps) and self.stamps[place] == stamp_ns:
            if last:
                self.values[place] = value
            return
        self.stamps.insert(place, stamp_ns)
        self.values.insert(place, value)
        if len(self.stamps) > self.capacity:
            del self.stamps[0], self.values[0]

    def at(self, stamp_ns: int) -> int | None:
        """Index of the newest sample that is not after this stamp."""
        place = bisect.bisect_right(self.stamps, stamp_ns) - 1
        return None if place < 0 else place

    def drop_before(self, stamp_ns: int) -> None:
        """Drop what can no longer be the newest sample at this stamp or later."""
        place = self.at(stamp_ns)
        if place:
            del self.stamps[:place], self.values[:place]

    def drop_until(self, stamp_ns: int) -> None:
        """Drop this stamp and all before it."""
        place = bisect.bisect_right(self.stamps, stamp_ns)
        del self.stamps[:place], self.values[:place]

    def clear(self) -> None:
        self.stamps.clear()
        self.values.clear()
        self.newest_ns = _EARLIEST
