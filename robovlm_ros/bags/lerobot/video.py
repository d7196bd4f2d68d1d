"""Videos of one camera: encoded beside the reading, joined without encoding again, decoded by time."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robovlm_ros.errors import UserError

CODECS: dict[str, tuple[str, dict[str, str]]] = {
    "h264": ("libx264", {"preset": "ultrafast"}),
    "av1": ("libsvtav1", {"preset": "12"}),
}
"""Name → encoder and what it is told for the sake of speed."""
WAITING = 4
"""Images that may wait for the encoder; the reader waits when there are more."""
COLOURS = 0x20 | 0x4000
"""How swscale makes the colours that four pixels share (SWS_AREA and SWS_FULL_CHR_H_INP): the mean of all four. Of its
ways that is the nearest to the image and one of the fastest; those that skip pixels are not vectorised.
"""


@dataclass(frozen=True, kw_only=True)
class VideoOptions:
    """How images become videos."""

    codec: str = "h264"
    """Codec, h264 or av1: av1 files are smaller and take several times longer to write."""
    crf: int = 23
    """Constant rate factor: 0 is the best quality; h264: to 51, av1: to 63."""
    keyframe_interval: int = 2
    """Every so many frames one that needs no other: training reads frames in any order."""

    def __post_init__(self) -> None:
        if self.codec not in CODECS:
            raise UserError(f"video codec '{self.codec}' is not one of: {', '.join(CODECS)}")
        highest = 51 if self.codec == "h264" else 63
        if not 0 <= self.crf <= highest:
            raise UserError(f"crf of {self.codec} must lie between 0 and {highest}, not {self.crf}")
        if self.keyframe_interval < 1:
            raise UserError(f"keyframe_interval must be at least 1, not {self.keyframe_interval}")


def pixel_format(width: int, height: int) -> str:
    """4:2:0 needs even sides."""
    return "yuv420p" if width % 2 == height % 2 == 0 else "yuv444p"


def video_info(width: int, height: int, rate: Fraction, options: VideoOptions) -> dict[str, Any]:
    """What LeRobot writes about a video into its feature."""
    return {
        "video.height": height,
        "video.width": width,
        "video.codec": options.codec,
        "video.pix_fmt": pixel_format(width, height),
        "video.is_depth_map": False,
        "video.fps": plain_rate(rate),
        "video.channels": 3,
        "has_audio": False,
    }


def plain_rate(rate: Fraction) -> int | float:
    """A whole number where it is one: that is what LeRobot expects."""
    return int(rate) if rate.denominator == 1 else float(rate)


def load_av() -> Any:
    """PyAV; UserError if it is not installed."""
    try:
        import av
    except ImportError as error:
        raise UserError("videos need the package av (pip install 'robovlm_ros[lerobot]')") from error
    return av


class VideoWriter:
    """Encodes images one by one, in the thread that adds them."""

    def __init__(self, path: Path, width: int, height: int, rate: Fraction, options: VideoOptions) -> None:
        """Begin the file ``path``, of images of width x height; UserError if it cannot be written."""
        av = load_av()
        self.path = path
        self.count = 0
        """Images added."""
        self._errors = (av.error.FFmpegError, OSError, ValueError)
        self._from_buffer, self._reformat = av.VideoFrame.from_numpy_buffer, av.video.reformatter.VideoReformatter()
        self._time_base = 1 / rate
        encoder, told = CODECS[options.codec]
        with self._named():
            self._container = av.open(str(path), "w", format="mp4")
            self._stream = self._container.add_stream(encoder, rate=rate)
            self._stream.width, self._stream.height = width, height
            self._stream.pix_fmt = pixel_format(width, height)
            self._stream.codec_context.time_base = self._time_base
            self._stream.codec_context.thread_count = 1  # episodes and cameras run beside each other already
            self._stream.options = {**told, "crf": str(options.crf), "g": str(options.keyframe_interval)}

    def add(self, image: NDArray[np.uint8]) -> None:
        """A (height, width, 3) RGB image."""
        with self._named():
            picture = self._from_buffer(np.ascontiguousarray(image), format="rgb24")  # without a copy
            frame = self._reformat.reformat(picture, format=self._stream.pix_fmt, interpolation=COLOURS, threads=1)
            frame.pts, frame.time_base = self.count, self._time_base
            self._container.mux(self._stream.encode(frame))
        self.count += 1

    def close(self) -> None:
        """Finish the file."""
        with self._named():
            try:
                self._container.mux(self._stream.encode())
            finally:
                self._container.close()

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except self._errors as error:
            raise UserError(f"video {self.path.name} cannot be written: {error}") from error


class VideoThread:
    """A `VideoWriter` that encodes in a thread of its own: for cores that have nothing else to do.

    Where all have, it costs more than it brings: an image wanders from one core's cache to another's. At most WAITING
    images wait; then the one who adds waits, too.
    """

    def __init__(self, writer: VideoWriter) -> None:
        self.path = writer.path
        self._writer = writer
        self._error: UserError | None = None
        self._waiting: queue.Queue[NDArray[np.uint8] | None] = queue.Queue(WAITING)
        self._thread = threading.Thread(target=self._run, name=f"encode {self.path.name}", daemon=True)
        self._thread.start()

    def add(self, image: NDArray[np.uint8]) -> None:
        """A (height, width, 3) RGB image; it is not copied, so it must not change any more."""
        self._check()
        self._waiting.put(image)

    def close(self) -> None:
        """Encode what waits, and finish the file; what went wrong in the thread is raised here."""
        self._waiting.put(None)
        self._thread.join()
        self._check()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            while (image := self._waiting.get()) is not None:
                self._writer.add(image)
            self._writer.close()
        except UserError as error:  # told by the thread that adds; the queue goes on being emptied
            self._error = error
            while self._waiting.get() is not None:
                pass


class VideoJoiner:
    """One video file made of several, one after the other; they must have been encoded alike."""

    def __init__(self, path: Path, rate: Fraction) -> None:
        self.path = path
        self.count = 0
        """Frames in the file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.size = 0
        """Bytes of what was joined."""
        self._rate = rate
        self._container = load_av().open(str(path), "w", format="mp4")
        self._stream: Any = None

    def append(self, part: Path, count: int) -> None:
        """The packets of a file of so many frames, moved to the end."""
        with load_av().open(str(part)) as source:
            stream = source.streams.video[0]
            if self._stream is None:
                self._stream = self._container.add_stream_from_template(stream)
            offset = round(self.count / self._rate / stream.time_base)
            for packet in source.demux(stream):
                if packet.dts is None:  # the empty packet at the end
                    continue
                packet.pts += offset
                packet.dts += offset
                packet.stream = self._stream
                self._container.mux(packet)
        self.count += count
        self.size += part.stat().st_size

    def close(self) -> None:
        """Finish the file."""
        self._container.close()


def decode(path: Path, start_s: float, times_s: Sequence[float], rate_hz: float) -> Iterator[NDArray[np.uint8]]:
    """(height, width, 3) RGB images of a video at the given times after its ``start_s`` [s], which must ascend.

    Of each time the frame that lies within half a frame of it; UserError if there is none, or no such file.
    """
    av = load_av()
    if not path.is_file():
        raise UserError(f"video {path} is missing")
    near_s = 0.5 / rate_hz
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1  # episodes are read beside each other
            reformat = av.video.reformatter.VideoReformatter()
            container.seek(max(0, round(start_s / stream.time_base) - 1), stream=stream)
            frames = container.decode(stream)
            frame, image = next(frames, None), None
            for time_s in times_s:
                wanted_s = start_s + time_s
                while frame is not None and frame.time < wanted_s - near_s:
                    frame, image = next(frames, None), None
                if frame is None or frame.time > wanted_s + near_s:
                    raise UserError(f"video {path} has no frame at {wanted_s:.3f} s")
                if image is None:
                    image = reformat.reformat(frame, format="rgb24", threads=1).to_ndarray()
                yield image
    except (av.error.FFmpegError, IndexError) as error:
        raise UserError(f"video {path} cannot be read: {error}") from error
