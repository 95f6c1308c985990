"""The sections of the page about a critical point, each from its part of critical_point.json, in HTML."""

from typing import Any

from phoneme.report.markup import heading, number, paragraph, table
from phoneme.wording import ends, percent, with_bound

Rows = list[tuple[str, str, str]]
EDGE = 0.1  # a sharpness within 10 % of the threshold is at it: full-batch training hovers there


def certainty(answer: dict[str, Any]) -> str:
    """How sure the verdict is, in words; empty where it needs none."""
    low, witness = answer["lambda_min"], answer["witness"]
    if answer["verdict"] == "saddle" and witness:
        return (
            f"The proof: along the stored direction v the curvature is {number(float(witness['curvature']))}, with a "
            f"rounding error of at most {number(float(witness['bound']), 1)}."
        )
    if answer["verdict"] not in ("local_minimum", "local_maximum", "degenerate"):
        return ""
    end = low if answer["verdict"] != "local_maximum" else answer["lambda_max"]
    if not end["failure"]:
        return "All eigenvalues were computed, so this is certain for this loss on these data, up to rounding."
    return (
        "Not all eigenvalues were computed, so this is not certain: a direction that the random starts did not meet "
        f"could be missed, with a probability of at most {number(float(end['failure']))}. "
        "Only the whole spectrum makes it certain."
    )


def numbers(answer: dict[str, Any]) -> str:
    """The table of all numbers, and sentences about those that are not there."""
    rows = [*_slope(answer), *_curvature(answer), *_spectrum(answer)]
    missing = []
    if not answer["minimum_ratio"]:
        missing.append("The minimum ratio is not known: only the two ends of the spectrum were computed.")
    if answer["unused_parameters"]:
        names = ", ".join(answer["unused_parameters"])
        missing.append(f"The loss does not depend on these parameters, so they add flat directions: {names}.")
    return heading("The numbers") + table(rows) + "".join(paragraph(text) for text in missing)


def _slope(answer: dict[str, Any]) -> Rows:
    small = "above" if answer["gradient_norm"] > answer["gradient_threshold"] else "below"
    rows = [
        ("loss", number(float(answer["loss"])), "the mean over the data named under the conditions"),
        (
            "gradient norm",
            number(float(answer["gradient_norm"])),
            f"how steep the loss is: {small} {number(float(answer['gradient_threshold']))}, up to which it counts as 0",
        ),
    ]
    if answer["gradient_norm_relative"] is not None:
        says = "over √(2 · κ · loss), κ the curvature along it (at most the largest |λ|): 1 promises the whole loss"
        rows.append(("relative gradient norm", number(float(answer["gradient_norm_relative"])), says))
    return rows


def _curvature(answer: dict[str, Any]) -> Rows:
    low, high = answer["lambda_min"], answer["lambda_max"]
    steep = "the largest curvature"
    if high["value"] > 0:
        steep = (
            "the steepest curvature; plain gradient descent is stable only below a learning rate of "
            f"2/λ_max = {number(2.0 / high['value'])}"
        )
    bends = "bends down" if low["value"] < 0 else "bends up"
    if abs(low["value"]) <= max(low["bound"], answer["flat_tolerance"]):
        bends = "is flat, as far as can be told"
    rows = [
        ("λ_max", with_bound(high), f"{steep}; {_between(high)}"),
        ("λ_min", with_bound(low), f"the smallest curvature: along its direction the loss {bends}; {_between(low)}"),
    ]
    rows += [
        (f"directions with λ_{name}", number(end["multiplicity"]), "how many share this curvature")
        for name, end in (("max", high), ("min", low))
        if end["multiplicity"] is not None
    ]
    leading = ", ".join(number(float(value)) for value in answer["leading_eigenvalues"])
    rows.append(("largest eigenvalues", leading, "a few far above the rest are usual: one or so a class"))
    if answer["flat_tolerance"]:
        flat = number(float(answer["flat_tolerance"]))
        rows.append(("flat up to", flat, "a curvature of at most this size cannot be told from zero here"))
    return rows


def _between(extreme: dict[str, Any]) -> str:
    low, high = ends(extreme["lower"], extreme["upper"])
    known = f"between {low} and {high}" if low != high else "known to more than eight digits"
    return known + (f", except with probability {number(float(extreme['failure']))}" if extreme["failure"] else "")


def _spectrum(answer: dict[str, Any]) -> Rows:
    rows: Rows = []
    ratio, trace = answer["minimum_ratio"], answer["trace"]
    if ratio:
        how = "counted exactly" if ratio["exact"] else "an interval that contains the truth"
        if ratio["failure"]:
            how += f", except with probability {number(float(ratio['failure']))}"
        rows += [
            ("minimum ratio", percent(ratio["positive"]), f"the share of directions that bend up; {how}"),
            (
                "flat directions",
                percent(ratio["zero"]),
                f"|λ| up to {number(float(ratio['tolerance']))} counts as zero",
            ),
            ("directions down", percent(ratio["negative"]), "none at a minimum"),
        ]
    if trace:
        error = f" ± {number(float(trace['standard_error']), 2)}" if trace["standard_error"] else ""
        says = "the sum of all curvatures, with its standard error" if error else "the sum of all curvatures"
        rows.append(("trace", number(float(trace["value"])) + error, says))
    return rows


def sharpness_section(sharpness: dict[str, Any] | None, rate_is_initial: bool = False) -> str:
    """The largest curvature against what the optimizer can stand; at its initial rate, if a schedule has ended at 0."""
    if not sharpness:
        return ""
    name, ratio = sharpness["optimizer"], float(sharpness["ratio"])
    if abs(ratio - 1) <= EDGE:
        says = "at the threshold, the edge of stability: the step is as large as this surface allows"
    elif ratio > 1:
        says = (
            "above the threshold: with the optimizer's state held as it is, steps along the steepest direction would "
            "overshoot and grow. If the loss jumps or stands still, a smaller rate helps"
        )
    else:
        says = "below the threshold: the steepest direction is not what limits training"
    surface = f"of the surface as {name} rescales it" if sharpness["preconditioned"] else "of the surface"
    rows = [
        ("sharpness", with_bound(sharpness), f"the largest curvature {surface}"),
        (
            "threshold",
            number(float(sharpness["threshold"])),
            f"the largest curvature that {name} can stand at a learning rate of {number(float(sharpness['lr']))}",
        ),
        ("ratio", number(ratio), "sharpness over threshold: above 1, steps diverge on a bowl of this curvature"),
    ]
    note = "The schedule has brought the learning rate to 0: this is said of the rate it began with. "
    text = (note if rate_is_initial else "") + f"The sharpness is {says}."
    return heading("Sharpness and the optimizer") + paragraph(text) + table(rows)


def bouncing_section(bouncing: dict[str, Any] | None) -> str:
    """Whether an update jumps from wall to wall of a valley."""
    if not bouncing:
        return ""
    before, after, middle = (number(bouncing[name], 4) for name in ("before", "after", "middle"))
    losses = f"The loss is {before} before an update, {after} after it, and {middle} half way between."
    if bouncing["bouncing"]:
        says = (
            "The middle is clearly the lowest: the updates bounce between the walls of a valley. A smaller rate helps."
        )
    else:
        says = (
            "The middle is not clearly lower than both ends: the updates do not bounce between the walls of a valley."
        )
    return heading("From wall to wall?") + paragraph(f"{losses} {says}")


def noise_section(noise: dict[str, Any] | None, batch_size: int | None) -> str:
    """Whether the batches are too small, or the rate too large."""
    if not noise or noise["value"] is None:
        return ""
    high = "on" if noise["high"] is None else f"to {number(float(noise['high']))}"
    says = (
        f"The gradient noise scale is {number(float(noise['value']))} frames ({number(100.0 * noise['confidence'])} % "
        f"interval from {number(float(noise['low']))} {high}): the batch size at which a batch's gradient has as much "
        "noise as signal."
    )
    if batch_size:
        larger = batch_size < noise["value"]
        says += f" The training's batches have {number(batch_size)} frames, " + (
            "fewer: larger ones, or a smaller rate, would make steadier progress."
            if larger
            else "more: the noise of small batches is not what holds it up."
        )
    return heading("Noise of the batches") + paragraph(says)


def escape_section(answer: dict[str, Any]) -> str:
    """Predicted against measured, or why there is no escape."""
    step = answer["escape"]
    if not step:
        reason = {
            "saddle": "No escape step was tried.",
            "not_critical": "No escape step was tried: here the gradient shows the way down.",
        }.get(answer["verdict"], "No escape step was tried: that is for saddle points.")
        return heading("The way out") + paragraph(reason)
    rows = [
        ("step length", step["radius"], "along the direction of λ_min, as far as Taylor's model is trusted"),
        ("decrease, predicted", step["predicted"], "by Taylor's model to second order"),
        ("decrease, measured", step["measured"], "of the true loss on the same data"),
        ("on other data", step["second_measured"], "which the direction was not computed from"),
        ("best step length", step["best_radius"], "the step along this line that gains most"),
        ("decrease there", step["best_measured"], "of the true loss on the same data"),
        ("there, on other data", step["best_second_measured"], "may be negative: then the loss rises there"),
    ]
    known = [(name, number(float(value)), says) for name, value, says in rows if value is not None]
    return heading("The way out") + paragraph(_gained(step)) + table(known)


def _gained(step: dict[str, Any]) -> str:
    if not step["lowered"]:
        return "The loss falls nowhere along the stored direction by more than rounding: nothing was escaped."
    if step["measured"] is None:
        return "Taylor's model cannot be trusted at any step length, but a search along the direction found a fall."
    predicted, measured = float(step["predicted"]), float(step["measured"])
    told = f"The loss falls by {number(measured)}" if measured > 0 else f"The loss rises by {number(-measured)}"
    return f"{told} along the stored direction; Taylor's model predicts a fall of {number(predicted)}."


def kinks_section(kinks: dict[str, Any] | None) -> str:
    """How far the idea of a curvature can be trusted."""
    if not kinks:
        return ""
    return heading("Kinks") + paragraph(
        f"The network has units whose slope jumps ({number(kinks['activations'])}): there the surface has kinks and no "
        f"curvature. Of {number(kinks['inputs'])} inputs of such units on these data, {number(kinks['near'])} "
        f"({number(100.0 * kinks['share'])} %) lie near a kink, that is within "
        f"{number(float(kinks['relative_distance']))} of their layer's root mean square. The more there are, the "
        "shorter the steps for which the numbers above hold."
    )


def homework_section(homework: dict[str, Any] | None) -> str:
    """The course's answer beside the truth."""
    if not homework:
        return ""
    course, exact, renamed = homework["course"], homework["exact"], homework["renamed"]
    index = f"{exact['positive']} positive, {exact['negative']} negative, {exact['zero']} zero"
    spread = f"{number(renamed['lowest'])} to {number(renamed['highest'])}"
    rows = [
        ("gradient norm, the course's", number(course["gradient_norm"]), "mean of the two layers' norms"),
        ("minimum ratio, the course's", number(course["minimum_ratio"]), "from a matrix without second derivatives"),
        ("answer, the course's", course["verdict"], "a ratio above 0.5 counts as like a minimum"),
        (
            "the same, with a tolerance",
            number(homework["with_tolerance"]["minimum_ratio"]),
            f"only eigenvalues that are more than rounding count: {homework['with_tolerance']['verdict']}",
        ),
        ("eigenvalues of the Hessian", index, "all of them, counted in float64"),
        ("minimum ratio, exact", number(exact["minimum_ratio"]), "positive eigenvalues over all"),
        (
            "the course's ratio, renamed",
            spread,
            f"over {number(renamed['permutations'])} other orders of the hidden units, which change nothing that the "
            f"network computes; {number(renamed['verdict_flips'])} of them change the course's answer",
        ),
    ]
    return heading("Homework 2-2") + table(rows)


def conditions(answer: dict[str, Any]) -> str:
    """On what, how exactly and at what cost it was measured."""
    cost = answer["cost"]
    rows = [(f"data: {name}", number(value), "") for name, value in answer["data"].items()]
    rows += [
        ("parameters", number(cost["parameters"]), "the dimensions of the surface"),
        ("precision", number(cost["dtype"]), f"on {cost['device']}"),
        ("BatchNorm", number(cost["batchnorm"]), "eval: fixed statistics; train: those of each batch"),
        ("weight decay", number(float(cost["weight_decay"])), "part of the loss above, unless 0"),
        ("products", number(cost["products"]), "Hessian-vector products, each about the cost of two gradients"),
        ("seconds", number(float(cost["seconds"])), "in all"),
        ("seed", str(cost["seed"]), "of the random starts"),
    ]
    return heading("The conditions") + table(rows)
