"""The one schema: whatever a corpus looks like on disk, the rest of the package sees a `Corpus` with these columns.

A corpus declares its dimensions' scale; rows are told apart by `utterance_id`, never by their order.
"""

import re
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from datasets import Dataset, Features, Value

from ..model.tasks import CLASS_TASKS, DIMENSIONS
from .reading import Reading

TASKS = (*CLASS_TASKS, *DIMENSIONS)
SPLITS = ("train", "validation", "test", "test2", "test3")  # the last two are further test sets, of MSP-Podcast

FEATURES = Features(
    {
        "utterance_id": Value("string"),
        "audio": Value("string"),  # path of a file; None if missing
        "start": Value("float64"),  # seconds in the file at which the row begins; None: at its beginning
        "end": Value("float64"),  # and ends; None: at its end
        "text": Value("string"),  # None if missing or blank
        "text_source": Value("string"),  # reference: came with the corpus; asr: transcribed; None without text
        **dict.fromkeys(CLASS_TASKS, Value("string")),  # a class's name; None if not labelled
        "emotion_votes": Value("string"),  # JSON, emotion label -> raters who chose it; None without votes (`votes.py`)
        **dict.fromkeys(DIMENSIONS, Value("float64")),  # on the corpus's scale; None if not labelled
        "speaker": Value("string"),  # None if not known
        "split": Value("string"),  # one of SPLITS
        "duration": Value("float64"),  # seconds of the row's span, by the file's header; None without audio
    }
)

_SPLIT_SPELLINGS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "development"),
    "test": ("test", "test1", "testing", "eval", "evaluation"),
    "test2": ("test2",),
    "test3": ("test3",),
}
_SPLIT_OF = {spelling: split for split, spellings in _SPLIT_SPELLINGS.items() for spelling in spellings}


class CorpusError(ValueError):
    """A corpus cannot be read as it is; the message says what is wrong, where, and what would fix it."""


@dataclass(frozen=True)
class Fault:
    """One reason why one row cannot be used.

    Args:
        kind: of fault, as `faults.py` tells them.
        utterance_id: of the row.
        row: its name in messages, with its place in the metadata where that is known.
        detail: what was found.
        split: None where it is not known.
    """

    kind: str
    utterance_id: str
    row: str
    detail: str = ""
    split: str | None = None

    def __str__(self) -> str:
        return f"{self.row}: {self.detail}" if self.detail else self.row


@dataclass(frozen=True)
class LeftOut:
    """An emotion that is none of a model's labels, so that its rows count as unlabelled.

    Args:
        split: of the rows.
        emotion: as the corpus names it; of one corpus among several, as `label_map` names it (`ravdess:calm`).
        rows: their number.
        understood: whether its name is one that the field uses.
    """

    split: str
    emotion: str
    rows: int
    understood: bool


@dataclass(frozen=True)
class Corpus:
    """Utterances in the one schema.

    Args:
        name: what reports call it.
        splits: split name -> rows with the columns of `FEATURES`; a split without rows is absent.
        label_scale: lowest and highest value that the dimensions can take.
        notices: what was counted on the way here, as readable sentences for the log.
        caveats: what changes the meaning of a figure measured on these rows (classes left unlabelled, no split column,
            shared speakers …), as readable sentences. They stand beside the figures: in the printed table,
            `results.json`, the report and the card.
        license: of the data, where it is known: an identifier as the hub has it, such as `apache-2.0`.
        language: of the data, where it is known: a code such as `en`.
        columns: field -> the column it was read from, of data of one's own; several corpora have them in `readings`.
        readings: how each of the corpora that it is made of was read.
        digests: utterance_id -> a digest of what the row holds, once its recording was read; see `digests.py`.
        folders: that the corpus was read from, where what is made of its recordings may be kept.
        faults: of rows that cannot be used. Those with faults in their metadata are in no split, those with a faulty
            recording are, without a duration. `load_corpora` raises faults, or leaves the rows out, unless asked to
            keep them.
        left_out: emotions that are none of the model's labels.
        unmet: entries of `label_map` whose emotion does not occur.
        advice: field -> the option that would read it from a column that looks like it, for fields that are not read.
        sounds: recording (a path, or a span of one) -> digest of its samples, where it was read to its end.
    """

    name: str
    splits: dict[str, Dataset]
    label_scale: tuple[float, float]
    notices: list[str] = field(default_factory=list)
    caveats: list[str] = field(default_factory=list)
    license: str | None = None
    language: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    readings: tuple[Reading, ...] = ()
    digests: Mapping[str, int] = field(default_factory=dict)
    folders: tuple[Path, ...] = ()
    faults: list[Fault] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    unmet: list[str] = field(default_factory=list)
    advice: dict[str, str] = field(default_factory=dict)
    sounds: dict[Hashable, str | None] = field(default_factory=dict)


def canonical_split(name: str) -> str | None:
    """One of `SPLITS` for any of its usual spellings, as in `Test-1` or `dev set`; None for anything else."""
    return _SPLIT_OF.get(re.sub(r"[\s_-]", "", name.lower()).removesuffix("set"))


def split_spellings() -> str:
    """The spellings that `canonical_split` knows, for error messages."""
    return "; ".join(f"{split}: {', '.join(spellings)}" for split, spellings in _SPLIT_SPELLINGS.items())


def check_scale(label_scale: Iterable[float]) -> tuple[float, float]:
    """The scale as a pair of floats.

    Raises:
        CorpusError: it is not two finite numbers, the lower one first.
    """
    scale = tuple(float(bound) for bound in label_scale)
    if len(scale) != 2 or not float("-inf") < scale[0] < scale[1] < float("inf"):
        raise CorpusError(f"label_scale must be the lowest and the highest value, such as 1 7; got {list(scale)}")
    return scale


def name_some(items: Iterable[object], most: int = 20) -> str:
    """The first `most` items, comma-separated, and how many more there are."""
    items = [str(item) for item in items]
    rest = len(items) - most
    return ", ".join(items[:most]) + (f" and {rest} more" if rest > 0 else "")


def counted(n: int, one: str, many: str | None = None) -> str:
    """A number and what there is of it: `1 row`, `2 rows`; `1 row has`, `2 rows have`. Without `many` an s is added."""
    return f"{n} {one if n == 1 else many or f'{one}s'}"
