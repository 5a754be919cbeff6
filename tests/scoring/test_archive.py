"""Results on disk are valid at every moment, and a run goes on where another stopped, if it is the same."""

import json

import pandas as pd
import pyarrow as pa
import pytest

from modeling_mmer.scoring.archive import Parts, manifest_path, open_archive, parts_folder

SCHEMA = pa.schema(
    {"id": pa.string(), "speech": pa.bool_(), "modalities": pa.list_(pa.string()), "valence": pa.float64()}
)
FORMS = ("jsonl", "parquet", "csv")
MANIFEST = {"model": "a/b", "fingerprint": "f1", "version": "1", "options": {"windows": None}}


def row(name: str, value: float | None = 0.1) -> dict:
    return {"id": name, "speech": None, "modalities": ["audio", "text"], "valence": value, "more": "ignored"}


def opened(path, resume=True, **changes):
    return open_archive(path, path.suffix[1:], SCHEMA, MANIFEST | changes, resume)


def read(path) -> list[str]:
    if path.suffix == ".jsonl":
        return [json.loads(line)["id"] for line in path.read_text().splitlines()]
    table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, dtype={"id": str})
    return table["id"].tolist()


@pytest.mark.parametrize("form", FORMS)
def test_a_run_that_stopped_anywhere_goes_on(tmp_path, form):
    path = tmp_path / f"scores.{form}"
    archive = opened(path)
    assert archive.done == set()
    archive.append([row("a"), row("b", None)])
    assert read(path) == ["a", "b"]
    archive.append([row("c, with \"quotes\"\nand 'lines'")])
    again = opened(path)  # the first was killed
    assert again.done == {"a", "b", "c, with \"quotes\"\nand 'lines'"}
    again.append([row("d")])
    again.finish()
    assert read(path) == ["a", "b", "c, with \"quotes\"\nand 'lines'", "d"]
    assert {file.name for file in tmp_path.iterdir()} == {path.name, manifest_path(path).name}
    later = opened(path)  # with further inputs
    later.append([row("e", 1 / 3)])
    later.finish()
    assert read(path)[3:] == ["d", "e"]
    first, second, *_, last = opened(path).rows()
    assert (first, second["valence"], last["valence"]) == (
        {"id": "a", "speech": None, "modalities": ["audio", "text"], "valence": 0.1},
        None,
        1 / 3,
    )


@pytest.mark.parametrize("form", FORMS)
def test_an_empty_run_leaves_a_file(tmp_path, form):
    path = tmp_path / f"scores.{form}"
    opened(path).finish()
    assert path.is_file() and list(opened(path).rows()) == []


def test_an_incomplete_line_goes_with_all_of_its_id(tmp_path):
    path = tmp_path / "scores.jsonl"
    opened(path).append([row("a"), row("b"), row("b"), row("b")])
    whole = path.read_bytes()
    starts = [0, *(i + 1 for i, byte in enumerate(whole) if byte == 10)]
    for size in range(starts[3] + 1, len(whole)):  # anywhere in the last line
        path.write_bytes(whole[:size])
        assert opened(path).done == {"a"} and path.read_bytes() == whole[: starts[1]]
    for size in range(1, starts[1]):
        path.write_bytes(whole[:size])
        assert opened(path).done == set() and path.read_bytes() == b""


def test_an_unfinished_part_is_no_part_and_the_file_lags_but_a_little(tmp_path):
    path = tmp_path / "scores.parquet"
    archive = opened(path)
    for i in range(40):
        archive.append([row(str(i))])
        assert i + 1 >= len(read(path)) > (i + 1) / Parts.GROWTH - 1
    (parts_folder(path) / ".part-00040.parquet.1.tmp").write_bytes(b"PAR1 cut")
    assert opened(path).done == {str(i) for i in range(40)}


@pytest.mark.parametrize("form", FORMS)
def test_results_of_another_run_are_neither_mixed_nor_lost(tmp_path, form):
    path = tmp_path / f"scores.{form}"
    opened(path).append([row("a")])
    opened(path, model="renamed/b", version="2")  # what the results do not depend on
    with pytest.raises(ValueError, match=r"another run \(fingerprint was 'f1' and is 'f2'\).*--resume false"):
        opened(path, fingerprint="f2")
    with pytest.raises(ValueError, match="options was"):
        opened(path, options={"windows": 5})
    assert read(path) == ["a"]
    assert opened(path, resume=False, fingerprint="f2").done == set()
    manifest_path(path).unlink()
    opened(path, resume=False).append([row("b")])
    manifest_path(path).unlink()
    with pytest.raises(ValueError, match="no scores.*manifest.json that says what made it"):
        opened(path)
