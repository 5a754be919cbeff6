"""Text that is missing can be heard: recordings → transcripts, by any speech recogniser of transformers.

Transcripts are kept in the corpus's folder, under `transcripts/`: one file for each recogniser, one line for each
recording, which is known by its content and, if it is one, its span, so that a renamed one is found again. Lines are
only ever appended, and one that a killed run left torn counts as not there: the next run goes on where the last one
stopped.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from accelerate import PartialState
from datasets import Dataset, Value
from tqdm.auto import tqdm
from transformers import AutomaticSpeechRecognitionPipeline, pipeline
from transformers.utils import logging

from ..corpora import Corpus
from ..corpora.recordings import Source, as_clip, as_input, sources_of
from ..corpora.schema import FEATURES, counted
from ..model.hub_names import commit_of
from ..model.processing_mmer import SHORTEST_WAVEFORM
from ..model.waveforms import read_recording
from .cache import digest, file_digest, named_identity

logger = logging.get_logger(__name__)

FOLDER = "transcripts"
WINDOW = 30  # seconds that are recognised in one piece
_READERS = 8  # threads: hashing recordings waits for the disk

Which = Literal["missing", "all"]


def transcribe(
    corpus: Corpus, model: str, which: Which = "missing", batch_size: int = 8, show_progress: bool = True
) -> Corpus:
    """The corpus with transcripts as the text of its recordings; the `text_source` of these rows is `asr`.

    What was transcribed before is read from the corpus's folders, and a recogniser that has nothing to do is not even
    loaded. Every process takes its share. An empty transcript is missing text.

    Args:
        model: an `automatic-speech-recognition` checkpoint: a hub name or a folder.
        which: `missing`, the rows without text; `all`, every row with audio: reference text is replaced.
        batch_size: recordings that are recognised, and then stored, at a time.

    Raises:
        ValueError: the model is no speech recogniser, the corpus has no folder, or a recording cannot be read.
        OSError: there is no such model, or the corpus's folder cannot be written to.
    """
    state = PartialState()
    seconds = {source: length for rows in corpus.splits.values() for source, length in recordings(rows, which).items()}
    sources = sorted(seconds, key=lambda source: (seconds[source], as_clip(source).path))  # of like length together
    names = names_of(sources)
    store = Transcripts(corpus, model)
    distinct = list({names[source]: source for source in sources}.items())
    # A share must not depend on what is stored: another process may have stored more by the time that this one looks.
    share, stored = distinct[state.process_index :: state.num_processes], store.read()
    if lacking := {name: source for name, source in share if name not in stored}:
        if state.is_main_process and not stored and store.has_other_commit():
            logger.warning(
                f"{model} is at commit {store.commit}, and the transcripts that are stored are of another: recordings "
                "are transcribed anew."
            )
        hear(lacking, store, batch_size, show_progress)
    state.wait_for_everyone()
    stored = store.read()
    texts = {source: stored[names[source]] or None for source in sources}
    splits = {split: with_texts(rows, which, texts) for split, rows in corpus.splits.items()}
    return replace(corpus, splits=splits, caveats=[*corpus.caveats, transcribed(splits, texts, model)])


def names_of(sources: Sequence[Source]) -> dict[Source, str]:
    """What each recording, or span of one, is stored under: the digest of its file, and the span."""
    paths = list(dict.fromkeys(as_clip(source).path for source in sources))
    with ThreadPoolExecutor(_READERS) as readers:
        digests = dict(zip(paths, readers.map(file_digest, paths), strict=True))
    return {
        source: digests[source] if isinstance(source, str) else f"{digests[source.path]}#{source.span}"
        for source in sources
    }


def is_wanted(source: Source | None, text: str | None, which: Which) -> bool:
    return source is not None and (which == "all" or text is None)


def recordings(rows: Dataset, which: Which) -> dict[Source, float]:
    """Seconds of the recordings, and spans of them, whose transcripts are wanted."""
    columns = zip(sources_of(rows), rows["text"], rows["duration"], strict=True)
    return {source: duration for source, text, duration in columns if is_wanted(source, text, which)}


def with_texts(rows: Dataset, which: Which, texts: Mapping[Source, str | None]) -> Dataset:
    """The rows, those that are wanted with the texts of their recordings and marked so."""
    columns = zip(sources_of(rows), rows["text"], rows["text_source"], strict=True)
    filled = [
        (texts[source], "asr" if texts[source] else None) if is_wanted(source, text, which) else (text, came_from)
        for source, text, came_from in columns
    ]
    for name, values in zip(("text", "text_source"), zip(*filled, strict=True), strict=True):
        rows = rows.remove_columns(name).add_column(name, list(values), feature=Value("string"))
    return rows.select_columns(list(FEATURES))


def transcribed(splits: Mapping[str, Dataset], texts: Mapping[Source, str | None], model: str) -> str:
    """How many rows have transcripts, and how many were transcribed to nothing."""
    rows = [
        row for part in splits.values() for row in zip(sources_of(part), part["text"], part["text_source"], strict=True)
    ]
    heard = sum(came_from == "asr" for *_, came_from in rows)
    empty = sum(source in texts and text is None for source, text, _ in rows)
    of = f"of {counted(len(rows), 'row')}"
    said = counted(heard, f"{of} has", f"{of} have") + f" text that {model} transcribed, not reference text"
    return f"{said}; {empty} more came out empty: no text" if empty else said


# Where transcripts lie


class Transcripts:
    """The transcripts of a corpus by one recogniser, each in the folder that its recording belongs to.

    Args:
        corpus: whose folders keep them.
        model: the recogniser; it need not be loaded.

    Raises:
        ValueError: the corpus has no folder.
        OSError: there is no such model.
    """

    def __init__(self, corpus: Corpus, model: str):
        if not corpus.folders:
            raise ValueError(f"{corpus.name} was read from no folder that could keep its transcripts.")
        self.folders = corpus.folders
        self.model, self.commit = model, commit_of(model)
        self._identity = recogniser_identity(model, self.commit)[:8]
        name = Path(model).resolve().name if self.commit is None else model
        self._name = re.sub(r"[^A-Za-z0-9_.-]+", "-", name)
        self._stem = f"{self._name}-{self._identity}"

    def read(self) -> dict[str, str]:
        """Digest of a recording → transcript: all that are stored, by whichever process, and whatever the recogniser
        was called."""
        files = [file for folder in self.folders for file in (folder / FOLDER).glob(f"*-{self._identity}.*jsonl")]
        return {name: text for file in sorted(files) for name, text in read_lines(file).items()}

    def has_other_commit(self) -> bool:
        """Whether transcripts are stored of another commit of the same hub name."""
        pattern = re.compile(rf"{re.escape(self._name)}-[0-9a-f]{{8}}(\.rank\d+)?\.jsonl")
        names = {file.name for folder in self.folders for file in (folder / FOLDER).glob("*.jsonl")}
        return self.commit is not None and any(
            pattern.fullmatch(name) and not name.startswith(self._stem) for name in names
        )

    def file(self, recording: str, process_index: int) -> Path:
        """Where a process stores the transcript of a recording."""
        around = [folder for folder in self.folders if Path(recording).is_relative_to(folder)]
        nearest = max(around, key=lambda folder: len(folder.parts), default=self.folders[0])
        rank = f".rank{process_index}" if process_index else ""
        return nearest / FOLDER / f"{self._stem}{rank}.jsonl"


def recogniser_identity(model: str, commit: str | None) -> str:
    """What tells one recogniser from another: [`named_identity`] and, of a folder, its tokenizer and settings."""
    settings = [] if commit else [file for file in Path(model).iterdir() if file.suffix in (".json", ".txt")]
    return digest(named_identity(model, commit), *(file.read_bytes() for file in sorted(settings)))


def read_lines(file: Path) -> dict[str, str]:
    """The transcripts of a file, but for those on torn lines."""
    found = {}
    for line in file.read_bytes().splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        found[entry["audio"]] = entry["text"]
    return found


def append_lines(file: Path, texts: Mapping[str, str]) -> None:
    """Append transcripts in one write, on lines of their own even behind a torn one.

    Raises:
        OSError: the file cannot be written to.
    """
    lines = [json.dumps({"audio": name, "text": text}, ensure_ascii=False) + "\n" for name, text in texts.items()]
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a+b") as stream:
            if stream.tell() > 0:
                stream.seek(-1, os.SEEK_END)
                lines = lines if stream.read() == b"\n" else ["\n", *lines]
            stream.write("".join(lines).encode())
    except OSError as error:
        raise OSError(
            f"Transcripts cannot be kept in {file.parent} ({error}): let the corpus's folder be written to, or copy it "
            "to one that can be."
        ) from error


# Recognising


def hear(lacking: Mapping[str, Source], store: Transcripts, batch_size: int, show_progress: bool) -> None:
    """Transcribe recordings and spans of them (their names → themselves), and store what was heard after each batch."""
    state = PartialState()
    files = {name: store.file(as_clip(source).path, state.process_index) for name, source in lacking.items()}
    for file in set(files.values()):
        append_lines(file, {})  # a folder that cannot be written to shows before the work
    recogniser = load_recogniser(store.model, store.commit, state.device)
    rate = recogniser.feature_extractor.sampling_rate
    names = list(lacking)
    with tqdm(total=len(names), desc="Transcribing", disable=not (show_progress and state.is_main_process)) as progress:
        for start in range(0, len(names), batch_size):
            batch = names[start : start + batch_size]
            texts = dict(zip(batch, recognise(recogniser, [read(lacking[name], rate) for name in batch]), strict=True))
            for file in {files[name] for name in batch}:
                append_lines(file, {name: text for name, text in texts.items() if files[name] == file})
            progress.update(len(batch))


def load_recogniser(model: str, commit: str | None, device: torch.device) -> AutomaticSpeechRecognitionPipeline:
    """The pipeline of a speech recogniser, from a folder or a commit of a hub name.

    Raises:
        ValueError: the model is none, or lacks weights: what a bare encoder hears would be random.
    """
    try:
        recogniser = pipeline("automatic-speech-recognition", model=model, revision=commit, device=device)
    except (ValueError, OSError) as error:
        reason, *_ = str(error).splitlines()
        raise ValueError(f"{model} is no speech recogniser: {reason}") from error
    _, info = type(recogniser.model).from_pretrained(
        model, revision=commit, output_loading_info=True, device_map="meta"
    )
    # What masks spans of the speech in training is left out of many a checkpoint.
    if missing := sorted(name for name in info["missing_keys"] if not name.endswith("masked_spec_embed")):
        raise ValueError(
            f"{model} is no speech recogniser: it lacks {counted(len(missing), 'weight')} of a "
            f"{type(recogniser.model).__name__}, "
            f"such as {missing[0]}."
        )
    return recogniser


def read(source: Source, rate: int) -> np.ndarray:
    """A recording as float32 (samples,) at `rate`, followed by silence up to what recognisers' convolutions need."""
    try:
        waveform = read_recording(as_input(source), rate, rate)
    except ValueError as error:
        raise ValueError(f"{as_clip(source).path}: {error}") from error
    return np.pad(waveform, (0, max(0, round(SHORTEST_WAVEFORM * rate) - len(waveform))))


def recognise(recogniser: AutomaticSpeechRecognitionPipeline, waveforms: list[np.ndarray]) -> list[str]:
    """Waveforms (samples,) at the recogniser's rate → what is said in them, decoded without sampling.

    Whisper's windows are all of one length, and go as one batch. Everything else goes alone: where waveforms are
    padded to the longest, some recognisers' transcripts depend on what else is in the batch.
    """
    extractor = recogniser.feature_extractor
    whisper = recogniser.type == "seq2seq_whisper"
    window = extractor.n_samples if whisper else WINDOW * extractor.sampling_rate
    texts = [""] * len(waveforms)
    for is_long in (False, True):
        chosen = [i for i, waveform in enumerate(waveforms) if (len(waveform) > window) == is_long]
        if chosen:
            outputs = recogniser(
                [waveforms[i] for i in chosen],
                batch_size=len(chosen) if whisper and not is_long else 1,
                generate_kwargs={"do_sample": False},
                **(long_form(recogniser) if is_long else {}),
            )
            for i, output in zip(chosen, outputs, strict=True):
                texts[i] = output["text"].strip()
    return texts


def long_form(recogniser: AutomaticSpeechRecognitionPipeline) -> dict[str, bool | int]:
    """How to hear what outlasts the window: Whisper goes on from timestamp to timestamp, CTC models whose frames can be
    counted hear overlapping windows, and others hear it in one piece."""
    if recogniser.type == "seq2seq_whisper":
        return {"return_timestamps": True}
    if recogniser.type.startswith("ctc") and hasattr(recogniser.model.config, "inputs_to_logits_ratio"):
        return {"chunk_length_s": WINDOW}
    return {}
