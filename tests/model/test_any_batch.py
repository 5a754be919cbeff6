"""Property-based tests of batches with any modalities, labels and lengths.

Rows have encoder states, so that no encoder runs. Padding is filled with noise.
"""

from dataclasses import dataclass, replace
from functools import cache

import pytest
import torch
from conftest import tiny_model
from hypothesis import given, settings
from hypothesis import strategies as st

from modeling_mmer.model.configuration_mmer import COMBINATIONS

SHAPES = {"audio": (3, 16), "text": (4, 12)}  # L+1 states, D
DIMENSIONS = ("valence", "arousal", "dominance")
LONGEST = 11  # of a row, in frames or tokens
OPTIONS = {
    "paper": {},
    "ours": {"state_normalization": "standardize", "position_type": "none", "audio_stride": 1, "state_heads": True},
    "projected": {"mae_target": "projected", "mae_loss_on": "masked", "position_type": "sinusoidal"},
    "printed": {"contrastive_form": "ratio", "mae_detach_target": False, "mae_loss_on": "masked", "mask_ratio": 1.0},
}

few = settings(max_examples=40, derandomize=True, deadline=None, database=None)


@dataclass(frozen=True)
class Row:
    """Frames and tokens (0: it lacks the modality), labels (None: not labelled), and what its states are drawn by."""

    audio: int
    text: int
    emotion: int | None
    sentiment: int | None
    valence: float | None
    arousal: float | None
    dominance: float | None
    seed: int


lengths = st.integers(0, LONGEST)
ratings = st.none() | st.floats(1, 7, width=32)
rows = st.builds(
    Row,
    audio=lengths,
    text=lengths,
    emotion=st.none() | st.integers(0, 3),
    sentiment=st.none() | st.integers(0, 2),
    valence=ratings,
    arousal=ratings,
    dominance=ratings,
    seed=st.integers(0, 3),  # few: rows may be equal
).filter(lambda row: row.audio or row.text)
batches = st.lists(rows, min_size=1, max_size=6)
options = st.sampled_from(list(OPTIONS))


@cache
def model_of(name: str, dropout: float = 0.0):
    names = {"audio_encoder_name_or_path": "some/audio", "text_encoder_name_or_path": "some/text"}
    model = tiny_model(**names, dropout=dropout, **OPTIONS[name])
    for embedder in model.model.embedders.values():
        if embedder.standardizer is not None:
            embedder.standardizer.calibrated.fill_(True)
    return model


def inputs_of(batch: list[Row], scale: float = 1.0, padding: int = 0, noise: int = 0) -> dict[str, torch.Tensor]:
    """Encoder states (B, L+1, T, D) and masks; a batch without a modality lacks its keys, unless it is padded."""
    inputs, behind = {}, torch.Generator().manual_seed(noise)
    for modality, (states, width) in SHAPES.items():
        real = [getattr(row, modality) for row in batch]
        if longest := max(real) + padding:
            values = torch.randn(len(batch), states, longest, width, generator=behind)
            for index, (row, length) in enumerate(zip(batch, real, strict=True)):
                own = torch.Generator().manual_seed(row.seed)
                values[index, :, :length] = torch.randn(states, LONGEST, width, generator=own)[:, :length]
            inputs[f"{modality}_hidden_states"] = scale * values
            inputs[f"{modality}_mask"] = (torch.arange(longest) < torch.tensor(real)[:, None]).long()
    return inputs


def labels_of(batch: list[Row]) -> dict[str, torch.Tensor]:
    classes = {
        task: torch.tensor([-100 if (label := getattr(row, task)) is None else label for row in batch])
        for task in ("emotion", "sentiment")
    }
    values = {
        task: torch.tensor([torch.nan if (label := getattr(row, task)) is None else label for row in batch])
        for task in DIMENSIONS
    }
    return classes | values


def losses_of(name: str, batch: list[Row], **how) -> dict[str, float]:
    """The terms of the loss, as in an evaluation: whether a token is masked depends on its place in the row alone."""
    with torch.no_grad():
        output = model_of(name)(**inputs_of(batch, **how), labels=labels_of(batch))
    return {term: value.item() for term, value in output.losses.items()}


def judgements(name: str, inputs: dict[str, torch.Tensor]) -> dict[tuple[str, str], torch.Tensor]:
    """(combination, task) → (B, …), NaN in the rows that lack a modality."""
    with torch.no_grad():
        output = model_of(name)(**inputs, return_combinations=True)
    return {(c, task): values for c, of_tasks in output.combinations.items() for task, values in of_tasks.items()}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for key, values in expected.items():
        torch.testing.assert_close(found[key], values, atol=2e-5, rtol=2e-5, equal_nan=True, msg=str(key))


# ── what a batch costs ──────────────────────────────────────────────────────────────────────────────────────────────


@few
@given(batches, options, st.sampled_from([0.0, 1.0, 100.0]), st.integers(0, 2))
def test_the_loss_and_every_gradient_are_finite(batch, name, scale, padding):
    torch.manual_seed(0)
    model = model_of(name, dropout=0.5).train()
    model.zero_grad()
    output = model(**inputs_of(batch, scale, padding), labels=labels_of(batch))
    output.loss.backward()
    assert output.loss.isfinite()
    assert not any(term.isinf() for term in output.losses.values())  # NaN: a task that the batch has no label of
    for name, parameter in model.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), name


@few
@given(batches, options, st.randoms(use_true_random=False))
def test_no_term_depends_on_the_order_of_the_rows(batch, name, random):
    shuffled = random.sample(batch, len(batch))
    assert losses_of(name, shuffled) == pytest.approx(losses_of(name, batch), rel=1e-4, abs=1e-4, nan_ok=True)


@few
@given(batches, options, st.integers(1, 5), st.integers(1, 3))
def test_no_term_depends_on_padding(batch, name, padding, noise):
    padded = losses_of(name, batch, padding=padding, noise=noise)
    assert padded == pytest.approx(losses_of(name, batch), rel=1e-4, abs=1e-4, nan_ok=True)


@few
@given(batches, options)
def test_a_row_takes_part_in_the_terms_it_has_something_for_and_in_no_other(batch, name):
    """An unlabelled row does not change L_S, a row with one modality does not change L_C, and L_MAE is a mean."""
    unlabelled = dict.fromkeys(("emotion", "sentiment", *DIMENSIONS))
    single = replace(batch[0], audio=LONGEST, text=0, seed=9, **unlabelled)
    with_it, without = losses_of(name, [*batch, single]), losses_of(name, batch)
    mae = (len(batch) * without.pop("mae") + losses_of(name, [single])["mae"]) / (len(batch) + 1)
    assert with_it.pop("mae") == pytest.approx(mae, rel=1e-4)
    assert with_it == pytest.approx(without, rel=1e-4, abs=1e-4, nan_ok=True)


# ── what leaves no trace ────────────────────────────────────────────────────────────────────────────────────────────


@few
@given(batches, options, st.data())
def test_a_row_is_judged_as_it_would_be_alone(batch, name, data):
    index = data.draw(st.integers(0, len(batch) - 1))
    together = judgements(name, inputs_of(batch))
    alone = judgements(name, inputs_of([batch[index]]))
    assert_same({key: values[index] for key, values in together.items()}, {k: v[0] for k, v in alone.items()})


@few
@given(batches, options, st.randoms(use_true_random=False), st.integers(0, 4), st.integers(0, 3))
def test_order_and_padding_change_no_judgement(batch, name, random, padding, noise):
    order = random.sample(range(len(batch)), len(batch))
    shuffled = judgements(name, inputs_of([batch[index] for index in order], padding=padding, noise=noise))
    expected = judgements(name, inputs_of(batch))
    assert_same(shuffled, {key: values[order] for key, values in expected.items()})


@few
@given(batches, options, st.sampled_from(list(COMBINATIONS)))
def test_a_combination_is_judged_as_if_nothing_else_had_been_given(batch, name, combination):
    hidden = {modality: 0 for modality in SHAPES if modality not in COMBINATIONS[combination]}
    complete = [i for i, row in enumerate(batch) if all(getattr(row, m) for m in COMBINATIONS[combination])]
    found = judgements(name, inputs_of(batch))
    for (of_combination, _), values in found.items():
        present = ~values.isnan().view(len(batch), -1).any(-1)
        assert of_combination != combination or present.nonzero().flatten().tolist() == complete
    if complete:
        alone = judgements(name, inputs_of([replace(batch[index], **hidden) for index in complete]))
        expected = {key: values for key, values in alone.items() if key[0] == combination}
        assert_same({key: found[key][complete] for key in expected}, expected)
