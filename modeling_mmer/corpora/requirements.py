"""What training and an evaluation ask of a corpus before any work: splits, labels, and names that were understood.

Each refusal names the options that would mend it.
"""

import shlex
from collections import Counter
from collections.abc import Sequence
from difflib import get_close_matches

from datasets import Dataset

from .emotions import classes_of, plain, spellings_of
from .schema import TASKS, Corpus, CorpusError, counted, name_some

_PLACEHOLDER = "CLASS"


def require_trainable(corpus: Corpus, emotion_labels: Sequence[str]) -> None:
    """Raise a CorpusError unless a model of these classes can be trained on a corpus: there are rows to train on and to
    select on, with labels that are understood, and every class is trained on."""
    require_splits(corpus)
    for split in corpus.splits:
        require_understood(corpus, split, emotion_labels)
    for split in ("train", "validation"):
        require_labels(corpus, split)
    require_classes(corpus, emotion_labels)


def require_judgeable(corpus: Corpus, split: str, emotion_labels: Sequence[str]) -> None:
    """Raise a CorpusError unless a split has labels to judge by, and they are understood."""
    require_understood(corpus, split, emotion_labels)
    require_labels(corpus, split)


def require_splits(corpus: Corpus) -> None:
    """Raise a CorpusError unless there is a split to train on and one to select on."""
    if missing := [split for split in ("train", "validation") if split not in corpus.splits]:
        columns = [reading.columns["split"] for reading in corpus.readings if "split" in reading.columns]
        source = f"by its column {' and '.join(map(repr, columns))}" if columns else "no column says the split"
        looks_like_one = corpus.advice.get("split")
        remedy = f" {looks_like_one} reads one that looks like it." if looks_like_one else ""
        raise CorpusError(
            f"{corpus.name} has no {' and no '.join(missing)} split (it has {', '.join(corpus.splits)}; {source}). "
            "Training takes the rows of train and selects on those of validation: say so in a column `split`, or name "
            f"another column with --column_map split=COLUMN.{remedy}"
        )


def require_labels(corpus: Corpus, split: str) -> None:
    """Raise a CorpusError unless some row of a split has a label of any task."""
    rows = corpus.splits[split]
    if is_labelled(rows):
        return
    if left_out := Counter({one.emotion: one.rows for one in corpus.left_out if one.split == split}):
        raise CorpusError(
            f"No labels found in {corpus.name}, {split}, that the model has: its "
            f"{counted(len(rows), 'row is', 'rows are')} {_counted(left_out)}; name the classes to learn "
            "with --emotion_labels, or map these to the model's with --label_map"
        )
    option = corpus.advice.get("emotion", f"--column_map emotion=COLUMN (or {', '.join(TASKS[1:])})")
    raise CorpusError(
        f"No labels found in {corpus.name}, {split} ({counted(len(rows), 'row')}); map them with {option}"
    )


def is_labelled(rows: Dataset) -> bool:
    """Whether any row has a label to judge by; those of MSP-Podcast's Test3 are kept back."""
    return any(rows.data.column(task).null_count < len(rows) for task in TASKS)


def require_understood(corpus: Corpus, split: str, emotion_labels: Sequence[str]) -> None:
    """Raise a CorpusError if less than half of a split's labelled rows have one of the model's classes, and some of the
    names that the others have were not understood."""
    left_out = [emotion for emotion in corpus.left_out if emotion.split == split]
    unknown = Counter({emotion.emotion: emotion.rows for emotion in left_out if not emotion.understood})
    rows = corpus.splits[split]
    usable = len(rows) - rows.data.column("emotion").null_count
    labelled = usable + sum(emotion.rows for emotion in left_out)
    if not unknown or 2 * usable >= labelled:
        return
    raise CorpusError(
        f"{corpus.name}, {split}: only {usable} of {counted(labelled, 'row')} with an emotion have one of the model's "
        f"({', '.join(emotion_labels)}). Not understood: {_counted(unknown)}. Say what they mean: "
        f"{label_map_for(unknown, emotion_labels)} ({_PLACEHOLDER}: one of the model's; nothing after = leaves rows "
        "unlabelled), or name the classes to learn with --emotion_labels, or leave the column unread with "
        "--column_map emotion="
    )


def require_classes(corpus: Corpus, emotion_labels: Sequence[str]) -> None:
    """Raise a CorpusError if the train split has emotions, but not all that a model is to tell apart."""
    seen = set(corpus.splits["train"]["emotion"][:]) - {None}
    unseen = [label for label in emotion_labels if label not in seen]
    if not seen or not unseen:
        return
    left_out = Counter({one.emotion: one.rows for one in corpus.left_out if one.split == "train"})
    remedy = ""
    if left_out:
        example = shlex.quote(f"{next(iter(left_out))}={unseen[0]}")
        remedy = f"; or, if one of {_counted(left_out)} is meant, give it its name, as in --label_map {example}"
    labels = " ".join(shlex.quote(label) for label in emotion_labels if label in seen)
    raise CorpusError(
        f"{corpus.name} has no row of {' and of '.join(unseen)} to train on: leave them "
        f"out with --emotion_labels {labels}{remedy}"
    )


def label_map_for(unknown: Counter[str], emotion_labels: Sequence[str]) -> str:
    """The `--label_map` that gives each unknown name one of the labels: the one it looks like, if any."""
    entries = [f"{name}={_looks_like(name, emotion_labels) or _PLACEHOLDER}" for name, _ in unknown.most_common()]
    return " ".join(["--label_map", *map(shlex.quote, entries)])


def _looks_like(name: str, emotion_labels: Sequence[str]) -> str | None:
    """The label that a name is nearly a spelling of."""
    classes = classes_of(emotion_labels)
    label_of = {
        spelling: label for label in emotion_labels for spelling in (plain(label), *spellings_of(classes[label]))
    }
    near = get_close_matches(plain(name.rpartition(":")[2]), label_of, n=1, cutoff=0.75)
    return label_of[near[0]] if near else None


def _counted(names: Counter[str]) -> str:
    return name_some(f"{name} ({n})" for name, n in names.most_common())
