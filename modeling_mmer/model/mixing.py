"""What becomes of the states of an encoder while it runs: they are mixed (Eq. 1) or kept, one after the other.

Mixing needs no copy of all states. Without gradients a state is gone once the next layer has read it, so memory does
not grow with the number of layers; with gradients the states stay as the encoder has made them, for the backward pass.

Shapes: B examples, L+1 encoder states, T frames or tokens, D encoder width.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Protocol

import torch
from torch import nn


class Receiver(Protocol):
    """Takes the states (B, T, D) of one run of an encoder in their order, and makes tensors (B, …, D) of them."""

    def add(self, state: torch.Tensor) -> None: ...

    def result(self) -> tuple[torch.Tensor, ...]: ...


class Stack:
    """All states as they are: (B, L+1, T, D)."""

    def __init__(self, mask: torch.Tensor):
        self.states: list[torch.Tensor] = []

    def add(self, state: torch.Tensor) -> None:
        self.states.append(state)

    def result(self) -> tuple[torch.Tensor]:
        return (torch.stack(self.states, dim=1),)


class Means:
    """The mean of each state over the real frames of each row, standardised if asked for, as (B, L+1, D) in float32.

    Args:
        mask: (B, T), true where real.
        mean, std: (L+1, D), by which each state is standardised.
    """

    def __init__(self, mask: torch.Tensor, mean: torch.Tensor | None = None, std: torch.Tensor | None = None):
        self.mean, self.std, self.present = mean, std, mask.any(-1)
        self.weights = mask / mask.sum(-1, keepdim=True).clamp(min=1)
        self.means: list[torch.Tensor] = []

    def add(self, state: torch.Tensor) -> None:
        weights = self.weights[:, None, : state.shape[1]].to(state.dtype)
        self.means.append((weights @ state).squeeze(1).float())

    def result(self) -> tuple[torch.Tensor]:
        means = torch.stack(self.means, dim=1)
        if self.mean is not None:
            means = (means - self.mean) / self.std
        return (means * self.present[:, None, None],)


class Each:
    """What each of several receivers makes of the same states."""

    def __init__(self, *receivers: Receiver):
        self.receivers = receivers

    def add(self, state: torch.Tensor) -> None:
        for receiver in self.receivers:
            receiver.add(state)

    def result(self) -> tuple[torch.Tensor, ...]:
        return tuple(result for receiver in self.receivers for result in receiver.result())


class Mix:
    """Eq. 1: Σ_l w_l H^l as (B, T, D) in float32, of states of any dtype, standardised before if asked for.

    Args:
        weights: w (L+1,). Where they need a gradient, all states are kept until the result is asked for.
        mean, std: (L+1, D), by which each state is standardised.
    """

    def __init__(self, weights: torch.Tensor, mean: torch.Tensor | None = None, std: torch.Tensor | None = None):
        self.weights, self.mean, self.std = weights.float(), mean, std
        self.kept: list[torch.Tensor] | None = [] if self.weights.requires_grad and torch.is_grad_enabled() else None
        self.sum = _RunningSum(self.weights.detach(), mean, std)

    def add(self, state: torch.Tensor) -> None:
        self.sum.add(state) if self.kept is None else self.kept.append(state)

    def result(self) -> tuple[torch.Tensor]:
        if self.kept is None:
            return (self.sum.value,)
        return (_WeightedSum.apply(self.weights, self.mean, self.std, *self.kept),)


class _RunningSum:
    """Σ_l w_l (H^l − μ_l) / σ_l, as Σ_l H^l (w_l / σ_l) − Σ_l w_l μ_l / σ_l: no state is copied to be standardised."""

    def __init__(self, weights: torch.Tensor, mean: torch.Tensor | None, std: torch.Tensor | None):
        self.factors = list(weights if std is None else weights[:, None] / std.float())  # () or (D,) of each state
        self.offset = None if mean is None else (mean.float() * torch.stack(self.factors)).sum(0)
        self.value: torch.Tensor | None = None
        self.single: torch.Tensor | None = None  # a state in float32, in the same memory for each
        self.count = 0

    def add(self, state: torch.Tensor) -> None:
        factor = self.factors[self.count]
        if self.value is None:
            self.value = state.float() * factor if self.offset is None else torch.addcmul(-self.offset, state, factor)
        elif torch.jit.is_tracing():  # no exporter knows the sum in place
            self.value = torch.addcmul(self.value, state, factor)
        elif state.dtype == self.value.dtype:
            self.value.addcmul_(state, factor)
        else:
            self.single = torch.empty_like(self.value) if self.single is None else self.single
            self.value.addcmul_(self.single.copy_(state), factor)
        self.count += 1


class _WeightedSum(torch.autograd.Function):
    """Eq. 1 over a list of states, with the gradient of the weights alone: the states are those of frozen encoders.

    Autograd's own sum would keep a float32 copy of the states, stacked, and another for each step of standardising.
    """

    @staticmethod
    def forward(ctx, weights, mean, std, *states):
        ctx.save_for_backward(mean, std, *states)
        total = _RunningSum(weights, mean, std)
        for state in states:
            total.add(state)
        return total.value

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        mean, std, *states = ctx.saved_tensors
        gradient = gradient.contiguous()
        of_state, values = (torch.empty_like(gradient) for _ in range(2))  # used again and again: new memory is slow
        found = []
        for layer, state in enumerate(states):
            values.copy_(state)
            if mean is None:
                found.append(torch.dot(gradient.flatten(), values.flatten()))
            else:
                scaled = torch.div(gradient, std[layer], out=of_state)
                found.append(torch.dot(scaled.flatten(), values.sub_(mean[layer]).flatten()))
        return torch.stack(found), None, None, *(None for _ in states)


@contextmanager
def passed_on(first: nn.Module, outputs: Sequence[nn.Module], add: Callable[[torch.Tensor], None]) -> Iterator[None]:
    """Within it `add` gets what enters `first` and what each of `outputs` puts out, of runs in this thread.

    transformers' `output_hidden_states` gives the same, but only once all are there, and so keeps them all.
    """
    thread = threading.get_ident()

    def take(state) -> None:
        if threading.get_ident() == thread:
            add(state[0] if isinstance(state, tuple) else state)

    with ExitStack() as hooks:
        hooks.callback(first.register_forward_pre_hook(lambda _, inputs: take(inputs)).remove)
        for module in outputs:
            hooks.callback(module.register_forward_hook(lambda _, __, output: take(output)).remove)
        yield
