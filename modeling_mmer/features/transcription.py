"""Transcription of recordings without text, with any speech recognition model of transformers.

Transcripts are stored in the corpus's folder, in `transcripts/`: one file per recogniser and one line per recording.
Recordings are identified by their content (and span), so that a renamed one is found again. Lines are only appended,
and incomplete lines of a killed run are ignored: the next run continues where it stopped.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
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
from .cache import digest, file_digests, named_identity

logger = logging.get_logger(__name__)

FOLDER = "transcripts"
WINDOW = 30  # seconds that are transcribed at once

Which = Literal["missing", "all"]


def transcribe(
    corpus: Corpus, model: str, which: Which = "missing", batch_size: int = 8, show_progress: bool = True
) -> Corpus:
    """Set the text of recordings to their transcripts. The `text_source` of these rows is `asr`.

    Stored transcripts are reused, and the model is only loaded if some are missing. Each process of a distributed run
    transcribes its share. An empty transcript counts as missing text.

    Args:
        model: an `automatic-speech-recognition` checkpoint, a hub name or a folder.
        which: `missing`: transcribe rows without text; `all`: transcribe all rows with audio, replacing their text.
        batch_size: number of recordings that are transcribed and stored at a time.

    Raises:
        ValueError: the model is not a speech recogniser, the corpus has no folder, or a recording cannot be read.
        OSError: the model does not exist, or the corpus's folder is not writable.
    """
    state = PartialState()
    seconds = {source: length for rows in corpus.splits.values() for source, length in recordings(rows, which).items()}
    sources = sorted(seconds, key=lambda source: (seconds[source], as_clip(source).path))  # similar lengths together
    names = storage_keys(sources)
    store = Transcripts(corpus, model)
    distinct = list({names[source]: source for source in sources}.items())
    # Shares are taken first: they must not depend on what another process has stored in the meantime.
    share, stored = distinct[state.process_index :: state.num_processes], store.read()
    if lacking := {name: source for name, source in share if name not in stored}:
        if state.is_main_process and not stored and store.has_other_commit():
            logger.warning(
                f"{model} is at commit {store.commit}, but the stored transcripts are from another commit: recordings "
                "are transcribed again."
            )
        transcribe_missing(lacking, store, batch_size, show_progress)
    state.wait_for_everyone()
    stored = store.read()
    texts = {source: stored[names[source]] or None for source in sources}
    splits = {split: fill_texts(rows, which, texts) for split, rows in corpus.splits.items()}
    return replace(corpus, splits=splits, caveats=[*corpus.caveats, transcription_caveat(splits, texts, model)])


def storage_keys(sources: Sequence[Source]) -> dict[Source, str]:
    """The key under which each recording or span is stored: the digest of its file, and the span."""
    digests = file_digests(dict.fromkeys(as_clip(source).path for source in sources))
    return {
        source: digests[source] if isinstance(source, str) else f"{digests[source.path]}#{source.span}"
        for source in sources
    }


def needs_transcript(source: Source | None, text: str | None, which: Which) -> bool:
    return source is not None and (which == "all" or text is None)


def recordings(rows: Dataset, which: Which) -> dict[Source, float]:
    """The recordings and spans to transcribe -> their duration in seconds."""
    columns = zip(sources_of(rows), rows["text"], rows["duration"], strict=True)
    return {source: duration for source, text, duration in columns if needs_transcript(source, text, which)}


def fill_texts(rows: Dataset, which: Which, texts: Mapping[Source, str | None]) -> Dataset:
    """Fill in the transcripts and set `text_source` of these rows."""
    columns = zip(sources_of(rows), rows["text"], rows["text_source"], strict=True)
    filled = [
        (texts[source], "asr" if texts[source] else None) if needs_transcript(source, text, which) else (text, origin)
        for source, text, origin in columns
    ]
    for name, values in zip(("text", "text_source"), zip(*filled, strict=True), strict=True):
        rows = rows.remove_columns(name).add_column(name, list(values), feature=Value("string"))
    return rows.select_columns(list(FEATURES))


def transcription_caveat(splits: Mapping[str, Dataset], texts: Mapping[Source, str | None], model: str) -> str:
    """A caveat with the number of transcribed rows and of empty transcripts."""
    rows = [
        row for part in splits.values() for row in zip(sources_of(part), part["text"], part["text_source"], strict=True)
    ]
    n_transcribed = sum(came_from == "asr" for *_, came_from in rows)
    empty = sum(source in texts and text is None for source, text, _ in rows)
    of = f"of {counted(len(rows), 'row')}"
    caveat = counted(n_transcribed, f"{of} has", f"{of} have")
    caveat += f" text that {model} transcribed, not reference text"
    return f"{caveat}; {counted(empty, 'more transcript is', 'more transcripts are')} empty" if empty else caveat


class Transcripts:
    """The stored transcripts of a corpus by one recogniser, each in the folder of its recording.

    Args:
        corpus: the corpus in whose folders they are stored.
        model: the recogniser, a hub name or a folder. It is not loaded.

    Raises:
        ValueError: the corpus has no folder.
        OSError: the model does not exist.
    """

    def __init__(self, corpus: Corpus, model: str):
        if not corpus.folders:
            raise ValueError(f"{corpus.name} has no folder in which transcripts could be stored.")
        self.folders = corpus.folders
        self.model, self.commit = model, commit_of(model)
        self._identity = recogniser_identity(model, self.commit)[:8]
        name = Path(model).resolve().name if self.commit is None else model
        self._name = re.sub(r"[^A-Za-z0-9_.-]+", "-", name)
        self._stem = f"{self._name}-{self._identity}"

    def read(self) -> dict[str, str]:
        """All stored transcripts, key of a recording → text, of any process and any name of the recogniser."""
        files = [file for folder in self.folders for file in (folder / FOLDER).glob(f"*-{self._identity}.*jsonl")]
        return {name: text for file in sorted(files) for name, text in read_lines(file).items()}

    def has_other_commit(self) -> bool:
        """Whether there are transcripts by another commit of the same hub name."""
        pattern = re.compile(rf"{re.escape(self._name)}-[0-9a-f]{{8}}(\.rank\d+)?\.jsonl")
        names = {file.name for folder in self.folders for file in (folder / FOLDER).glob("*.jsonl")}
        return self.commit is not None and any(
            pattern.fullmatch(name) and not name.startswith(self._stem) for name in names
        )

    def file(self, recording: str, process_index: int) -> Path:
        """The file in which a process stores the transcript of a recording."""
        around = [folder for folder in self.folders if Path(recording).is_relative_to(folder)]
        nearest = max(around, key=lambda folder: len(folder.parts), default=self.folders[0])
        rank = f".rank{process_index}" if process_index else ""
        return nearest / FOLDER / f"{self._stem}{rank}.jsonl"


def recogniser_identity(model: str, commit: str | None) -> str:
    """An identifier of a recogniser: [`named_identity`], and for a folder also its tokenizer and settings."""
    settings = [] if commit else [file for file in Path(model).iterdir() if file.suffix in (".json", ".txt")]
    return digest(named_identity(model, commit), *(file.read_bytes() for file in sorted(settings)))


def read_lines(file: Path) -> dict[str, str]:
    """The transcripts in a file, without incomplete lines."""
    found = {}
    for line in file.read_bytes().splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        found[entry["audio"]] = entry["text"]
    return found


def append_lines(file: Path, texts: Mapping[str, str]) -> None:
    """Append transcripts in one write, on new lines even after an incomplete line.

    Raises:
        OSError: the file is not writable.
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
            f"Transcripts cannot be stored in {file.parent} ({error}): make the corpus's folder writable, or copy it "
            "to a writable place."
        ) from error


def transcribe_missing(lacking: Mapping[str, Source], store: Transcripts, batch_size: int, show_progress: bool) -> None:
    """Transcribe the recordings in `lacking` (key → recording or span), and store the texts after each batch."""
    state = PartialState()
    files = {name: store.file(as_clip(source).path, state.process_index) for name, source in lacking.items()}
    for file in set(files.values()):
        append_lines(file, {})  # fails early if a folder is not writable
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
    """Load the pipeline of a speech recogniser, from a folder or a commit of a hub name.

    Raises:
        ValueError: the model is not a speech recogniser, or lacks weights, which would be initialised randomly.
    """
    dtype = torch.float32 if torch.device(device).type == "cpu" else "auto"  # half precision is slow on CPUs
    try:
        recogniser = pipeline("automatic-speech-recognition", model=model, revision=commit, device=device, dtype=dtype)
    except (ValueError, OSError) as error:
        reason, *_ = str(error).splitlines()
        raise ValueError(f"{model} is not a speech recogniser: {reason}") from error
    _, info = type(recogniser.model).from_pretrained(
        model, revision=commit, output_loading_info=True, device_map="meta"
    )
    # Many checkpoints lack the embedding that masks spans in training.
    if missing := sorted(name for name in info["missing_keys"] if not name.endswith("masked_spec_embed")):
        raise ValueError(
            f"{model} is not a speech recogniser: it lacks {counted(len(missing), 'weight')} of "
            f"{type(recogniser.model).__name__}, such as {missing[0]}."
        )
    return recogniser


def read(source: Source, rate: int) -> np.ndarray:
    """Read a recording as float32 (samples,) at `rate`, padded to the minimum length of the convolutions."""
    try:
        waveform = read_recording(as_input(source), rate, rate)
    except ValueError as error:
        raise ValueError(f"{as_clip(source).path}: {error}") from error
    return np.pad(waveform, (0, max(0, round(SHORTEST_WAVEFORM * rate) - len(waveform))))


def recognise(recogniser: AutomaticSpeechRecognitionPipeline, waveforms: list[np.ndarray]) -> list[str]:
    """Waveforms (samples,) at the recogniser's rate → transcripts, decoded without sampling.

    Whisper pads all inputs to one length, so they are batched. Other recognisers get one input at a time, because
    padding to the longest can change their transcripts.
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
                **(long_form_options(recogniser) if is_long else {}),
            )
            for i, output in zip(chosen, outputs, strict=True):
                texts[i] = output["text"].strip()
    return texts


def long_form_options(recogniser: AutomaticSpeechRecognitionPipeline) -> dict[str, bool | int]:
    """Options for inputs longer than the window: Whisper continues from timestamp to timestamp, CTC models with a known
    frame rate use overlapping windows, and others get the whole input."""
    if recogniser.type == "seq2seq_whisper":
        return {"return_timestamps": True}
    if recogniser.type.startswith("ctc") and hasattr(recogniser.model.config, "inputs_to_logits_ratio"):
        return {"chunk_length_s": WINDOW}
    return {}
