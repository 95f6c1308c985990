"""Losses over frames: cross-entropy, and the mean squared error on the softmax it is compared with.

Both are means over the frames that have a label. Where `targets` is IGNORE there is none (padding), and the
frame counts neither in the sum nor in the divisor. A batch without any labelled frame has the loss 0 with the
gradient 0, so that it changes nothing, where the mean over nothing would be NaN and end the training.

Logits in half precision are widened to float32 first: a sum over thousands of frames needs its digits.
"""

import inspect
from collections.abc import Callable
from functools import partial
from types import MappingProxyType

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from phoneme.build import did_you_mean
from phoneme.errors import InputError

IGNORE = -100  # PyTorch's own default for `ignore_index`


def cross_entropy(
    logits: Float[Tensor, "... classes"],
    targets: Int[Tensor, "..."],
    *,
    label_smoothing: float = 0.0,
    padding_class: int | None = None,
) -> Float[Tensor, ""]:
    """The negative log-likelihood of the labels: mean over frames of -ln softmax(y)[target].

    With `label_smoothing` s the one-hot target becomes (1 - s) one-hot + s / classes (Szegedy et al. 2016). With a
    `padding_class`, frames without a label count as that class: the unmasked loss of most notebooks, for comparison.
    Raises InputError for a class that there is not.

    >>> cross_entropy(torch.zeros(5, 4), torch.tensor([0, 1, 2, 3, IGNORE])).exp()  # an even guess
    tensor(4.)
    """
    if padding_class is not None:
        _check_class(padding_class, logits.shape[-1])
        targets = targets.where(targets != IGNORE, padding_class)
    total = F.cross_entropy(
        _widened(logits).flatten(end_dim=-2),  # [..., classes] -> [frame, classes]
        targets.flatten().long(),
        ignore_index=IGNORE,
        label_smoothing=label_smoothing,
        reduction="sum",
    )
    return total / _labelled(targets)


def mse_on_softmax(logits: Float[Tensor, "... classes"], targets: Int[Tensor, "..."]) -> Float[Tensor, ""]:
    """Mean over frames of sum_i (onehot_i - softmax(y)_i)^2, as the lecture has it: between 0 and 2.

    Its gradient carries the derivative of the softmax, p_i (delta_ij - p_j), which vanishes wherever the
    network is sure, right or wrong. In the gradient of the cross-entropy, p - onehot, that factor cancels.

    >>> mse_on_softmax(torch.tensor([[0.0, 0.0]]), torch.tensor([1]))
    tensor(0.5000)
    """
    probabilities = _widened(logits).softmax(dim=-1)
    valid = targets != IGNORE
    onehot = F.one_hot(targets.long().where(valid, 0), logits.shape[-1])
    errors = (onehot - probabilities).square().sum(dim=-1)
    return errors.where(valid, 0.0).sum() / _labelled(targets)


LOSSES = MappingProxyType({"cross_entropy": cross_entropy, "mse": mse_on_softmax})


def make_loss(name: str, **options: float | int | None) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss `(logits, targets) -> scalar` of this name, its options bound.

    Raises InputError for an unknown name, an option this loss does not have, or a smoothing outside [0, 1).
    """
    if name not in LOSSES:
        raise InputError(expected="a known loss", got=name, where="loss.name", hint=did_you_mean(name, LOSSES))
    known = list(inspect.signature(LOSSES[name]).parameters)[2:]  # after logits and targets
    for option in options:
        if option not in known:
            raise InputError(
                expected=f"an option of {name}",
                got=option,
                where=f"loss.{option}",
                hint=did_you_mean(option, known),
            )
    smoothing = options.get("label_smoothing", 0.0)
    if not 0.0 <= smoothing < 1.0:
        raise InputError(
            expected="a share in [0, 1)",
            got=smoothing,
            where="loss.label_smoothing",
            hint="0.1 is usual; 1 would leave nothing of the label",
        )
    return partial(LOSSES[name], **options)


def _check_class(padding_class: int, classes: int) -> None:
    if not 0 <= padding_class < classes:
        raise InputError(
            expected=f"a class from 0 to {classes - 1}, or null",
            got=padding_class,
            where="loss.padding_class",
            hint="null leaves padded frames out; the notebooks count them as class 0",
        )


def _widened(logits: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _labelled(targets: Int[Tensor, "..."]) -> Int[Tensor, ""]:
    """The number of frames with a label, at least 1: the divisor of a mean that is 0 over nothing."""
    return (targets != IGNORE).sum().clamp(min=1)
