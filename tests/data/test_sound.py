"""Sound written into MP4 and read back, and its spectrogram."""

import numpy as np
import pytest

from pipeline.data.sound import log_mel, mel_filters, read_sound, resampled
from pipeline.data.video import write_video

RATE = 16_000
FRAMES = np.zeros((8, 16, 16, 3), np.uint8)


def tone(frequency, rate=RATE, seconds=0.25):
    return (0.5 * np.sin(2 * np.pi * frequency * np.arange(round(rate * seconds)) / rate)).astype(np.float32)


def loudest(sound, rate=RATE):
    """Hertz."""
    return np.abs(np.fft.rfft(sound * np.hanning(len(sound)))).argmax() * rate / len(sound)


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_channels_are_averaged(tmp_path, channels):
    """All of them hold one tone, but for the last; of 5.1, that for the lowest frequencies is not kept either."""
    sound = np.repeat(tone(800)[None], channels, axis=0)
    if channels > 1:
        sound[-1] = 0
    write_video(tmp_path / "clip.mp4", FRAMES, 30, sound, RATE)
    heard = read_sound((tmp_path / "clip.mp4").read_bytes(), RATE)
    assert heard.dtype == np.float32 and heard.ndim == 1 and abs(loudest(heard[:4000]) - 800) < 10
    expected = {1: 0.5, 2: 0.25, 6: 0.5 * 4 / 6}[channels]
    assert np.abs(heard[1000:3000]).max() == pytest.approx(expected, rel=0.15)


def test_another_rate_is_brought_to_the_one_wanted(tmp_path):
    write_video(tmp_path / "clip.mp4", FRAMES, 30, tone(800, 44_100)[None], 44_100)
    heard = read_sound((tmp_path / "clip.mp4").read_bytes(), RATE)
    assert abs(loudest(heard[:4000]) - 800) < 10 and 0.2 < len(heard) / RATE < 0.35


def test_a_file_without_sound(tmp_path):
    write_video(tmp_path / "clip.mp4", FRAMES, 30, None, RATE)
    assert read_sound((tmp_path / "clip.mp4").read_bytes(), RATE) is None


@pytest.mark.parametrize("rate", [0, -1, 1_000_000])
def test_a_rate_that_is_none(rate):
    with pytest.raises(ValueError, match=f"its sound has {rate} samples a second; expected 1 to 384,000"):
        resampled(np.zeros((1, 100), np.float32), rate, RATE)


def test_a_sound_that_is_no_number():
    with pytest.raises(ValueError, match="not finite"):
        resampled(np.full((2, 100), np.nan, np.float32), RATE, RATE)


def test_a_file_that_is_cut(tmp_path):
    write_video(tmp_path / "clip.mp4", FRAMES, 30, tone(800)[None], RATE)
    with pytest.raises(ValueError, match="its sound cannot be decoded"):
        read_sound((tmp_path / "clip.mp4").read_bytes()[:300], RATE)


def test_the_spectrogram_of_a_tone_is_loudest_in_its_band():
    shown = log_mel(tone(1000), RATE, 16, 512, 128)
    assert shown.shape == (16, 1 + 4000 // 128) and shown.dtype == np.float32
    corners = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 18) / 2595) - 1)
    assert shown.mean(axis=1).argmax() == np.abs(corners[1:-1] - 1000).argmin()
    assert log_mel(np.zeros(4000, np.float32), RATE, 16, 512, 128).max() == -6
    assert (mel_filters(RATE, 16, 512).sum(axis=1) > 0).all()
    with pytest.raises(ValueError, match="100 samples of sound at 16000 a second, fewer than a window of 512"):
        log_mel(np.zeros(100, np.float32), RATE, 16, 512, 128)


def test_the_same_clip_gives_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        write_video(tmp_path / f"{name}.mp4", FRAMES, 30, tone(800)[None], RATE)
    assert (tmp_path / "one.mp4").read_bytes() == (tmp_path / "two.mp4").read_bytes()
