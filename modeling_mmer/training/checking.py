"""The corpora that a run is given, checked before anything is computed from them."""

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
    """The corpora that the options name, without bad rows unless these are to be kept; see `load_corpora`.

    Raises:
        ValueError: an option is malformed, or a corpus has faults; the message lists them.
    """
    scale, fold = arguments.label_scale, arguments.fold
    limits = [(scale or [])[i : i + 2] for i in range(0, len(scale or []), 2)]
    if scale is not None and not all(len(pair) == 2 and pair[0] < pair[1] for pair in limits or [[]]):
        raise ValueError(f"--label_scale takes the lowest and the highest value, not {' '.join(map(str, scale))}.")
    if fold is not None and not fold.isdecimal():
        raise ValueError(f"--fold takes a number from 1, or (in training) all, not {fold}.")
    return load_corpora(
        arguments.corpus,
        arguments.corpus_dir,
        emotion_labels=emotion_labels,
        label_map=pairs(arguments.label_map, "--label_map", blank=True),
        column_map=pairs(arguments.column_map, "--column_map", blank=True),
        label_scale=None if scale is None else tuple(scale),
        fold=None if fold is None else int(fold),
        on_bad_rows=on_bad_rows,
        readings=readings,
    )


def pairs(values: list[str] | None, option: str, blank: bool = False) -> dict[str, str]:
    """`["old=new", …]` → `{"old": "new", …}`; with `blank`, `old=` is a pair too."""
    split = [value.partition("=") for value in values or []]
    if wrong := ["".join(parts) for parts in split if not all(parts[: 2 if blank else 3])]:
        raise ValueError(f"{option} takes name=name, not {', '.join(wrong)}.")
    return {old.strip(): new.strip() for old, _, new in split}


def load_checked(
    arguments: CorpusArguments,
    emotion_labels: list[str],
    folder: str | Path,
    split: str | None = None,
    readings: Sequence[Reading] = (),
    require: Callable[[Corpus], None] = lambda corpus: None,
) -> Corpus:
    """The corpora that the options name, each recording of them read to its end, and without bad rows.

    Headers alone would miss what ends a training days later: recordings that are cut short, or hold NaN. The output
    folder gets `bad_rows.csv`, with every bad row and its fault, if there are any.

    Args:
        folder: of the output.
        split: the one that is asked for; faults of other splits are then of no concern.
        readings: how the model's own corpora were read, which holds where the options say nothing else.
        require: raises a ValueError if the corpus lacks what is to be done with it. It is asked before the recordings
            are read, which may take long, unless bad rows may be what is lacking; and again of what is left.

    Raises:
        ValueError: an option is malformed, there is no such split, or there are bad rows and `--on_bad_rows` is stop;
            the message lists them; or as `require`.
    """
    corpus = load(arguments, emotion_labels, "keep", readings)
    if split is not None:
        corpus = only(note_shared(corpus), split)
    if not corpus.faults:
        require(corpus)
    sources = [source for rows in corpus.splits.values() for source in sources_of(rows) if source is not None]
    recordings = read_together(sources)
    corpus = examine(corpus, recordings)
    corpus = replace(corpus, sounds={source: recording.digest for source, recording in recordings.items()})
    if PartialState().is_main_process:
        file = Path(folder) / BAD_ROWS
        if corpus.faults:
            write_text(file, as_table(corpus.faults))
        else:
            file.unlink(missing_ok=True)  # of an earlier run
    corpus = settle(corpus, arguments.on_bad_rows)
    require(corpus)
    return corpus


def only(corpus: Corpus, split: str) -> Corpus:
    """One split of a corpus, with its faults and those of no known split."""
    faults = [fault for fault in corpus.faults if fault.split in (split, None)]
    if split not in corpus.splits:
        if faults:  # which may be all that there was of it
            raise CorpusError(message(replace(corpus, faults=faults)))
        raise ValueError(f"{corpus.name} has no split {split!r}: it has {', '.join(corpus.splits)}.")
    return replace(corpus, splits={split: corpus.splits[split]}, faults=faults)


def read_together(sources: list[Source]) -> dict[Source, Recording]:
    """What reading each file shows; every process reads its share of the files, and all know the whole."""
    state = PartialState()
    own = set(sorted({as_clip(source).path for source in sources})[state.process_index :: state.num_processes])
    share = [source for source in dict.fromkeys(sources) if as_clip(source).path in own]
    return dict(gather_object(list(read_recordings(share, show_progress=state.is_main_process).items())))


def note_cropped(corpus: Corpus, processor: MMERProcessor) -> Corpus:
    """The corpus with caveats of how many recordings and texts are longer than what the encoders take, and are cut."""
    splits, window = corpus.splits.values(), processor.window_seconds
    seconds = [seconds for rows in splits for seconds in rows["duration"][:] if seconds is not None]
    texts = [text for rows in splits for text in rows["text"][:] if text is not None]
    caveats = []
    if cropped := sum(one > window for one in seconds):
        of = f"of {counted(len(seconds), 'recording')}"
        caveats.append(
            counted(cropped, f"{of} lasts", f"{of} last")
            + f" longer than {window:g} s: only the first {window:g} s are heard"
        )
    if cut := processor.count_cut_texts(texts):
        tokens = processor.tokenizer.model_max_length
        of = f"of {counted(len(texts), 'text')}"
        caveats.append(f"{counted(cut, f'{of} is', f'{of} are')} cut at {tokens} tokens: only the beginning is read")
    return replace(corpus, caveats=[*corpus.caveats, *caveats]) if caveats else corpus
