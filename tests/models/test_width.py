import pytest
from hypothesis import given
from hypothesis import strategies as st

from phoneme.errors import InputError
from phoneme.models import NORMS, Linear, Mlp, count_parameters, mlp_parameters, mlp_width_for

SIZES = {"coeffs": 39, "classes": 41, "context": 11}


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("depth", [1, 2, 4])
@pytest.mark.parametrize("residual", [False, True])
def test_the_formula_counts_what_the_model_has(norm, depth, residual):
    sizes = {"coeffs": 32, "classes": 5, "context": 1, "depth": depth, "norm": norm}
    assert mlp_parameters(32, **sizes) == count_parameters(Mlp(width=32, residual=residual, **sizes))


def test_other_models_are_counted_too():
    assert count_parameters(Linear(**SIZES)) == 429 * 41 + 41


@given(
    target=st.integers(100_000, 20_000_000),
    depth=st.integers(1, 8),
    context=st.integers(0, 15).map(lambda half: 2 * half + 1),
    norm=st.sampled_from(list(NORMS)),
)
def test_no_neighbour_of_the_solved_width_is_nearer(target, depth, context, norm):
    sizes = {"coeffs": 39, "classes": 41, "context": context, "depth": depth, "norm": norm}
    width = mlp_width_for(target, **sizes)
    step = 16 if norm == "group" else 1
    assert width > 0 and width % step == 0
    nearest = abs(mlp_parameters(width, **sizes) - target)
    assert nearest <= abs(mlp_parameters(width + step, **sizes) - target)
    assert nearest <= abs(mlp_parameters(width - step, **sizes) - target)


@given(width=st.integers(1, 5000), depth=st.integers(1, 8))
def test_solver_inverts_the_count(width, depth):
    assert mlp_width_for(mlp_parameters(width, depth=depth, **SIZES), depth=depth, **SIZES) == width


@pytest.mark.parametrize(
    ("width", "context"),
    [(1700, 19), (1750, 5)],  # the reports' wide networks of 2022 and 2023
)
def test_the_reports_two_networks_are_equal_as_the_sample_code_counts_layers(width, context):
    """6 x 1024 against 2 x `width`, the first block not counted: equal within 0.3 %, here only."""

    def ratio(context: int, blocks_not_counted: int) -> float:
        sizes = {"coeffs": 39, "classes": 41, "context": context}
        deep = mlp_parameters(1024, depth=6 + blocks_not_counted, **sizes)
        return mlp_parameters(width, depth=2 + blocks_not_counted, **sizes) / deep

    assert ratio(context, 1) == pytest.approx(1.0, abs=0.003)
    assert min(range(1, 103, 2), key=lambda other: abs(ratio(other, 1) - 1)) == context
    assert ratio(11, 1) == pytest.approx(1.0, abs=0.03)
    assert ratio(11, 0) < 0.7  # all blocks counted, the two are far from equal


@pytest.mark.parametrize(("parameters", "depth"), [(100, 2), (0, 1), (10**6, 0)])
def test_refuses_what_no_width_can_have(parameters, depth):
    with pytest.raises(InputError, match=rf"(?s)got depth {depth}, {parameters} param.*where: parameters.*hint:"):
        mlp_width_for(parameters, depth=depth, **SIZES)
