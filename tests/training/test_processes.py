"""Distributed runs have the loss, gradients and figures of a single process, and no process waits forever.

They use gloo on the CPU, with a timeout of five minutes.
"""

import json
import os
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pytest
import torch
from accelerate import FullyShardedDataParallelPlugin
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import fsdp2_prepare_model
from accelerate.utils.launch import prepare_multi_gpu_env
from conftest import REPOSITORY, labels, process_group, raw_batch, tiny_config, tiny_model
from processes import spawn
from rivals import CLASSES, NEEDS, OF_ONE, tiny_rival
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from trainers import toy_rows, toy_trainer

from modeling_mmer import MMERForEmotionRecognition
from modeling_mmer.model.distributed import global_batch
from modeling_mmer.model.transformer import SharedTransformer

RECIPES = REPOSITORY / "recipes" / "accelerate"


def launch_options(recipe: str):
    """How `accelerate launch` understands a recipe."""
    options = launch_command_parser().parse_args(["--config_file", str(RECIPES / f"{recipe}.yaml"), "train.py"])
    return _validate_launch_command(options)[0]


ROWS, BATCHES = 8, 20
HALVES = [list(range(ROWS // 2)), list(range(ROWS // 2, ROWS))]
MASKS = {"input_features": "input_features_mask", "input_ids": "attention_mask"}


# ── loss and gradients ──────────────────────────────────────────────────────────────────────────────────────────────


def random_batch(seed: int):
    """Rows of random lengths and labels, of which some lack a modality and many a label; the first batches hold what is
    rare."""
    generator = torch.Generator().manual_seed(seed)
    has = torch.tensor([[1, 0], [0, 1], [1, 1]])[torch.randint(0, 3, (ROWS,), generator=generator)].T  # (2, B)
    labelled = torch.rand(5, ROWS, generator=generator) < 0.6
    second = torch.arange(ROWS) >= ROWS // 2
    if seed == 0:  # a process without audio
        has = torch.where(second, torch.tensor([[0], [1]]), has)
    elif seed == 1:  # one without text, one without audio
        has = torch.stack([~second, second]).long()
    elif seed == 2:  # no label on one
        labelled &= second
    elif seed == 3:  # no label at all
        labelled &= False
    elif seed == 4:  # one pair, on one process
        has = torch.stack([torch.arange(ROWS) < 3, torch.arange(ROWS) >= 2]).long()
    elif seed == 5:  # no text anywhere
        has = torch.tensor([[1], [0]]).expand(2, ROWS)
    frames = torch.randint(4, 60, (ROWS,), generator=generator) * has[0]
    tokens = torch.randint(1, 12, (ROWS,), generator=generator) * has[1]
    batch = raw_batch(frames.tolist(), tokens.tolist(), seed=seed)
    of_labels = labels(ROWS, seed=seed)
    for values, known in zip(of_labels.values(), labelled, strict=True):
        values[~known] = -100 if values.dtype == torch.long else torch.nan
    return batch, of_labels


def rows_of(batch: dict[str, torch.Tensor], rows: list[int]) -> dict[str, torch.Tensor]:
    """Some rows of a batch as a batch of their own: padded to their own longest, without a modality that all lack."""
    part = {}
    for name, mask in MASKS.items():
        longest = int(batch[mask][rows].sum(-1).max()) if name in batch else 0
        if longest:
            part |= {key: batch[key][rows][..., :longest] for key in (name, mask)}
    return part


def every_other(real: torch.Tensor, ratio: float, fixed: bool = False) -> torch.Tensor:
    """In place of `draw_mask`: processes draw their own, and these must agree."""
    return real & (torch.arange(real.shape[1]) % 2 == 1)


def one_call(transformer, passes):
    """In place of a call per pass: the padded call that a GPU is given."""
    return forward(transformer, passes, one_call=True)


forward = SharedTransformer.forward


def losses_and_gradients(model, batch, of_labels):
    model.zero_grad()
    with patch("modeling_mmer.model.autoencoder.draw_mask", every_other):
        output = model(**batch, labels=of_labels)
        output.loss.backward()
    core = getattr(model, "module", model)
    gradients = {n: whole(p.grad) for n, p in core.named_parameters() if p.grad is not None}
    return {name: term.item() for name, term in output.losses.items()}, gradients


def whole(gradient: torch.Tensor) -> torch.Tensor:
    return gradient.full_tensor() if isinstance(gradient, DTensor) else gradient.clone()


def process_model():
    return tiny_model(audio_context="trimmed").train()


def with_ddp(model):
    # Small buckets: a model of real size has several, and its gradients are averaged while the backward still runs.
    return torch.nn.parallel.DistributedDataParallel(model, find_unused_parameters=True, bucket_cap_mb=0.001)


def with_fsdp(model):
    """Sharded as accelerate shards it by our recipe; on a CPU the Trainer itself would take DDP."""
    with patch.dict(os.environ, prepare_multi_gpu_env(launch_options("fsdp"))):
        state = SimpleNamespace(fsdp_plugin=FullyShardedDataParallelPlugin())
    accelerator = SimpleNamespace(state=state, mixed_precision="no", device=torch.device("cpu"), is_main_process=True)
    return fsdp2_prepare_model(accelerator, model)


WAYS = {  # how the model is wrapped, and whether its passes are one padded call, as on a GPU
    "ddp, a call per combination": (with_ddp, False),
    "ddp, one call": (with_ddp, True),
    "fsdp, one call": (with_fsdp, True),
}


def half_of_each_batch(rank, folder, way):
    """What each of two processes finds for its half of each batch."""
    wrap, in_one_call = WAYS[way]
    found = []
    with process_group(rank, 2, folder):
        assert len(global_batch(torch.zeros(4, 1), training=True)) == 8
        model = wrap(process_model())
        with patch.object(SharedTransformer, "forward", one_call) if in_one_call else nullcontext():
            for seed in range(BATCHES):
                batch, of_labels = random_batch(seed)
                half = {task: values[HALVES[rank]] for task, values in of_labels.items()}
                found.append(losses_and_gradients(model, rows_of(batch, HALVES[rank]), half))
    torch.save(found, Path(folder, f"{rank}.pt"))


@pytest.fixture(scope="module", params=WAYS)
def of_two_processes(request, tmp_path_factory) -> list[list]:
    """rank → batch → its losses and gradients."""
    folder = tmp_path_factory.mktemp("two")
    spawn(half_of_each_batch, (str(folder), request.param))
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(BATCHES))
def test_two_processes_give_the_loss_and_gradients_of_one(of_two_processes, seed):
    losses, gradients = losses_and_gradients(process_model(), *random_batch(seed))
    for of_process in of_two_processes:
        found_losses, found_gradients = of_process[seed]
        assert found_losses == pytest.approx(losses, abs=1e-5, rel=1e-5, nan_ok=True)
        assert gradients.keys() <= found_gradients.keys()
        for name, gradient in found_gradients.items():
            expected = gradients.get(name, torch.zeros(()))  # a part that nothing reached
            assert (gradient - expected).abs().max() < 1e-5, name
    assert json.dumps(sorted(losses))  # terms have names that a log can hold


# ── every system, where a process lacks a modality ──────────────────────────────────────────────────────────────────


LACKING = {  # frames and tokens of the rows; each process has two of them
    "each lacks one": ((40, 23, 0, 0), (0, 0, 9, 2)),
    "one lacks text": ((40, 23, 7, 61), (0, 0, 9, 2)),
    "one lacks audio": ((40, 23, 0, 0), (5, 3, 9, 2)),
}
RANDOM = ("cif_mmin", "cif_mmin_teacher")  # their dropout cannot be set, and what is hidden is drawn


def serves(name: str, frames, tokens) -> bool:
    """Whether every row has what the system needs."""
    needs = NEEDS[OF_ONE[name]] if name in OF_ONE else ()
    return all({"audio": frames, "text": tokens}[modality][row] for modality in needs for row in range(len(frames)))


SYSTEMS = [(name, lacking) for name in ("mmer", *CLASSES) for lacking, rows in LACKING.items() if serves(name, *rows)]


def system_model(name: str):
    model = process_model() if name == "mmer" else tiny_rival(name).train()
    model.freeze_untrained()
    return model


def two_rows_of_each_system(rank, folder):
    """What each of two processes finds for its two rows."""
    rows, found = [[0, 1], [2, 3]][rank], {}
    with process_group(rank, 2, folder):
        for name, lacking in SYSTEMS:
            batch = rows_of(raw_batch(*LACKING[lacking]), rows)
            own = {task: values[rows] for task, values in labels().items()}
            found[name, lacking] = losses_and_gradients(with_ddp(system_model(name)), batch, own)
    torch.save(found, Path(folder, f"{rank}.pt"))


@pytest.fixture(scope="module")
def of_systems(tmp_path_factory) -> list[dict]:
    folder = tmp_path_factory.mktemp("systems")
    spawn(two_rows_of_each_system, (str(folder),))
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize(("name", "lacking"), SYSTEMS)
def test_a_process_may_lack_a_modality_under_every_system(of_systems, name, lacking):
    losses, gradients = losses_and_gradients(system_model(name), raw_batch(*LACKING[lacking]), labels())
    for of_process in of_systems:
        found_losses, found_gradients = of_process[name, lacking]
        assert found_losses.keys() == losses.keys()
        assert all(gradient.isfinite().all() for gradient in found_gradients.values())
        if name in RANDOM:
            continue
        assert found_losses == pytest.approx(losses, abs=1e-5, rel=1e-5, nan_ok=True)
        for parameter, gradient in found_gradients.items():
            expected = gradients.get(parameter, torch.zeros(()))  # a part that nothing reached
            torch.testing.assert_close(gradient, expected.expand_as(gradient), atol=1e-5, rtol=1e-4, msg=parameter)


# ── recipes of accelerate ───────────────────────────────────────────────────────────────────────────────────────────


KINDS = {"single_gpu": "NO", "ddp": "MULTI_GPU", "fsdp": "FSDP", "deepspeed_zero2": "DEEPSPEED"}


def test_every_recipe_is_of_a_kind():
    assert {path.stem for path in RECIPES.iterdir()} == set(KINDS)


@pytest.mark.parametrize("name", KINDS)
def test_accelerate_reads_the_recipes_and_knows_every_word_of_them(name):
    config = load_config_from_file(str(RECIPES / f"{name}.yaml"))  # refuses unknown words, but not within a section
    assert config.distributed_type == KINDS[name]
    known = vars(launch_command_parser().parse_args(["train.py"])).keys() | {"fsdp_ignored_modules"}  # of files only
    assert config.fsdp_config.keys() | config.deepspeed_config.keys() <= known
    options = launch_options(name)
    assert (options.use_fsdp, options.use_deepspeed) == (KINDS[name] == "FSDP", KINDS[name] == "DEEPSPEED")
    assert config.deepspeed_config.get("zero_stage", 2) == 2


@pytest.fixture
def one_process():
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_fsdp_shards_what_is_trained_and_leaves_the_encoders_whole(one_process):
    model = with_fsdp(process_model())
    sharded = {name for name, parameter in model.named_parameters() if isinstance(parameter, DTensor)}
    assert sharded == {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert all(isinstance(layer, FSDPModule) for layer in model.model.transformer.layers)


def test_fsdp_takes_a_model_whose_encoders_are_not_loaded(one_process):
    """As from a feature cache: accelerate asks for the token embeddings, which are then not there."""
    names = {"audio_encoder_name_or_path": "some/audio", "text_encoder_name_or_path": "some/text"}
    model = with_fsdp(MMERForEmotionRecognition(tiny_config(**names)))
    assert all(isinstance(layer, FSDPModule) for layer in model.model.transformer.layers)


def test_a_sharded_model_is_saved_as_any_other(one_process, tmp_path):
    plain = process_model()
    plain.save_pretrained(tmp_path / "plain")
    model = with_fsdp(process_model())
    state = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True))
    model.save_pretrained(tmp_path / "sharded", state_dict=state)
    files = [{path.name for path in (tmp_path / name).iterdir()} for name in ("plain", "sharded")]
    assert files[0] == files[1]
    for name in files[0] - {"__pycache__"}:
        assert (tmp_path / "plain" / name).read_bytes() == (tmp_path / "sharded" / name).read_bytes(), name
    assert isinstance(model, FSDPModule)  # and trains on


# ── evaluation ──────────────────────────────────────────────────────────────────────────────────────────────────────

SIZES = [(70, 4), (70, 1), (13, 4), (3, 4), (1, 4)]  # rows, and rows of a batch: uneven, and fewer than processes


def predictions_and_metrics(folder):
    found = {}
    for rows, batch in SIZES:
        output = toy_trainer(folder, per_device_eval_batch_size=batch).predict(toy_rows(rows, seed=1))
        found[rows, batch] = {"labels": output.label_ids, "predictions": output.predictions, "metrics": output.metrics}
    return found


def statistics(folder):
    """What `state_normalization="standardize"` finds in an uneven number of training rows."""
    model = tiny_model(audio_context="trimmed", state_normalization="standardize")
    toy_trainer(folder, model, rows=37).calibrate()
    return {name: value for name, value in model.state_dict().items() if "standardizer." in name}


def one_of_two_evaluations(rank, folder):
    with process_group(rank, 2, folder):
        found = predictions_and_metrics(Path(folder)) | {"statistics": statistics(Path(folder))}
        torch.save(found, Path(folder, f"{rank}.pt"))


@pytest.fixture(scope="module")
def evaluations(tmp_path_factory) -> list[dict]:
    """What one process finds, and each of two."""
    folder = tmp_path_factory.mktemp("evaluations")
    spawn(one_of_two_evaluations, (str(folder),))
    alone = predictions_and_metrics(folder) | {"statistics": statistics(folder)}
    return [alone, *(torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(2))]


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_two_processes_count_each_row_once_and_give_the_figures_of_one(evaluations, size):
    rows = toy_rows(size[0], seed=1)
    alone, *of_processes = (found[size] for found in evaluations)
    for found in of_processes:
        np.testing.assert_allclose(found["labels"]["arousal"], rows["arousal"], rtol=1e-6)  # each once, in order
        for name, of_tasks in alone["predictions"].items():  # NaN where a row lacks a modality
            for task, values in of_tasks.items():
                np.testing.assert_allclose(found["predictions"][name][task], values, atol=1e-5, rtol=1e-5)
        figures = [name for name in alone["metrics"] if "loss" not in name and "per_second" not in name]
        for name in set(figures) - {"test_runtime", "test_model_preparation_time"}:
            assert found["metrics"][name] == pytest.approx(alone["metrics"][name], abs=1e-5), name
        assert found["metrics"].keys() == alone["metrics"].keys()
    if size[0] == 70:
        measured = {
            "test_audio_ua",
            "test_text_arousal_ccc",
            "test_audio_text_sentiment_ua",
            "test_retrieval_audio_to_text",
        }
        assert measured <= set(figures)


@pytest.mark.slow
def test_two_processes_calibrate_on_the_rows_of_both(evaluations):
    alone, *of_processes = (found["statistics"] for found in evaluations)
    assert len(alone) == 6
    for found in of_processes:
        for name, values in alone.items():
            torch.testing.assert_close(found[name], values, atol=1e-5, rtol=1e-5, msg=name)
