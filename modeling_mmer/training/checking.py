"""Loads and checks the corpora of a run before any computation."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from accelerate import PartialState
from accelerate.utils import gather_object

from ..corpora import BadRows, Corpus, CorpusError, Reading, load_corpora
from ..corpora.faults import as_table, examine, message, settle
from ..corpora.recordings import Recording, Source, as_clip, read_recordings, sources_of
from ..corpora.schema import counted
from ..corpora.sharing import note_shared
from ..files import write_text
from ..model.processing_mmer import MMERProcessor
from .arguments import CorpusArguments, SourceArguments

BAD_ROWS = "bad_rows.csv"


def load(
    arguments: SourceArguments,
    emotion_labels: list[str],
    on_bad_rows: BadRows | Literal["keep"] = "stop",
    readings: Sequence[Reading] = (),
) -> Corpus:
    """Load the corpora that the options select (see `load_corpora`).

    Raises:
        ValueError: an option is invalid, or a corpus has faults, which the message lists.
    """
    scale, fold = arguments.label_scale, arguments.fold
    limits = [(scale or [])[i : i + 2] for i in range(0, len(scale or []), 2)]
    if scale is not None and not all(len(pair) == 2 and pair[0] < pair[1] for pair in limits or [[]]):
        raise ValueError(f"--label_scale needs the lowest and the highest value, not {' '.join(map(str, scale))}.")
    if fold is not None and not fold.isdecimal():
        raise ValueError(f"--fold must be a number from 1 or, for training, all; not {fold}.")
    return load_corpora(
        arguments.corpus,
        arguments.corpus_dir,
        emotion_labels=emotion_labels,
        label_map=pairs(arguments.label_map, "--label_map"),
        column_map=pairs(arguments.column_map, "--column_map"),
        label_scale=None if scale is None else tuple(scale),
        fold=None if fold is None else int(fold),
        speaker_folds=arguments.speaker_folds,
        on_bad_rows=on_bad_rows,
        readings=readings,
    )


def pairs(values: list[str] | None, option: str) -> dict[str, str]:
    """Parse `["old=new", "older=", …]` to `{"old": "new", "older": "", …}`."""
    split = [value.partition("=") for value in values or []]
    if wrong := ["".join(parts) for parts in split if not all(parts[:2])]:
        raise ValueError(f"{option} needs name=name, not {', '.join(wrong)}.")
    return {old.strip(): new.strip() for old, _, new in split}


def load_checked(
    arguments: CorpusArguments,
    emotion_labels: list[str],
    folder: str | Path,
    split: str | None = None,
    readings: Sequence[Reading] = (),
    require: Callable[[Corpus], None] = lambda corpus: None,
) -> Corpus:
    """Load the corpora that the options select, read every recording to its end, and remove bad rows.

    Headers do not reveal all corrupt data, such as truncated recordings or NaN, which would stop training much later.
    If there are bad rows, they are written with their faults to `bad_rows.csv` in the output folder.

    Args:
        folder: the output folder.
        split: the only split to load, if any. Faults of other splits are ignored.
        readings: how the model's training corpora were read; used where the options do not say otherwise.
        require: raises a ValueError if the corpus is not suitable. It is called before the recordings are read, which
            may take long, unless there are bad rows already; and again after bad rows were removed.

    Raises:
        ValueError: an option is invalid, the split does not exist, or there are bad rows and `--on_bad_rows` is stop;
            or raised by `require`.
    """
    corpus = load(arguments, emotion_labels, "keep", readings)
    if split is not None:
        corpus = select_split(note_shared(corpus), split)
    if not corpus.faults:
        require(corpus)
    sources = [source for rows in corpus.splits.values() for source in sources_of(rows) if source is not None]
    recordings = read_all(sources)
    corpus = examine(corpus, recordings)
    corpus = replace(corpus, sounds={source: recording.digest for source, recording in recordings.items()})
    if PartialState().is_main_process:
        file = Path(folder) / BAD_ROWS
        if corpus.faults:
            write_text(file, as_table(corpus.faults))
        else:
            file.unlink(missing_ok=True)  # from an earlier run
    corpus = settle(corpus, arguments.on_bad_rows)
    require(corpus)
    return corpus


def select_split(corpus: Corpus, split: str) -> Corpus:
    """Keep one split of a corpus, with its faults and those of rows without a known split."""
    faults = [fault for fault in corpus.faults if fault.split in (split, None)]
    if split not in corpus.splits:
        if faults:  # the rows of the split may all be bad
            raise CorpusError(message(replace(corpus, faults=faults)))
        raise ValueError(f"{corpus.name} has no split {split!r}: it has {', '.join(corpus.splits)}.")
    return replace(corpus, splits={split: corpus.splits[split]}, faults=faults)


def read_all(sources: list[Source]) -> dict[Source, Recording]:
    """Read all recordings. Each process reads its share of the files, and all get all results."""
    state = PartialState()
    own = set(sorted({as_clip(source).path for source in sources})[state.process_index :: state.num_processes])
    share = [source for source in dict.fromkeys(sources) if as_clip(source).path in own]
    return dict(gather_object(list(read_recordings(share, show_progress=state.is_main_process).items())))


def note_cropped(corpus: Corpus, processor: MMERProcessor) -> Corpus:
    """Add caveats with the number of recordings and texts that exceed the input length of the encoders."""
    splits, window = corpus.splits.values(), processor.window_seconds
    seconds = [seconds for rows in splits for seconds in rows["duration"][:] if seconds is not None]
    texts = [text for rows in splits for text in rows["text"][:] if text is not None]
    caveats = []
    if cropped := sum(one > window for one in seconds):
        of = f"of {counted(len(seconds), 'recording')}"
        caveats.append(
            counted(cropped, f"{of} is", f"{of} are")
            + f" longer than {window:g} s: only the first {window:g} s are used"
        )
    if cut := processor.count_cut_texts(texts):
        tokens = processor.tokenizer.model_max_length
        of = f"of {counted(len(texts), 'text')}"
        caveats.append(f"{counted(cut, f'{of} is', f'{of} are')} cut at {tokens} tokens: only the beginning is used")
    return replace(corpus, caveats=[*corpus.caveats, *caveats]) if caveats else corpus
