"""CIF-MMIN against its equations, written anew in NumPy for one utterance at a time, without padding or masks."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rivals import baseline_config, collate, corpus, predict, run_arguments, states_of, tiny_rival
from torch import nn

from modeling_mmer.baselines import CIFMMIN, cif_mmin
from modeling_mmer.baselines.cif_mmin import average_windows, draw_patterns, pair_loss
from modeling_mmer.baselines.cif_mmin_training import (
    IMAGINATION_STAGE,
    TEACHER_STAGE,
    CIFMMINTrainer,
    stage_arguments,
    sub_networks,
)

WIDTHS = {"audio": 16, "text": 12}
LEAK = 0.01


# ── the equations ───────────────────────────────────────────────────────────────────────────────────────────────────


class Equations:
    """The parts of a model, by its weights."""

    def __init__(self, model):
        self.weights = {name: tensor.double().numpy() for name, tensor in model.state_dict().items()}

    def linear(self, name, x):
        return self.weights[f"{name}.weight"] @ x + self.weights[f"{name}.bias"]

    def steps(self, modality, states):
        """Eq. 1 of states (L+1, T, D), and the mean of each window of four audio frames: (steps, D)."""
        logits = self.weights[f"embedders.{modality}.layer_logits"]
        mixed = np.tensordot(np.exp(logits) / np.exp(logits).sum(), states, 1)
        size = 4 if modality == "audio" else 1
        return np.stack([mixed[start : start + size].mean(0) for start in range(0, len(mixed), size)])

    def lstm(self, name, steps):
        w = {part: self.weights[f"{name}.lstm.{part}_l0"] for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
        hidden, cell, outputs = np.zeros(128), np.zeros(128), []
        for x in steps:
            gates = w["weight_ih"] @ x + w["bias_ih"] + w["weight_hh"] @ hidden + w["bias_hh"]
            i, f, g, o = gates.reshape(4, 128)
            cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
            hidden = sigmoid(o) * np.tanh(cell)
            outputs.append(hidden)
        return np.max(outputs, axis=0)

    def text_cnn(self, name, steps):
        steps = np.concatenate([steps, np.zeros((max(0, 5 - len(steps)), steps.shape[1]))])
        pooled = []
        for index, kernel in enumerate((3, 4, 5)):
            weight, bias = (self.weights[f"{name}.convolutions.{index}.{part}"] for part in ("weight", "bias"))
            windows = [steps[start : start + kernel] for start in range(len(steps) - kernel + 1)]
            maps = [[(weight[o] * window.T).sum() + bias[o] for o in range(128)] for window in windows]
            pooled.append(np.maximum(maps, 0).max(0))
        return np.maximum(self.linear(f"{name}.projection", np.concatenate(pooled)), 0)

    def features(self, name, audio, text):
        """[s_a ; s_t] and [u_a ; u_t]."""
        specific = self.lstm(f"{name}.specific.audio", audio), self.text_cnn(f"{name}.specific.text", text)
        invariant = self.lstm(f"{name}.invariant.audio", audio), self.lstm(f"{name}.invariant.text", text)
        return np.concatenate(specific), np.concatenate(invariant)

    def projected(self, modality, u):
        """P_m, L2-normalised."""
        name = f"projections.{modality}"
        x = leaky(self.linear(f"{name}.0", u))
        x = (x - x.mean()) / np.sqrt(x.var() + 1e-5) * self.weights[f"{name}.2.weight"] + self.weights[f"{name}.2.bias"]
        x = leaky(self.linear(f"{name}.3", x))
        return x / np.linalg.norm(x)

    def imagined(self, f, u):
        h = f
        for block in range(5):
            z = h + u
            h = z
            for layer in (0, 2, 4, 5, 7, 9):
                h = self.linear(f"imagination.blocks.{block}.{layer}", h)
                h = leaky(h) if layer in (0, 2) else np.maximum(h, 0) if layer in (5, 7) else h
        return self.linear("imagination.translation.2", np.maximum(self.linear("imagination.translation.0", z + h), 0))

    def classified(self, x):
        for layer in (0, 3):
            x = np.maximum(self.linear(f"classifier.{layer}", x), 0)
        return self.linear("classifier.6", x)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def leaky(x):
    return np.where(x > 0, x, LEAK * x)


def cross_entropy(logits, label):
    return np.log(np.exp(logits).sum()) - logits[label]


def numpy_pair_loss(audio, text):
    similarity = math.e * np.stack(text) @ np.stack(audio).T
    n, losses = len(similarity), []
    for matrix in (similarity, similarity.T):
        for i in range(n):
            others = sum(math.exp(matrix[i, j]) for j in range(n) if j != i)
            losses.append(-math.log(math.exp(matrix[i, i]) / (others + 1e-10)))
    return np.mean(losses)


def real_steps(equations, batch, row):
    """The steps of each modality, one of zeros where the row lacks it."""
    steps = {}
    for modality, width in WIDTHS.items():
        real = batch[f"{modality}_mask"][row].bool()
        states = batch[f"{modality}_hidden_states"][row][:, real].double().numpy()
        steps[modality] = equations.steps(modality, states) if real.any() else np.zeros((1, width))
    return steps


def without_dropout(model):
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model.train()


# ── stage 1 ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_loss_of_stage_1_is_that_of_its_equations():
    model, batch, emotion = without_dropout(tiny_rival("cif_mmin_teacher")), states_of(), torch.tensor([2, -100, 0, 1])
    with torch.no_grad():
        output = model(**batch, labels={"emotion": emotion})
    equations, entropies, audio, text = Equations(model), [], [], []
    for row in range(4):
        s, u = equations.features("features", **real_steps(equations, batch, row))
        logits = equations.classified(s)
        np.testing.assert_allclose(output.logits[row], logits, rtol=1e-3, atol=1e-4)
        audio.append(equations.projected("audio", u[:128]))
        text.append(equations.projected("text", u[128:]))
        if emotion[row] >= 0:
            entropies.append(cross_entropy(logits, emotion[row]))
    assert output.losses["supervised"].item() == pytest.approx(np.mean(entropies), rel=1e-4)
    assert output.losses["pair"].item() == pytest.approx(numpy_pair_loss(audio, text), rel=1e-4)
    expected = np.mean(entropies) + 0.25 * numpy_pair_loss(audio, text)
    assert output.loss.item() == pytest.approx(expected, rel=1e-4)


def test_the_pair_loss_has_the_positive_above_and_not_below():
    generator = torch.Generator().manual_seed(0)
    audio, text = torch.randn(5, 128, generator=generator), torch.randn(5, 128, generator=generator)
    normal = [(side / side.norm(dim=-1, keepdim=True)).double().numpy() for side in (audio, text)]
    assert pair_loss(audio, text).item() == pytest.approx(numpy_pair_loss(*normal), rel=1e-5)
    assert pair_loss(7 * audio, text / 3).item() == pytest.approx(numpy_pair_loss(*normal), rel=1e-5)
    one_of_two = torch.eye(2)  # partners meet, the others are orthogonal: −log(e^e / e^0)
    assert pair_loss(one_of_two, one_of_two).item() == pytest.approx(-math.e)


@pytest.mark.parametrize("pairs", [0, 1])
def test_fewer_than_two_pairs_are_a_zero_with_a_graph(pairs):
    audio, text = torch.randn(pairs, 128, requires_grad=True), torch.randn(pairs, 128, requires_grad=True)
    loss = pair_loss(audio, text)
    assert loss.item() == 0
    loss.backward()
    assert not audio.grad.any() and not text.grad.any()


# ── stage 2 ─────────────────────────────────────────────────────────────────────────────────────────────────────────


PATTERNS = {"audio": torch.tensor([1, 0, 1, 1, 0, 1]).bool(), "text": torch.tensor([0, 1, 1, 0, 1, 1]).bool()}
SHOWN = {"audio": (True, False), "text": (False, True), "audio_text": (True, True)}


def six_rows():
    """Row 3 has no text and row 4 no audio; the others have both."""
    batch = {name: tensor.repeat_interleave(2, 0)[:6] for name, tensor in states_of().items()}
    for modality in WIDTHS:
        batch[f"{modality}_hidden_states"] = batch[f"{modality}_hidden_states"] + torch.linspace(0, 1, 6).view(
            6, 1, 1, 1
        )
    batch["text_mask"][3], batch["audio_mask"][4] = False, False
    return batch


def numpy_stage_2(equations, steps, shows_audio, shows_text):
    """Logits and both mean squared errors of a row of which that much is shown."""
    nothing = {modality: np.zeros((1, width)) for modality, width in WIDTHS.items()}
    shows = {"audio": shows_audio, "text": shows_text}
    seen = {m: steps[m] if shows[m] else nothing[m] for m in steps}
    missing = {m: nothing[m] if shows[m] else steps[m] for m in steps}
    f, u = equations.features("features", **seen)
    r = equations.imagined(f, u)
    target_f, _ = equations.features("teacher", **missing)
    _, target_u = equations.features("teacher", **steps)
    return equations.classified(f + r), ((r - target_f) ** 2).mean(), ((u - target_u) ** 2).mean()


def test_the_training_loss_of_stage_2_is_that_of_its_equations(monkeypatch):
    model, batch, emotion = without_dropout(tiny_rival("cif_mmin")), six_rows(), torch.tensor([2, 3, 0, 1, -100, 1])
    monkeypatch.setattr(cif_mmin, "draw_patterns", lambda present: PATTERNS)
    with torch.no_grad():
        output = model(**batch, labels={"emotion": emotion})
    equations, entropies, errors = Equations(model), [], []
    for row in range(6):
        shown = (PATTERNS["audio"][row], PATTERNS["text"][row])
        logits, *of_row = numpy_stage_2(equations, real_steps(equations, batch, row), *shown)
        np.testing.assert_allclose(output.logits[row], logits, rtol=1e-3, atol=1e-3)
        if emotion[row] >= 0:
            entropies.append(cross_entropy(logits, emotion[row]))
        if row not in (3, 4):  # what would have to be imagined there is known to nobody
            errors.append(of_row)
    imagined, invariant = np.mean(errors, axis=0)
    assert output.losses["supervised"].item() == pytest.approx(np.mean(entropies), rel=1e-3)
    assert output.losses["imagined"].item() == pytest.approx(imagined, rel=1e-3)
    assert output.losses["invariant"].item() == pytest.approx(invariant, rel=1e-3)
    expected = np.mean(entropies) + 8 * imagined + 100 * invariant
    assert output.loss.item() == pytest.approx(expected, rel=1e-3)


def test_an_evaluation_of_stage_2_judges_every_pattern():
    model, batch, emotion = tiny_rival("cif_mmin"), six_rows(), torch.tensor([2, 3, 0, 1, 0, 1])
    with torch.no_grad():
        output = model(**batch, labels={"emotion": emotion})
    equations, entropies, errors = Equations(model), [], []
    for combination, shown in SHOWN.items():
        of_combination = []
        for row in range(6):
            if (row == 3 and shown[1]) or (row == 4 and shown[0]):
                assert output.combinations[combination]["emotion"][row].isnan().all()
                continue
            logits, *of_row = numpy_stage_2(equations, real_steps(equations, batch, row), *shown)
            found = output.combinations[combination]["emotion"][row]
            np.testing.assert_allclose(found, logits, rtol=1e-3, atol=1e-3)
            of_combination.append(cross_entropy(logits, emotion[row]))
            if row not in (3, 4):
                errors.append(of_row)
        entropies.append(np.mean(of_combination))
    assert output.losses["supervised"].item() == pytest.approx(np.mean(entropies), rel=1e-3)
    found = [output.losses[name].item() for name in ("imagined", "invariant")]
    np.testing.assert_allclose(found, np.mean(errors, axis=0), rtol=1e-3)


def test_without_a_complete_row_nothing_is_imagined_and_the_loss_has_a_graph():
    model, batch = tiny_rival("cif_mmin").train(), states_of()
    batch["text_mask"][:2], batch["audio_mask"][2:] = False, False
    output = model(**batch, labels={"emotion": torch.tensor([0, 1, 2, 3])})
    assert output.losses["imagined"].item() == output.losses["invariant"].item() == 0
    output.loss.backward()


def test_patterns_are_drawn_evenly_of_what_a_row_has():
    torch.manual_seed(0)
    rows = 3000
    kind = torch.arange(rows) % 3  # has both, audio alone, text alone
    present = {"audio": kind != 2, "text": kind != 1, "audio_text": kind == 0}
    shown = draw_patterns(present)
    assert (shown["audio"][kind == 1] & ~shown["text"][kind == 1]).all()
    assert (shown["text"][kind == 2] & ~shown["audio"][kind == 2]).all()
    both = kind == 0
    for audio, text in SHOWN.values():
        share = ((shown["audio"] == audio) & (shown["text"] == text))[both].float().mean().item()
        assert share == pytest.approx(1 / 3, abs=0.06)  # four deviations of 1,000 draws
    again = draw_patterns(present)
    assert (again["audio"] != shown["audio"])[both].any()


def test_stage_2_starts_from_stage_1_and_keeps_a_copy_of_it():
    teacher = tiny_rival("cif_mmin_teacher")
    student = CIFMMIN.from_teacher(teacher).train()
    for part in ("features", "teacher"):
        found = getattr(student, part).state_dict()
        for name, tensor in teacher.features.state_dict().items():
            assert torch.equal(found[name], tensor) and found[name].data_ptr() != tensor.data_ptr()
    for modality in WIDTHS:
        assert torch.equal(student.embedders[modality].layer_logits, teacher.embedders[modality].layer_logits)
    assert not any(module.training for module in student.teacher.modules())  # its dropout would blur the targets
    assert all(module.training for module in student.features.modules())


def test_what_is_imagined_at_first_does_not_drown_what_is_there():
    """Kaiming-normal layers throughout would make it ten times as large and more."""
    torch.manual_seed(0)
    imagination = CIFMMIN(baseline_config("cif_mmin")).imagination
    specific, invariant = torch.rand(8, 256), torch.rand(8, 256) - 0.5
    with torch.no_grad():
        assert imagination(specific, invariant).norm() < specific.norm()


# ── lengths ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_windows_average_real_frames_alone():
    steps = torch.arange(12.0).view(2, 6, 1)
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]]).bool()
    averaged, real = average_windows(steps, mask, 4)
    assert averaged[..., 0].tolist() == [[1.5, 4.5], [7.0, 0.0]]
    assert real.tolist() == [[True, True], [True, False]]


@pytest.mark.parametrize("tokens", [1, 2, 3, 4, 5, 6])
def test_short_texts_are_those_of_the_equations(tokens):
    model, batch = tiny_rival("cif_mmin_teacher"), states_of(1)
    batch["text_hidden_states"] = batch["text_hidden_states"][:, :, :tokens]
    batch["text_mask"] = torch.ones(1, tokens, dtype=torch.bool)
    equations = Equations(model)
    s, _ = equations.features("features", **real_steps(equations, batch, 0))
    found = predict(model, batch)["audio_text"]["emotion"][0]
    np.testing.assert_allclose(found, equations.classified(s), rtol=1e-3, atol=1e-4)


# ── training ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("stage", "epochs", "constant", "beta", "limit"),
    [(TEACHER_STAGE, 40, 30, 0.9, 0.5), (IMAGINATION_STAGE, 40, 20, 0.5, 1.0)],
)
def test_a_stage_prescribes_its_optimiser_and_schedule(tmp_path, stage, epochs, constant, beta, limit):
    given = run_arguments(tmp_path, weight_decay=0.1, gradient_accumulation_steps=2, warmup_steps=7)
    arguments = stage_arguments(given, stage)
    assert given.weight_decay == 0.1 and given.warmup_steps == 7  # those of the other runs stay
    assert (arguments.num_train_epochs, arguments.max_grad_norm) == (epochs, limit)
    assert arguments.per_device_train_batch_size * arguments.gradient_accumulation_steps == 64
    trainer = CIFMMINTrainer(
        tiny_rival("cif_mmin"), arguments, stage=stage, train_dataset=corpus(8, 0), data_collator=collate
    )
    optimizer = trainer.create_optimizer()
    for group in optimizer.param_groups:
        assert (group["lr"], group["betas"], group["weight_decay"], group["eps"]) == (2e-4, (beta, 0.999), 0, 1e-8)
    steps = 5 * epochs  # five an epoch
    schedule = trainer.create_scheduler(steps, optimizer)
    rates = []
    for _ in range(steps):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    falling = 5 * (epochs - constant)
    expected = [2e-4 * min(1, (steps - step) / falling) for step in range(steps)]
    np.testing.assert_allclose(rates, expected, rtol=1e-6)


def test_gradients_are_limited_for_each_sub_network_by_itself():
    model = tiny_rival("cif_mmin_teacher")
    output = model.train()(**states_of(), labels={"emotion": torch.tensor([0, 1, 2, 3])})
    (1e4 * output.loss).backward()
    small = model.features.invariant["audio"]
    for parameter in small.parameters():
        parameter.grad.mul_(1e-3 / sum(p.grad.norm() ** 2 for p in small.parameters()).sqrt())
    before = {
        name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None
    }
    names = [
        *(f"features.{kind}.{modality}" for kind in ("specific", "invariant") for modality in WIDTHS),
        *(f"{part}.{modality}" for part in ("embedders", "projections") for modality in WIDTHS),
        "classifier",
    ]
    assert {id(part) for part in sub_networks(model)} == {id(model.get_submodule(name)) for name in names}
    of_trainer = SimpleNamespace(
        model=model,
        args=SimpleNamespace(max_grad_norm=0.5),
        accelerator=SimpleNamespace(unscale_gradients=lambda: None),
    )
    CIFMMINTrainer._clip_grad_norm(of_trainer, model)
    for name in names:
        norm = np.sqrt(sum(float(g.norm()) ** 2 for key, g in before.items() if key.startswith(f"{name}.")))
        assert norm > 0
        for key, gradient in before.items():
            if key.startswith(f"{name}."):
                found = model.get_parameter(key).grad
                torch.testing.assert_close(found, gradient * min(1, 0.5 / norm), rtol=1e-4, atol=1e-7)


def test_stage_2_limits_the_imagination_and_the_student_and_nothing_frozen():
    model = tiny_rival("cif_mmin").train()
    model.freeze_untrained()
    model(**states_of(), labels={"emotion": torch.tensor([0, 1, 2, 3])}).loss.backward()
    expected = [
        *model.features.specific.values(),
        *model.features.invariant.values(),
        model.imagination,
        model.classifier,
    ]
    assert {id(part) for part in sub_networks(model)} == {id(part) for part in expected}


def test_both_stages_judge_emotion_alone():
    with torch.no_grad():
        output = tiny_rival("cif_mmin")(**states_of(), labels={"valence": torch.rand(4)})
    assert output.losses["supervised"].item() == 0 and "valence" not in output.losses
