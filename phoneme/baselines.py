"""Models of scikit-learn, fitted to windows of frames and copied into networks of ours.

A network whose training accuracy stays below what these reach on validation has failed to be optimised: the linear ones
minimise a convex function, and their solver comes to the end of it. As networks they are saved, evaluated and loaded
like all others.
"""

import contextlib
import io
import logging
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from sklearn.base import ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.svm import LinearSVC
from torch import Tensor, nn

from phoneme.build import build, did_you_mean
from phoneme.errors import DivergedError, InputError

log = logging.getLogger(__name__)

ABSENT = -100.0  # the logit of a class that was not seen: e^-100 is 0 to float32, and a frame of it costs 100 nats


@dataclass(frozen=True, eq=False)
class Fitted:
    """A fitted estimator as a network of ours."""

    network: nn.Module
    section: dict[str, Any]  # of a configuration, with its `_target_`: builds the same network
    converged: bool  # as scikit-learn judges it, by the `tol` of the settings
    iterations: int  # of the solver; of the MLP passes over the frames
    losses: list[float]  # of each pass of the MLP, with the L2 penalty
    cpu_seconds: float  # of all threads, for the fit alone
    absent: tuple[int, ...]  # classes without a frame to fit to: never the answer


def make_estimator(name: str, seed: int, **options: Any) -> ClassifierMixin:
    """The estimator of this name. Raises InputError for an unknown name and for an option that is out of its range."""
    if name not in ESTIMATORS:
        raise InputError(
            expected="a known baseline", got=name, where="baseline.name", hint=did_you_mean(name, ESTIMATORS)
        )
    for option, value in options.items():
        if value < 0 or (value == 0 and option != "alpha"):
            raise InputError(
                expected="a number above 0",
                got=value,
                where=f"baseline.{option}",
                hint="phoneme-baseline --cfg job shows the value that is usual here",
            )
    return ESTIMATORS[name](seed, **options)


def _linear_svm(seed: int, **options: Any) -> LinearSVC:
    """Each class against all others by the squared hinge loss with an L2 penalty, by coordinate descent in the dual.

    (The primal takes four times as long to the same accuracy: correlated coefficients are ill-conditioned.)
    """
    return LinearSVC(dual=True, random_state=seed, **options)


def _logistic(seed: int, **options: Any) -> LogisticRegression:
    """Multinomial: softmax and cross-entropy, with an L2 penalty, by L-BFGS."""
    return LogisticRegression(random_state=seed, **options)


def _mlp(seed: int, *, depth: int, width: int, **options: Any) -> MLPClassifier:
    """`depth` hidden layers of ReLU units, by Adam. Not convex, but a few lines that many have used."""
    return MLPClassifier((width,) * depth, verbose=True, random_state=seed, **options)


ESTIMATORS = MappingProxyType({"linear_svm": _linear_svm, "logistic": _logistic, "mlp": _mlp})


def fit(
    estimator: ClassifierMixin,
    windows: Float[Tensor, "n context coeff"],
    labels: Int64[Tensor, "n"],
    classes: int,
) -> Fitted:
    """Fit `estimator` to windows on the CPU, and copy it into a network that answers for `classes` classes.

    A fit that did not converge is a warning and `converged=False`; the network is as good as it got.

    Raises InputError where there are fewer than two classes in `labels`, DivergedError where weights are not finite.
    """
    seen = labels.unique()
    if len(seen) < 2:
        raise InputError(
            expected="frames of two classes or more",
            got=f"{len(labels)} frames of class {int(seen[0])}",
            where="frames",
            hint="take more frames, or another seed",
        )
    start = time.process_time()
    with _noting_convergence() as complaints, contextlib.redirect_stdout(_ToTheLog()):
        try:
            estimator.fit(windows.flatten(start_dim=1).numpy(), labels.numpy())  # [n, context * coeff]
        except ValueError as error:
            if "non-finite" not in str(error):
                raise
            raise DivergedError(
                expected="finite weights",
                got="weights that are not",
                where=f"the fit of {type(estimator).__name__}",
                hint="try a smaller baseline.learning_rate_init",
            ) from error
    cpu_seconds = time.process_time() - start
    for complaint in complaints:
        log.warning("not converged: %s; baseline.max_iter gives it more", complaint)
    section = _section(estimator, windows.shape[1])
    return Fitted(
        network=_network(estimator, section, windows.shape[2], classes),
        section=section,
        converged=not complaints,
        iterations=int(np.max(estimator.n_iter_)),
        losses=[float(loss) for loss in getattr(estimator, "loss_curve_", [])],
        cpu_seconds=cpu_seconds,
        absent=tuple(sorted(set(range(classes)) - set(estimator.classes_.tolist()))),
    )


def _section(estimator: ClassifierMixin, context: int) -> dict[str, Any]:
    """The model section whose network computes what `estimator` does."""
    if not isinstance(estimator, MLPClassifier):
        return {"_target_": "phoneme.models.Linear", "context": context}
    return {
        "_target_": "phoneme.models.Mlp",
        "context": context,
        "depth": len(estimator.hidden_layer_sizes),
        "width": estimator.hidden_layer_sizes[0],
        "norm": "none",
        "activation": "relu",
        "dropout": 0.0,
        "residual": False,
    }


@torch.no_grad()
def _network(estimator: ClassifierMixin, section: dict[str, Any], coeffs: int, classes: int) -> nn.Module:
    """The network of `section` with the weights of `estimator`, in float32.

    scikit-learn has one output d for two classes, whose probabilities are softmax([0, d]).
    """
    network = build(section, "model", coeffs=coeffs, classes=classes)
    if isinstance(estimator, MLPClassifier):
        *hidden, (weight, bias) = zip((w.T for w in estimator.coefs_), estimator.intercepts_, strict=True)
    else:
        hidden, (weight, bias) = [], (estimator.coef_, estimator.intercept_)
    for block, parts in zip(getattr(network, "blocks", []), hidden, strict=True):
        _copy(block.linear, *parts)
    if len(estimator.classes_) == 2:
        weight, bias = np.concatenate([0 * weight, weight]), np.concatenate([0 * bias, bias])
    network.output.weight.zero_()
    network.output.bias.fill_(ABSENT)
    rows = torch.from_numpy(estimator.classes_)
    network.output.weight[rows] = torch.from_numpy(weight).float()
    network.output.bias[rows] = torch.from_numpy(bias).float()
    return network.eval()


def _copy(linear: nn.Linear, weight: np.ndarray, bias: np.ndarray) -> None:
    linear.weight.copy_(torch.from_numpy(weight))
    linear.bias.copy_(torch.from_numpy(bias))


@contextlib.contextmanager
def _noting_convergence() -> Iterator[list[str]]:
    """Collect what scikit-learn says about convergence, a line each; other warnings come out as they would."""
    complaints: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        yield complaints
    for warning in caught:
        if issubclass(warning.category, ConvergenceWarning):
            complaints.append(str(warning.message).splitlines()[0].rstrip(":"))
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


class _ToTheLog(io.TextIOBase):
    """A stream for scikit-learn's `verbose`, which prints: each line goes to the log."""

    def write(self, text: str) -> int:
        for line in text.splitlines():
            if line.strip():
                log.info("  %s", line)
        return len(text)
