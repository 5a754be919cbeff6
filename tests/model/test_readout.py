"""What the heads read of a pass: against NumPy, and that nothing but real tokens counts."""

import numpy as np
import pytest
import torch
from conftest import labels, raw_batch, tiny_model

from modeling_mmer.model.transformer import PassOutput

POOLED = ["mean", "attention"]
WIDTH, HEADS = 16, 2


def pass_of(lengths: dict[str, list[int]], longest: int = 6) -> PassOutput:
    """A pass of random z over CLS | audio | SEP | text, with noise behind each row's tokens."""
    rows = len(next(iter(lengths.values())))
    masks, spans, place = [torch.ones(rows, 1, dtype=torch.bool)], {}, 1
    for modality, of_rows in lengths.items():
        spans[modality] = slice(place, place + longest)
        masks += [torch.arange(longest) < torch.tensor(of_rows)[:, None], masks[0]]
        place += longest + 1
    mask = torch.cat(masks, 1)
    return PassOutput(torch.randn(*mask.shape, WIDTH, generator=torch.Generator().manual_seed(3)), mask, spans)


def in_numpy(model, output: PassOutput, row: int) -> np.ndarray:
    """What the heads are to read of one row, from the definition."""
    parts = [output.sequence[row, 0].numpy()]
    for modality in ("audio", "text"):
        tokens = np.zeros((0, WIDTH))
        if modality in output.spans:
            span = output.spans[modality]
            tokens = output.sequence[row, span].numpy()[output.mask[row, span].numpy()]
        if len(tokens) == 0:
            parts.append(np.zeros(WIDTH))
        elif model.config.readout == "mean":
            parts.append(tokens.mean(0))
        else:
            score = model.readout[modality].score
            scores = np.exp(tokens @ score.weight.detach().numpy().T + score.bias.detach().numpy())
            shares = np.split(tokens, HEADS, axis=1)
            parts += [w @ v for w, v in zip((scores / scores.sum(0)).T, shares, strict=True)]
    return np.concatenate(parts)


@pytest.mark.parametrize("readout", POOLED)
def test_it_is_cls_beside_the_pooled_tokens_of_each_modality(readout):
    model = tiny_model(readout=readout)
    output = pass_of({"audio": [6, 3, 0, 1], "text": [2, 0, 5, 6]})
    found = model.readout(output).detach().numpy()
    for row, of_row in enumerate(found):
        np.testing.assert_allclose(of_row, in_numpy(model, output, row), atol=1e-5)


@pytest.mark.parametrize("readout", POOLED)
def test_a_modality_that_a_pass_hides_counts_as_zeros(readout):
    model = tiny_model(readout=readout)
    output = pass_of({"text": [2, 4]})
    found = model.readout(output).detach().numpy()
    assert found.shape == (2, 3 * WIDTH) and not found[:, WIDTH : 2 * WIDTH].any()
    np.testing.assert_allclose(found[1], in_numpy(model, output, 1), atol=1e-5)


def test_by_default_the_heads_read_cls_alone():
    model = tiny_model()
    output = pass_of({"audio": [6, 3], "text": [2, 5]})
    assert torch.equal(model.readout(output), output.sequence[:, 0])
    assert not list(model.readout.parameters())


@pytest.mark.parametrize("readout", POOLED)
def test_a_row_is_read_alike_alone_and_in_a_batch_and_in_every_way_of_asking(readout):
    model, batch = tiny_model(readout=readout), raw_batch()
    with torch.no_grad():
        whole = model(**batch)
        by_combination = model(**batch, return_combinations=True)
        trained = model(**batch, labels=labels())
    for other in (by_combination, trained):
        torch.testing.assert_close(other.logits, whole.logits, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(other.valence, whole.valence, atol=1e-5, rtol=1e-5)
    alone = {name: values[1:2] for name, values in batch.items() if "input_features" in name}  # it has audio alone
    with torch.no_grad():
        torch.testing.assert_close(model(**alone).logits, whole.logits[1:2], atol=1e-5, rtol=1e-5)
    assert trained.loss.isfinite()


@pytest.mark.parametrize("readout", POOLED)
def test_it_is_saved_with_the_model(tmp_path, readout):
    model = tiny_model(readout=readout)
    model.save_pretrained(tmp_path)
    stored, batch = type(model).from_pretrained(tmp_path), raw_batch()
    assert stored.config.readout == readout
    with torch.no_grad():
        torch.testing.assert_close(stored(**batch).logits, model(**batch).logits)
