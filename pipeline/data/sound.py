"""Sound of video files: read with PyAV, and its log-mel spectrogram.

C channels, N samples, F mel bands, T frames of a spectrogram.
"""

import io
import math

import av
import numpy as np
from scipy.signal import resample_poly
from scipy.signal import stft as transform

from pipeline.data.video import CONTAINERS

FLOOR = 1e-6  # of a mel band's power, 120 dB below that of a full-scale square
MOST_RATE = 384_000  # samples per second, beyond what any recorder writes


def read_sound(data: bytes, rate: int) -> np.ndarray | None:
    """The sound of a video file, its channels averaged.

    Args:
        data: a file's bytes.
        rate: samples per second wanted.

    Returns:
        (N,) float32 from the file's time 0 on; None where there is no stream of sound.

    Raises:
        ValueError: the stream is broken or empty, or its own rate is no rate.
    """
    try:
        with av.open(io.BytesIO(data), options=CONTAINERS) as container:
            if not container.streams.audio:
                return None
            stream = container.streams.audio[0]
            plain, parts, own, start = av.AudioResampler(format="fltp"), [], int(stream.rate or 0), 0.0
            for decoded in container.decode(stream):
                own = int(decoded.sample_rate)
                if not parts and decoded.pts is not None:
                    start = float(decoded.pts * decoded.time_base)
                parts += [frame.to_ndarray() for frame in plain.resample(decoded)]
    except (av.FFmpegError, EOFError) as error:
        told = getattr(error, "strerror", None) or str(error)
        raise ValueError(f"its sound cannot be decoded ({told})") from None
    if not parts or not sum(part.shape[1] for part in parts):
        raise ValueError("its stream of sound is empty")
    sound = resampled(np.concatenate(parts, axis=1), own, rate)
    late = round(start * rate)
    return np.concatenate([np.zeros(late, np.float32), sound]) if late > 0 else sound[-late:]


def resampled(sound: np.ndarray, own: int, rate: int) -> np.ndarray:
    """(C, N) samples, `own` of which a second has, averaged over channels and brought to another rate: (N',).

    Raises:
        ValueError: its rate is no rate, or it holds what is no number.
    """
    if not 0 < own <= MOST_RATE:
        raise ValueError(f"its sound has {own} samples a second; expected 1 to {MOST_RATE:,}")
    mono = sound.astype(np.float64).mean(axis=0)
    if not np.isfinite(mono).all():
        raise ValueError("its sound holds values that are not finite")
    shared = math.gcd(own, rate)
    return resample_poly(mono, rate // shared, own // shared).astype(np.float32)


def log_mel(sound: np.ndarray, rate: int, bands: int, window: int, hop: int) -> np.ndarray:
    """The logarithm (base 10) of the power in mel bands, of Hann windows centred on multiples of `hop` samples.

    Args:
        sound: (N,).
        rate: samples per second.
        bands: F, equally wide in mel from 0 to half the rate.
        window, hop: in samples.

    Returns:
        (F, 1 + N // hop) float32.

    Raises:
        ValueError: the sound is shorter than a window.
    """
    if len(sound) < window:
        raise ValueError(f"{len(sound)} samples of sound at {rate} a second, fewer than a window of {window}")
    spectrum = transform(sound, nperseg=window, noverlap=window - hop, boundary="zeros", padded=True)[2]
    power = np.abs(spectrum[:, : 1 + len(sound) // hop]) ** 2
    return np.log10(np.maximum(mel_filters(rate, bands, window) @ power, FLOOR)).astype(np.float32)


def mel_filters(rate: int, bands: int, window: int) -> np.ndarray:
    """(F, 1 + window // 2) triangles over the frequencies of a window, whose corners are equally far apart in mel.

    O'Shaughnessy's scale, 2595 log10(1 + f / 700).
    """
    corners = np.linspace(0, 2595 * math.log10(1 + rate / 1400), bands + 2)
    corners = 700 * (10 ** (corners / 2595) - 1)
    frequencies = np.fft.rfftfreq(window, 1 / rate)
    low, middle, high = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    rising, falling = (frequencies - low) / (middle - low), (high - frequencies) / (high - middle)
    return np.maximum(0, np.minimum(rising, falling))
