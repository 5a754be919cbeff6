"""Properties of batches with a maximum number of frames: each row once, little padding, and the same schedule for all
epochs, processes and resumed runs."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import assert_equal_weights, tiny_model
from datasets import Dataset
from processes import process_group, spawn
from trainers import StopAfter, toy_rows, toy_trainer, weights

from modeling_mmer.training.batching import FrameCapBatchSampler, batch_sizes, repeated, with_lengths

CAP = 3000
RNG = np.random.default_rng(0)
FRAMES = np.clip(RNG.lognormal(np.log(200), 0.6, 1001), 20, 1500).astype(int).tolist()  # speech: many short, few long


def build_sampler(seed=3, by_length=False, processes=1, rank=0, frames=FRAMES, cap=CAP) -> FrameCapBatchSampler:
    return FrameCapBatchSampler(frames, cap, seed, by_length, processes, rank)


def epochs(sampler, count=1) -> list[list[list[int]]]:
    found = []
    for epoch in range(count):
        sampler.set_epoch(epoch)
        found.append(list(sampler))
    return found


def padded(batches) -> int:
    return sum(len(batch) * max(FRAMES[row] for row in batch) for batch in batches)


# ── one process ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("by_length", [False, True])
def test_every_epoch_has_every_row_once_under_the_cap_in_as_many_batches(by_length):
    sampler = build_sampler(by_length=by_length)
    for batches in epochs(sampler, 30):  # many more than those that the number of batches was found by
        assert sorted(row for batch in batches for row in batch) == list(range(len(FRAMES)))
        assert max(padded([batch]) for batch in batches) <= CAP
        assert len(batches) == len(sampler) and min(map(len, batches)) >= 1


def test_a_run_of_rows_is_cut_where_it_would_exceed_the_cap():
    assert batch_sizes([3, 3, 3, 1, 1, 6, 1, 9, 1], cap=6) == [2, 2, 1, 1, 1, 1, 1]
    assert batch_sizes([2, 2, 2, 2, 2], cap=6) == [3, 2]
    assert batch_sizes([], cap=6) == []


@pytest.mark.parametrize("by_length", [False, True])
def test_batches_repeat_by_seed_and_epoch_and_differ_otherwise(by_length):
    first, second = epochs(build_sampler(by_length=by_length), 2)
    assert epochs(build_sampler(by_length=by_length), 2) == [first, second]
    torch.rand(7)  # what else is drawn does not matter
    assert epochs(build_sampler(by_length=by_length)) == [first]
    for other in (second, *epochs(build_sampler(seed=9, by_length=by_length))):
        assert not {frozenset(batch) for batch in first if len(batch) > 1} & {frozenset(batch) for batch in other}


def test_a_row_longer_than_the_cap_is_a_batch_of_its_own_and_is_told_of(caplog):
    logging.getLogger("transformers").propagate = True
    frames = [50] * 20 + [700, 900] + [50] * 20
    batches = epochs(build_sampler(frames=frames, cap=600))[0]
    assert [20] in batches and [21] in batches
    assert sorted(row for batch in batches for row in batch) == list(range(42))
    assert caplog.text.count("2 rows have more than 600 frames") == 1


def test_like_lengths_pad_less_and_random_batches_fill_the_cap_better_than_a_fixed_number_of_rows():
    by_length, mixed = (epochs(build_sampler(by_length=b))[0] for b in (True, False))
    rows = CAP // max(FRAMES)  # the most that are safe in every batch of a fixed number
    order = np.random.default_rng(1).permutation(len(FRAMES))
    fixed = [order[start : start + rows].tolist() for start in range(0, len(order), rows)]
    of_same_size = [order[start : start + 15].tolist() for start in range(0, len(order), 15)]  # sum(FRAMES) / CAP
    useful = sum(FRAMES)
    assert padded(by_length) < 1.3 * useful < 1.6 * useful < padded(of_same_size)
    assert len(by_length) < len(mixed) < len(fixed) / 3


def test_lengths_of_rows_count_frames_and_tokens_of_what_is_there():
    rows = Dataset.from_dict({"duration": [2.0, None, 2.0], "text": [None, "x" * 40, "x" * 40]})
    frames = with_lengths(rows, stride=4)["frames"]
    assert frames[0] == pytest.approx(100, abs=2) and frames[1] == pytest.approx(10, abs=2)
    assert frames[2] == frames[0] + frames[1]


# ── several processes ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("by_length", [False, True])
@pytest.mark.parametrize("processes", [2, 3, 4])
def test_processes_share_the_rows_in_steps_of_equal_size_under_the_cap(by_length, processes):
    samplers = [build_sampler(by_length=by_length, processes=processes, rank=rank) for rank in range(processes)]
    for _ in range(3):
        for of_step in zip(*(epochs(sampler)[0] for sampler in samplers), strict=True):
            assert len({len(batch) for batch in of_step}) == 1
            assert max(padded([batch]) for batch in of_step) <= CAP
        taken = sorted(row for sampler in samplers for batch in epochs(sampler)[0] for row in batch)
        assert sorted(set(taken)) == list(range(len(FRAMES)))
        assert len(taken) - len(FRAMES) == -len(FRAMES) % processes


def test_fewer_rows_than_processes_are_shared_all_the_same():
    batches = [epochs(build_sampler(frames=[5, 6], processes=4, rank=rank))[0] for rank in range(4)]
    assert sorted(row for of_process in batches for (batch,) in [of_process] for row in batch) == [0, 0, 1, 1]


# ── in training ─────────────────────────────────────────────────────────────────────────────────────────────────────

OPTIONS = {"num_train_epochs": 3, "max_frames_per_batch": 40}
OPTIONS |= {"eval_strategy": "no", "load_best_model_at_end": False}  # see test_trainer's test of resuming


def capped_trainer(folder: Path, rows: int = 36, **overrides):
    trainer = toy_trainer(folder, rows=rows, **(OPTIONS | overrides))
    trainer.train_dataset = trainer.train_dataset.add_column("frames", trainer.train_dataset["length"])
    return trainer


def record_batches(trainer) -> list[list[float]]:
    """What identifies the rows of each batch that a trainer takes a step on: their arousal."""
    seen, training_step = [], trainer.training_step

    def recorded(model, inputs, *arguments):
        seen.append(inputs["labels"]["arousal"].tolist())
        return training_step(model, inputs, *arguments)

    trainer.training_step = recorded
    return seen


def test_training_takes_the_steps_it_announced_and_ends_its_schedule(tmp_path):
    trainer = capped_trainer(tmp_path)
    seen = record_batches(trainer)
    trainer.train()
    steps = len(build_sampler(frames=toy_rows(36)["length"], cap=40, seed=trainer.args.seed))
    assert trainer.state.global_step == trainer.state.max_steps == len(seen) == 3 * steps
    for epoch in range(3):
        taken = sorted(a for batch in seen[epoch * steps : (epoch + 1) * steps] for a in batch)
        assert taken == pytest.approx(sorted(toy_rows(36)["arousal"]))
    rates = [entry["learning_rate"] for entry in trainer.state.log_history if "learning_rate" in entry]
    assert rates[-1] < 0.02 * max(rates)


@pytest.mark.parametrize("strategy", ["random", "group_by_length"])
@pytest.mark.parametrize("workers", [0, 2])
def test_resuming_equals_the_uninterrupted_run(tmp_path, strategy, workers):
    options = {"train_sampling_strategy": strategy, "dataloader_num_workers": workers}
    whole = capped_trainer(tmp_path / "whole", **options)
    whole.train()
    step = whole.state.max_steps // 3 + 2  # within the second epoch
    first = capped_trainer(tmp_path / "parts", **options)
    first.add_callback(StopAfter(step))
    first.train()
    second = capped_trainer(tmp_path / "parts", **options)
    second.train(resume_from_checkpoint=str(tmp_path / "parts" / f"checkpoint-{step}"))
    assert second.state.global_step == whole.state.global_step
    assert_equal_weights(weights(second.model), weights(whole.model))


def test_a_cap_without_the_rows_frames_is_refused(tmp_path):
    with pytest.raises(ValueError, match="column `frames`"):
        toy_trainer(tmp_path, **OPTIONS).train()


@pytest.mark.parametrize(
    "wrong", [{"max_frames_per_batch": 0}, {"train_sampling_strategy": "sequential"}], ids=["zero", "sequential"]
)
def test_a_cap_that_makes_no_sense_is_refused(tmp_path, wrong):
    with pytest.raises(ValueError, match="--max_frames_per_batch"):
        capped_trainer(tmp_path, **wrong)


GROUPED = {"train_sampling_strategy": "group_by_length"}
UNCAPPED = {"max_frames_per_batch": None}
CASES = {"capped": {}, "capped grouped": GROUPED, "random": UNCAPPED, "grouped": UNCAPPED | GROUPED}


def one_of_two(rank, folder):
    """Each of two processes: a whole run; and one that is stopped in its second epoch, and resumed."""
    found = {}
    with process_group(rank, 2, folder):
        for case, options in CASES.items():

            def run(name, stop=None, resume=None, case=case, options=options):
                trainer = capped_trainer(
                    Path(folder, case, name), 37, model=tiny_model(audio_context="trimmed", dropout=0.3), **options
                )
                seen = record_batches(trainer)
                if stop is not None:
                    trainer.add_callback(StopAfter(stop))
                trainer.train(resume_from_checkpoint=resume)
                assert trainer.args.world_size == 2
                return {"weights": weights(trainer.model), "seen": seen, "steps": trainer.state.max_steps}

            found[case] = {"whole": run("whole")}
            stop = found[case]["whole"]["steps"] // 3 + 2
            run("parts", stop)
            found[case]["resumed"] = run("parts", resume=str(Path(folder, case, "parts", f"checkpoint-{stop}")))
    torch.save(found, Path(folder, f"{rank}.pt"))


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory) -> list[dict]:
    folder = tmp_path_factory.mktemp("two")
    spawn(one_of_two, (str(folder),))
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_two_processes_take_equal_steps_and_every_row(two_processes, case):
    first, second = (found[case]["whole"] for found in two_processes)
    assert [len(batch) for batch in first["seen"]] == [len(batch) for batch in second["seen"]]
    assert len(first["seen"]) == first["steps"] == second["steps"]
    of_epoch = first["steps"] // 3
    for epoch in range(3):
        steps = slice(epoch * of_epoch, (epoch + 1) * of_epoch)
        taken = [a for of_process in (first, second) for batch in of_process["seen"][steps] for a in batch]
        assert len(set(taken)) == 37
        assert "capped" not in case or len(taken) == 38  # one of an odd number of rows is taken twice
    assert_equal_weights(first["weights"], second["weights"])


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_two_processes_resume_as_one_run(two_processes, case):
    for found in two_processes:
        resumed, whole = found[case]["resumed"], found[case]["whole"]
        assert resumed["seen"] == whole["seen"][-len(resumed["seen"]) :]
        assert_equal_weights(resumed["weights"], whole["weights"])


def test_rows_of_named_corpora_come_several_times():
    ids = ["large/a", "large/b", "small/c", "small-2/d"]
    rows = Dataset.from_dict({"utterance_id": ids, "text": ["a", "b", "c", "d"]})
    times = repeated(rows, ["small=3", "small-2=2"])
    assert times["text"][:] == ["a", "b", "c", "c", "c", "d", "d"]
    assert repeated(rows, None)["text"][:] == rows["text"][:]
    with pytest.raises(ValueError, match="no training row is of tiny; there are large, small, small-2"):
        repeated(rows, ["tiny=2"])
    for entry in ("small", "small=0", "small=1.5", "=2"):
        with pytest.raises(ValueError, match="corpus=n"):
            repeated(rows, [entry])
