import gc

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from phoneme.curvature import hvp
from phoneme.curvature.hvp import GaussNewtonProducts, HessianProducts
from phoneme.curvature.inertia import dense
from phoneme.curvature.objective import Objective
from phoneme.curvature.written_out import WrittenOut
from phoneme.errors import InputError
from phoneme.losses import cross_entropy, mse_on_softmax
from tests.curvature.surfaces import brute_force, network, ragged_batches, relative_error

PRECISE = ((torch.float32, 1e-5), (torch.float64, 1e-10))


@pytest.mark.parametrize(("dtype", "error"), PRECISE)
@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU])
@pytest.mark.parametrize("batchnorm", ["eval", "train"])
@pytest.mark.parametrize("memory_gib", [None, 0.0])
def test_hessian_is_that_of_brute_force(dtype, error, activation, batchnorm, memory_gib):
    model, batches = network(activation), ragged_batches()
    _, _, truth = brute_force(model, batches, batchnorm=batchnorm, weight_decay=0.2)
    objective = Objective(model, cross_entropy, batches, dtype=dtype, batchnorm=batchnorm, weight_decay=0.2)
    found, asymmetry = dense(HessianProducts(objective, memory_gib))
    assert relative_error(found, truth) < error
    assert asymmetry < error * truth.abs().max()


@pytest.mark.parametrize(("dtype", "error"), PRECISE)
def test_hessian_over_some_parameters_is_a_block(dtype, error):
    model, batches = network(), ragged_batches()
    names = ["1.weight", "4.weight", "7.bias"]
    _, _, truth = brute_force(model, batches, names=names)
    by_name = Objective(model, cross_entropy, batches, names, dtype=dtype)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in names)
    by_flag = Objective(model, cross_entropy, batches, dtype=dtype)
    for objective in (by_name, by_flag):
        assert relative_error(dense(HessianProducts(objective))[0], truth) < error


def test_second_derivatives_of_a_product_of_weights():
    """The lecture's y = w1 w2 x, one datum (1, 1): at the origin H = [[0, -2], [-2, 0]]."""
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False))
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    objective = Objective(model, F.mse_loss, [(torch.ones(1, 1), torch.ones(1, 1))])
    assert torch.equal(dense(HessianProducts(objective))[0], torch.tensor([[0.0, -2.0], [-2.0, 0.0]]))
    assert objective.value() == 1 and objective.gradient().tolist() == [0, 0]


def test_a_loss_that_is_linear_has_no_curvature_but_weight_decay():
    model = nn.Linear(2, 1)
    objective = Objective(model, lambda z, y: (z - y).mean(), [(torch.ones(3, 2), torch.ones(3, 1))], weight_decay=0.5)
    for products in (HessianProducts, GaussNewtonProducts):
        assert torch.equal(dense(products(objective))[0], 0.5 * torch.eye(3))


@pytest.mark.parametrize(("dtype", "error"), PRECISE)
@pytest.mark.parametrize("loss", [cross_entropy, mse_on_softmax])
def test_gauss_newton_is_jacobian_transposed_times_loss_hessian_times_jacobian(dtype, error, loss):
    model, batches = network(), ragged_batches()
    objective = Objective(model, loss, batches, dtype=torch.float64)
    truth = torch.zeros(objective.size, objective.size, dtype=torch.float64)
    split = objective.selection.split
    for batch in objective.batches:
        with objective.conditions():
            outputs = objective.outputs(batch, objective.leaves())
            bend = torch.autograd.functional.hessian(lambda z, b=batch: objective.share(b, z), outputs.detach())
            jacobian = torch.autograd.functional.jacobian(
                lambda flat, b=batch: objective.outputs(b, split(flat)), objective.point
            )
        rows = outputs.numel()
        jacobian = jacobian.reshape(rows, -1)
        truth += jacobian.T @ bend.reshape(rows, rows) @ jacobian
    found, _ = dense(GaussNewtonProducts(Objective(model, loss, batches, dtype=dtype)))
    assert relative_error(found, truth) < error


def test_gauss_newton_is_the_hessian_of_a_linear_model():
    objective = Objective(nn.Linear(3, 4), cross_entropy, ragged_batches(), dtype=torch.float64)
    newton, hessian = (dense(kind(objective))[0] for kind in (GaussNewtonProducts, HessianProducts))
    torch.testing.assert_close(newton, hessian, rtol=1e-12, atol=1e-14)


def test_recurrent_and_attention_models_have_products():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(3, 4, batch_first=True)
            self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
            self.output = nn.Linear(4, 4)

        def forward(self, x):
            hidden = self.lstm(x)[0]
            return self.output(hidden + self.attention(hidden, hidden, hidden)[0])

    torch.manual_seed(0)
    model, targets = Recurrent(), torch.randint(4, (2, 5))
    objective = Objective(model, cross_entropy, [(torch.randn(2, 5, 3), targets)], dtype=torch.float64)
    direction = torch.randn(objective.size, dtype=torch.float64)
    step = 1e-5 * direction
    ahead, behind = (objective.at(objective.point + sign * step).gradient() for sign in (1, -1))
    found = HessianProducts(objective)(direction[None])[0]
    assert relative_error(found, (ahead - behind) / 2e-5) < 1e-7
    assert not objective.unused


def test_a_shared_parameter_counts_once_and_for_both_places():
    layer = nn.Linear(2, 2, bias=False)
    inputs, targets = torch.randn(6, 2), torch.randn(6, 2)
    objective = Objective(nn.Sequential(layer, nn.Tanh(), layer), F.mse_loss, [(inputs, targets)], dtype=torch.float64)

    def loss(weight):
        return F.mse_loss((inputs.double() @ weight.T).tanh() @ weight.T, targets.double())

    truth = torch.autograd.functional.hessian(loss, layer.weight.detach().double()).reshape(4, 4)
    assert relative_error(dense(HessianProducts(objective))[0], truth) < 1e-12


def test_written_out_batch_norm_is_batch_norm():
    torch.manual_seed(0)
    for shape, norm in (
        ((6, 3), nn.BatchNorm1d(3)),
        ((6, 3, 4), nn.BatchNorm1d(3, affine=False)),
        ((6, 3, 2, 2), nn.BatchNorm2d(3)),
        ((6, 3), nn.BatchNorm1d(3, track_running_stats=False)),
    ):
        norm(torch.randn(shape) + 1)
        inputs = torch.randn(shape)
        for mode in (True, False):
            norm.train(mode)
            expected = norm(inputs)
            with WrittenOut():
                torch.testing.assert_close(norm(inputs), expected)


def test_too_little_memory_builds_graphs_again_and_says_so(caplog):
    objective = Objective(network(), cross_entropy, ragged_batches())
    vectors = torch.randn(2, objective.size)
    kept = HessianProducts(objective, memory_gib=1.0)
    expected = kept(vectors)
    needed_gib = 1.0 - kept._room / hvp.GIB
    assert not caplog.records and len(kept._kept) == 3 and kept.done == 2
    tight = HessianProducts(objective, memory_gib=0.6 * needed_gib)
    assert torch.equal(tight(vectors), expected) and torch.equal(tight(vectors), expected)
    assert list(tight._kept) == [0]
    assert [record.message[:24] for record in caplog.records] == ["the graph of batch 2 of "]
    kept.release()
    assert torch.equal(kept(vectors), expected)


def test_graphs_that_are_let_go_free_their_memory():
    freed = []

    class Tracked(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.token = Token()
            ctx.save_for_backward(x)
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            return grad

    class Token:
        def __del__(self):
            freed.append(1)

    class Model(nn.Linear):
        def forward(self, x):
            return Tracked.apply(super().forward(x)).tanh()

    products = HessianProducts(Objective(Model(3, 4), cross_entropy, ragged_batches()))
    products(torch.ones(1, products.size))
    gc.collect()
    before = len(freed)
    products.release()
    gc.collect()  # a Python function of autograd is in a cycle of its own
    assert len(freed) == before + 3


def test_where_the_system_does_not_tell_its_memory(monkeypatch):
    monkeypatch.delattr(hvp.os, "sysconf")
    assert hvp.free_bytes(torch.device("cpu")) == hvp.UNKNOWN_MEMORY


def test_gauss_newton_refuses_several_outputs():
    class Two(nn.Linear):
        def forward(self, x):
            return super().forward(x), x

    objective = Objective(Two(3, 4), lambda z, y: F.cross_entropy(z[0], y), ragged_batches())
    with pytest.raises(InputError, match=r"(?s)one tensor, got tuple.*Gauss-Newton.*hint: wrap"):
        GaussNewtonProducts(objective)(torch.ones(1, objective.size))
