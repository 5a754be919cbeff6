"""Folds of speakers of a corpus without a cross-validation of its own."""

from collections import Counter

import pandas as pd
import pytest
from datasets import Dataset, DatasetDict

from modeling_mmer.corpora import CorpusError, load_corpora

LABELS = ("neutral", "anger")
SPEAKERS = [f"s{number:02d}" for number in (7, 1, 12, 3, 9, 4, 10, 2, 8, 5, 6, 11)]  # in no order


@pytest.fixture
def table() -> pd.DataFrame:
    """Two rows of each of twelve speakers, all of them training rows."""
    rows = [(f"{s}_{label}", f"{s} says it", label, s, "train") for s in SPEAKERS for label in LABELS]
    return pd.DataFrame(rows, columns=["utterance_id", "text", "emotion", "speaker", "split"])


def load(folder, table, **options):
    table.to_csv(folder / "metadata.csv", index=False)
    return load_corpora("folder", folder, emotion_labels=LABELS, **options)


def speakers(corpus) -> dict[str, list[str]]:
    return {split: sorted(set(rows["speaker"][:])) for split, rows in corpus.splits.items()}


@pytest.mark.parametrize("folds", [2, 3, 5, 12])
def test_each_row_is_tested_once_and_no_speaker_is_in_two_splits(folds, table, tmp_path):
    tested = Counter()
    for fold in range(1, folds + 1):
        corpus = load(tmp_path, table, speaker_folds=folds, fold=fold)
        of_split = speakers(corpus)
        assert sorted(s for names in of_split.values() for s in names) == sorted(SPEAKERS)
        assert abs(len(of_split["test"]) - 12 / folds) < 1
        assert len(of_split["validation"]) == max(1, (12 - len(of_split["test"])) // 6)
        assert not any("more than one split" in caveat for caveat in corpus.caveats)
        tested.update(corpus.splits["test"]["utterance_id"][:])
    assert tested == Counter(table["utterance_id"])


def test_a_fold_is_told_and_keeps_the_order_of_the_rows(table, tmp_path):
    corpus = load(tmp_path, table, speaker_folds=3, fold=2)
    assert speakers(corpus) == {
        "train": ["s03", "s04", "s06", "s07", "s09", "s10", "s12"],
        "validation": ["s01"],
        "test": ["s02", "s05", "s08", "s11"],
    }
    assert "fold 2 of 3 of the speakers, in place of the corpus's splits" in corpus.notices[0]
    in_table = [u for u in table["utterance_id"] if u[:3] in ("s02", "s05", "s08", "s11")]
    assert corpus.splits["test"]["utterance_id"][:] == in_table
    without = load(tmp_path, table.drop(columns="split"), speaker_folds=3, fold=2)
    assert speakers(without) == speakers(corpus)
    said = ["cross-validated by speaker in 3 folds, in place of the corpus's own splits"]
    assert corpus.caveats == without.caveats == said


def test_blanks_around_a_name_make_no_other_speaker(table, tmp_path):
    table.loc[::2, "speaker"] = "  " + table["speaker"] + " "
    corpus = load(tmp_path, table, speaker_folds=3, fold=1)
    assert speakers(corpus)["test"] == ["s01", "s04", "s07", "s10"] and len(corpus.splits["test"]) == 8


def test_a_data_set_of_datasets_has_folds_too(table, tmp_path):
    rows = Dataset.from_pandas(table.drop(columns="split"), preserve_index=False)
    DatasetDict({"train": rows}).save_to_disk(tmp_path / "saved")
    corpus = load_corpora(f"hf:{tmp_path / 'saved'}", emotion_labels=LABELS, speaker_folds=3, fold=1)
    assert speakers(corpus)["test"] == ["s01", "s04", "s07", "s10"]


def test_folds_that_cannot_be_made_are_refused(table, tmp_path):
    with pytest.raises(CorpusError, match="has 3 folds: say which with --fold"):
        load(tmp_path, table, speaker_folds=3)
    with pytest.raises(CorpusError, match="folds 1 to 3, not 4"):
        load(tmp_path, table, speaker_folds=3, fold=4)
    with pytest.raises(CorpusError, match="12 speakers are too few for 13 folds"):
        load(tmp_path, table, speaker_folds=13, fold=1)
    with pytest.raises(CorpusError, match="24 rows have none.*--column_map speaker=COLUMN"):
        load(tmp_path, table.drop(columns="speaker"), speaker_folds=3, fold=1)
    table.loc[4, "speaker"] = "unknown"
    with pytest.raises(CorpusError, match="1 row has none"):
        load(tmp_path, table, speaker_folds=3, fold=1)
    with pytest.raises(CorpusError, match="demo has splits or folds of its own"):
        load_corpora("demo", emotion_labels=LABELS, speaker_folds=3, fold=1)
    with pytest.raises(CorpusError, match="has 5 folds: --speaker_folds must be 5, not 3"):
        names = ["iemocap", "folder"]
        load_corpora(names, [tmp_path, tmp_path], emotion_labels=LABELS, speaker_folds=3, fold=1)
