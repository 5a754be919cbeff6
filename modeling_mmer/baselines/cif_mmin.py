"""CIF-MMIN: contrastive, modality-invariant features, and a network that imagines what is missing.

Liu, Zuo, Lian, Schuller and Li, "Contrastive learning based modality-invariant feature acquisition for robust
multimodal emotion recognition with missing modalities" (IEEE TAFFC 2024), on audio and text. `CIFMMINTeacher` is its
first stage, on utterances that have both, and `CIFMMIN` the second, in which either may be missing; it starts from the
first and is taught by a frozen copy of it. `cif_mmin_training` has its optimisers and schedules.

It reads the frozen states that every rival reads, through a layer mix of its own that is trained in the first stage and
fixed after; audio is averaged over windows of k frames. It judges emotion alone, as in the papers.

Different from the original: lengths are honoured (packed LSTMs, masked pooling) where it pads with zeros; a missing
modality is one frame of zeros, or as many as a convolution needs, whatever was there; a batch with fewer than two pairs
has a pair loss of zero; and the complete pattern is trained too.

Shapes: B examples, T steps, D encoder width, W = 128 the width of every part.
"""

import copy
import math

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from transformers import initialization as init
from transformers.utils.generic import can_return_tuple

from ..model.configuration_mmer import COMBINATIONS, MODALITIES
from ..model.distributed import global_batch
from ..model.embedding import StateMixer
from ..model.encoders import States
from ..model.outputs import MMEROutput
from .base import Baseline, BaselineConfig

WIDTH = 128  # of every part
BLOCKS = 5  # of the imagination module
SIMILARITY_SCALE = math.e  # kappa
EPSILON = 1e-10  # in the denominator of the pair loss

Sequences = dict[str, tuple[torch.Tensor, torch.Tensor]]  # modality → steps (B, T, D) and mask (B, T)


# ── the parts ───────────────────────────────────────────────────────────────────────────────────────────────────────


class LSTMEncoder(nn.Module):
    """A one-layer forward LSTM and the maximum over time: (B, T, D) → (B, W)."""

    def __init__(self, width: int):
        super().__init__()
        self.lstm = nn.LSTM(width, WIDTH, batch_first=True)

    def forward(self, steps: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        lengths = mask.sum(-1)
        packed = pack_padded_sequence(steps, lengths.cpu(), batch_first=True, enforce_sorted=False)
        outputs, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True)  # (B, longest, W)
        return masked_max(outputs, mask[:, : outputs.shape[1]])


class TextCNN(nn.Module):
    """Convolutions over 3, 4 and 5 tokens, each pooled over time, then a linear layer: (B, T, D) → (B, W).

    A text of fewer than five tokens is one of five, the last ones zero.
    """

    KERNELS = (3, 4, 5)

    def __init__(self, width: int):
        super().__init__()
        self.convolutions = nn.ModuleList(nn.Conv1d(width, WIDTH, kernel) for kernel in self.KERNELS)
        self.dropout = nn.Dropout(0.5)
        self.projection = nn.Linear(len(self.KERNELS) * WIDTH, WIDTH)

    def forward(self, steps: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        fewest = max(self.KERNELS)
        lengths = mask.sum(-1, keepdim=True).clamp(min=fewest)  # (B, 1)
        steps = nn.functional.pad(steps * mask.unsqueeze(-1), (0, 0, 0, max(0, fewest - steps.shape[1])))
        pooled = []
        for convolution in self.convolutions:
            maps = convolution(steps.transpose(1, 2)).relu().transpose(1, 2)  # (B, T - kernel + 1, W)
            starts = torch.arange(maps.shape[1], device=maps.device)
            pooled.append(masked_max(maps, starts + convolution.kernel_size[0] <= lengths))
        return self.projection(self.dropout(torch.cat(pooled, dim=-1))).relu()


class FeatureEncoders(nn.Module):
    """What is specific to each modality (S) and what is invariant (I): two vectors (B, 2W), audio | text."""

    def __init__(self, widths: dict[str, int]):
        super().__init__()
        self.specific = nn.ModuleDict({"audio": LSTMEncoder(widths["audio"]), "text": TextCNN(widths["text"])})
        self.invariant = nn.ModuleDict({m: LSTMEncoder(width) for m, width in widths.items()})

    def forward(self, sequences: Sequences) -> tuple[torch.Tensor, torch.Tensor]:
        parts = (self.specific, self.invariant)
        return tuple(torch.cat([part[m](*sequences[m]) for m in MODALITIES], dim=-1) for part in parts)


class PairProjection(nn.Sequential):
    """P_m: from what is invariant to where the two modalities of an utterance are to meet; dropped after stage 1."""

    def __init__(self):
        super().__init__(
            nn.Linear(WIDTH, WIDTH), nn.LeakyReLU(), nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH), nn.LeakyReLU()
        )


class Imagination(nn.Module):
    """A cascade of autoencoders that reads both features and gives what is missing of the specific one: (B, 2W)."""

    def __init__(self):
        super().__init__()
        width = 2 * WIDTH
        self.blocks = nn.ModuleList(
            nn.Sequential(
                *(nn.Linear(width, 256), nn.LeakyReLU(), nn.Linear(256, 128), nn.LeakyReLU(), nn.Linear(128, 64)),
                *(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 256), nn.ReLU(), nn.Linear(256, width)),
            )
            for _ in range(BLOCKS)
        )
        self.translation = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))

    def forward(self, specific: torch.Tensor, invariant: torch.Tensor) -> torch.Tensor:
        imagined = specific
        for block in self.blocks:
            entering = imagined + invariant
            imagined = block(entering)
        return self.translation(entering + imagined)


def classifier(classes: int, dropout: float) -> nn.Sequential:
    """C: 2W → 128 → 128 → classes."""
    return nn.Sequential(
        *(nn.Linear(2 * WIDTH, 128), nn.ReLU(), nn.Dropout(dropout)),
        *(nn.Linear(128, 128), nn.ReLU(), nn.Dropout(dropout)),
        nn.Linear(128, classes),
    )


# ── the two stages ──────────────────────────────────────────────────────────────────────────────────────────────────


class CIFMMINBase(Baseline):
    """The layer mix and the feature encoders, which the second stage takes over from the first."""

    def __init__(self, config: BaselineConfig):
        super().__init__(config)
        shapes = {modality: config.states_shape(modality) for modality in MODALITIES}
        standardize = config.state_normalization == "standardize"
        self.embedders = nn.ModuleDict({m: StateMixer(*shape, standardize) for m, shape in shapes.items()})
        self.features = FeatureEncoders({m: width for m, (_, width) in shapes.items()})

    @torch.no_grad()
    def _init_weights(self, module):
        super()._init_weights(module)
        if not isinstance(module, nn.Linear | nn.Conv1d):
            return
        if any(module is part for part in getattr(self, "imagination", nn.Module()).modules()):
            init.kaiming_uniform_(module.weight, a=math.sqrt(5))  # thirty layers that each double would drown f
        else:
            init.kaiming_normal_(module.weight)

    def sequences(self, states: States) -> Sequences:
        """Mixed states, audio averaged over windows of k frames: (B, T, D) and (B, T) of both modalities.

        A row that lacks a modality has one step of zeros.
        """
        rows = len(next(iter(states.values()))[1])
        sequences = {}
        for modality, embedder in self.embedders.items():
            if modality in states and states[modality][1].any():
                mixed, mask = embedder.mix(*states[modality]), states[modality][1]
                windows = self.config.audio_stride if modality == "audio" else 1
                sequences[modality] = average_windows(mixed, mask, windows)
            else:
                nothing = embedder.layer_logits.new_zeros(rows, 1, embedder.encoder_width)
                sequences[modality] = nothing, nothing.new_zeros(rows, 1, dtype=torch.bool)
        return {modality: one_step_at_least(*of_modality) for modality, of_modality in sequences.items()}


class CIFMMINTeacher(CIFMMINBase):
    """Stage 1: utterances that have both modalities. L_1 = cross-entropy + 0.25 times the pair loss."""

    def __init__(self, config: BaselineConfig):
        super().__init__(config)
        self.projections = nn.ModuleDict({modality: PairProjection() for modality in MODALITIES})
        self.classifier = classifier(len(config.emotion_labels), dropout=0.3)
        self.post_init()

    @property
    def served(self) -> tuple[str, ...]:
        return ("audio_text",)

    @property
    def loss_weights(self) -> dict[str, float]:
        return {"supervised": 1.0, "pair": 0.25}

    @can_return_tuple
    def forward(self, labels=None, return_combinations: bool = True, smoothing: float = 0.0, **inputs) -> MMEROutput:
        states = self.encoder_states(inputs)
        present = self.rows_present(states)
        specific, invariant = self.features(self.sequences(states))
        predictions = {"audio_text": {"emotion": self.classifier(specific)}}
        losses = None
        if labels is not None:
            projected = [
                global_batch(self.projections[m](u), self.training)
                for m, u in zip(MODALITIES, invariant.split(WIDTH, -1), strict=True)
            ]
            losses = self.supervised(predictions, labels, present, smoothing) | {"pair": pair_loss(*projected)}
        return self.output(predictions, present, losses)


class CIFMMIN(CIFMMINBase):
    """Stage 2: of what an utterance has, a random part is hidden, and its features are imagined.

    L_2 = cross-entropy + 8 · MSE(imagined, the teacher's specific features of what is hidden)
        + 100 · MSE(invariant features, the teacher's of all there is).
    """

    def __init__(self, config: BaselineConfig):
        super().__init__(config)
        self.imagination = Imagination()
        self.classifier = classifier(len(config.emotion_labels), dropout=0.5)
        self.teacher = copy.deepcopy(self.features)
        self.post_init()

    @classmethod
    def from_teacher(cls, teacher: CIFMMINTeacher) -> "CIFMMIN":
        """Stage 2 on a trained stage 1: its mix is fixed, its encoders are taken over, and a copy of them teaches."""
        student = cls(copy.deepcopy(teacher.config))
        student.embedders.load_state_dict(teacher.embedders.state_dict())
        for features in (student.features, student.teacher):
            features.load_state_dict(teacher.features.state_dict())
        student.encoders = teacher.encoders
        if student.config.audio_encoder_name_or_path is not None:
            student._leave_out_encoders()
        student.freeze_untrained()
        return student

    @property
    def loss_weights(self) -> dict[str, float]:
        return {"supervised": 1.0, "imagined": 8.0, "invariant": 100.0}

    def freeze_untrained(self):
        self.embedders.requires_grad_(False)
        self.teacher.requires_grad_(False)

    def train(self, mode: bool = True):
        super().train(mode)
        self.teacher.eval()
        return self

    @can_return_tuple
    def forward(self, labels=None, return_combinations: bool = True, smoothing: float = 0.0, **inputs) -> MMEROutput:
        """In training one pattern is drawn for each row, of those it has; otherwise all are judged."""
        states = self.encoder_states(inputs)
        present, sequences = self.rows_present(states), self.sequences(states)
        patterns = {"drawn": draw_patterns(present)} if self.training else fixed_patterns(present)
        judged = {"drawn": torch.ones_like(present["audio"])} if self.training else present
        passes = {name: self.imagine(sequences, shown) for name, shown in patterns.items()}
        predictions = {name: {"emotion": logits} for name, (logits, _, _) in passes.items()}
        losses = None
        if labels is not None:
            losses = self.supervised(predictions, labels, judged, smoothing)
            losses |= self.imagination_losses(sequences, patterns, passes, present["audio_text"])
        return self.output(predictions, judged, losses)

    def imagine(self, sequences: Sequences, shown: dict[str, torch.Tensor]):
        """From what is `shown` of each modality (B,) → emotion logits, imagined and invariant features (B, 2W)."""
        specific, invariant = self.features(hide(sequences, shown))
        imagined = self.imagination(specific, invariant)
        return self.classifier(specific + imagined), imagined, invariant

    def imagination_losses(self, sequences: Sequences, patterns, passes, complete: torch.Tensor):
        """Both mean squared errors over the rows (B,) that are `complete`: of no other is the target known."""
        with torch.no_grad():
            _, target_invariant = self.teacher(sequences)
        terms = {"imagined": [], "invariant": []}
        for name, (_, imagined, invariant) in passes.items():
            with torch.no_grad():
                hidden = {m: ~shown for m, shown in patterns[name].items()}
                target_specific, _ = self.teacher(hide(sequences, hidden))
            terms["imagined"].append((imagined.float() - target_specific.float()).square().mean(-1))
            terms["invariant"].append((invariant.float() - target_invariant.float()).square().mean(-1))
        complete = global_batch(complete, self.training)
        terms = global_batch({name: torch.stack(values, dim=1) for name, values in terms.items()}, self.training)
        errors = {name: values.mean(-1) for name, values in terms.items()}  # (B,)
        return {name: (error * complete).sum() / complete.sum().clamp(min=1) for name, error in errors.items()}


# ── functions of tensors ────────────────────────────────────────────────────────────────────────────────────────────


def pair_loss(audio: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
    """Decoupled InfoNCE of projected features (B, W): the positive pair is not in the denominator.

    `sim_ij = κ ⟨p_t,i , p_a,j⟩` of L2-normalised features; ℓ_t→a = −mean_i log(exp(sim_ii) / (Σ_{j≠i} exp(sim_ij) +
    1e-10)), ℓ_a→t over columns, and their mean. Fewer than two pairs give zero.
    """
    if len(audio) < 2:
        return (audio.sum() + text.sum()) * 0.0
    audio, text = (nn.functional.normalize(side.float(), dim=-1) for side in (audio, text))
    with torch.autocast(audio.device.type, enabled=False):
        similarity = SIMILARITY_SCALE * text @ audio.T  # (B, B)
    own = similarity.diagonal()
    others = similarity.exp() * (1 - torch.eye(len(similarity), device=similarity.device))
    of_rows = own - (others.sum(1) + EPSILON).log()
    of_columns = own - (others.sum(0) + EPSILON).log()
    return -(of_rows.mean() + of_columns.mean()) / 2


def draw_patterns(present: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """modality → (B,) bool, shown: for each row one of {a}, {t} and {a, t}, all as likely, of those that it has."""
    has = torch.stack([present[name] for name in COMBINATIONS], dim=-1).float()  # (B, combinations)
    drawn = torch.multinomial(has, 1).squeeze(-1)
    return {
        m: torch.tensor([m in modalities for modalities in COMBINATIONS.values()], device=has.device)[drawn]
        for m in MODALITIES
    }


def fixed_patterns(present: dict[str, torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
    """combination → modality → (B,) bool, shown: all three patterns."""
    return {
        name: {m: torch.full_like(rows, m in COMBINATIONS[name]) for m in MODALITIES} for name, rows in present.items()
    }


def hide(sequences: Sequences, shown: dict[str, torch.Tensor]) -> Sequences:
    """Rows that are not `shown` (B,) become one step of zeros: how much is hidden leaves no trace."""
    kept = {}
    for modality, (steps, mask) in sequences.items():
        keep = mask & shown[modality][:, None]
        kept[modality] = one_step_at_least(steps * keep.unsqueeze(-1), keep)
    return kept


def one_step_at_least(steps: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of an all-false mask get their first step, which is zero there."""
    first = torch.zeros_like(mask)
    first[:, 0] = ~mask.any(-1)
    return steps * mask.unsqueeze(-1), mask | first


def average_windows(steps: torch.Tensor, mask: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean of the real frames of each window: (B, T, D) → (B, ceil(T / size), D), and the mask."""
    tail = -steps.shape[1] % size
    steps = nn.functional.pad(steps * mask.unsqueeze(-1), (0, 0, 0, tail)).unflatten(1, (-1, size))
    real = nn.functional.pad(mask, (0, tail)).unflatten(1, (-1, size)).sum(-1)  # (B, windows)
    return steps.sum(2) / real.clamp(min=1).unsqueeze(-1), real > 0


def masked_max(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The maximum over the real steps of (B, T, W): (B, W)."""
    return values.masked_fill(~mask.unsqueeze(-1), -torch.inf).amax(1)
