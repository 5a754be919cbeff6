"""Which rows an encoder runs on together, and what the host reads of a batch."""

import pytest
import torch
from conftest import labels, raw_batch, tiny_model
from torch._subclasses import FakeTensorMode

from modeling_mmer.model import encoders, losses, transformer
from modeling_mmer.model.lengths import (
    FRAMES_OF_A_RUN,
    Lengths,
    buckets,
    kernel_length,
    powers_of_two,
    read_lengths,
)


def test_lengths_are_those_of_the_masks():
    lengths = [3, 0, 7, 7, 2]
    mask = torch.arange(9) < torch.tensor(lengths)[:, None]
    found = read_lengths({"audio": mask, "text": mask.flip(0)}, ["audio", "text"])
    assert found["audio"].by_row == lengths and found["text"].by_row == lengths[::-1]
    assert found["audio"].order.tolist() == [2, 3, 0, 4, 1] and found["audio"].longest_first == [7, 7, 3, 2, 0]


@pytest.mark.parametrize(
    ("longest_first", "run", "expected"),
    [
        ([], 10, []),
        ([0, 0], 10, []),
        ([9, 9, 9], 0, [(0, 3)]),
        ([9, 8, 8, 3, 0], 0, [(0, 1), (1, 3), (3, 4)]),  # equal ones alone
        ([9, 8, 7, 3, 0], 3, [(0, 3), (3, 4)]),  # 1 + 2 frames of padding cost no more than a run
        ([100, 1, 1, 1], 300, [(0, 4)]),
        ([100, 60, 55, 50], 80, [(0, 2), (2, 4)]),
    ],
)
def test_a_part_ends_where_its_padding_costs_more_than_a_run(longest_first, run, expected):
    assert [(part.start, part.stop) for part in buckets(longest_first, run)] == expected


@pytest.mark.parametrize("of_a_doubling", [8, 16])
def test_a_kernel_length_is_the_next_of_few_and_so_are_its_multiples_by_powers_of_two(of_a_doubling):
    few = {*range(1, of_a_doubling)} | {m << k for m in range(of_a_doubling, 2 * of_a_doubling) for k in range(9)}
    for states in range(1, 2_000):
        assert kernel_length(states, of_a_doubling) == min(length for length in few if length >= states)
    assert {rows * length for rows in (1, 2, 4, 8) for length in few if length <= 200} <= few


def test_parts_of_powers_of_two_have_all_rows_in_order():
    parts = powers_of_two([slice(0, 7), slice(7, 8), slice(8, 20)])
    assert [(part.start, part.stop) for part in parts] == [(0, 4), (4, 6), (6, 7), (7, 8), (8, 16), (16, 20)]
    assert powers_of_two([]) == []


@pytest.mark.parametrize("kind", ["whisper", "hubert-layer", "hubert-group"])
def test_a_batch_of_many_lengths_runs_in_parts_and_gives_each_row_its_own(kind, monkeypatch):
    monkeypatch.setitem(FRAMES_OF_A_RUN, "cpu", 4)
    lengths = (92, 11, 0, 90, 12, 50, 91) if kind == "whisper" else (613, 231, 0, 600, 232, 401, 613)
    model, batch = tiny_model(audio=kind, audio_context="trimmed"), raw_batch(lengths, (7, 1, 9, 2, 3, 0, 7), kind=kind)
    calls, frozen = [], model.model.encoders["audio"]
    frozen.encoder.register_forward_pre_hook(lambda _, inputs: calls.append(tuple(inputs[0].shape)))
    together = model.model.encoders(batch)
    assert len(calls) == {"whisper": 4, "hubert-layer": 3, "hubert-group": 5}[kind]  # Whisper: three are two and one
    assert sum(len_of * rows for rows, *_, len_of in calls) < 0.8 * max(lengths) * 6
    for row in range(7):
        alone = model.model.encoders({name: values[row : row + 1] for name, values in batch.items()})
        for modality, (states, mask) in alone.items():
            of_batch, mask_of_batch = together[modality][0][row], together[modality][1][row]
            assert mask_of_batch.sum() == mask.sum()
            expected = states[0][:, mask[0]]
            torch.testing.assert_close(of_batch[:, mask_of_batch], expected, atol=1e-5, rtol=1e-5)


def valueless(tensor: torch.Tensor) -> torch.Tensor:
    return torch.empty(tensor.shape, dtype=tensor.dtype)


def test_a_training_step_reads_nothing_else_of_its_batch(monkeypatch):
    """Forward and backward on tensors without values, as on an accelerator: whatever asked for a value would raise."""
    model, batch, of_labels = tiny_model(audio_context="trimmed", dropout=0.5).train(), raw_batch(), labels()
    masks = {"audio": batch["input_features_mask"].bool(), "text": batch["attention_mask"].bool()}
    known = read_lengths(masks, list(masks))

    def lengths_without_reading(masks, _):
        return {m: Lengths(mask.sum(-1), mask.sum(-1).argsort(), known[m].by_row) for m, mask in masks.items()}

    monkeypatch.setattr(transformer, "is_on_accelerator", lambda tensor: True)
    monkeypatch.setattr(encoders, "read_lengths", lengths_without_reading)
    monkeypatch.setattr(losses, "class_numbers", lambda task, numbers: numbers)
    with FakeTensorMode():
        for module in model.modules():
            for name, values in module._parameters.items():
                if values is not None:
                    module._parameters[name] = torch.nn.Parameter(valueless(values), values.requires_grad)
            for name, values in module._buffers.items():
                if values is not None:
                    module._buffers[name] = valueless(values)
        batch, of_labels = ({name: valueless(values) for name, values in given.items()} for given in (batch, of_labels))
        outputs = model(**batch, labels=of_labels)
        outputs.loss.backward()
    assert {"supervised", "mae", "contrastive", "emotion", "valence"} <= set(outputs.losses)
    assert all(parameter.grad is not None for parameter in model.model.embedders.parameters())


def test_the_host_reads_lengths_once(monkeypatch):
    reads = []
    monkeypatch.setattr(encoders, "read_lengths", lambda *given: reads.append(given) or read_lengths(*given))
    model = tiny_model(audio_context="trimmed")
    with torch.no_grad():
        model(**raw_batch())
    assert len(reads) == 1
