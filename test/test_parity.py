"""What a policy sees while it runs, and what it learned from: the same bytes, through the bag and through the cache."""

from __future__ import annotations

import dataclasses
import io
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from robovlm_ros.alignment import Aligner
from robovlm_ros.bags import EpisodeWriter, read_episode
from robovlm_ros.bags.schema import deserialize
from robovlm_ros.observation import Observation
from robovlm_ros.training.cache import Cache
from robovlm_ros.training.windows import WindowDataset, read_recordings

from .makers import processor_for
from .test_bags import CONTRACT, START, STEP, TYPES, episode_messages, header, picture, raw

KIND = "sensor_msgs/msg/CompressedImage"
JPEG = dataclasses.replace(
    CONTRACT,
    cameras=(CONTRACT.cameras[0], dataclasses.replace(CONTRACT.cameras[1], topic="/wrist/compressed", type=KIND)),
)
PARTS = (*JPEG.cameras, *JPEG.state, *JPEG.commands)
TYPE_OF = {part.topic: part.type for part in PARTS} | {JPEG.instruction_topic: JPEG.instruction_type}
PROCESSOR = processor_for(JPEG)


def compressed(step: int, kind: str) -> bytes:
    data = io.BytesIO()
    Image.fromarray(picture(1, step)).save(data, kind)
    pixels = np.frombuffer(data.getvalue(), np.uint8)
    return raw(TYPES[KIND](header(START + step * STEP), kind, pixels))


def sent(steps: int, rng: np.random.Generator) -> list[tuple[str, bytes]]:
    """What a robot publishes in order; the wrist camera's images come as JPEG or PNG, by turns at random."""
    found, step = [], 0
    for topic, data, _ in episode_messages(steps):
        if topic == "/wrist_camera/image_raw":
            found.append(("/wrist/compressed", compressed(step, str(rng.choice(["jpeg", "png"])))))
            step += 1
        else:
            found.append((topic, data))
    return found


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10**6), lost=st.sampled_from([0.0, 0.1, 0.3]), late_steps=st.sampled_from([0.0, 0.7, 2.5]))
@example(seed=0, lost=0.1, late_steps=0.7)
def test_live_from_the_bag_and_from_the_cache_inputs_are_byte_identical(
    seed: int, lost: float, late_steps: float
) -> None:
    """Messages are dropped, delayed, so that they overtake each other within a topic and across, and compressed."""
    rng = np.random.default_rng(seed)
    messages = sent(10, rng)
    due = [(START + (n // 6) * STEP + round(late_steps * STEP * rng.random())) for n in range(len(messages))]
    kept = [n for n in range(len(messages)) if n == 0 or rng.random() >= lost]
    arrivals = [(due[n] + rank, *messages[n]) for rank, n in enumerate(sorted(kept, key=lambda n: (due[n], n)))]

    aligner, live = Aligner(JPEG), list[Observation]()
    for receive_ns, topic, data in arrivals:
        aligner.add_message(topic, deserialize(data, TYPE_OF[topic]), receive_ns)
        while (seen := aligner.next_observation()) is not None:
            live.append(seen)
    with tempfile.TemporaryDirectory() as name:
        writer = EpisodeWriter(Path(name) / "one", JPEG)
        for topic, kind in TYPE_OF.items():
            writer.add_topic(topic, kind)
        for receive_ns, topic, data in arrivals:
            writer.write(topic, data, receive_ns)
        episode = read_episode(writer.finish())
        assert live or lost or late_steps > 1  # otherwise there is nothing to be seen now and then
        if not live:
            return
        last = max(seen.stamp_ns for seen in live)
        chunk = 1 + (last - live[0].stamp_ns) // STEP  # so long that no observation is without a command
        for cache in (None, Cache(Path(name) / "cache"), Cache(Path(name) / "cache")):
            [recording] = read_recordings([episode], PROCESSOR, chunk + 10, None, cache=cache)
            trained = WindowDataset([recording], PROCESSOR)
            assert len(trained) == len(live)
            for item, seen in enumerate(live):
                served = PROCESSOR(seen)
                learned = trained[item]
                assert {"input_ids", "pixel_values", "state"} <= set(served)
                assert all(learned[key].numpy().tobytes() == value.numpy().tobytes() for key, value in served.items())
