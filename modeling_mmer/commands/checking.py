"""Checks before work: what `mmer train` and `mmer eval` find out about a corpus before anything is computed from it."""

from dataclasses import replace
from pathlib import Path

from accelerate import PartialState
from accelerate.utils import gather_object

from ..corpora import Corpus, CorpusError
from ..corpora.faults import as_table, examine, message, settle
from ..corpora.recordings import Recording, read_recordings
from ..files import write_text
from ..processing_mmer import MMERProcessor
from .arguments import CorpusArguments, load

BAD_ROWS = "bad_rows.csv"


def load_checked(
    arguments: CorpusArguments, emotion_labels: list[str], folder: str | Path, split: str | None = None
) -> Corpus:
    """The corpora that the options name, each recording of them read to its end, and without bad rows.

    Headers alone would miss what ends a training days later: recordings that are cut short, or hold NaN. The output
    folder gets `bad_rows.csv`, with every bad row and its fault, if there are any.

    Args:
        folder: of the output.
        split: the one that is asked for; faults of other splits are then of no concern.

    Raises:
        ValueError: an option is malformed, there is no such split, or there are bad rows and `--on_bad_rows` is stop;
            the message lists them.
    """
    corpus = load(arguments, emotion_labels, "keep")
    if split is not None:
        corpus = only(corpus, split)
    paths = [path for rows in corpus.splits.values() for path in rows["audio"][:] if path is not None]
    recordings = read_together(paths)
    corpus = examine(corpus, recordings)
    corpus = replace(corpus, sounds={path: recording.digest for path, recording in recordings.items()})
    if PartialState().is_main_process:
        file = Path(folder) / BAD_ROWS
        if corpus.faults:
            write_text(file, as_table(corpus.faults))
        else:
            file.unlink(missing_ok=True)  # of an earlier run
    return settle(corpus, arguments.on_bad_rows)


def only(corpus: Corpus, split: str) -> Corpus:
    """One split of a corpus, with its faults and those of no known split."""
    faults = [fault for fault in corpus.faults if fault.split in (split, None)]
    if split not in corpus.splits:
        if faults:  # which may be all that there was of it
            raise CorpusError(message(replace(corpus, faults=faults)))
        raise ValueError(f"{corpus.name} has no split {split!r}: it has {', '.join(corpus.splits)}.")
    return replace(corpus, splits={split: corpus.splits[split]}, faults=faults)


def read_together(paths: list[str]) -> dict[str, Recording]:
    """What reading each file to its end shows; every process reads its share, and all know the whole."""
    state = PartialState()
    share = sorted(set(paths))[state.process_index :: state.num_processes]
    return dict(gather_object(list(read_recordings(share, show_progress=state.is_main_process).items())))


def note_cropped(corpus: Corpus, processor: MMERProcessor) -> Corpus:
    """The corpus with a caveat of how many recordings outlast what the audio encoder hears, and are cropped to it."""
    extractor = processor.feature_extractor
    if not hasattr(extractor, "n_samples"):
        return corpus
    window = extractor.n_samples / extractor.sampling_rate
    seconds = [seconds for rows in corpus.splits.values() for seconds in rows["duration"][:] if seconds is not None]
    cropped = sum(one > window for one in seconds)
    if not cropped:
        return corpus
    caveat = (
        f"{cropped} of {len(seconds)} recordings last longer than {window:g} s: only their first {window:g} s are heard"
    )
    return replace(corpus, caveats=[*corpus.caveats, caveat])
