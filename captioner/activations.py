"""GPT-2's activation in one kernel instead of eight, while a training runs."""

from torch import nn
from transformers.activations import NewGELUActivation

Slow = list[tuple[nn.Module, str, nn.Module]]
"""Where an activation stood: in which module, by what name, which."""


def fuse_activations(network: nn.Module) -> Slow:
    """Put torch's `gelu(approximate="tanh")` in place of transformers' `gelu_new`.

    It is the same function (Hendrycks and Gimpel, arXiv 1606.08415) up to rounding. Returns what
    `restore_activations` takes.
    """
    slow: Slow = [
        (parent, name, child)
        for parent in network.modules()
        for name, child in parent.named_children()
        if isinstance(child, NewGELUActivation)
    ]
    for parent, name, child in slow:
        setattr(parent, name, nn.GELU(approximate="tanh").train(child.training))
    return slow


def restore_activations(slow: Slow) -> None:
    """Put back what `fuse_activations` took away."""
    for parent, name, child in slow:
        setattr(parent, name, child)
