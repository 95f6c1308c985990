"""The gradient noise scale from the gradient of every single example."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from phoneme.errors import InputError
from phoneme.gradients.noise import LEAST_REPEATS, Loss, NoiseScale, with_interval

Parameters = dict[str, Tensor]


def noise_scale_per_example(
    model: nn.Module, loss: Loss, inputs: Tensor, targets: Tensor, *, chunk: int = 64, confidence: float = 0.95
) -> NoiseScale:
    """The sample covariance's trace over |mean gradient|^2 - trace / n, from n examples; both are unbiased.

    More exact than two batch sizes on as many examples, where single gradients exist: not with BatchNorm in training
    mode, where an example's loss depends on the others. An example is a row of `inputs`, all count alike; `loss` gets
    one at a time, as a batch of one. The gradients of `chunk` examples are held at once: chunk * parameters numbers.
    Neither `.grad` nor a buffer nor a mode is touched. The interval's jackknife leaves one example out at a time.

    Raises InputError for BatchNorm or dropout in training mode, for a module that torch.func.vmap cannot handle (a
    recurrent layer on a GPU), for fewer than 4 examples, a chunk below 1, or frozen parameters only.
    """
    _check(model, inputs, targets, chunk)
    trainable = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    others = [*model.named_parameters(), *model.named_buffers()]
    fixed = {name: tensor.detach() for name, tensor in others if name not in trainable}

    def loss_of(parameters: Parameters, example: Tensor, target: Tensor) -> Tensor:
        return loss(functional_call(model, parameters | fixed, (example[None],)), target[None])

    try:
        squares, alongs = _squares(loss_of, trainable, inputs.split(chunk), targets.split(chunk)).tolist()
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, NotImplementedError) as error:
        raise InputError(
            expected="a model that torch.func.vmap can differentiate",
            got=str(error).splitlines()[0],
            where="model, loss",
            hint="noise_scale_of_batches needs batch gradients only",
        ) from error
    n, mean_square = len(inputs), sum(alongs) / len(inputs)  # mean of g_i . mean = |mean|^2
    total, everything = sum(squares), n * n * mean_square  # sum |g_i|^2, |sum g_i|^2
    estimates = _estimates(n, total, everything)
    # without example i: |sum - g_i|^2 = |sum|^2 - 2 n g_i . mean + |g_i|^2
    without = [
        _estimates(n - 1, total - s, everything - 2 * n * along + s) for s, along in zip(squares, alongs, strict=True)
    ]
    return with_interval(*estimates, without, confidence)


def _estimates(n: int, total: float, everything: float) -> tuple[float, float]:
    """Unbiased |G|^2 and tr(Sigma) from sum |g_i|^2 and |sum g_i|^2 over n examples."""
    trace = (total - everything / n) / (n - 1)
    return everything / n**2 - trace / n, trace


def _squares(
    loss_of: Callable[[Parameters, Tensor, Tensor], Tensor],
    parameters: Parameters,
    inputs: tuple[Tensor, ...],
    targets: tuple[Tensor, ...],
) -> Tensor:
    """[2, example]: each |g_i|^2, and its product with the mean gradient. Chunks of examples, twice over."""
    n = sum(len(chunk) for chunk in inputs)
    wide = torch.float32 if inputs[0].device.type == "mps" else torch.float64
    chunks = list(zip(inputs, targets, strict=True))

    def summed(at: Parameters, examples: Tensor, of_examples: Tensor) -> Tensor:
        return vmap(loss_of, in_dims=(None, 0, 0))(at, examples, of_examples).sum()

    mean = {name: torch.zeros_like(p, dtype=wide) for name, p in parameters.items()}
    for chunk in chunks:
        for name, gradient in grad(summed)(parameters, *chunk).items():
            mean[name] += gradient / n
    columns = []
    for chunk in chunks:
        gradients = vmap(grad(loss_of), in_dims=(None, 0, 0))(parameters, *chunk)  # each [example, *parameter]
        flat = {name: gradient.flatten(start_dim=1).to(wide) for name, gradient in gradients.items()}
        own = sum(g.square().sum(dim=1) for g in flat.values())
        along = sum(g @ mean[name].flatten() for name, g in flat.items())
        columns.append(torch.stack([own, along]))
    return torch.cat(columns, dim=1)


def _check(model: nn.Module, inputs: Tensor, targets: Tensor, chunk: int) -> None:
    for name, module in model.named_modules():
        batch_statistics = isinstance(module, _BatchNorm) and (module.training or module.running_mean is None)
        dropout = isinstance(module, _DropoutNd) and module.training and module.p > 0
        if batch_statistics or dropout:
            why = "which uses the statistics of its batch" if batch_statistics else "in training mode"
            hint = "model.eval() gives single examples a loss of their own; noise_scale_of_batches works as it is"
            raise InputError(
                expected="a loss that is fixed for each single example",
                where=name,
                hint=hint,
                got=f"{type(module).__name__}, {why}",
            )
    if not any(p.requires_grad for p in model.parameters()):
        raise InputError(
            expected="a model with trainable parameters", got="none", where="model", hint="are all of them frozen?"
        )
    if len(inputs) != len(targets) or len(inputs) < LEAST_REPEATS or chunk < 1:
        raise InputError(
            expected=f"at least {LEAST_REPEATS} examples, as many targets, and a chunk of 1 or more",
            got=f"{len(inputs)}, {len(targets)} and {chunk}",
            where="inputs, targets, chunk",
            hint="a few hundred examples make a usable interval",
        )
