"""The shared transformer ST of Section 3.1 and its passes: pre-norm layers over the tokens that a pass shows, with
compact positions.

Settled where the paper is silent: pre-norm, GELU, a final norm; dropout inside the feed-forward and on both residual
branches, none on the attention probabilities (so that fused attention kernels serve on every device).

Shapes: B examples, N_m tokens of modality m, S positions of a sequence, h heads, d shared width.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb, eager_attention_forward

from .embedding import ModalityTokens


@dataclass
class Pass:
    """The embeddings (B, N_m, d) of each modality, v^m added, and which of them are shown (B, N_m).

    A row that shows nothing takes no part in the pass.
    """

    embeddings: dict[str, torch.Tensor]
    shown: dict[str, torch.Tensor]

    @property
    def rows(self) -> torch.Tensor:
        """(B,) bool: the rows that take part."""
        return torch.stack([shown.any(-1) for shown in self.shown.values()]).any(0)

    def only(self, rows: torch.Tensor) -> "Pass":
        """The pass without the rows that are not among `rows` (B,), and without modalities that none of them shows."""
        visible = [modality for modality, shown in self.shown.items() if shown.any()]
        if bool(rows.all()):
            return Pass({m: self.embeddings[m] for m in visible}, {m: self.shown[m] for m in visible})
        return Pass({m: self.embeddings[m][rows] for m in visible}, {m: self.shown[m][rows] for m in visible})


@dataclass
class PassOutput:
    """What a pass gives: z (B, S, d) over the sequence, its mask (B, S), and where in it each modality lies.

    Rows that took no part are void.
    """

    sequence: torch.Tensor
    mask: torch.Tensor
    spans: dict[str, slice]

    @property
    def cls(self) -> torch.Tensor:
        """z at CLS: (B, d)."""
        return self.sequence[:, 0]

    @property
    def tokens(self) -> dict[str, torch.Tensor]:
        """z at each modality's own positions: (B, N_m, d)."""
        return {modality: self.sequence[:, span] for modality, span in self.spans.items()}

    def spread(self, rows: torch.Tensor) -> "PassOutput":
        """The output of a pass that was run for `rows` (B,) only, as one of all B rows: zeros elsewhere."""
        if bool(rows.all()):
            return self
        values = (self.sequence, self.mask)
        spread = (v.new_zeros((len(rows), *v.shape[1:])).index_put((rows,), v) for v in values)
        return PassOutput(*spread, self.spans)


def show(tokens: Mapping[str, ModalityTokens], modalities: Sequence[str], whole: bool = False) -> Pass:
    """The pass that shows `modalities` and leaves out all others; `whole` drops rows that lack any of them."""
    shown = {m: t.mask if m in modalities else torch.zeros_like(t.mask) for m, t in tokens.items()}
    if whole:
        nowhere = torch.zeros_like(next(iter(tokens.values())).present)
        has_all = torch.stack([tokens[m].present if m in tokens else nowhere for m in modalities]).all(0)
        shown = {m: mask & has_all[:, None] for m, mask in shown.items()}
    return Pass({m: t.embeddings for m, t in tokens.items()}, shown)


class Dropout(nn.Module):
    """Dropout whose mask costs a quarter of a 64-bit draw per value on a CPU; elsewhere it is `nn.functional.dropout`.

    The stock generator draws for every value; with it a training step took 1.22 × as long on a CPU
    (`benchmarks/run.py`). The keep probability is exact to 2⁻¹⁶.
    """

    def __init__(self, p: float):
        super().__init__()
        self.p = p

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or self.p == 0:
            return x
        dropped = round(self.p * 2**16)
        if x.device.type != "cpu" or dropped == 2**16:
            return nn.functional.dropout(x, self.p)
        draws = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
        keep = draws.view(torch.int16)[: x.numel()].view(x.shape) >= dropped - 2**15
        return x * keep * (2**16 / (2**16 - dropped))

    def extra_repr(self) -> str:
        return f"p={self.p}"


class MMERAttention(nn.Module):
    """Multi-head attention over the real positions, through transformers' attention interface."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.head_dim = config.head_dim
        self.scaling = config.head_dim**-0.5
        self.is_causal = False
        self.num_key_value_groups = 1
        self.q_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.k_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.v_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.o_proj = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden_states, attention_mask, rotation, **kwargs):
        batch_and_positions = hidden_states.shape[:-1]
        query, key, value = (
            project(hidden_states).view(*batch_and_positions, -1, self.head_dim).transpose(1, 2)  # (B, h, S, d/h)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        if rotation is not None:
            query, key = apply_rotary_pos_emb(query, key, *rotation)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
        attended, weights = attend(
            self, query, key, value, attention_mask, dropout=0.0, scaling=self.scaling, **kwargs
        )  # (B, S, h, d/h)
        return self.o_proj(attended.reshape(*batch_and_positions, -1)), weights


class MMERLayer(GradientCheckpointingLayer):
    """One pre-norm layer: x + attention(norm(x)), then x + feed-forward(norm(x))."""

    def __init__(self, config):
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.attention = MMERAttention(config)
        self.feed_forward_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.feed_forward = nn.Sequential(
            nn.Linear(config.hidden_size, config.intermediate_size),
            nn.GELU(),
            Dropout(config.dropout),
            nn.Linear(config.intermediate_size, config.hidden_size),
        )
        self.dropout = Dropout(config.dropout)

    def forward(self, hidden_states, attention_mask, rotation, **kwargs):
        attended, weights = self.attention(self.attention_norm(hidden_states), attention_mask, rotation, **kwargs)
        hidden_states = hidden_states + self.dropout(attended)
        return hidden_states + self.dropout(self.feed_forward(self.feed_forward_norm(hidden_states))), weights


class SharedTransformer(nn.Module):
    """ST of Eq. 3, with the tokens CLS and SEP that it reads beside those of the modalities.

    Positions are counted over what is really there, so a span hidden behind the mask equals one left out.
    """

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(MMERLayer(config) for _ in range(config.num_hidden_layers))
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.rotary = LlamaRotaryEmbedding(config) if config.position_type == "rope" else None
        self.cls_token = nn.Parameter(torch.zeros(config.hidden_size))
        self.sep_token = nn.Parameter(torch.zeros(config.hidden_size))

    def forward(self, passes: Mapping[str, Pass], one_call: bool | None = None, **kwargs) -> dict[str, PassOutput]:
        """Run passes, in one padded call or in one call each, with equal results.

        One call keeps a GPU busy; on a CPU leaving out what a pass hides is faster (`benchmarks/run.py`).

        Args:
            record: see [`SharedTransformer.run_layers`]; the other `kwargs` go to the attention function.
        """
        if one_call is None:
            one_call = is_on_accelerator(self.cls_token)
        if not one_call:
            return {name: self._run_alone(of_pass, **kwargs) for name, of_pass in passes.items()}
        assembled = {name: self.assemble(of_pass) for name, of_pass in passes.items()}
        sequences = torch.cat([output.sequence for output in assembled.values()])
        masks = torch.cat([output.mask for output in assembled.values()])
        contextual = self.run_layers(sequences, masks, **kwargs).chunk(len(assembled))
        return {n: replace(out, sequence=z) for (n, out), z in zip(assembled.items(), contextual, strict=True)}

    def _run_alone(self, of_pass: Pass, **kwargs) -> PassOutput:
        """One pass in a call of its own, of nothing but the rows and spans that it shows."""
        rows = of_pass.rows
        if not rows.any():  # nothing to run; the zeros carry a graph, so that all processes share one backward
            void = (self.cls_token * 0.0).expand(len(rows), 1, -1)
            return PassOutput(void, torch.zeros_like(rows[:, None]), spans={})
        assembled = self.assemble(of_pass.only(rows))
        contextual = self.run_layers(assembled.sequence, assembled.mask, **kwargs)
        return replace(assembled, sequence=contextual).spread(rows)

    def assemble(self, of_pass: Pass) -> PassOutput:
        """Eq. 3: CLS | audio + v^audio | SEP | text + v^text as (B, S, d), and the mask (B, S) of what is shown."""
        rows = of_pass.rows.shape[0]
        cls, sep = (token.expand(rows, 1, -1) for token in (self.cls_token, self.sep_token))
        always = of_pass.rows.new_ones((rows, 1))
        sequence, mask, spans, length = [], [], {}, 0
        for i, modality in enumerate(self.config.modalities):
            parts = [(sep if i else cls, always)]
            if modality in of_pass.shown:
                parts.append((of_pass.embeddings[modality], of_pass.shown[modality]))
                spans[modality] = slice(length + 1, length + 1 + of_pass.shown[modality].shape[1])
            length += sum(shown.shape[1] for _, shown in parts)
            sequence += [embeddings for embeddings, _ in parts]
            mask += [shown for _, shown in parts]
        return PassOutput(torch.cat(sequence, dim=1), torch.cat(mask, dim=1), spans)

    def run_layers(
        self,
        hidden_states: torch.Tensor,
        mask: torch.Tensor,
        record: dict[str, list[torch.Tensor]] | None = None,
        **kwargs,
    ) -> torch.Tensor:
        """hidden_states (B, S, d), mask (B, S) bool, true where a position is real → z (B, S, d).

        Lists in `record` are filled: `hidden_states` with the input of every layer and z, `attentions` with the weights
        of every layer, which eager attention has. transformers' hooks would do it too, but they are closures, which
        cannot be pickled, and they would be installed a second time on the encoders, whose states then came twice.
        """
        record = record or {}
        positions = (mask.long().cumsum(-1) - 1).clamp(min=0)
        if self.config.position_type == "sinusoidal":
            hidden_states = hidden_states + sinusoids(positions, self.config.hidden_size).to(hidden_states.dtype)
        rotation = self.rotary(hidden_states, positions) if self.rotary is not None else None
        attention_mask = create_bidirectional_mask(
            config=self.config,
            inputs_embeds=hidden_states,
            attention_mask=mask,
            # To see that nothing is hidden, the host would have to wait for an accelerator.
            allow_is_bidirectional_skip=not is_on_accelerator(mask),
        )
        for layer in self.layers:
            record.get("hidden_states", []).append(hidden_states)
            hidden_states, weights = layer(hidden_states, attention_mask, rotation, **kwargs)
            if weights is not None:
                record.get("attentions", []).append(weights)
        hidden_states = self.norm(hidden_states)
        record.get("hidden_states", []).append(hidden_states)
        return hidden_states


def is_on_accelerator(tensor: torch.Tensor) -> bool:
    """Whether the host would wait for a device if it looked at the tensor."""
    return tensor.device.type != "cpu"


def only(states: list[torch.Tensor], wanted: int | list[int]) -> list[torch.Tensor | None]:
    """The `wanted` of the states, with None in place of the others; negative numbers count from the end."""
    wanted = {index % len(states) for index in ([wanted] if isinstance(wanted, int) else wanted)}
    return [state if index in wanted else None for index, state in enumerate(states)]


def sinusoids(positions: torch.Tensor, width: int) -> torch.Tensor:
    """Absolute sinusoidal embeddings (Vaswani et al., 2017) of positions (B, S) → (B, S, width), float32."""
    frequencies = torch.exp(
        -math.log(10_000) * torch.arange(0, width, 2, device=positions.device, dtype=torch.float32) / width
    )
    angles = positions.unsqueeze(-1) * frequencies
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2)
