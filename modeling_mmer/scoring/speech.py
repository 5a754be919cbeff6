"""Is there speech in a recording?

A classifier of emotions has an answer for every input, a fan or an empty line included. `has_speech` says which
recordings it should not be asked about.

Loudness alone takes every noise for speech. The detector `energy` therefore looks for the three things that voiced
speech has together, and that silence, hiss, hum, clicks, tones and most music lack:

- **A voice**: short frames that are periodic, with a pitch between 65 and 500 Hz. Spectra are divided by the median
  over time first, which removes steady sounds and the colour of noise.
- **A pitch that glides**: from one frame to the next by some hundredths of a semitone, and by less than one. That of a
  tone or a note stays, and that of noise leaps.
- **A level that changes** by more than a motor's or a siren's.

It uses NumPy only. It does not hear whispering, and it takes singing for speech. The detector `silero` is a small
network (`pip install "modeling-mmer[vad]"`) that copes better with both.
"""

from functools import cache
from typing import Any

import numpy as np

DETECTORS = ("energy", "silero")

BLOCK = 10.0  # seconds that are looked at together; the background is taken to be steady for so long
FRAME, HOP = 0.04, 0.01  # seconds
PITCHES = (65.0, 500.0)  # Hz, of voices from low to shouting
LOWEST = 80.0  # Hz: below it are rumble and the fundamental of mains hum
PERIODIC_BELOW, LEVEL_BELOW = 2000.0, 4000.0  # Hz: the bands of the pitch and of the level
N_LAGS = 1024  # points of the autocorrelation

QUIETEST = -70.0  # dB of full scale; also below: no frame of that level is heard
DYNAMICS = 35.0  # dB below the loudest frame of a block
# Measured on 5,288 clips of acted and synthetic speech, and on noise, hum, clicks, tones and synthetic music
# (tests/scoring/test_speech.py).
PERIODICITY = 0.16  # of 1
GLIDE = (0.03, 1.0)  # semitones from a frame to the next
GLIDING = 0.4  # share of the voiced frames whose pitch glides
N_GLIDES = 2  # places of a block where the pitch glides over three frames
CHANGE = 2.0  # dB between quiet and loud frames


def has_speech(samples: np.ndarray, sampling_rate: int, detector: str = "energy") -> bool:
    """Whether somebody speaks in a recording.

    Args:
        samples: (N,) floats, full scale is 1. With fewer than about 0.2 s of voice the answer is False.
        sampling_rate: in Hz, 8,000 or more.
        detector: `energy` or `silero`, see the module.

    Raises:
        ValueError: there is no such detector, or the samples have not one dimension.
        ImportError: `silero` is not installed.
    """
    if detector not in DETECTORS:
        raise ValueError(f"There is no speech detector {detector!r}: choose one of {', '.join(DETECTORS)}.")
    samples = np.asarray(samples, dtype=np.float32)
    if samples.ndim != 1:
        raise ValueError(f"samples have the shape {samples.shape}: pass one channel, (N,).")
    if detector == "silero":
        return _silero_hears(samples, sampling_rate)
    n = max(1, round(len(samples) / (BLOCK * sampling_rate)))
    return any(_is_voiced(block, sampling_rate) for block in np.array_split(samples, n))


# ── energy ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _is_voiced(samples: np.ndarray, rate: int) -> bool:
    """Whether a block of some seconds (N,) has the three properties of voiced speech."""
    if len(samples) < 2 * FRAME * rate or not np.abs(samples).max() > 10 ** (QUIETEST / 20):
        return False
    levels, periodicities, pitches = _frames(samples, rate)
    loud = levels > max(levels.max() - DYNAMICS, QUIETEST)
    voiced = loud & (periodicities > PERIODICITY)
    steps = 12 * np.abs(np.log2(pitches[1:] / pitches[:-1]))
    continuous = voiced[1:] & voiced[:-1] & (steps < GLIDE[1])
    gliding = continuous & (steps > GLIDE[0])
    quiet, high = np.percentile(levels, (10, 90))
    return bool(
        high - quiet > CHANGE
        and (gliding[1:] & gliding[:-1]).sum() >= N_GLIDES
        and gliding.sum() > GLIDING * continuous.sum()
    )


def _frames(samples: np.ndarray, rate: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Level (dB of full scale), periodicity (0 to 1) and pitch (Hz) of each frame (F,) of a recording (N,)."""
    size = round(FRAME * rate)
    frames = np.lib.stride_tricks.sliding_window_view(samples, size)[:: round(HOP * rate)]  # (F, size)
    window = np.hanning(size).astype(np.float32)
    n = 2 ** int(np.ceil(np.log2(2 * size)))
    frequencies = np.fft.rfftfreq(n, 1 / rate)
    band = (frequencies >= LOWEST) & (frequencies < LEVEL_BELOW)
    spectra = np.abs(np.fft.rfft((frames - frames.mean(axis=1, keepdims=True)) * window, n))
    spectra = np.where(band, spectra, 0)[:, frequencies < LEVEL_BELOW]
    levels = 10 * np.log10((spectra**2).sum(axis=1) * 2 / n / (window**2).sum() + 1e-12)

    spectra = spectra[:, frequencies[: spectra.shape[1]] < PERIODIC_BELOW]
    background = np.median(spectra, axis=0)
    spectra = spectra / (background + 1e-3 * background.max() + 1e-9)
    # A spectrum of so few bins has its autocorrelation at a lower rate than that of the samples.
    correlations = np.fft.irfft(spectra, N_LAGS, axis=1)
    lag_rate = N_LAGS * rate / n
    first, last = int(lag_rate / PITCHES[1]), int(lag_rate / PITCHES[0])
    row = np.arange(len(correlations))
    lags = first + correlations[:, first:last].argmax(axis=1)
    before, peak, after = (correlations[row, lags + step] for step in (-1, 0, 1))
    curvature = before - 2 * peak + after
    offset = (before - after) / (2 * np.where(curvature == 0, 1, curvature))  # of the parabola through the three
    pitches = lag_rate / (lags + np.clip(offset, -0.5, 0.5))
    return levels, peak / (correlations[:, 0] + 1e-9), pitches


# ── silero ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _silero_hears(samples: np.ndarray, rate: int) -> bool:
    import torch

    silero, model = _silero()
    if rate not in (8000, 16000):
        import soxr

        samples, rate = soxr.resample(samples, rate, 16000), 16000
    return bool(silero.get_speech_timestamps(torch.from_numpy(samples), model, sampling_rate=rate))


@cache
def _silero() -> tuple[Any, Any]:
    """The package silero-vad, and its network, whose weights it includes."""
    import torch

    threads = torch.get_num_threads()
    try:
        import silero_vad
    except ImportError as error:
        raise ImportError(
            'The speech detector silero needs the package silero-vad: pip install "modeling-mmer[vad]".'
        ) from error
    finally:
        torch.set_num_threads(threads)  # importing silero-vad sets it to 1 for the whole process
    return silero_vad, silero_vad.load_silero_vad()
