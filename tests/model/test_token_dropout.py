"""`audio_token_dropout`: which windows of a recording a training step sees, counted and compared in NumPy."""

import numpy as np
import pytest
import torch
from conftest import labels, raw_batch, tiny_model

from modeling_mmer.model.embedding import drop_windows

STRIDE, LENGTHS = 4, (23, 8, 3, 0)


def numbered_frames() -> tuple[torch.Tensor, torch.Tensor]:
    """H (4, 23, 2) whose frames carry their number, from 1, and noise behind each row's frames; mask (4, 23)."""
    frames = torch.arange(1.0, 1 + max(LENGTHS)).repeat(len(LENGTHS), 1).unsqueeze(-1).repeat(1, 1, 2)
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS).unsqueeze(-1)
    return torch.where(mask.unsqueeze(-1), frames, -7.0), mask


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_whole_windows_are_kept_in_their_order(share):
    torch.manual_seed(0)
    kept, mask = drop_windows(*numbered_frames(), STRIDE, share)
    for row, length in enumerate(LENGTHS):
        frames = np.arange(1, 1 + length)
        windows = [frames[i : i + STRIDE].tolist() for i in range(0, length, STRIDE)]
        found = kept[row, mask[row], 0].int().tolist()
        chosen = [window for window in windows if window[0] in found]
        assert found == [frame for window in chosen for frame in window]
        assert len(chosen) == (max(1, round((1 - share) * len(windows))) if windows else 0)
    assert not kept[~mask].any()  # no noise is carried along


def test_each_window_is_kept_as_often_as_any_other():
    torch.manual_seed(0)
    frames, mask = torch.arange(1.0, 41).view(1, 40, 1), torch.ones(1, 40, dtype=torch.bool)
    draws = [drop_windows(frames, mask, STRIDE, 0.5)[0].flatten().int().tolist() for _ in range(2000)]
    counts = np.bincount([frame for of_draw in draws for frame in of_draw], minlength=41)[1:]
    assert abs(counts / 2000 - 0.5).max() < 5 * np.sqrt(0.25 / 2000)  # five standard deviations of a fair draw


def test_training_alone_drops_and_from_recordings_alone():
    model, batch = tiny_model(audio_token_dropout=0.5, audio_context="trimmed"), raw_batch()
    whole = tiny_model(audio_context="trimmed")
    whole.load_state_dict(model.state_dict())
    expected = {m: t.mask.sum(-1) for m, t in whole.train().model.embed(**batch).items()}
    torch.manual_seed(0)
    found = {m: t.mask.sum(-1) for m, t in model.train().model.embed(**batch).items()}
    has = expected["audio"] > 0
    assert torch.equal(found["text"], expected["text"])
    assert torch.equal(found["audio"][has], (expected["audio"][has] / 2).round().clamp(min=1).long())
    assert not found["audio"][~has].any()
    judged, alike = (m.eval()(**batch, return_combinations=True) for m in (model, whole))
    for name, of_task in alike.combinations.items():
        for task, value in of_task.items():
            torch.testing.assert_close(judged.combinations[name][task], value, equal_nan=True)


def test_every_term_trains_on_what_is_left():
    model, batch = tiny_model(audio_token_dropout=0.75), raw_batch()
    output = model.train()(**batch, labels=labels(len(batch["input_ids"])))
    output.loss.backward()
    assert {"supervised", "mae", "contrastive"} <= set(output.losses)
    assert all(torch.isfinite(term) for term in output.losses.values())
    lacking = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not lacking


def test_all_tokens_cannot_be_dropped():
    with pytest.raises(Exception, match="audio_token_dropout must be at least 0 and below 1, not 1"):
        tiny_model(audio_token_dropout=1)
