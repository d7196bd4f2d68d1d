"""Films of episodes: the whole arm, seen from the side, with instruction and outcome drawn in."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from robovlm_ros.contract import Contract
from robovlm_ros.errors import UserError
from robovlm_ros.sim.tasks import REACH

if TYPE_CHECKING:
    from robovlm_ros.cli.episodes import Episode

SIZE = 320
"""Width and height of the pictures [px]."""
BAND = 44
"""Height of the band of text above them [px]."""
FORMATS = (".mp4", ".gif")


class Film:
    """A film that is written picture by picture; what was added before `close` or an interruption is kept."""

    def __init__(self, path: Path, fps: float, width: int = SIZE, height: int = SIZE) -> None:
        """``width`` and ``height`` [px] of the pictures, even numbers; ``fps`` in pictures per second."""
        if path.suffix.lower() not in FORMATS:
            raise UserError(f"film '{path}' must end in one of: {', '.join(FORMATS)}")
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._fps, self._width, self._height = fps, width, height
        self._gif: list[Image.Image] = []
        self._container: Any = None
        if path.suffix.lower() == ".mp4":
            try:
                import av
            except ImportError as error:
                raise UserError(f"film '{path}' needs the package av (pip install av); a .gif does not") from error

            # Fragments make the file playable up to the last one, however the process ends.
            self._container = av.open(str(path), "w", options={"movflags": "frag_keyframe+empty_moov"})
            stream = self._container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000))
            stream.width, stream.height, stream.pix_fmt = width, height + BAND, "yuv420p"
            stream.options = {"crf": "20", "g": str(max(1, round(fps)))}
            self._stream = stream

    def add(self, picture: NDArray[np.uint8], lines: tuple[str, str], colour: str = "white") -> None:
        """Add one picture (height, width, 3) under two lines of text."""
        page = Image.new("RGB", (self._width, self._height + BAND), (24, 24, 28))
        page.paste(Image.fromarray(picture), (0, BAND))
        draw = ImageDraw.Draw(page)
        draw.text((8, 4), lines[0], fill="white", font=ImageFont.load_default(16))
        draw.text((8, 24), lines[1], fill=colour, font=ImageFont.load_default(14))
        if self._container is None:
            self._gif.append(page.quantize(128, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE))
            return
        import av

        for packet in self._stream.encode(av.VideoFrame.from_image(page)):
            self._container.mux(packet)

    def close(self) -> None:
        """Finish the file."""
        if self._container is not None:
            for packet in self._stream.encode():
                self._container.mux(packet)
            self._container.close()
        elif self._gif:
            self._gif[0].save(
                self.path, save_all=True, append_images=self._gif[1:], duration=round(1000 / self._fps), loop=0
            )


class SceneCamera:
    """Draws again, from the robot's own topics, what happened in an episode."""

    def __init__(self, contract: Contract, pads: int = 0) -> None:
        from robovlm_ros.sim.world import Tabletop

        self._world = Tabletop(contract, pads=pads)

    def show(self, film: Film, session: Any, begin_ns: int, episode: Episode) -> None:
        """Add an episode that has just ended to a film."""
        self.scene(episode.seed)
        end_ns = begin_ns + round(episode.seconds * 1e9)
        verdict, colour = outcome_text(episode)
        joints = [(stamp, positions) for stamp, positions in session.joints if begin_ns <= stamp <= end_ns]
        blocks = dict(session.block_places)  # by stamp
        for number, (stamp, positions) in enumerate(joints, start=1):
            last = number == len(joints)
            line = verdict if last else f"{(stamp - begin_ns) / 1e9:.1f} s"
            picture = self.picture(positions, blocks.get(stamp, session.blocks))
            for _ in range(10 if last else 1):  # the outcome stays for a second
                film.add(picture, (episode.instruction, line), colour if last else "white")

    def scene(self, seed: int) -> None:
        """Set up the light and blocks of a seed."""
        self._world.reset(seed)

    def picture(self, joints: NDArray[np.float64], blocks: Any) -> NDArray[np.uint8]:
        """(SIZE, SIZE, 3) view of the arm at these joint positions."""
        from robovlm_ros.sim.model import OVERVIEW

        self._world.show(joints, blocks)
        return self._world.render(OVERVIEW, SIZE, SIZE)


def outcome_text(episode: Episode) -> tuple[str, str]:
    """What came of an episode, and the colour to say it in."""
    if episode.task != REACH.name:
        verdict = "done" if episode.success else ("wrong target" if episode.wrong_target else "not done")
        return f"{verdict}, after {episode.seconds:.1f} s", "lightgreen" if episode.success else "salmon"
    distance = f"{episode.distance_m * 100:.1f} cm from the {episode.target} block's goal"
    if episode.success:
        return f"reached: {distance}", "lightgreen"
    return (f"wrong block: {distance}" if episode.wrong_target else f"missed: {distance}"), "salmon"
