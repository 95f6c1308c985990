"""What each verdict means, what it does not mean, and what to try next."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Meaning:
    headline: str
    is_: str
    is_not: str
    next_steps: tuple[str, ...]


MEANINGS = {
    "not_critical": Meaning(
        "Not a critical point: the loss still has a slope here",
        "The gradient is not small. A small enough step against it lowers the loss, whatever the curvature is, so the "
        "network is neither at a minimum nor at a saddle point.",
        "If the loss stands still all the same, it is not because there is no way down. It is the step that does not "
        "fit: one that is too large bounces between the walls of a valley, one that is too small hardly moves.",
        (
            "If the loss still falls, train on: nothing is wrong, and the question comes too early.",
            "If it stands still and the sharpness (below) is near or above the optimizer's threshold, or the updates "
            "bounce, the step is too large: divide the rate by 3 to 10, let it decay, or warm up if the trouble is in "
            "the first epochs.",
            "If the sharpness is far below the threshold, the rate may be too small: multiply it by 3 and look again.",
            "If neither helps, one rate cannot serve all directions: an optimizer with a rate for each parameter "
            "(Adam, RMSProp), normalised features, or BatchNorm.",
            "A gradient that is small on all data and large on each batch is noise: larger batches or a smaller rate.",
        ),
    ),
    "saddle": Meaning(
        "A saddle point: the loss is flat to first order, and there is a way down",
        "The gradient is small, and the loss bends up along some directions and down along at least one. That "
        "direction is stored, and the curvature along it was recomputed in float64: one direction that bends down "
        "is proof, so this verdict does not rest on chance.",
        "It is not a minimum, though the loss may stand still as if it were. The direction that was found need not "
        "be the only way out, nor the best one in the long run.",
        (
            "Step along the stored direction (the escape below says what that gains), then train on.",
            "Momentum carries the parameters through a saddle point where plain gradient descent slows down.",
            "Smaller batches: the noise of their gradients pushes the parameters off the flat place.",
            "If all weights began at zero or at one value, the units are copies of each other: begin at random values.",
        ),
    ),
    "local_minimum": Meaning(
        "A local minimum: the loss bends up in every direction",
        "The gradient is small and every direction bends up, so no small step lowers the loss much.",
        "It says nothing of other places, where the loss may be lower, and nothing of data that were not looked at.",
        (
            "If the training loss is small and the validation loss too, this is what you want.",
            "If the training loss is large, the model is too weak here: more features, more context, wider, deeper. "
            "But train a shallower network too: if its training loss is lower, the trouble is optimisation, and "
            "another initialisation, another rate or another optimizer is the remedy.",
            "If only the validation loss is large, it is overfitting (more data, augmentation, dropout, weight decay, "
            "early stopping, fewer parameters) or a mismatch between the two sets, which no training cures.",
        ),
    ),
    "local_maximum": Meaning(
        "A local maximum: the loss bends down in every direction",
        "The gradient is small and every direction bends down: each way out lowers the loss.",
        "It is not where training ends up by itself: descent runs away from such a point.",
        (
            "Look at the sign of the loss: is something maximised that should be minimised?",
            "Look at the optimizer: maximize=True, or a negative learning rate or weight?",
            "If both are right, begin somewhere else: any random step leads down.",
        ),
    ),
    "degenerate": Meaning(
        "A degenerate point: flat directions remain, and curvature cannot decide",
        "The gradient is small, and along some directions the curvature is zero as far as can be told. There the "
        "second order of the Taylor series says nothing; higher orders decide whether the loss rises or falls.",
        "It is not proven to be a minimum, and not a saddle point either. Large networks often end so: redundant or "
        "dead units, and a loss that is already close to zero, leave many flat directions.",
        (
            "If the training loss is small, this is a usual and good end of training.",
            "If it is large, look for dead units and saturated outputs: along these nothing changes. Parameters that "
            "the loss does not depend on are named below, if there are any.",
            "Train on with momentum or a larger rate: a long flat stretch takes long steps.",
            "Weight decay bends all flat directions up; then the question has an answer.",
            "Ask again in float64 and with a smaller tolerance: what is flat in float32 may get a sign.",
        ),
    ),
    "undecided": Meaning(
        "Undecided: the gradient is small, but a sign of the curvature cannot be told",
        "An extreme eigenvalue is so close to zero, or known so roughly, that it can have either sign. Which "
        "verdict is right hangs on that sign.",
        "It is not a statement about the network. It is one about the precision of this measurement.",
        (
            "Ask in float64: rounding is then 9 digits smaller.",
            "Allow more Hessian-vector products: the intervals get narrower.",
            "Ask for the whole spectrum, if the network is small enough (about 10,000 parameters).",
            "Use more data, so that the loss is the one you mean.",
        ),
    ),
}
