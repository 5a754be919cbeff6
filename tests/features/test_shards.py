"""Shards: what is read is what was written, from any process, and damage is never read."""

import hashlib
import json
import multiprocessing
import os
import pickle
import sys
import tempfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from test_features import read_only

from modeling_mmer.features.shards import Shards


def named(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def made_up(count: int, dtype=torch.float16, start=0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(start)
    return {named(start + i): torch.randn(3, 2 + i, 8, generator=generator).to(dtype) for i in range(count)}


def written(folder, *parts: dict[str, torch.Tensor]) -> Shards:
    for states in parts:
        Shards(folder).write(states)
    return Shards(folder)


def shard_files(folder) -> list:
    return sorted(folder.glob("shards/*"))


def equal(shards: Shards, states: dict[str, torch.Tensor]) -> bool:
    return all(shards.read(name).dtype == s.dtype and torch.equal(shards.read(name), s) for name, s in states.items())


def test_states_are_read_as_they_were_written_whatever_their_precision(tmp_path):
    states = {dtype: made_up(5, dtype, start) for start, dtype in ((0, torch.float16), (10, torch.bfloat16))}
    mixed = made_up(3, torch.float16, 20) | made_up(3, torch.float32, 30)
    shards = written(tmp_path, *states.values(), mixed)
    assert all(equal(shards, part) for part in (*states.values(), mixed))
    assert len(shard_files(tmp_path)) == 3 and named(99) not in shards


def test_the_checksum_is_that_of_the_bytes_and_the_file_is_safetensors(tmp_path):
    states = made_up(4)
    written(tmp_path, states)
    (file,) = shard_files(tmp_path)
    content = file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    described = json.loads(content[8 : 8 + length])
    checksums = dict(zip(sorted(states), described["__metadata__"]["crc32"].split(), strict=True))
    for name, of_name in states.items():
        start, end = (8 + length + offset for offset in described[name]["data_offsets"])
        assert content[start:end] == of_name.numpy().tobytes()
        assert int(checksums[name], 16) == zlib.crc32(content[start:end])
    assert len(content) - 8 - length == sum(s.numel() * 2 for s in states.values())  # nothing but the states


def test_what_another_process_adds_is_found(tmp_path):
    first, second = made_up(3), made_up(3, start=10)
    shards = written(tmp_path, first)
    assert equal(shards, first)
    written(tmp_path, second)
    assert equal(shards, first) and equal(shards, second)


def test_the_same_states_are_one_file_however_often_they_are_written(tmp_path):
    states = made_up(5)
    shards = written(tmp_path, states, dict(reversed(states.items())), states)
    assert len(shard_files(tmp_path)) == 1 and equal(shards, states)
    assert not list((tmp_path / "unfinished").iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="files have no such rights")
def test_other_users_may_read_a_shard_if_the_umask_lets_them(tmp_path):
    before = os.umask(0o022)
    try:
        written(tmp_path, made_up(2))
    finally:
        os.umask(before)
    assert shard_files(tmp_path)[0].stat().st_mode & 0o777 == 0o644


def test_states_that_are_in_two_shards_are_read_though_one_is_damaged(tmp_path):
    """Two runs over corpora that overlap may both encode what they share."""
    one, other = made_up(3), made_up(5)
    shards = written(tmp_path, one, other)
    shards.refresh()
    next(file for file in shard_files(tmp_path) if file.stat().st_size < 2000).unlink()
    shards.refresh()
    assert equal(shards, other)


def test_no_bit_of_a_shard_can_flip_unnoticed(tmp_path):
    """Neither in states nor in the header: what is read is right, or missing, or refused by name; never wrong."""
    states = made_up(2)
    written(tmp_path, states)
    (file,) = shard_files(tmp_path)
    whole, outcomes = file.read_bytes(), {"right": 0, "refused": 0}
    for at in range(len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << at % 8
        file.write_bytes(damaged)
        shards = Shards(tmp_path)
        for name, of_name in states.items():
            try:
                assert torch.equal(shards.read(name), of_name)
                outcomes["right"] += 1
            except ValueError as error:
                assert "again" in str(error)
                outcomes["refused"] += 1
        for aside in tmp_path.glob("shards/*.damaged"):
            aside.unlink()
    assert outcomes["refused"] >= len(whole) and outcomes["right"] > 0


@pytest.mark.parametrize("kept", [0, 5, 100, -1])
def test_a_truncated_shard_is_moved_aside_and_its_states_are_missing(kept, tmp_path):
    states, others = made_up(3), made_up(3, start=10)
    written(tmp_path, states)
    (file,) = shard_files(tmp_path)
    whole = file.read_bytes()
    file.write_bytes(whole[:kept])
    shards = written(tmp_path, others)
    shards.refresh()
    assert not any(name in shards for name in states) and equal(shards, others)
    with pytest.raises(ValueError, match=f"not in {tmp_path}.*Start again"):
        shards.read(next(iter(states)))
    assert not file.exists() and file.with_suffix(".damaged").read_bytes() == whole[:kept]
    shards.write(states)
    assert file.read_bytes() == whole and equal(shards, states)


@pytest.mark.skipif(sys.platform == "win32", reason="folders have no such rights")
def test_damage_in_a_folder_that_cannot_be_written_names_the_file_to_delete():
    with tempfile.TemporaryDirectory() as name:
        folder, states = Path(name), made_up(3)
        shards = written(folder, states)
        (file,) = shard_files(folder)
        whole = file.read_bytes()
        file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        shards.refresh()
        with read_only(folder), pytest.raises(ValueError, match=f"{file.name} are damaged.*Delete this file"):
            for name in states:
                shards.read(name)
        assert file.exists()


def test_a_folder_with_a_file_for_each_utterance_is_refused(tmp_path):
    old = tmp_path / "ab" / f"{named(0)}.safetensors"
    old.parent.mkdir()
    old.write_bytes(b"")
    with pytest.raises(ValueError, match="one utterance to a file.*--feature_cache"):
        Shards(tmp_path).refresh()


def reads(shards: Shards, states: dict[str, torch.Tensor]) -> None:
    assert equal(shards, states) and equal(pickle.loads(pickle.dumps(shards)), states)  # as spawn passes it


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes are forked here")
def test_processes_read_what_their_parent_has_indexed(tmp_path):
    states = made_up(6)
    shards = written(tmp_path, states)
    assert equal(shards, states)
    readers = [multiprocessing.get_context("fork").Process(target=reads, args=(shards, states)) for _ in range(3)]
    for reader in readers:
        reader.start()
    assert equal(shards, states)
    for reader in readers:
        reader.join(60)
        assert reader.exitcode == 0


def test_the_index_is_small(tmp_path):
    """Hundreds of thousands of names are held by each process: 100 bytes each, and no objects."""
    sizes = []
    for count in (100, 300):
        states = {named(i): torch.zeros(1, 1, 1) for i in range(count)}
        shards = written(tmp_path / str(count), states)
        shards.refresh()
        sizes.append(len(pickle.dumps(shards)))
    assert np.diff(sizes)[0] / 200 < 110
