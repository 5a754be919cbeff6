"""The global batch: rows of all processes, so that a batch statistic is that of one process with all rows.

On a single process its own rows are all there are.
"""

import torch
import torch.distributed as dist


def several_processes() -> bool:
    """Whether the batch is one process's part of a global batch."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def global_batch(rows, training: bool):
    """In training the rows (B, …) of every process, one after the other, with gradients; in an evaluation a process's
    own. A mapping of tensors or of mappings is gathered entry by entry.

    Every process then computes the loss of the global batch, and the mean that DDP takes over processes is its exact
    gradient. Needs equally many rows on every process, as accelerate deals them out.
    """
    if not training or not several_processes():
        return rows
    if isinstance(rows, dict):
        return {name: global_batch(of_name, training) for name, of_name in rows.items()}
    return _GatherRows.apply(rows)


class _GatherRows(torch.autograd.Function):
    """All-gather whose backward gives each process the gradients that all of them have for its rows.

    `torch.distributed.nn.functional.all_gather` does the same, and is deprecated without a public successor.
    """

    @staticmethod
    def forward(ctx, rows):
        parts = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, gradient):
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        return gradient.chunk(dist.get_world_size())[dist.get_rank()]
