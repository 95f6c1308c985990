"""A model of scikit-learn and its copy in our networks say the same, of real speech."""

import logging

import numpy as np
import pytest
import torch
from sklearn.neural_network import MLPClassifier

from phoneme.baselines import ABSENT, ESTIMATORS, fit, make_estimator
from phoneme.errors import DivergedError, InputError
from tests.folders import LABELS, TRAIN, features, windows

COEFFS, CONTEXT, CLASSES = 39, 3, 41
LINEAR = {"C": 0.1, "tol": 1e-2, "max_iter": 500}
OPTIONS = {
    "linear_svm": LINEAR | {"tol": 0.1},
    "logistic": LINEAR,
    "mlp": {
        **{"depth": 2, "width": 24, "alpha": 1e-4, "batch_size": 100, "learning_rate_init": 1e-2},
        **{"tol": 1e-3, "n_iter_no_change": 3, "max_iter": 60},
    },
}


@pytest.fixture(scope="module")
def speech() -> tuple[torch.Tensor, torch.Tensor]:
    """Windows of two utterances with their labels; some of the 41 classes are not among them."""
    stacked = np.concatenate([windows(features(id).numpy(), CONTEXT) for id in TRAIN[:2]])
    labels = torch.tensor([int(label) for id in TRAIN[:2] for label in LABELS[id]])
    return torch.from_numpy(stacked).view(-1, CONTEXT, COEFFS), labels


@pytest.fixture(scope="module", params=sorted(ESTIMATORS))
def fitted(request, speech):
    estimator = make_estimator(request.param, 0, **OPTIONS[request.param])
    return estimator, fit(estimator, *speech, CLASSES)


def scores(estimator, inputs: torch.Tensor) -> torch.Tensor:
    """What the estimator says of each class it knows: probabilities, or the distance of the SVM."""
    says = estimator.predict_proba if hasattr(estimator, "predict_proba") else estimator.decision_function
    return torch.from_numpy(says(inputs.flatten(1).numpy()))


def ours(estimator, network, inputs: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        logits = network(inputs).double()
    return logits.softmax(1) if hasattr(estimator, "predict_proba") else logits


def test_the_network_says_what_the_estimator_says(fitted, speech):
    estimator, copy = fitted
    known = torch.from_numpy(estimator.classes_)
    difference = ours(estimator, copy.network, speech[0])[:, known] - scores(estimator, speech[0])
    assert difference.abs().max() < 1e-5
    assert not copy.network.training


def test_it_has_learned_something(fitted, speech):
    assert (fitted[1].network(speech[0]).argmax(1) == speech[1]).float().mean() > 0.8
    assert fitted[1].converged and 0 < fitted[1].iterations < 500 and fitted[1].cpu_seconds > 0


def test_a_class_that_was_not_seen_is_never_the_answer(fitted, speech):
    _, copy = fitted
    absent = sorted(set(range(CLASSES)) - set(speech[1].tolist()))
    assert absent and list(copy.absent) == absent
    logits = copy.network(100 * speech[0][:50])
    assert (logits[:, absent] == ABSENT).all()
    assert (copy.network(speech[0]).softmax(1)[:, absent] < 1e-40).all()


def test_the_passes_of_the_mlp_are_kept_and_said(speech, caplog):
    caplog.set_level(logging.INFO)
    copy = fit(make_estimator("mlp", 0, **OPTIONS["mlp"]), *speech, CLASSES)
    assert len(copy.losses) == copy.iterations and copy.losses[-1] < copy.losses[0]
    assert f"Iteration {copy.iterations}, loss = " in caplog.text


@pytest.mark.parametrize("name", sorted(ESTIMATORS))
def test_two_classes_have_two_logits(name, speech):
    """scikit-learn has one output for them."""
    inputs, labels = speech[0][:400], torch.where(speech[1][:400] == 0, 7, 3)
    estimator = make_estimator(name, 0, **OPTIONS[name])
    copy = fit(estimator, inputs, labels, CLASSES)
    assert len(copy.absent) == CLASSES - 2
    said = ours(estimator, copy.network, inputs)[:, [3, 7]]
    expected = scores(estimator, inputs)
    if expected.ndim == 1:  # the SVM's distance, of the second class
        expected = torch.stack([0 * expected, expected], dim=1)
    assert (said - expected).abs().max() < 1e-5


@pytest.mark.parametrize("name", sorted(ESTIMATORS))
def test_a_fit_that_did_not_converge_says_so(name, speech, caplog):
    options = OPTIONS[name] | {"max_iter": 2, "tol": 1e-9}
    copy = fit(make_estimator(name, 0, **options), *speech, CLASSES)
    assert not copy.converged and copy.iterations == 2
    assert "not converged: " in caplog.text and "baseline.max_iter gives it more" in caplog.text


def test_frames_of_one_class(speech):
    with pytest.raises(InputError, match=r"frames of two classes or more, got 9 frames of class 5\n  where: frames"):
        fit(make_estimator("logistic", 0, **LINEAR), speech[0][:9], torch.full((9,), 5), CLASSES)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's, of the overflow
def test_weights_that_are_not_finite(speech):
    options = OPTIONS["mlp"] | {"learning_rate_init": 1e300}
    with pytest.raises(DivergedError, match=r"the fit of MLPClassifier\n  hint: try a smaller baseline.learning_rate"):
        fit(make_estimator("mlp", 0, **options), *speech, CLASSES)


def test_an_unknown_name():
    with pytest.raises(InputError, match=r"a known baseline, got linear\n  where: baseline.name\n  hint: did you mean"):
        make_estimator("linear", 0)


@pytest.mark.parametrize("change", [{"C": 0.0}, {"tol": -1e-3}, {"max_iter": 0}])
def test_an_option_out_of_its_range(change):
    with pytest.raises(InputError, match=rf"a number above 0, got .*\n  where: baseline.{next(iter(change))}"):
        make_estimator("linear_svm", 0, **LINEAR | change)


def test_no_penalty_is_a_penalty():
    assert isinstance(make_estimator("mlp", 0, **OPTIONS["mlp"] | {"alpha": 0.0}), MLPClassifier)
