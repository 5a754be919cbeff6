"""The recipes of `docs/scale_out.md` run as written, but for the clusters."""

import re
import shutil
import sys

import datasets
import huggingface_hub
import pandas as pd
import pytest
from conftest import REPOSITORY
from scorers import RECORDINGS, numbers

from modeling_mmer.scoring import Scorer

SPARK, CLUSTER, JOB = re.findall(r"```python\n(.*?)```", (REPOSITORY / "docs/scale_out.md").read_text(), re.DOTALL)
TABLE = {"id": ["a", "b", "c"], "audio": [str(RECORDINGS[0]), None, "absent.wav"], "text": [None, "so glad", None]}


def rows_of(scorer: Scorer) -> list[dict]:
    columns = scorer(TABLE)
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def assert_equal(found: pd.DataFrame, scorer: Scorer) -> None:
    found = found.astype(object).where(lambda table: table.notna(), None).to_dict("records")
    for row, expected in zip(found, rows_of(scorer), strict=True):
        assert numbers(row) == pytest.approx(numbers(expected), abs=1e-6)
        assert (row["emotion"], row["error"]) == (expected["emotion"], expected["error"])


def test_the_function_for_spark_on_frames_of_pandas(saved_model):
    names = {}
    exec(SPARK.replace('"runs/demo"', repr(str(saved_model))), names)
    frame = pd.DataFrame(TABLE)
    assert_equal(pd.concat(names["judge"](iter([frame[:2], frame[2:]]))), Scorer(str(saved_model)))


@pytest.mark.slow
def test_spark(saved_model, tmp_path, monkeypatch):
    sql = pytest.importorskip("pyspark.sql", reason="needs the package pyspark")
    if shutil.which("java") is None:
        pytest.skip("needs java")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))  # of the workers
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    pd.DataFrame(TABLE).to_parquet("calls.parquet")
    with sql.SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate() as spark:
        names = {"__name__": "__main__", "spark": spark}
        exec((SPARK + CLUSTER).replace('"runs/demo"', repr(str(saved_model))), names)
        assert names["rows"].rdd.getNumPartitions() == 2
    found = pd.read_parquet("scores.parquet").sort_values("id")
    assert len(list(tmp_path.glob("scores.parquet/part-*.parquet"))) == 2
    assert_equal(found, Scorer(str(saved_model)))


def test_job_on_the_hub(saved_model, tmp_path, monkeypatch):
    uploaded = {}

    class Hub:
        def create_repo(self, name, **options):
            uploaded["created"] = (name, options["repo_type"], options["private"])

        def upload_file(self, path_or_fileobj, path_in_repo, repo_id, repo_type):
            uploaded[path_in_repo, repo_id, repo_type] = pd.read_parquet(path_or_fileobj)

    monkeypatch.chdir(tmp_path)
    datasets.Dataset.from_dict(TABLE).save_to_disk("source")
    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    monkeypatch.setattr(sys, "argv", ["score.py", "source", str(saved_model), "me/scores"])
    exec(JOB, {})
    assert uploaded.pop("created") == ("me/scores", "dataset", True)
    assert_equal(uploaded.pop(("scores.parquet", "me/scores", "dataset")), Scorer(str(saved_model)))
