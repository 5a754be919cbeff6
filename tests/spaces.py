"""The page of the model that comes with the package, really launched, and recordings to give to it."""

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile
from conftest import REPOSITORY, real_path
from hub import offline, put

RATE = 16_000
AUDIO = REPOSITORY / "modeling_mmer/corpora/demo_data/audio"
ENCODERS = {"openai/whisper-base": "whisper-base-encoder", "sentence-transformers/all-MiniLM-L6-v2": "minilm"}


@contextmanager
def launched(cache: Path) -> Iterator[tuple]:
    """The page and its address, with the encoders of the released model in a cache of the hub."""
    from modeling_mmer.space.page import Page

    for name, folder in ENCODERS.items():
        put(cache, name, real_path("models", folder))
    with offline(cache):
        page = Page()
        _, address, _ = page.launch(server_name="127.0.0.1", prevent_thread_lock=True, quiet=True)
        try:
            yield page, address.rstrip("/")
        finally:
            page.blocks.close(verbose=False)


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def spoken(n: int) -> list[tuple[str, str]]:
    """(path, text) of so many utterances of the demo corpus."""
    with open(AUDIO.parent / "metadata.csv", newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test" and row["audio"] and row["text"]]
    return [(str(AUDIO.parent / row["audio"]), row["text"]) for row in rows[:n]]


def write_call(path: Path, seconds: float) -> Path:
    """A stereo call: utterances of the demo corpus, now on the left channel, now on the right, and pauses between."""
    utterances = [soundfile.read(file, dtype="float32")[0] for file, _ in spoken(24)]
    call, place, number = np.zeros((round(seconds * RATE), 2), np.float32), 0, 0
    while place < len(call):
        samples = utterances[number % len(utterances)][: len(call) - place]
        call[place : place + len(samples), number % 2] = samples
        place, number = place + len(samples) + RATE, number + 1
    soundfile.write(path, call, RATE)
    return path
