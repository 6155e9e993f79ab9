import struct

import av
import numpy as np
import pytest

from pipeline.data.video import contents, probe, read_frames, write_video


def numbered(count, height=32, width=48):
    """Frames whose brightness is 10 times their number, their left upper corner white."""
    frames = np.repeat(10 * np.arange(count, dtype=np.uint8), height * width * 3).reshape(count, height, width, 3)
    frames[:, : height // 4, : width // 4] = 255
    return frames


@pytest.fixture
def mp4(tmp_path):
    path = tmp_path / "video.mp4"
    write_video(path, numbered(20), 25, crf="5", g="6", bf="2")  # keyframes and frames out of order
    return path


def brightness(frames):
    return (frames[:, 20, 30, 0].astype(int) + 5) // 10


def test_contents_are_told(mp4):
    found, height, width = probe(mp4.read_bytes())
    assert (len(found), found.fps, height, width) == (20, 25, 32, 48)
    assert len(found.keyframes) > 2 and found.keyframes[0] == 0


@pytest.mark.parametrize("wanted", [[0, 19], [7, 7, 8], [13], [19, 2]])
def test_frames_are_those_asked_for(mp4, wanted):
    frames = read_frames(mp4.read_bytes(), wanted)
    assert frames.shape == (len(wanted), 32, 48, 3) and brightness(frames).tolist() == wanted


def test_the_short_side_is_scaled(mp4):
    assert read_frames(mp4.read_bytes(), [3], short_side=16).shape == (1, 16, 24, 3)


def test_turned_videos_stand_upright(mp4):
    """What a telephone held upright writes: a matrix that turns by 90 degrees, clockwise."""
    plain = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 0x40000000)
    turned = struct.pack(">9i", 0, 65536, 0, -65536, 0, 0, 0, 0, 0x40000000)
    data = mp4.read_bytes()
    track = data.index(b"tkhd")
    place = data.index(plain, track)
    data = data[:place] + turned + data[place + len(plain) :]
    frames = read_frames(data, [0])
    assert frames.shape == (1, 48, 32, 3) and probe(data)[1:] == (48, 32)
    assert frames[0, 2, -2, 0] > 200 and frames[0, 2, 2, 0] < 50  # the white corner is at the upper right


def test_a_rate_that_varies_is_an_average(tmp_path):
    path = tmp_path / "variable.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p"
        for number, pixels in enumerate(numbered(8)):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = number if number < 4 else 3 + 5 * (number - 3)
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    data = path.read_bytes()
    found = contents(data)
    assert len(found) == 8 and found.fps == pytest.approx(7 / (23 / 30), rel=0.02)
    assert brightness(read_frames(data, [3, 4, 7])).tolist() == [3, 4, 7]


def test_what_is_no_video(mp4, tmp_path):
    sound = tmp_path / "sound.mp4"
    with av.open(str(sound), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        for packet in [*stream.encode(frame), *stream.encode()]:
            container.mux(packet)
    data = mp4.read_bytes()
    for broken, told in (
        (b"", "it is empty"),
        (b"no video at all", "no video file"),
        (data[: len(data) // 2], "no video file"),
        (sound.read_bytes(), "no video stream; it holds audio"),
        (data.replace(b"avc1", b"xxxx"), "codec|decoded|no frame|no video"),
        (
            bytes(data[: data.index(b"mdat") + 40]) + bytes(len(data) - data.index(b"mdat") - 40),
            "no video file|decoded",
        ),
    ):
        with pytest.raises(ValueError, match=told):
            probe(broken)


def test_the_same_frames_give_the_same_bytes(mp4, tmp_path):
    write_video(tmp_path / "again.mp4", numbered(20), 25, crf="5", g="6", bf="2")
    assert (tmp_path / "again.mp4").read_bytes() == mp4.read_bytes()
