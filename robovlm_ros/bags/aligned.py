"""An episode read once, as frames at the contract's rate: what other formats keep of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from robovlm_ros.alignment import Aligner
from robovlm_ros.bags.interventions import Span
from robovlm_ros.bags.reader import Commands, Episode, Message, intervention_spans
from robovlm_ros.errors import UserError
from robovlm_ros.observation import Observation

EARLY = 0.25
"""An observation that comes by more than this share of a step before it is due is between two frames."""
FOLLOW = 0.2
"""Share of an observation's deviation by which the due times follow: a camera's clock is not exactly its rate."""


class Frame(NamedTuple):
    """One observation with what its sources sent, exactly."""

    observation: Observation
    state: NDArray[np.float64]
    """(state_dim,) as it was sent; the observation has it in single precision."""
    stamps: Mapping[str, int]
    """Topic of each camera and state source → stamp of the sample that was used [ns]."""


class Pace:
    """Which of the observations are frames: those nearest to steps of the contract's rate.

    A camera at about that rate, however it jitters, loses none; of one that is faster, as many stay as the rate says.
    """

    def __init__(self, step_ns: int) -> None:
        self._step_ns = step_ns
        self._due_ns: float | None = None

    def take(self, stamp_ns: int) -> bool:
        """Whether the next observation, of this stamp [ns], is a frame."""
        off_ns = 0.0 if self._due_ns is None else stamp_ns - self._due_ns
        if -self._step_ns < off_ns < -EARLY * self._step_ns:
            return False
        if self._due_ns is None or abs(off_ns) >= self._step_ns:  # after a gap, time begins anew
            self._due_ns = float(stamp_ns)
        self._due_ns += self._step_ns + (FOLLOW * off_ns if abs(off_ns) < self._step_ns else 0.0)
        return True


class AlignedEpisode:
    """Reads an episode from its first message to its last, once: bags with images are long.

    The observations are exactly those of `observations`, thinned to the contract's rate.
    """

    def __init__(self, episode: Episode) -> None:
        self.episode = episode
        self._commands: list[Message] = []
        self._by_person: list[Message] = []
        self._through = False

    def frames(self) -> Iterator[Frame]:
        """The frames as they complete; UserError as in `observations`."""
        contract, episode = self.episode.contract, self.episode
        aligner, pace = Aligner(contract), Pace(contract.step_ns)
        by_name = {camera.name: camera.topic for camera in contract.cameras}
        by_name |= {source.name: source.topic for source in contract.state}
        commands = {command.topic for command in contract.commands}
        topics = {*by_name.values(), *commands, contract.instruction_topic, contract.intervention_topic}
        for message in episode.messages(topics):
            if message.topic in commands:
                self._commands.append(message)
            elif message.topic == contract.intervention_topic:
                self._by_person.append(message)
            else:
                with episode.named():
                    aligner.add_message(message.topic, message.decode(), message.receive_ns)
            while True:
                with episode.named():
                    observation = aligner.next_observation()
                if observation is None:
                    break
                if pace.take(observation.stamp_ns):
                    samples = aligner.last_samples
                    state = [samples[source.name][1] for source in contract.state]
                    yield Frame(
                        observation,
                        np.concatenate([np.zeros(0), *state]),  # (state_dim,)
                        {by_name[name]: stamp for name, (stamp, _) in samples.items()},
                    )
        self._through = True

    def commands(self) -> Commands:
        """The commands of the episode, when all frames were read."""
        self._check_through()
        return Commands.of(self.episode, self._commands)

    def interventions(self) -> tuple[Span, ...]:
        """When a person commanded, when all frames were read."""
        self._check_through()
        return intervention_spans(self.episode, self._by_person)

    def _check_through(self) -> None:
        if not self._through:
            raise UserError(f"episode {self.episode.path} was not read to its end")
