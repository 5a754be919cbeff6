"""What a model was trained on, beside its weights: how its corpora were read, and which rows they had.

`training_corpus.json` lies next to `config.json`. Rows are kept as digests of what they hold (`corpora/digests.py`),
eight bytes each, so that an evaluation can tell rows that the model has seen from those that it has not.
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
USED = {"train": "trained on", "validation": "selected by"}  # splits -> what training does with them

Digests = NDArray[np.uint64]
NONE: Digests = np.array([], np.uint64)


@dataclass(frozen=True)
class TrainingCorpus:
    """What a model was trained on.

    Args:
        readings: how each corpus was read.
        rows: `train` and `validation` -> the digests of their rows.
        repeated: a split -> the digests that it shared with another one of those two in training: a corpus's own
            repetitions, of which its caveats tell.
    """

    readings: tuple[Reading, ...] = ()
    rows: Mapping[str, Digests] = field(default_factory=dict)
    repeated: Mapping[str, Digests] = field(default_factory=dict)

    @classmethod
    def of(cls, corpus: Corpus, earlier: "TrainingCorpus | None" = None) -> "TrainingCorpus":
        """What a run on `corpus` trains on, and what was trained on before it: by the checkpoint it starts from."""
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
            "rows": {split: encoded(digests) for split, digests in self.rows.items()},
            "repeated_rows": {split: encoded(digests) for split, digests in self.repeated.items() if len(digests)},
        }
        write_json(Path(folder) / FILE, content)

    @classmethod
    def load(cls, model: str | Path, commit: str | None = None) -> "TrainingCorpus | None":
        """Of a model, a folder or a hub name with its commit; None where it does not say.

        Raises:
            ValueError: the file cannot be read.
        """
        file = located(str(model), commit)
        if file is None:
            return None
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            readings = tuple(Reading.from_dict(reading) for reading in content["corpora"])
            rows, repeated = (
                {split: decoded(text) for split, text in content[key].items()} for key in ("rows", "repeated_rows")
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{file} cannot be read ({error}): delete it, and training rows are not told.") from error
        return cls(readings, rows, repeated)

    def seen(self, corpus: Corpus, split: str, used: str) -> set[str]:
        """The utterances of one split of a corpus that were rows of `used`, the training's `train` or `validation`."""
        ids = np.array(corpus.splits[split]["utterance_id"][:], dtype=object)
        digests = np.array([corpus.digests[name] for name in ids], dtype=np.uint64)
        was_used = np.isin(digests, self.rows.get(used, NONE))
        if used != split:
            was_used &= ~np.isin(digests, self.repeated.get(split, NONE))
        return set(ids[was_used])


class KeepTrainingCorpus(TrainerCallback):
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
    """The digests of a split, sorted and each once."""
    return np.unique(np.array([corpus.digests[name] for name in corpus.splits[split]["utterance_id"]], np.uint64))


def located(model: str, commit: str | None) -> Path | None:
    """The file of a folder, or of a repository of the hub; None where there is none."""
    if Path(model).is_dir():
        file = Path(model, FILE)
        return file if file.is_file() else None
    try:
        return Path(hf_hub_download(model, FILE, revision=commit))
    except EntryNotFoundError:  # also where the hub cannot be reached, and the file is not in the cache
        return None


def encoded(digests: Digests) -> str:
    return base64.b64encode(digests.astype("<u8").tobytes()).decode()


def decoded(text: str) -> Digests:
    return np.frombuffer(base64.b64decode(text, validate=True), "<u8").astype(np.uint64)
