"""The feature cache: states are keyed by content, equal to fresh ones, computed once, and verified."""

import os
import pickle
import random
import shutil
import sys
import tempfile
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Event

import pytest
import torch
from conftest import real_input_config, real_input_processor, tasks, tiny_config
from datasets import Dataset
from processes import process_group, spawn, start
from torch.utils.data import DataLoader
from transformers import AutoModel, WhisperModel

from modeling_mmer import MMERCollator, MMERConfig, MMERForEmotionRecognition
from modeling_mmer.corpora import load_corpora
from modeling_mmer.features import extraction
from modeling_mmer.features.cache import STATES, FeatureCache
from modeling_mmer.features.extraction import extract
from modeling_mmer.features.shards import Shards
from modeling_mmer.model.configuration_mmer import MODALITIES

EMOTIONS = ["neutral", "happiness", "sadness", "anger"]


@pytest.fixture(scope="module")
def processor():
    return real_input_processor()


@pytest.fixture(scope="module")
def all_rows() -> Dataset:
    return load_corpora("demo", emotion_labels=EMOTIONS).splits["test"]


@pytest.fixture(scope="module")
def rows(all_rows) -> Dataset:
    return all_rows.select(range(12))


@pytest.fixture(scope="module")
def encoders(tmp_path_factory) -> tuple[str, str]:
    """Two encoders in folders, as a light checkpoint names them."""
    folder, config = tmp_path_factory.mktemp("encoders"), real_input_config()
    torch.manual_seed(3)
    WhisperModel(config.audio_config).save_pretrained(folder / "whisper")
    AutoModel.from_config(config.text_config).save_pretrained(folder / "roberta")
    return str(folder / "whisper"), str(folder / "roberta")


def build_model(seed=0, **overrides) -> MMERForEmotionRecognition:
    torch.manual_seed(seed)
    return MMERForEmotionRecognition(real_input_config(**overrides)).eval()


def unloaded_model(encoders, **overrides) -> MMERForEmotionRecognition:
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
    config = MMERConfig.from_audio_text_pretrained(*encoders, **sizes, **overrides)
    return MMERForEmotionRecognition(config).eval()


SMALL_SHARD = 2**16  # bytes, of the states of about eight recordings of `rows`


@pytest.fixture
def small_shards(monkeypatch) -> None:
    monkeypatch.setattr(extraction, "SHARD_BYTES", SMALL_SHARD)


def fill(folder, model, processor, rows, group_size=4, dtype="float16", num_workers=0) -> tuple[FeatureCache, Dataset]:
    features = FeatureCache(folder, model.model, processor, dtype)
    located = features.locate(rows, processor)
    extract(features, model, processor, [located], group_size, num_workers, show_progress=False)
    return features, located


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("shards/*.safetensors")}


def states(features, located) -> dict[str, torch.Tensor]:
    """All states of located rows, by name."""
    found = {row[STATES[m]]: features.load(row, m) for row in located for m in MODALITIES}
    return {name: of_row for name, of_row in found.items() if name is not None}


def shard_with(folder: Path, name: str) -> Path:
    return next(path for path in folder.glob("shards/*.safetensors") if name.encode() in path.read_bytes())


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def forbid(monkeypatch, model) -> None:
    def ran(*_):
        raise AssertionError("an encoder ran")

    monkeypatch.setattr(model.model.encoders, "forward", ran)


# ── what is read is what would have been computed ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_cached_states_give_the_outputs_of_encoding_anew(dtype, processor, rows, tmp_path):
    model = build_model()
    features, located = fill(tmp_path, model, processor, rows, dtype=dtype)
    arguments = (processor, model.config.tasks)
    fresh, cached = MMERCollator(*arguments)(list(rows)), MMERCollator(*arguments, features=features)(list(located))
    assert "input_features" in fresh and "input_features" not in cached
    with torch.no_grad():
        expected, found = model(**fresh), model(**cached)
    tolerance = 1e-3 if dtype == "float16" else 1e-2
    torch.testing.assert_close(found.logits, expected.logits, atol=tolerance, rtol=tolerance)
    for name, term in expected.losses.items():
        if name != "mae":  # its mask is drawn anew
            assert found.losses[name].item() == pytest.approx(term.item(), rel=tolerance, abs=tolerance / 10)


def test_only_real_frames_are_kept(processor, rows, tmp_path):
    features, located = fill(tmp_path, build_model(), processor, rows, group_size=12)
    for row in located:
        if row["audio"] is None:
            assert features.load(row, "audio") is None
        else:
            frames = -(-round(row["duration"] * 16_000) // 160)  # hop of 10 ms
            assert features.load(row, "audio").shape[1] == -(-frames // 2)


def test_a_choice_of_layers_is_what_the_cache_keeps_and_the_mix_runs_over(processor, rows, tmp_path):
    some = {"audio_layers": [0, 2], "text_layers": [1, 3]}
    (whole, located), (chosen, relocated) = (
        fill(tmp_path / str(len(o)), build_model(**o), processor, rows) for o in ({}, some)
    )
    for row, other in zip(located, relocated, strict=True):
        for modality in MODALITIES:
            states = whole.load(row, modality)
            if states is not None:
                assert torch.equal(chosen.load(other, modality), states[some[f"{modality}_layers"]])
    model = build_model(**some)
    assert model.model.embedders["audio"].layer_weights.tolist() == [0.5, 0.5]
    batch = processor(audio=rows["audio"][:2], text=rows["text"][:2])
    assert model.model.encoders(batch)["text"][0].shape[1] == 2


@pytest.mark.parametrize("wrong", [[], [2, 1], [0, 0], [0, 99], [-1]])
def test_a_choice_of_layers_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(Exception, match="audio_layers"):
        tiny_config(audio_layers=wrong)


# ── the encoders run once, if at all ────────────────────────────────────────────────────────────────────────────────


def test_filling_again_loads_and_runs_nothing(encoders, processor, rows, tmp_path, monkeypatch):
    model = unloaded_model(encoders)
    fill(tmp_path, model, processor, rows)
    assert [e.encoder for e in model.model.encoders.values()] == [None, None]  # borrowed for the work, and given back
    before = files(tmp_path)
    forbid(monkeypatch, model)
    monkeypatch.setattr(MMERForEmotionRecognition, "load_encoders", lambda _: pytest.fail("encoders were loaded"))
    fill(tmp_path, model, processor, rows)
    assert files(tmp_path) == before


def test_shards_that_are_lost_come_back_with_the_same_bits(processor, all_rows, small_shards, tmp_path):
    """Whatever is lost, the batches that make it anew are those that made it, and fill the same shards."""
    model, rows = build_model(), all_rows.select(range(36))
    fill(tmp_path, model, processor, rows)
    whole = files(tmp_path)
    assert len(whole) >= 5
    for name in random.Random(0).sample(sorted(whole), 3):
        (tmp_path / "shards" / name).unlink()
    fill(tmp_path, model, processor, rows)
    assert files(tmp_path) == whole


def test_only_groups_that_lack_something_are_encoded_again(processor, rows, tmp_path, monkeypatch):
    model = build_model()
    monkeypatch.setattr(extraction, "SHARD_BYTES", 1)  # a shard for each group
    features, located = fill(tmp_path, model, processor, rows)
    gone = next(row for row in located if row["audio"] is not None)["audio_states"]
    shard_with(tmp_path, gone).unlink()
    encoded = []
    monkeypatch.setattr(
        extraction, "encode_group", lambda *arguments: encoded.append((arguments[2], arguments[3])) or {}
    )
    extract(features, model, processor, [located], 4, show_progress=False)
    ((modality, group),) = encoded
    assert modality == "audio" and gone in [entry.name for entry in group] and len(group) <= 4


def test_a_corpus_that_grows_adds_only_the_states_that_are_new(processor, all_rows, tmp_path):
    model = build_model()
    first, of_first = fill(tmp_path, model, processor, all_rows.select(range(0, 48, 2)))
    known, before = states(first, of_first), files(tmp_path)
    features, located = fill(tmp_path, model, processor, all_rows.select(range(48)))
    found, after = states(features, located), files(tmp_path)
    assert before.items() < after.items() and same(known, {name: found[name] for name in known})
    kept = sum(of_row.nbytes for of_row in found.values())  # nothing is there twice
    assert kept < sum(map(len, after.values())) < 1.2 * kept + 1000 * len(after)


def test_an_error_loses_no_states_that_were_computed_before_it(processor, rows, tmp_path, monkeypatch):
    encode, calls = extraction.encode_group, []

    def second_fails(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise ValueError("a recording that cannot be read")
        return encode(*arguments)

    monkeypatch.setattr(extraction, "encode_group", second_fails)
    with pytest.raises(ValueError, match="cannot be read"):
        fill(tmp_path, build_model(), processor, rows)
    written = FeatureCache(tmp_path, build_model().model, processor)
    written.shards.refresh()
    assert all(entry.name in written.shards for entry in calls[0][3])


def test_groups_are_encoded_while_a_shard_is_written(processor, rows, tmp_path, monkeypatch):
    monkeypatch.setattr(extraction, "SHARD_BYTES", 1)  # a shard for each group
    encode, write, second, calls = extraction.encode_group, Shards.write, Event(), []

    def encode_group(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            second.set()
        return encode(*arguments)

    def write_late(shards, states):
        assert not states or second.wait(20)
        write(shards, states)

    monkeypatch.setattr(extraction, "encode_group", encode_group)
    monkeypatch.setattr(Shards, "write", write_late)
    features, located = fill(tmp_path, build_model(), processor, rows)
    assert len(files(tmp_path)) == len(calls) and states(features, located)


def test_an_error_of_the_disk_ends_the_work(processor, rows, tmp_path, monkeypatch):
    def full(shards, states):
        if states:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(extraction, "SHARD_BYTES", 1)
    monkeypatch.setattr(Shards, "write", full)
    with pytest.raises(OSError, match="No space left"):
        fill(tmp_path, build_model(), processor, rows)


KILLED = """
import sys, torch
sys.path[:0] = ["tests", "tests/features"]
import test_features
torch.set_num_threads(1)
processor = test_features.real_input_processor()
rows = test_features.load_corpora("demo", emotion_labels=test_features.EMOTIONS).splits["test"]
test_features.extraction.SHARD_BYTES = test_features.SMALL_SHARD
test_features.fill(sys.argv[1], test_features.build_model(), processor, rows)
"""


@pytest.mark.slow
def test_an_extraction_killed_five_times_ends_with_the_files_of_an_uninterrupted_one(tmp_path):
    def started(name="killed"):
        return start(["-c", KILLED, str(tmp_path / name)])

    moments, before = random.Random(0), {}
    for _ in range(5):
        process = started()
        target = len(before) + moments.randint(1, 2)
        while process.is_alive() and len(files(tmp_path / "killed")) < target:
            time.sleep(0.002)
        process.kill()
        process.join()
        after = files(tmp_path / "killed")
        assert before.items() <= after.items()  # what was there is never touched again
        before = after
    for process in [started(), started(), started("whole")]:  # two runs may fill one folder at once
        process.join(300)
        assert process.exitcode == 0
    assert files(tmp_path / "killed") == files(tmp_path / "whole")


def test_what_killed_extractions_left_is_swept_away_once_it_is_old(processor, rows, tmp_path):
    left = [tmp_path / "unfinished" / name for name in ("old", "young")]
    left[0].parent.mkdir()
    for path in left:
        path.write_bytes(b"half")
    os.utime(left[0], (0, 0))
    fill(tmp_path, build_model(), processor, rows)
    assert [path.exists() for path in left] == [False, True]


def test_a_disk_that_is_too_small_is_refused_before_any_work(processor, rows, tmp_path, monkeypatch):
    model = build_model()
    forbid(monkeypatch, model)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**12, 10**12 - 1000, 1000))
    with pytest.raises(ValueError, match="need about 0.0 GB.*--cache_layers"):
        fill(tmp_path, model, processor, rows)


def test_the_size_that_is_reckoned_is_near_the_size_that_comes(processor, rows, tmp_path, monkeypatch):
    features, located = fill(tmp_path / "cache", build_model(), processor, rows)
    actual = sum(len(content) for content in files(tmp_path / "cache").values())
    empty = FeatureCache(tmp_path / "empty", build_model().model, processor)
    for free, fits in ((actual * 0.5, False), (actual * 2, True)):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: shutil._ntuple_diskusage(10**12, 0, free))
        groups = {m: extraction.missing_groups(empty, [located], m, 4) for m in MODALITIES}
        if fits:
            extraction.require_disk_space(empty, build_model().model, groups)
        else:
            with pytest.raises(ValueError, match="--feature_cache"):
                extraction.require_disk_space(empty, build_model().model, groups)


@pytest.mark.parametrize("modality", MODALITIES)
def test_a_late_process_takes_its_own_share_whatever_others_have_written(modality, processor, rows, tmp_path):
    model = build_model()
    features = FeatureCache(tmp_path, model.model, processor)
    located = features.locate(rows, processor)
    shares = []
    for rank in range(2):  # the second looks when the first is done
        groups = extraction.missing_groups(features, [located], modality, 2, slice(rank, None, 2))
        shares.append({entry.name for group in groups for entry in group})
        prepared = [extraction.prepare_group(processor, modality, group) for group in groups]
        extraction.fill(features, model.model, modality, prepared)
    assert shares[0] and shares[1] and not shares[0] & shares[1]
    assert shares[0] | shares[1] == {name for name in located[f"{modality}_states"] if name is not None}


def one_of_two(rank: int, folder: str) -> None:
    extraction.SHARD_BYTES = SMALL_SHARD
    rows = load_corpora("demo", emotion_labels=EMOTIONS).splits["test"].select(range(24))
    with process_group(rank, 2, folder):
        features, located = fill(Path(folder, "shared"), build_model(), real_input_processor(), rows)
        torch.save(states(features, located), Path(folder, f"{rank}.pt"))


@pytest.mark.slow
def test_the_processes_of_a_run_fill_what_one_process_fills_and_each_reads_it_all(
    processor, all_rows, small_shards, tmp_path
):
    spawn(one_of_two, (str(tmp_path),))
    with extraction.one_thread():
        alone = states(*fill(tmp_path / "alone", build_model(), processor, all_rows.select(range(24))))
    assert all(same(torch.load(tmp_path / f"{rank}.pt"), alone) for rank in (0, 1))
    content = b"".join(files(tmp_path / "shared").values())
    assert all(content.count(name.encode()) == 1 for name in alone)  # each was written by one of them


# ── worker processes ────────────────────────────────────────────────────────────────────────────────────────────────


def test_workers_and_threads_give_the_same_files(processor, rows, tmp_path):
    model, threads = build_model(), torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        for workers in (0, 2):
            fill(tmp_path / str(workers), model, processor, rows, num_workers=workers)
            assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)
    assert files(tmp_path / "0") == files(tmp_path / "2") != {}


def test_spectrograms_are_computed_in_the_workers(processor, rows, tmp_path, monkeypatch):
    here, encode_audio = os.getpid(), type(processor).encode_audio

    def elsewhere(*arguments):
        assert os.getpid() != here
        return encode_audio(*arguments)

    monkeypatch.setattr(type(processor), "encode_audio", elsewhere)
    fill(tmp_path, build_model(), processor, rows, num_workers=2)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_recording_that_cannot_be_read_is_named_without_a_workers_traceback(workers, processor, rows, tmp_path):
    (tmp_path / "no_recording.wav").write_bytes(b"RIFF")
    damaged = rows.map(lambda row: {"audio": str(tmp_path / "no_recording.wav")} if row["audio"] else {})
    with pytest.raises(ValueError, match="no_recording.wav") as raised:
        fill(tmp_path / "cache", build_model(), processor, damaged, num_workers=workers)
    assert str(raised.value).startswith("Utterance ") and "Traceback" not in str(raised.value)


def test_a_collator_reads_its_cache_in_worker_processes(processor, rows, tmp_path):
    """Under every way to start them: it is pickled for spawn and forkserver, and memory-maps its files anew."""
    features, located = fill(tmp_path, build_model(), processor, rows)
    collator = MMERCollator(processor, tasks(EMOTIONS, ["negative", "positive"], ["valence"]), features)
    loader = DataLoader(located, 5, collate_fn=pickle.loads(pickle.dumps(collator)), num_workers=2)
    for batch, first in zip(loader, (0, 5, 10), strict=True):
        expected = collator([located[i] for i in range(first, min(first + 5, len(located)))])
        for name in expected.keys() - {"labels"}:
            assert torch.equal(batch[name], expected[name]), name
        assert torch.equal(batch["labels"]["emotion"], expected["labels"]["emotion"])


# ── found by content ────────────────────────────────────────────────────────────────────────────────────────────────


def names(model, processor, row, folder="nowhere", **changes):
    located = FeatureCache(folder, model.model, processor).locate(Dataset.from_list([{**row, **changes}]), processor)
    return located[0]["audio_states"], located[0]["text_states"]


def test_a_renamed_recording_is_found_and_a_changed_one_is_not(processor, rows, tmp_path):
    model = build_model()
    row = next(row for row in rows if row["audio"] is not None)
    renamed = shutil.copy(row["audio"], tmp_path / "renamed.opus")
    assert names(model, processor, row, audio=str(renamed)) == names(model, processor, row)
    changed = bytearray(Path(row["audio"]).read_bytes())
    changed[-1] ^= 1
    (tmp_path / "changed.opus").write_bytes(changed)
    assert names(model, processor, row, audio=str(tmp_path / "changed.opus"))[0] != names(model, processor, row)[0]
    assert names(model, processor, row, text="Something else.")[1] != names(model, processor, row)[1]


def test_another_encoder_context_or_choice_of_layers_is_not_found(processor, rows):
    row = next(row for row in rows if row["audio"] is not None and row["text"] is not None)
    audio, text = names(build_model(), processor, row)
    assert names(build_model(), processor, row) == (audio, text)
    for other in (build_model(seed=1), build_model(audio_layers=[0, 2], text_layers=[0])):
        other_audio, other_text = names(other, processor, row)
        assert other_audio != audio and other_text != text
    full_audio, full_text = names(build_model(audio_context="full"), processor, row)
    assert full_audio != audio and full_text == text


@pytest.mark.parametrize("loaded", [True, False])
def test_states_of_an_encoder_that_ran_in_another_dtype_are_not_found(loaded, encoders, processor, rows, tmp_path):
    """bfloat16 gives other states than float32, though both are kept as float16; unloaded, it will run as the model."""
    row = next(row for row in rows if row["audio"] is not None and row["text"] is not None)
    folder = tmp_path / "light"
    MMERForEmotionRecognition.from_audio_text_pretrained(*encoders, hidden_size=16).save_pretrained(folder)
    load = partial(MMERForEmotionRecognition.from_pretrained, folder, with_encoders=loaded)
    audio, text = names(load(dtype=torch.float32), processor, row)
    assert names(unloaded_model(encoders), processor, row) == (audio, text)
    half_audio, half_text = names(load(dtype=torch.bfloat16), processor, row)
    assert half_audio != audio and half_text != text


def test_an_encoder_in_a_folder_is_known_by_its_weights_alone(encoders, processor, rows, tmp_path):
    row = next(row for row in rows if row["audio"] is not None and row["text"] is not None)
    expected = names(unloaded_model(encoders), processor, row)
    copies = [str(shutil.copytree(folder, tmp_path / Path(folder).name)) for folder in encoders]
    assert names(unloaded_model(copies), processor, row) == expected
    path = Path(copies[0], "model.safetensors")
    weights = path.read_bytes()
    path.write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    audio, text = names(unloaded_model(copies), processor, row)
    assert audio != expected[0] and text == expected[1]


# ── damage ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_damaged_states_are_noticed_named_and_made_anew(damage, processor, rows, tmp_path):
    model = build_model()
    features, located = fill(tmp_path, model, processor, rows)
    row = next(row for row in located if row["text"] is not None)
    path = shard_with(tmp_path, row["text_states"])
    whole = path.read_bytes()
    content = features.load(row, "text").numpy().tobytes()
    at = whole.index(content)
    path.write_bytes(whole[: at + 10] if damage == "cut" else whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    with pytest.raises(ValueError, match=f"{path.name} are damaged.*Start again") as raised:
        features.load(row, "text")
    assert row["utterance_id"] in str(raised.value)
    extract(features, model, processor, [located], 4, show_progress=False)
    assert path.read_bytes() == whole and features.load(row, "text").numpy().tobytes() == content


def test_a_shard_cut_short_is_made_anew_at_the_start(processor, rows, tmp_path):
    model = build_model()
    _, located = fill(tmp_path, model, processor, rows)
    path = shard_with(tmp_path, next(row for row in located if row["audio"] is not None)["audio_states"])
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    fill(tmp_path, model, processor, rows)
    assert path.read_bytes() == whole


# ── a folder that cannot be written ─────────────────────────────────────────────────────────────────────────────────


@contextmanager
def read_only(folder: Path):
    """A folder that this process can read and not write; root, who may write everything, becomes a user who may not."""
    user = os.geteuid()
    paths = [folder, *folder.rglob("*")]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    if user == 0:
        os.setresuid(65534, 65534, 0)
    try:
        yield
    finally:
        os.setresuid(user, user, user)
        for path in paths:
            path.chmod(0o755)


@pytest.mark.skipif(sys.platform == "win32", reason="folders have no such rights")
def test_a_full_cache_is_read_where_it_cannot_be_written(processor, all_rows, rows):
    model = build_model()
    with tempfile.TemporaryDirectory() as name:  # not below the folder of pytest, which only its user may enter
        features, located = fill(name, model, processor, rows)
        expected = states(features, located)
        other = FeatureCache(name, model.model, processor)
        more = other.locate(all_rows.select(range(12, 24)), processor)
        before = {path: path.stat().st_mtime_ns for path in Path(name).rglob("*")}
        with read_only(Path(name)):
            extract(other, model, processor, [located], 4, show_progress=False)
            assert same(states(other, located), expected)
            with pytest.raises(ValueError, match="cannot be written.*--feature_cache"):
                extract(other, model, processor, [located, more], 4, show_progress=False)
        assert {path: path.stat().st_mtime_ns for path in Path(name).rglob("*")} == before
