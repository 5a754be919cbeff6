"""MELD: utterances of the series Friends with seven emotions and three sentiments (Poria et al., 2019).

Text comes from the CSV files. Audio is taken out of the mp4 clips once, where ffmpeg is installed, and kept beside
them.
"""

import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm.auto import tqdm

from ..files import written_beside
from .folder import read_table
from .layout import count, require
from .paths import Finder
from .rows import build_corpus
from .schema import Corpus, CorpusError, counted

SPLITS = {  # of the CSV files → the folders of their clips
    "train": ("train_splits",),
    "dev": ("dev_splits_complete", "dev_splits"),
    "test": ("output_repeated_splits_test", "test_splits"),
}
COLUMNS = ("Utterance", "Speaker", "Emotion", "Sentiment", "Dialogue_ID", "Utterance_ID")
EXTRACTED = "audio_16khz"  # folder below the corpus's for what ffmpeg took out


def load_meld(directory: str | Path, **labelling: Any) -> Corpus:
    """Loads MELD; `directory` holds the CSV files and the folders of clips, as `MELD.Raw` does once unpacked.

    Raises:
        CorpusError: a CSV file is missing or lacks a column; whatever `build_corpus` finds wrong with the rows.
    """
    root = Path(directory).expanduser().absolute()
    table = pd.concat([read_split(root, split) for split in SPLITS], ignore_index=True)
    table["audio"], notices = take_out_audio(root, table)
    facts = {"license": "gpl-3.0", "language": "en", "folder": root}
    return build_corpus("meld", table.drop(columns="clip"), notices=notices, **labelling, **facts)


def read_split(root: Path, split: str) -> pd.DataFrame:
    """The rows of one CSV file, with the clip (a path below the root, or None) that holds the speech of each."""
    name = f"{split}_sent_emo.csv"
    file = require(root, name, f"{split}/{name}", f"{split}_splits/{name}")
    raw = read_table(file)
    if absent := [column for column in COLUMNS if column not in raw]:
        raise CorpusError(f"{file} lacks the columns {', '.join(absent)} (it has {', '.join(raw.columns)})")
    clips = "dia" + raw["Dialogue_ID"] + "_utt" + raw["Utterance_ID"]
    return pd.DataFrame(
        {
            "utterance_id": f"{split}_" + clips,
            "text": raw["Utterance"].map(repair, na_action="ignore"),
            "emotion": raw["Emotion"],
            "sentiment": raw["Sentiment"],
            "speaker": raw["Speaker"],
            "split": split,
            "clip": find_clips(root, split, clips),
        }
    )


def repair(text: str) -> str:
    """Punctuation of Windows-1252 that the files hold as control characters: \\x92 is an apostrophe."""
    return "".join(bytes([ord(c)]).decode("cp1252", "replace") if 0x80 <= ord(c) <= 0x9F else c for c in text)


def find_clips(root: Path, split: str, clips: Iterable[str]) -> list[str | None]:
    """The file of each clip, in the first of the split's folders that has it."""
    finder = Finder((".mp4",))
    folders = [root / folder for folder in SPLITS[split]]
    found = [next(filter(None, (finder.find(f"{folder}/{clip}.mp4") for folder in folders)), None) for clip in clips]
    return [path and str(Path(path).relative_to(root)) for path in found]


def take_out_audio(root: Path, table: pd.DataFrame) -> tuple[list[str | None], list[str]]:
    """The audio file of each row, mono at 16 kHz, and notices of rows that stay without.

    Raises:
        CorpusError: the folder for the audio cannot be written.
    """
    has_clip = table["clip"].notna()
    if not has_clip.any():
        return [None] * len(table), ["no clips beside the CSV files: text only"]
    notices = count("row has", "rows have", "no clip", table["utterance_id"][~has_clip].tolist(), "text only")
    with_clip = table[has_clip].itertuples()
    clips = {root / EXTRACTED / f"{row.utterance_id}.flac": root / row.clip for row in with_clip}  # audio → clip
    lacking = {audio: clip for audio, clip in clips.items() if not audio.is_file()}
    ffmpeg = shutil.which("ffmpeg")
    if lacking and ffmpeg is None:
        notices.append(f"ffmpeg is not installed: {counted(len(lacking), 'clip')} cannot be heard (text only)")
    elif lacking:
        notices += count("clip", "clips", "cannot be decoded", decode_all(ffmpeg, lacking), "text only")
    audio = {path.stem: str(path) for path in clips if path.is_file()}
    return [audio.get(name) for name in table["utterance_id"]], notices


def decode_all(ffmpeg: str, clips: Mapping[Path, Path]) -> list[str]:
    """Write the audio of each clip (audio → clip); returns the names of clips for which that failed."""
    folder = next(iter(clips)).parent
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise CorpusError(f"meld: cannot write {folder}, where the clips' audio is kept: {error}") from error
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        done = pool.map(lambda pair: decode_one(ffmpeg, *pair), clips.items())
        succeeded = list(tqdm(done, desc="Audio of clips", total=len(clips)))
    return [clip.name for clip, success in zip(clips.values(), succeeded, strict=True) if not success]


def decode_one(ffmpeg: str, audio: Path, clip: Path) -> bool:
    """Write the audio of a clip. Returns whether that succeeded."""
    command = [ffmpeg, *"-nostdin -v error -y -i".split(), str(clip), *"-vn -ac 1 -ar 16000 -f flac".split()]
    try:
        with written_beside(audio) as beside:
            subprocess.run([*command, str(beside)], capture_output=True, check=True)
    except (subprocess.CalledProcessError, FileNotFoundError):  # failed, or wrote no file
        return False
    return True
