"""The heads f that read a task from z at CLS."""

from torch import nn

from .configuration_mmer import MMERConfig
from .transformer import Dropout


class TaskHead(nn.Sequential):
    """f: a two-layer feed-forward network on z^CLS."""

    def __init__(self, config: MMERConfig, size: int):
        super().__init__(
            nn.Linear(config.hidden_size, config.hidden_size),
            nn.GELU(),
            Dropout(config.dropout),
            nn.Linear(config.hidden_size, size),
        )
