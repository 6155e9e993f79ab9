"""Video files read with PyAV, from memory: what is in them, and the frames that a clip needs.

FFmpeg knows some three hundred formats, among them playlists that have it open other files; only those that a data set
may hold are tried.

T frames of H by W pixels.
"""

import io
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter

MOST_PIXELS = 2**24  # of a frame: twice those of 4K
# The names under which FFmpeg knows MP4, Matroska, WebM and AVI, and no protocol at all.
CONTAINERS = {"format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi", "protocol_whitelist": ""}


@dataclass(frozen=True)
class Contents:
    """What a file's video stream holds.

    times: of its frames in the order they are shown, in units of the stream's time base.
    keyframes: positions of those that are decoded by themselves.
    fps: frames per second, on average where the rate varies.
    """

    times: tuple[int, ...]
    keyframes: tuple[int, ...]
    fps: float

    def __len__(self) -> int:
        return len(self.times)


def contents(data: bytes) -> Contents:
    """Frames of a file, told from its packets without decoding them.

    Raises:
        ValueError: it is no video file, or holds no frames of video.
    """
    with _opened(data) as (container, stream):
        return _contents(container, stream)


def probe(data: bytes) -> tuple[Contents, int, int]:
    """What a file holds, and height and width as it is shown; its first and last frames are decoded to be sure.

    Raises:
        ValueError: as `contents`, or the frames cannot be decoded.
    """
    found = contents(data)
    frames = read_frames(data, [0, len(found) - 1], found=found)
    return found, frames.shape[1], frames.shape[2]


def read_frames(
    data: bytes, indices: Sequence[int], short_side: int | None = None, found: Contents | None = None
) -> np.ndarray:
    """Frames by position, in the order asked for and as often; decoding starts at the keyframe before the first.

    Args:
        data: a video file's bytes.
        indices: T positions, each in 0…frames - 1.
        short_side: pixels to which the shorter side is scaled while decoding; None: as it is.
        found: the file's contents, where they are known.

    Returns:
        (T, H, W, 3) uint8, RGB, turned as the file's metadata say.

    Raises:
        ValueError: the file is broken before the last of them.
    """
    with _opened(data) as (container, stream):
        found = found or _contents(container, stream)
        wanted = {found.times[index] for index in indices}
        before = found.keyframes[max(bisect_right(found.keyframes, min(indices)) - 1, 0)] if found.keyframes else 0
        container.seek(found.times[before], stream=stream, backward=True)
        frames: dict[int, np.ndarray] = {}
        # One of each for the file: a frame's own is set up anew each time, which takes longer than its work.
        scaler, painter = VideoReformatter(), VideoReformatter()
        try:
            for frame in container.decode(stream):
                if frame.pts in wanted and frame.pts not in frames:
                    frames[frame.pts] = _pixels(frame, short_side, scaler, painter)
                    if len(frames) == len(wanted):
                        break
        except (av.FFmpegError, EOFError) as error:
            raise ValueError(f"a frame cannot be decoded ({_told(error)})") from None
    if missing := len(wanted) - len(frames):
        raise ValueError(f"{missing} of {len(wanted)} frames cannot be decoded: the file is cut off or broken")
    return np.stack([frames[found.times[index]] for index in indices])


def write_video(
    path: Any, frames: np.ndarray, fps: int, sound: np.ndarray | None = None, rate: int = 0, **options: str
) -> None:
    """Frames as H.264 and sound, where there is any, as AAC in MP4; one thread, so that equal input gives equal bytes.

    Args:
        frames: (T, H, W, 3) uint8.
        sound: (C, N) float32 in [-1, 1], `rate` samples a second; C is 1, 2 or 6.
        options: of the encoder of frames.
    """
    with av.open(str(path), "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt, stream.options, stream.codec_context.thread_count = "yuv420p", options, 1
        audio = whole = None
        if sound is not None:
            layout = {1: "mono", 2: "stereo", 6: "5.1"}[len(sound)]
            audio = container.add_stream("aac", rate=rate, layout=layout)
            whole = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound, np.float32), format="fltp", layout=layout)
            whole.sample_rate, whole.pts, whole.time_base = rate, 0, Fraction(1, rate)
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
        if audio is not None:
            container.mux(audio.encode(whole))
            container.mux(audio.encode())


@contextmanager
def _opened(data: bytes) -> Iterator[tuple[Any, Any]]:
    try:
        container = av.open(io.BytesIO(data), options=CONTAINERS)
    except (av.FFmpegError, EOFError, ValueError) as error:
        raise ValueError(
            f"no video file of MP4, Matroska, WebM or AVI ({_told(error)})" if data else "it is empty"
        ) from None
    with container:
        if not container.streams.video:
            held = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
            raise ValueError(f"no video stream; it holds {held}")
        stream = container.streams.video[0]
        if stream.codec_context is None:
            raise ValueError("unknown video codec")
        if stream.codec_context.width * stream.codec_context.height > MOST_PIXELS:
            raise ValueError(f"frames of more than {MOST_PIXELS:,} pixels")
        stream.codec_context.thread_count = 1  # loaders work side by side; starting threads costs more than a clip
        yield container, stream


def _contents(container: Any, stream: Any) -> Contents:
    packets = []
    try:
        for packet in container.demux(stream):
            if packet.pts is not None and packet.size and not packet.is_discard:
                packets.append((packet.pts, packet.is_keyframe))
    except (av.FFmpegError, EOFError) as error:
        raise ValueError(f"its packets cannot be read ({_told(error)})") from None
    if not packets:
        raise ValueError("no frames of video")
    packets.sort()
    rate = stream.average_rate or stream.guessed_rate
    span = float((packets[-1][0] - packets[0][0]) * stream.time_base)
    fps = (len(packets) - 1) / span if span > 0 else float(rate or 0)
    if not fps:
        raise ValueError("no frame rate")
    times = tuple(pts for pts, _ in packets)
    return Contents(times, tuple(place for place, (_, key) in enumerate(packets) if key), fps)


def _told(error: Exception) -> str:
    """FFmpeg's own words, without the name of the buffer in memory."""
    return getattr(error, "strerror", None) or str(error)


def _pixels(frame: Any, short_side: int | None, scaler: VideoReformatter, painter: VideoReformatter) -> np.ndarray:
    """One frame, scaled, in RGB and upright; each converter would start as many threads as there are CPUs."""
    short = min(frame.height, frame.width)
    if short_side is not None and short != short_side:
        tall, wide = (round(side * short_side / short) for side in (frame.height, frame.width))
        frame = scaler.reformat(frame, width=wide, height=tall, interpolation="BILINEAR", threads=1)
    return np.rot90(painter.reformat(frame, format="rgb24", threads=1).to_ndarray(), frame.rotation // 90)
