"""`mmer train` on real recordings when the process is killed, interrupted or runs out of disk space: the resumed run
ends with the same weights as an uninterrupted one."""

import json
import multiprocessing
import os
import random
import re
import resource
import signal
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
import transformers
from conftest import real_path
from processes import server
from safetensors.torch import load_file
from transformers import Trainer, TrainerState

from modeling_mmer.commands import main
from modeling_mmer.training.resuming import MARKER, checkpoints_under, is_whole, last_checkpoint

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="signals and limits of Linux")

KILLS = 10
SPEAKERS = {"train": ("01", "02", "03"), "validation": ("14",), "test": ("16",)}
ROWS_OF_SPEAKER = 40
OPTIONS = {
    "--num_train_epochs": 3,  # of eight steps
    "--per_device_train_batch_size": 16,
    "--save_strategy": "steps",
    "--eval_strategy": "steps",
    "--save_steps": 4,
    "--eval_steps": 4,
    "--logging_steps": 1,
    "--learning_rate": 3e-3,
    "--hidden_size": 64,
    "--num_hidden_layers": 2,
    "--audio_context": "trimmed",
    "--state_normalization": "standardize",
    "--dataloader_num_workers": 2,
    "--label_map": "calm=neutral",
    "--disable_tqdm": "true",
}
STEPS = 24


DEATHS = {  # in the writing of a checkpoint, in its order
    "before the optimizer": (Trainer, "_save_optimizer_and_scheduler"),
    "before the state": (TrainerState, "save_to_json"),
    "before older ones are deleted": (transformers.trainer, "rotate_checkpoints"),
}


def life(arguments: list[str], log: Path, largest_file: int | None, dies: str | None) -> None:
    """One process of training, with a process group and a log of its own; perhaps without room for large files, perhaps
    killed when it writes its second checkpoint."""
    os.setsid()
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork", force=True)  # as in a process started by hand, for those that load data
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    if dies is not None:
        owner, name = DEATHS[dies]
        survived, function = [], getattr(owner, name)

        def deadly(*args, **kwargs):
            if survived:
                os.kill(os.getpid(), signal.SIGKILL)
            survived.append(function(*args, **kwargs))

        setattr(owner, name, deadly)
    main(["train", *arguments])


class Run:
    """A training run in a folder, in as many lives as it takes."""

    def __init__(self, folder: Path, options: dict[str, object]):
        self.folder = folder
        self.log = folder.with_suffix(".log")
        self.options = options

    def start(self, largest_file: int | None = None, dies: str | None = None, **options: object):
        chosen = self.options | {f"--{name}": value for name, value in options.items()}
        chosen |= {"--output_dir": self.folder, "--resume_from_checkpoint": "true"}
        arguments = [str(word) for pair in chosen.items() for word in pair]
        self.log.write_text("")
        process = server().Process(target=life, args=(arguments, self.log, largest_file, dies))
        process.start()
        return process

    def ends(self, *args, **kwargs) -> int:
        """The exit status of a life that is left alone."""
        process = self.start(*args, **kwargs)
        process.join(300)
        return process.exitcode

    def reaches(self, process, step: int) -> None:
        """Waits until the log has a step."""
        while process.is_alive() and self.step() < step:
            time.sleep(0.002)
        assert process.is_alive(), self.log.read_text()

    def step(self) -> int:
        return max(map(int, re.findall(r"step +(\d+)/", self.log.read_text())), default=0)

    def weights(self) -> dict[str, torch.Tensor]:
        return load_file(self.folder / "model.safetensors")

    def figures(self) -> dict:
        return json.loads((self.folder / "results.json").read_text())["splits"]


@pytest.fixture(scope="module")
def new_run(demo_encoders, tmp_path_factory):
    """name → a run on some speakers of ravdess."""
    ravdess, folder = real_path("data", "ravdess"), tmp_path_factory.mktemp("stopping")
    table = pd.read_csv(ravdess / "metadata.csv")
    some = [
        table[table.speaker == f"ravdess_{speaker}"].head(ROWS_OF_SPEAKER)
        for speakers in SPEAKERS.values()
        for speaker in speakers
    ]
    (folder / "corpus").mkdir()
    pd.concat(some).to_csv(folder / "corpus/metadata.csv", index=False)
    (folder / "corpus/audio").symlink_to(ravdess / "audio")
    options = OPTIONS | {
        "--corpus": "folder",
        "--corpus_dir": folder / "corpus",
        "--audio_encoder": demo_encoders / "whisper",
        "--text_encoder": demo_encoders / "roberta",
        "--feature_cache": folder / "features",
    }
    return lambda name: Run(folder / name, options)


@pytest.fixture(scope="module")
def uninterrupted(new_run) -> Run:
    run = new_run("uninterrupted")
    assert run.ends() == 0, run.log.read_text()
    assert run.step() == STEPS
    return run


def assert_equal_runs(run: Run, expected: Run):
    found, weights = run.weights(), expected.weights()
    assert found.keys() == weights.keys()
    for name in weights:
        assert torch.equal(found[name], weights[name]), name
    assert run.figures() == expected.figures()


@pytest.mark.slow
def test_a_run_killed_ten_times_ends_as_if_it_had_not_been(uninterrupted, new_run):
    generator = random.Random(0)
    run = new_run("killed")
    for share in sorted(generator.random() for _ in range(KILLS)):
        process = run.start()
        run.reaches(process, round(share * (STEPS - 1)))
        time.sleep(generator.uniform(0, 0.4))  # in a step, an evaluation, a checkpoint
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    assert run.ends() == 0, run.log.read_text()
    assert_equal_runs(run, uninterrupted)


@pytest.mark.slow
def test_a_checkpoint_that_is_broken_off_leaves_the_one_before(uninterrupted, new_run):
    run, steps = new_run("broken_off"), []
    for dies in DEATHS:
        assert run.ends(dies=dies) == -signal.SIGKILL, run.log.read_text()
        last = last_checkpoint(run.folder)
        newest = checkpoints_under(run.folder)[-1]
        assert (newest / MARKER).exists() and (str(newest) == last) == (dies == "before older ones are deleted")
        steps.append(Path(last).name)
    assert steps == ["checkpoint-4", "checkpoint-8", "checkpoint-16"]
    assert run.ends() == 0, run.log.read_text()
    assert_equal_runs(run, uninterrupted)
    assert all(is_whole(checkpoint) for checkpoint in checkpoints_under(run.folder))


@pytest.mark.slow
def test_a_scheduler_that_ends_all_processes_finds_a_checkpoint_of_the_step(uninterrupted, new_run):
    run = new_run("preempted")
    process = run.start()
    run.reaches(process, 10)
    os.killpg(process.pid, signal.SIGTERM)  # those that load data too
    process.join(300)
    log = run.log.read_text()
    assert process.exitcode == 143 and "Traceback" not in log
    step = run.step()
    assert f"Interrupted by SIGTERM after step {step} of {STEPS}" in log and 10 <= step < STEPS
    assert Path(last_checkpoint(run.folder)).name == f"checkpoint-{step}"
    assert (run.folder / "training_curves.png").is_file() and not (run.folder / "results.json").exists()
    assert run.ends() == 0, run.log.read_text()
    assert_equal_runs(run, uninterrupted)


@pytest.mark.slow
@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.pt"])
def test_a_full_disk_is_a_clear_error_and_loses_nothing(uninterrupted, new_run, file):
    run = new_run(f"full_{file}")
    process = run.start()
    run.reaches(process, 5)
    process.terminate()
    process.join(300)
    before, kept = last_checkpoint(run.folder), checkpoints_under(run.folder)
    assert process.exitcode == 143 and before
    largest = os.path.getsize(Path(before, file)) - 1
    assert largest > os.path.getsize(run.folder / "training_curves.png")  # it is a checkpoint that does not fit
    assert run.ends(largest_file=largest, dataloader_num_workers=0) == 1  # theirs is shared memory
    log = run.log.read_text()
    assert re.search(r"^mmer train: .*checkpoint-\d+ cannot be written .*--resume_from_checkpoint true", log, re.M)
    assert "Traceback" not in log
    assert checkpoints_under(run.folder) == kept
    assert run.ends() == 0, run.log.read_text()
    assert_equal_runs(run, uninterrupted)


@pytest.mark.slow
def test_a_run_that_diverges_ends_with_the_utterances_of_the_batch(new_run):
    run = new_run("diverged")
    assert run.ends(learning_rate=1e20, max_grad_norm=0, warmup_steps=0) == 1
    log = run.log.read_text()
    assert "Traceback" not in log
    (message,) = re.findall("^mmer train: .*diverged.*$", log, re.M)
    assert len(re.findall(r"03-01(-\d\d){5}", message)) == 16
    assert not (run.folder / "results.json").exists()
