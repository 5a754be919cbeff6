"""How hard each term of Eq. 7 pulls at the shared transformer, and whether it pulls where L_S does.

The gradients are those of the weighted terms (λ · L) with respect to the parameters of the shared transformer. They are
computed beside the backward pass of the step and leave nothing behind: `parameter.grad` is not touched.
"""

from collections.abc import Mapping

import torch
from torch import nn
from transformers import Trainer

from ..model.modeling_mmer import MMERForEmotionRecognition


def refuse_gradients(trainer: Trainer) -> None:
    """Raise a ValueError where the gradients of single terms cannot be had."""
    reasons = {
        "FSDP and DeepSpeed, which spread parameters over processes": trainer.is_fsdp_enabled
        or trainer.is_deepspeed_enabled,
        "torch_compile, whose backward pass can run only once": trainer.args.torch_compile,
        "a rival, which has no shared transformer": not isinstance(trainer.model, MMERForEmotionRecognition),
    }
    if reason := next((reason for reason, holds in reasons.items() if holds), None):
        raise ValueError(f"log_gradients does not work with {reason}: leave it out.")


def gradient_figures(
    losses: Mapping[str, torch.Tensor], weights: Mapping[str, float], trunk: nn.Module
) -> dict[str, torch.Tensor]:
    """Figures of one batch, whose graph is kept.

    Args:
        losses: the terms of Eq. 7, still with their graph.
        weights: λ of each term.
        trunk: the shared transformer.

    Returns:
        `grad_norm_<term>` of each term that pulls, and `grad_cosine_<term>`, the cosine of its gradient with that of
        `supervised`, where both pull. Several processes each have those of the global loss through their own rows.
    """
    parameters = [parameter for parameter in trunk.parameters() if parameter.requires_grad]
    pulls = {}
    for name in (name for name, weight in weights.items() if weight > 0 and name in losses):
        found = torch.autograd.grad(losses[name], parameters, retain_graph=True, materialize_grads=True)
        pulls[name] = weights[name] * torch.cat([gradient.flatten().float() for gradient in found])
    norms = {name: gradient.norm() for name, gradient in pulls.items()}
    figures = {f"grad_norm_{name}": norm for name, norm in norms.items() if norm > 0}
    for name in pulls.keys() - {"supervised"}:
        if "supervised" in pulls and norms["supervised"] > 0 and norms[name] > 0:
            cosine = torch.dot(pulls[name], pulls["supervised"]) / (norms[name] * norms["supervised"])
            figures[f"grad_cosine_{name}"] = cosine
    return figures
