"""Unusual audio files: the corpus check and the processor agree on which can be used.

The files have many formats, or are truncated, mislabelled, corrupted, empty, missing or oddly named. Recordings without
faults give finite features, and those with faults are refused. Nothing hangs or ends with a traceback.
"""

import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from conftest import real_input_processor

from modeling_mmer.corpora import CorpusError, load_corpora
from modeling_mmer.corpora.faults import as_table, examine, settle
from modeling_mmer.corpora.recordings import Recording, read_recordings

LABELS = ("neutral", "happiness", "sadness", "anger")
RATE = 16000
SOUND = "sound"
HEARD = (
    SOUND,
    "silent",
    "truncated",
    "too loud",
    "cancelled",
)  # the check says so, and a model can hear it nevertheless
REFUSED = ("missing", "unreadable", "empty", "not finite")


def noise(seconds: float, rate: int = RATE, channels: int = 1, seed: int = 0) -> np.ndarray:
    shape = (round(seconds * rate), channels) if channels > 1 else round(seconds * rate)
    return np.random.default_rng(seed).uniform(-0.3, 0.3, shape)


# ── the files; each function makes some, and says what the check should say of them ─────────────────────────────────


def in_every_format(folder: Path) -> dict[str, str]:
    encodings = {
        "wav": (
            "PCM_U8",
            "PCM_16",
            "PCM_24",
            "PCM_32",
            "FLOAT",
            "DOUBLE",
            "ULAW",
            "ALAW",
            "IMA_ADPCM",
            "MS_ADPCM",
            "GSM610",
        ),
        "flac": ("PCM_S8", "PCM_16", "PCM_24"),
        "aiff": ("PCM_S8", "PCM_16", "PCM_24", "FLOAT"),
        "au": ("PCM_16", "ULAW", "FLOAT"),
        "caf": ("PCM_16", "PCM_32", "ALAC_16"),
        "w64": ("PCM_16", "FLOAT"),
        "rf64": ("PCM_16",),
        "voc": ("PCM_16",),
        "ogg": ("VORBIS", "OPUS"),
        "mp3": ("MPEG_LAYER_III",),
    }
    files = {}
    for suffix, subtypes in encodings.items():
        for subtype in subtypes:
            name = f"{suffix}_{subtype}.{suffix}"
            rate = 8000 if subtype == "GSM610" else RATE
            soundfile.write(folder / name, noise(0.5, rate), rate, subtype=subtype, format=suffix.upper())
            files[name] = SOUND
    return files


def of_every_rate_and_width(folder: Path) -> dict[str, str]:
    files = {}
    for rate in (100, 1000, 7350, 8000, 11025, 22050, 44100, 48000, 96000, 192000, 384000):
        soundfile.write(folder / f"{rate}_hz.wav", noise(0.3, rate), rate)
        files[f"{rate}_hz.wav"] = SOUND
    for channels in (2, 3, 6, 8, 64):
        soundfile.write(folder / f"{channels}_channels.wav", noise(0.2, channels=channels), RATE)
        files[f"{channels}_channels.wav"] = SOUND
    soundfile.write(folder / "768000_hz.wav", noise(0.1, 768_000), 768_000)
    files["768000_hz.wav"] = SOUND
    for rate in (1, 99, 768_001, 2**31 - 1):
        soundfile.write(folder / f"{rate}_hz.wav", noise(1), rate)
        files[f"{rate}_hz.wav"] = "unreadable"
    return files


def of_every_length(folder: Path) -> dict[str, str]:
    for samples in (0, 1, 2, 15, 159, 160, 161, 400):
        soundfile.write(folder / f"{samples}_samples.wav", np.full(samples, 0.1), RATE)
    for suffix in ("flac", "aiff", "ogg"):
        soundfile.write(folder / f"0_samples.{suffix}", np.zeros(0), RATE)
    soundfile.write(folder / "40_s.flac", noise(40, 4000), 4000)
    return {f"{samples}_samples.wav": SOUND for samples in (1, 2, 15, 159, 160, 161, 400)} | {
        "40_s.flac": SOUND,
        "0_samples.wav": "empty",
        "0_samples.aiff": "empty",
        "0_samples.ogg": "empty",
        "0_samples.flac": "unreadable",  # no FLAC file is without samples
    }


def of_odd_samples(folder: Path) -> dict[str, str]:
    files = {}
    for name, value in (
        ("nan", np.nan),
        ("inf", np.inf),
        ("minus_inf", -np.inf),
        ("huge", 1e30),
        ("beyond", 2.0**31 * 1.01),
    ):
        samples = noise(0.5)
        samples[-1] = value
        for subtype in ("FLOAT", "DOUBLE"):
            soundfile.write(folder / f"{name}_{subtype}.wav", samples, RATE, subtype=subtype)
            files[f"{name}_{subtype}.wav"] = "not finite"
    soundfile.write(
        folder / "nan_in_one_channel.wav", np.stack([noise(0.5), np.full(RATE // 2, np.nan)], 1), RATE, subtype="FLOAT"
    )
    soundfile.write(folder / "integers_as_floats.wav", noise(0.5) * 2**31, RATE, subtype="FLOAT")
    soundfile.write(folder / "inverse_channels.wav", np.outer(noise(0.5), (1, -1)), RATE)
    soundfile.write(folder / "clipped.wav", np.sign(noise(0.5)), RATE)
    soundfile.write(folder / "denormal.wav", np.full(8000, 1e-40), RATE, subtype="FLOAT")
    for suffix in ("wav", "flac"):
        soundfile.write(folder / f"silence.{suffix}", np.zeros(8000), RATE)
    return files | {
        "nan_in_one_channel.wav": "not finite",
        "integers_as_floats.wav": "too loud",
        "inverse_channels.wav": "cancelled",
        "clipped.wav": SOUND,
        "denormal.wav": SOUND,
        "silence.wav": "silent",
        "silence.flac": "silent",
    }


def cut_short(folder: Path) -> dict[str, str]:
    """Half of a file; its header alone, or not even that."""
    files = {}
    for suffix, of_half in (("wav", "truncated"), ("aiff", "truncated"), ("mp3", "truncated"), ("flac", "unreadable")):
        soundfile.write(folder / f"whole.{suffix}", noise(2), RATE)
        content = (folder / f"whole.{suffix}").read_bytes()
        (folder / f"half.{suffix}").write_bytes(content[: len(content) // 2])
        (folder / f"begun.{suffix}").write_bytes(content[:10])
        files |= {f"whole.{suffix}": SOUND, f"half.{suffix}": of_half, f"begun.{suffix}": "unreadable"}
    content = (folder / "whole.wav").read_bytes()
    (folder / "header_alone.wav").write_bytes(content[:44])
    (folder / "of_unknown_size.wav").write_bytes(content[:40] + b"\xff\xff\xff\xff" + content[44:])
    content = (folder / "whole.flac").read_bytes()
    huge = bytearray(content)
    huge[21:26] = bytes([huge[21] | 0x0F]) + b"\xff\xff\xff\xff"  # declares 2³⁶ samples
    (folder / "declares_too_much.flac").write_bytes(huge)
    return files | {
        "header_alone.wav": "empty",
        "of_unknown_size.wav": SOUND,
        "declares_too_much.flac": "unreadable",
    }


def mislabelled(folder: Path) -> dict[str, str]:
    """Read by what they are, whatever they are called; but `.raw` says that there is no header to go by."""
    for suffix in ("flac", "mp3", "ogg"):
        soundfile.write(folder / f"really.{suffix}", noise(0.5), RATE)
        (folder / f"really_{suffix}.wav").write_bytes((folder / f"really.{suffix}").read_bytes())
    soundfile.write(folder / "really.wav", noise(0.5), RATE)
    for name in ("really_wav.flac", "really_wav.mp3", "really_wav.raw", "no_suffix", "UPPER.WAV", "two.dots.wav"):
        (folder / name).write_bytes((folder / "really.wav").read_bytes())
    contents = {
        "text.wav": b"This is no audio at all.\n" * 20,
        "html.mp3": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
        "json.flac": b'{"error": "quota exceeded"}',
        "pointer.wav": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
        "zeros.wav": bytes(4096),
        "noise.wav": np.random.default_rng(3).bytes(4096),
        "picture.wav": b"\x89PNG\r\n\x1a\n" + bytes(500),
        "video.m4a": b"\x00\x00\x00\x20ftypM4A \x00\x00\x00\x00" + bytes(500),
        "zero_length.wav": b"",
        "zero_length.mp3": b"",
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    sound = ("really_flac.wav", "really_mp3.wav", "really_ogg.wav", "really_wav.flac", "really_wav.mp3")
    return (
        dict.fromkeys(contents, "unreadable")
        | dict.fromkeys([*sound, "no_suffix", "UPPER.WAV", "two.dots.wav"], SOUND)
        | {"really_wav.raw": "unreadable"}
    )


def flipped(folder: Path) -> dict[str, str | None]:
    """One byte of the header or of the samples inverted; what comes of it is not for us to say."""
    files = {}
    for suffix in ("wav", "flac", "mp3", "ogg", "aiff"):
        soundfile.write(folder / f"x.{suffix}", noise(0.3), RATE)
        content = (folder / f"x.{suffix}").read_bytes()
        for place in (0, 4, 9, 16, 20, 22, 25, 28, 34, 40, 43, 60, len(content) // 2, len(content) - 1):
            changed = bytearray(content)
            changed[place] ^= 0xFF
            name = f"flipped_{place}.{suffix}"
            (folder / name).write_bytes(changed)
            files[name] = None
    return files


def oddly_named_or_no_files(folder: Path) -> dict[str, str]:
    soundfile.write(folder / "plain.wav", noise(0.3), RATE)
    content = (folder / "plain.wav").read_bytes()
    odd = (
        "with space.wav",
        "żółć 😀 音.wav",
        "-rf.wav",
        "#1 50% 'quoted'.wav",
        "new\nline.wav",
        "a" * 240 + ".wav",
        ".wav",
    )
    for name in odd:
        (folder / name).write_bytes(content)
    (folder / "link.wav").symlink_to("plain.wav")
    (folder / "link_to_link.wav").symlink_to("link.wav")
    (folder / "link_to_nothing.wav").symlink_to("nothing.wav")
    (folder / "link_to_itself.wav").symlink_to("link_to_itself.wav")
    (folder / "folder.wav").mkdir()
    (folder / "link_to_folder.wav").symlink_to("folder.wav")
    os.mkfifo(folder / "pipe.wav")
    return dict.fromkeys([*odd, "link.wav", "link_to_link.wav"], SOUND) | {
        "link_to_nothing.wav": "missing",
        "link_to_itself.wav": "missing",
        "folder.wav": "missing",
        "link_to_folder.wav": "missing",
        "pipe.wav": "missing",
        "not_there.wav": "missing",
        "not/there/either.wav": "missing",
        "b" * 300 + ".wav": "unreadable",  # no file can have this name
        "nul\0character.wav": "missing",
    }


GROUPS = (
    *(in_every_format, of_every_rate_and_width, of_every_length, of_odd_samples),
    *(cut_short, mislabelled, flipped, oddly_named_or_no_files),
)


@pytest.fixture(scope="module")
def awkward(tmp_path_factory) -> dict[str, str | None]:
    """Path → what the check should say, None where that is open."""
    files = {}
    for make in GROUPS:
        folder = tmp_path_factory.mktemp(make.__name__)
        files |= {str(folder / name): said for name, said in make(folder).items()}
    return files


@pytest.fixture(scope="module")
def recordings(awkward):
    return read_recordings(awkward)


def said_of(recording: Recording) -> str:
    if not recording.usable and recording.kind == "truncated":
        return "unreadable"  # before its end, and so not to be used
    return recording.kind or SOUND


# ── what is said of them ────────────────────────────────────────────────────────────────────────────────────────────


def test_there_are_enough(awkward):
    assert len(awkward) >= 150 and sum(said is not None for said in awkward.values()) >= 80


def test_each_is_answered_as_documented(awkward, recordings):
    answers = {path: said_of(recordings[path]) for path in awkward}
    expected = {path: said or answers[path] for path, said in awkward.items()}
    assert answers == expected
    assert set(answers.values()) == {*HEARD, *REFUSED}


@pytest.mark.filterwarnings("ignore:.*recordings are longer than")
@pytest.mark.filterwarnings("ignore:.*(far above full scale|inverse to each other)")
def test_what_is_not_refused_can_be_heard_and_what_is_refused_cannot(awkward, recordings):
    processor, wrong = real_input_processor(), {}
    for path in awkward:
        said = said_of(recordings[path])
        if re.search("its header says.* times", recordings[path].detail):
            continue  # a length that could fill the memory
        try:
            features = processor(audio=path)["input_features"]
            heard = bool(features.isfinite().all()) and features.shape[-1] > 0
        except ValueError as error:
            heard = False
            assert repr(path)[:50] in str(error)
        if heard != (said in HEARD):
            wrong[path] = said, str(heard)
    assert not wrong


def test_durations_are_those_of_the_samples_that_are_there(awkward, recordings):
    for path, said in awkward.items():
        if said in HEARD:
            with soundfile.SoundFile(path) as file:
                samples = sum(iter(lambda: len(file.read(999)), 0))
                assert recordings[path].seconds == pytest.approx(samples / file.samplerate, abs=1e-9)


# ── as a corpus ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def corpus(awkward, recordings, tmp_path_factory):
    """All of them, with text, as rows of one corpus that was read to its end."""
    folder = tmp_path_factory.mktemp("corpus")
    rows = {"utterance_id": [f"u{i}" for i in range(len(awkward))], "audio": list(awkward), "text": "so it is"}
    pd.DataFrame(rows).assign(split="train").to_parquet(folder / "metadata.parquet")
    loaded = load_corpora("folder", folder, emotion_labels=LABELS, on_bad_rows="keep")
    return examine(loaded, recordings)


def test_all_bad_files_are_faults_of_their_rows(corpus, awkward, recordings):
    refused = {f"u{i}" for i, path in enumerate(awkward) if said_of(recordings[path]) in REFUSED}
    assert {fault.utterance_id for fault in corpus.faults} == refused and len(corpus.faults) == len(refused)
    with pytest.raises(CorpusError, match=rf"bad rows \({len(refused)}\)") as error:
        settle(corpus, "stop")
    for words in ("missing", "cannot be decoded", "without samples", "NaN, infinity"):
        assert words in str(error.value)
    table = as_table(corpus.faults)
    assert all(fault.detail.partition("\n")[0] in table for fault in corpus.faults)


def test_the_others_are_left_with_what_is_odd_about_them_counted(corpus, awkward, recordings):
    left = settle(corpus, "skip")
    heard = {f"u{i}": path for i, path in enumerate(awkward) if said_of(recordings[path]) in HEARD}
    assert dict(zip(left.splits["train"]["utterance_id"], left.splits["train"]["audio"], strict=True)) == heard
    assert left.splits["train"]["duration"][:] == [recordings[path].seconds for path in heard.values()]
    counts = {
        "silent": sum(recordings[path].kind == "silent" for path in heard.values()),
        "cut short": sum(recordings[path].kind == "truncated" for path in heard.values()),
        "shorter than 0.1 s": sum(recordings[path].seconds < 0.1 for path in heard.values()),
    }
    for words, count in counts.items():
        assert count and any(notice.startswith(f"{count} ") and words in notice for notice in left.notices)
