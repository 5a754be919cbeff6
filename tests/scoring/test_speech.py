"""Noise, hum, clicks and tones are no speech; speech of several corpora is, in noise too."""

import sys

import numpy as np
import pytest
import soundfile
import torch
from conftest import real_path

from modeling_mmer.corpora.demo import DEMO_FOLDER
from modeling_mmer.scoring.speech import has_speech

RATE = 16000
SECONDS = 4


def coloured(slope: float, seed: int) -> np.ndarray:
    """Noise whose power falls with frequency to the power `slope`: 0 is white, 1 pink, 2 brown."""
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(RATE * SECONDS))
    frequencies = np.maximum(np.fft.rfftfreq(RATE * SECONDS, 1 / RATE), 1)
    noise = np.fft.irfft(spectrum / frequencies ** (slope / 2))
    return 0.3 * noise / np.abs(noise).max()


def harmonics(pitch, n: int = 8) -> np.ndarray:
    """A harmonic sound of a pitch (Hz), which may be an array (N,)."""
    phase = 2 * np.pi * np.cumsum(np.full(RATE * SECONDS, pitch) / RATE)
    return 0.1 * sum(np.sin(k * phase) / k for k in range(1, n + 1))


def melody(seed: int) -> np.ndarray:
    """Notes that start at once, keep their pitch and die away, as of a piano."""
    generator, music = np.random.default_rng(seed), np.zeros(RATE * SECONDS)
    for start in range(0, len(music), RATE // 4):
        note = harmonics(220 * 2 ** (generator.integers(-12, 14) / 12), 6)[: len(music) - start]
        music[start:] += note * np.exp(-6 * np.arange(len(note)) / RATE)
    return music


def sounds() -> dict[str, np.ndarray]:
    n = RATE * SECONDS
    time, generator = np.arange(n) / RATE, np.random.default_rng(0)
    clicks = np.zeros(n)
    clicks[generator.integers(0, n, 40)] = 0.8
    ring = np.exp(-time[:800] / 0.01) * np.sin(2 * np.pi * 800 * time[:800])
    made = {
        "silence": np.zeros(n),
        "an offset": np.full(n, 0.1),
        "very quiet hiss": coloured(0, 1) / 1000,
        "one bit of hiss": np.round(0.6 * generator.standard_normal(n)) / 32768,
        "rain": coloured(0, 2) * np.repeat(np.abs(generator.standard_normal(n // 400)), 400),
        "clicks": clicks,
        "a metronome": np.where(np.arange(n) % (RATE // 2) == 0, 0.8, 0),
        "knocking": np.convolve(clicks, ring)[:n],
        "a tone": 0.3 * np.sin(2 * np.pi * 1000 * time),
        "beeps": 0.3 * np.sin(2 * np.pi * 1000 * time) * (np.sin(4 * np.pi * time) > 0),
        "a siren": harmonics(700 + 300 * np.sin(np.pi * time), 1),
        "an engine": harmonics(90 + 10 * np.sin(2 * time), 12) + coloured(0, 3) / 10,
    }
    made |= {f"noise {slope} of seed {seed}": coloured(slope, seed) for slope in (0, 1, 2) for seed in range(4)}
    made |= {f"hum of {f} Hz": harmonics(f) for f in (50, 60, 100, 120)}
    made |= {f"hum of {f} Hz in noise": harmonics(f) + coloured(0, f) / snr for f in (50, 100, 120) for snr in (1, 3)}
    return made | {f"melody {seed}": melody(seed) for seed in range(4)}


SOUNDS = sounds()


@pytest.mark.parametrize("name", SOUNDS)
def test_what_is_not_speech(name):
    assert has_speech(SOUNDS[name], RATE) is False


def with_noise(speech: np.ndarray, decibels: float, seed: int) -> np.ndarray:
    """Speech in white noise, which is so many decibels below its frames that are not silent."""
    powers = (speech[: len(speech) // 400 * 400].reshape(-1, 400) ** 2).mean(axis=1)
    power = powers[powers > powers.max() / 100].mean()
    noise = np.random.default_rng(seed).standard_normal(len(speech))
    return speech + noise * np.sqrt(power / 10 ** (decibels / 10))


@pytest.mark.parametrize("corpus", ["ravdess", "emodb", "spoken"])
def test_speech_is_found_in_real_corpora(corpus):
    recordings = sorted(real_path("data", corpus, "audio").iterdir())
    chosen = recordings[:: len(recordings) // 25]
    missed = []
    for seed, path in enumerate(chosen):
        samples, rate = soundfile.read(path)
        assert rate == RATE
        if not has_speech(samples, rate):
            missed.append(path.name)
        if not has_speech(with_noise(samples, 5, seed), rate):
            missed.append(f"{path.name} in noise")
    assert missed == []


def gliding_voice(seconds: float = 1.0) -> np.ndarray:
    """A pulse of a voice through two formants, whose pitch and level move as in a spoken word."""
    time = np.arange(int(RATE * seconds)) / RATE
    pitch = 130 + 40 * np.sin(2 * np.pi * 1.3 * time)
    phase = 2 * np.pi * np.cumsum(pitch / RATE)
    weights = {
        k: np.exp(-(((k * 130 - 500) / 400) ** 2)) + 0.5 * np.exp(-(((k * 130 - 1500) / 300) ** 2))
        for k in range(1, 20)
    }
    voice = sum(weight * np.sin(k * phase) for k, weight in weights.items())
    return 0.1 * voice * (0.55 - 0.45 * np.cos(2 * np.pi * 3 * time))


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000])
def test_a_voice_is_heard_at_any_rate_and_level_and_place(rate):
    soxr = pytest.importorskip("soxr")
    voice = soxr.resample(gliding_voice(), RATE, rate)
    silence = np.zeros(25 * rate)
    assert has_speech(voice, rate)
    assert has_speech(voice / 100, rate)  # 40 dB less
    assert has_speech(np.concatenate([silence, voice, silence]), rate)
    assert not has_speech(silence, rate)


def test_short_and_empty_recordings_have_no_speech():
    for n in (0, 1, 500, 1279, 1281):
        assert has_speech(np.zeros(n), RATE) is False
        assert has_speech(coloured(0, 0)[:n], RATE) is False


def test_wrong_calls():
    with pytest.raises(ValueError, match="choose one of energy, silero"):
        has_speech(np.zeros(RATE), RATE, "webrtc")
    with pytest.raises(ValueError, match=r"shape \(2, 16000\): pass one channel"):
        has_speech(np.zeros((2, RATE)), RATE)


def test_silero_hears_speech_and_no_noise():
    pytest.importorskip("silero_vad", reason="needs silero-vad, of the extra vad")
    threads = torch.get_num_threads()
    samples, rate = soundfile.read(DEMO_FOLDER / "audio" / "test_001.opus")
    assert has_speech(samples, rate, "silero")
    assert has_speech(np.repeat(samples, 3), 3 * rate, "silero")  # resampled
    assert not any(has_speech(sound, RATE, "silero") for sound in SOUNDS.values())
    assert torch.get_num_threads() == threads


def test_silero_that_is_not_installed_is_named(monkeypatch):
    from modeling_mmer.scoring import speech

    monkeypatch.setitem(sys.modules, "silero_vad", None)
    speech._silero.cache_clear()
    with pytest.raises(ImportError, match=r'pip install "modeling-mmer\[vad\]"'):
        has_speech(np.zeros(RATE), RATE, "silero")
