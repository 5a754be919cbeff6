"""The gradients of the terms of Eq. 7 on the shared transformer: their figures, and that measuring them changes
nothing."""

import importlib.util

import pytest
import torch
from conftest import assert_equal_weights, labels, raw_batch, tiny_config, tiny_model
from processes import REPOSITORY
from trainers import toy_trainer, weights

from modeling_mmer.baselines.base import BaselineConfig
from modeling_mmer.baselines.linear_probe import LinearProbe
from modeling_mmer.training.gradients import gradient_figures

TERMS = ("supervised", "mae", "contrastive")


def measured(trainer) -> list[dict]:
    return [
        {k: v for k, v in logs.items() if k.startswith("grad_")} for logs in trainer.state.log_history if "loss" in logs
    ]


@pytest.mark.parametrize("options", [{}, {"gradient_accumulation_steps": 2}, {"gradient_checkpointing": True}])
def test_measuring_changes_nothing(tmp_path, options):
    """Bit for bit, with dropout; every second step of the log has the figures of all terms, and others have none."""
    off = toy_trainer(tmp_path / "off", **options)
    off.train()
    on = toy_trainer(tmp_path / "on", log_gradients=2, **options)
    on.train()
    assert_equal_weights(weights(on.model), weights(off.model))
    assert not [name for logs in measured(off) for name in logs if name != "grad_norm"]
    names = {f"grad_norm_{term}" for term in TERMS} | {"grad_cosine_mae", "grad_cosine_contrastive"}
    for step, logs in enumerate(measured(on)):
        assert logs.keys() - {"grad_norm"} == (names if step % 2 == 0 else set())
        assert all(-1 <= value <= 1 for name, value in logs.items() if "cosine" in name)


def test_the_figures_are_those_of_each_terms_own_backward_pass():
    model = tiny_model(lambda_mae=3, lambda_contrastive=0.5, lambda_supervised=2)
    batch, of_labels = raw_batch(), labels()
    drawn = torch.random.get_rng_state()
    figures = gradient_figures(model(**batch, labels=of_labels).losses, model.loss_weights, model.model.transformer)
    pulls = {}
    for term in TERMS:
        torch.random.set_rng_state(drawn)  # the same mask
        model.zero_grad()
        (model.loss_weights[term] * model(**batch, labels=of_labels).losses[term]).backward()
        pulls[term] = torch.cat([p.grad.flatten() for p in model.model.transformer.parameters() if p.grad is not None])
    for term, pull in pulls.items():
        torch.testing.assert_close(figures[f"grad_norm_{term}"], pull.norm())
        if term != "supervised":
            cosine = torch.nn.functional.cosine_similarity(pull, pulls["supervised"], dim=0)
            torch.testing.assert_close(figures[f"grad_cosine_{term}"], cosine)
    assert len(figures) == 5


def test_a_term_that_does_not_pull_has_no_figures():
    model = tiny_model(lambda_contrastive=0)
    unlabelled = {
        name: torch.full_like(v, -100 if v.dtype == torch.long else torch.nan) for name, v in labels().items()
    }
    losses = model(**raw_batch(), labels=unlabelled).losses
    assert set(gradient_figures(losses, model.loss_weights, model.model.transformer)) == {"grad_norm_mae"}


def test_it_is_refused_where_it_cannot_be_had(tmp_path):
    rival = LinearProbe(BaselineConfig.from_dict(tiny_config().to_dict()))
    with pytest.raises(ValueError, match="log_gradients does not work with a rival"):
        toy_trainer(tmp_path / "rival", model=rival, log_gradients=1)
    with pytest.raises(ValueError, match="log_gradients does not work with torch_compile"):
        toy_trainer(tmp_path / "compiled", torch_compile=True, log_gradients=1)
    with pytest.raises(ValueError, match="--log_gradients must be at least 0"):
        toy_trainer(tmp_path / "negative", log_gradients=-1)


def test_the_picture_shows_each_figure_of_the_log(tmp_path):
    spec = importlib.util.spec_from_file_location("draw_gradients", REPOSITORY / "scripts" / "draw_gradients.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    log = [{"step": n, "grad_norm_supervised": n, "grad_norm_mae": 2 / n, "grad_cosine_mae": -n / 9} for n in (1, 3, 5)]
    script.draw([*log, {"step": 5, "eval_loss": 1.0}], tmp_path / "a.svg")
    picture = (tmp_path / "a.svg").read_text()
    assert "masked autoencoder" in picture and "contrastive" not in picture and "cosine with" in picture
    for colour, lines in (("#9a6700", 2), ("#0969da", 3)):  # curves, and the entry of the legend
        assert picture.count(f"stroke: {colour}") == lines
    script.draw(log, tmp_path / "b.svg")
    assert (tmp_path / "b.svg").read_text() == picture
    with pytest.raises(ValueError, match="train with --log_gradients"):
        script.draw([{"step": 1, "loss": 2.0, "grad_norm": 3.0}], tmp_path / "c.svg")
