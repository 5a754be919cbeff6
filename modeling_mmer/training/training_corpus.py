"""Records what a model was trained on: how its corpora were read, and which rows they had.

`training_corpus.json` is stored next to `config.json`. Rows are stored as digests of their content
(`corpora/digests.py`), eight bytes each, so that an evaluation can identify rows that were used in training.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError
from numpy.typing import NDArray
from transformers import TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from ..corpora import Corpus, Reading
from ..files import write_json

FILE = "training_corpus.json"
USED = {"train": "trained on", "validation": "selected by"}  # split -> how training uses it

Digests = NDArray[np.uint64]
NONE: Digests = np.array([], np.uint64)


@dataclass(frozen=True)
class TrainingCorpus:
    """What a model was trained on.

    Args:
        readings: how each corpus was read.
        rows: `train` and `validation` -> digests of their rows.
        repeated: split -> digests that it shares with the train or validation split of the same corpus. The corpus has
            caveats about these repetitions.
    """

    readings: tuple[Reading, ...] = ()
    rows: Mapping[str, Digests] = field(default_factory=dict)
    repeated: Mapping[str, Digests] = field(default_factory=dict)

    @classmethod
    def of(cls, corpus: Corpus, earlier: "TrainingCorpus | None" = None) -> "TrainingCorpus":
        """What a run on `corpus` trains on, including what its initial checkpoint was trained on (`earlier`)."""
        found = {split: digests_of(corpus, split) for split in corpus.splits}
        rows = {split: found[split] for split in USED if split in found}
        repeated = {
            split: np.intersect1d(digests, np.concatenate([NONE, *(rows[used] for used in rows if used != split)]))
            for split, digests in found.items()
        }
        if earlier is not None:
            rows = {split: np.union1d(digests, earlier.rows.get(split, digests)) for split, digests in rows.items()}
        return cls(corpus.readings, rows, repeated)

    def save(self, folder: str | Path) -> None:
        content = {
            "corpora": [asdict(reading) for reading in self.readings],
            "rows": {split: encode(digests) for split, digests in self.rows.items()},
            "repeated_rows": {split: encode(digests) for split, digests in self.repeated.items() if len(digests)},
        }
        write_json(Path(folder) / FILE, content)

    @classmethod
    def load(cls, model: str | Path, commit: str | None = None) -> "TrainingCorpus | None":
        """Load it for a model, a folder or a hub name with its commit. None if the model has no such file.

        Raises:
            ValueError: the file cannot be read.
        """
        file = find_file(str(model), commit)
        if file is None:
            return None
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            readings = tuple(Reading.from_dict(reading) for reading in content["corpora"])
            rows, repeated = (
                {split: decode(text) for split, text in content[key].items()} for key in ("rows", "repeated_rows")
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{file} cannot be read ({error}). Without the file, training rows are not detected."
            ) from error
        return cls(readings, rows, repeated)

    def seen(self, corpus: Corpus, split: str, used: str) -> set[str]:
        """The utterances in a split of a corpus that were in the split `used` (`train` or `validation`) in training."""
        ids = np.array(corpus.splits[split]["utterance_id"][:], dtype=object)
        digests = np.array([corpus.digests[name] for name in ids], dtype=np.uint64)
        was_used = np.isin(digests, self.rows.get(used, NONE))
        if used != split:
            was_used &= ~np.isin(digests, self.repeated.get(split, NONE))
        return set(ids[was_used])


class SaveTrainingCorpus(TrainerCallback):
    """Writes `training_corpus.json` into every checkpoint, and into the output folder at the end."""

    def __init__(self, training_corpus: TrainingCorpus):
        self.training_corpus = training_corpus

    def on_save(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            self.training_corpus.save(Path(args.output_dir, f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"))

    def on_train_end(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            self.training_corpus.save(args.output_dir)


def digests_of(corpus: Corpus, split: str) -> Digests:
    """The sorted unique digests of a split."""
    return np.unique(np.array([corpus.digests[name] for name in corpus.splits[split]["utterance_id"]], np.uint64))


def find_file(model: str, commit: str | None) -> Path | None:
    """The file in a folder or a repository of the hub; None if there is none."""
    if Path(model).is_dir():
        file = Path(model, FILE)
        return file if file.is_file() else None
    try:
        return Path(hf_hub_download(model, FILE, revision=commit))
    except EntryNotFoundError:  # also if the hub cannot be reached and the file is not cached
        return None


def encode(digests: Digests) -> str:
    return base64.b64encode(digests.astype("<u8").tobytes()).decode()


def decode(text: str) -> Digests:
    return np.frombuffer(base64.b64decode(text, validate=True), "<u8").astype(np.uint64)
