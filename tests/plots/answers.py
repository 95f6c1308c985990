"""Answers as critical_point.json has them, one a verdict; change what a test is about."""

import math
from typing import Any


def extreme(value: float, bound: float, failure: float = 1e-3, multiplicity: int | None = None) -> dict[str, Any]:
    """An eigenvalue whose interval is twice as wide as its bound."""
    return {
        "value": value,
        "bound": bound,
        "lower": value - 2 * bound,
        "upper": value + 2 * bound,
        "failure": failure,
        "multiplicity": multiplicity,
    }


def density(low: float, high: float, probes: int = 4) -> dict[str, Any]:
    """A peak at zero and one at either end, blurred as the real one."""
    sigma = 0.005 * (high - low)
    grid = [low - 5 * sigma + (high - low + 10 * sigma) * i / 400 for i in range(401)]
    parts = ((0.0, 0.9), (low, 0.01), (high, 0.0001), (0.1 * high, 0.0899))
    mean = [
        sum(w * math.exp(-(((t - at) / sigma) ** 2) / 2) for at, w in parts) / (sigma * math.sqrt(2 * math.pi))
        for t in grid
    ]
    error = [0.3 * m if probes else 0.0 for m in mean]
    return {"grid": grid, "density": mean, "standard_error": error, "sigma": sigma, "probes": probes, "steps": 40}


def ratio(
    positive: tuple[float, float], negative: tuple[float, float], tolerance: float, exact: bool
) -> dict[str, Any]:
    """Shares; zero is what is left."""
    zero = (1 - positive[1] - negative[1], 1 - positive[0] - negative[0])
    shares = {"positive": positive, "zero": zero, "negative": negative}
    named = {name: {"low": max(low, 0.0), "high": high} for name, (low, high) in shares.items()}
    return {**named, "tolerance": tolerance, "exact": exact, "failure": 0.0 if exact else 1e-3}


def cut(direction: str, loss: float, curvature: float, slope: float = 0.0) -> dict[str, Any]:
    """A slice of a surface with a cubic and a quartic term; trusted to 0.1."""
    half = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0]
    radii = [*(-r for r in reversed(half)), *half]
    predicted = [loss + slope * r + curvature * r**2 / 2 for r in radii]
    extra = max(abs(curvature), 1e-6)
    measured = [p + extra * (0.2 * r**3 + 0.4 * r**4) for p, r in zip(predicted, radii, strict=True)]
    return {
        "direction": direction,
        "slope": slope,
        "curvature": curvature,
        "radii": radii,
        "predicted": predicted,
        "measured": measured,
        "trusted_radius": 0.1,
    }


def answer(verdict: str = "saddle", low: float = -0.42, high: float = 21.3, **changes: Any) -> dict[str, Any]:
    """A complete answer; `changes` replace its parts."""
    scale = max(abs(low), abs(high))
    flat = 1e-3 * scale
    parts = {
        "verdict": verdict,
        "why": "along the stored direction v the loss bends down: v'Hv = -0.42",
        "loss": 2.31,
        "gradient_norm": 0.87 if verdict == "not_critical" else 1.2e-5,
        "gradient_norm_relative": 0.088 if verdict == "not_critical" else 1.2e-6,
        "gradient_threshold": 0.00992,
        "lambda_min": extreme(low, 0.01 * abs(low)),
        "lambda_max": extreme(high, 1e-3 * abs(high)),
        "leading_eigenvalues": [high, 0.6 * high, 0.3 * high, 0.29 * high, 0.1 * high],
        "flat_tolerance": flat,
        "witness": None if verdict == "not_critical" else {"curvature": low, "bound": 1e-9, "slope": -3e-7},
        "minimum_ratio": ratio((0.05, 0.081), (0.006, 0.012), flat, exact=False),
        "spectral_density": density(low, high),
        "trace": {"value": 215.4, "standard_error": 12.1, "products": 40},
        "taylor": [cut("lambda_min", 2.31, low), cut("lambda_max", 2.31, high)],
        "escape": None,
        "kinks": {"inputs": 786432, "near": 1204, "share": 0.00153, "relative_distance": 1e-3, "activations": ["relu"]},
        "sharpness": None,
        "bouncing": None,
        "homework_2_2": None,
        "unused_parameters": [],
        "data": {"split": "train", "frames": 4096, "masked": 0},
        "cost": {
            "products": 212,
            "seconds": 3.94,
            "parameters": 34601,
            "dtype": "float32",
            "device": "cpu",
            "batchnorm": "eval",
            "weight_decay": 0.0,
            "seed": 0,
        },
    }
    if verdict == "saddle":
        parts["escape"] = {
            "sign": 1,
            "lowered": True,
            "radius": 0.3,
            "predicted": 0.0189,
            "measured": 0.0192,
            "second_measured": 0.0171,
            "best_radius": 0.9,
            "best_measured": 0.0961,
            "best_second_measured": None,
        }
    return parts | changes
