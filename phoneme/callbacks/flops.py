"""Floating-point operations: what a model needs for a frame, and what a device can do in a second."""

import re
from types import MappingProxyType

import torch
from lightning_fabric.utilities.throughput import measure_flops
from torch import Tensor, nn
from torch.func import functional_call

# Dense peaks in TFLOP/s by the name the driver gives; without sparsity, tensor cores with float32 accumulation. A
# precision that is missing has no tensor core there, and no peak worth naming. Lightning's own table has H200 and
# H100 NVL with sparsity, and knows no device that is just called "NVIDIA H200".
# Sources: NVIDIA's data sheets H200, H100, A100, L4, A40, V100, T4, and for RTX the appendices of the architecture
# white papers GA102 (v2.0) and Ada (v2.01). Data sheets from Hopper on print twice the dense number.
PEAK_TFLOPS = MappingProxyType(
    {
        r"NVIDIA H200": {"fp32": 67, "tf32": 494.5, "bf16": 989.5, "fp16": 989.5},  # SXM
        r"NVIDIA H200 NVL": {"fp32": 60, "tf32": 417.5, "bf16": 835.5, "fp16": 835.5},
        r"NVIDIA H100 80GB HBM3": {"fp32": 67, "tf32": 494.5, "bf16": 989.5, "fp16": 989.5},  # SXM
        r"NVIDIA H100 NVL": {"fp32": 60, "tf32": 417.5, "bf16": 835.5, "fp16": 835.5},
        r"NVIDIA H100 PCIe": {"fp32": 51, "tf32": 378, "bf16": 756, "fp16": 756},
        r"(NVIDIA )?A100-(SXM4|PCIE|PCIe)-(40|80)GB|NVIDIA A100 80GB PCIe": {
            "fp32": 19.5,
            "tf32": 156,
            "bf16": 312,
            "fp16": 312,
        },
        r"NVIDIA A40": {"fp32": 37.4, "tf32": 74.8, "bf16": 149.7, "fp16": 149.7},
        r"NVIDIA L4": {"fp32": 30.3, "tf32": 60, "bf16": 121, "fp16": 121},
        r"NVIDIA RTX A6000": {"fp32": 38.7, "tf32": 77.4, "bf16": 154.8, "fp16": 154.8},
        r"NVIDIA GeForce RTX 4090": {"fp32": 82.6, "tf32": 82.6, "bf16": 165.2, "fp16": 165.2},
        r"NVIDIA GeForce RTX 3090": {"fp32": 35.6, "tf32": 35.6, "bf16": 71, "fp16": 71},
        r"(NVIDIA )?Tesla V100-SXM2-(16|32)GB": {"fp32": 15.7, "fp16": 125},
        r"(NVIDIA )?Tesla V100-PCIE-(16|32)GB": {"fp32": 14, "fp16": 112},
        r"(NVIDIA )?Tesla T4": {"fp32": 8.1, "fp16": 65},
    }
)


FEW_FRAMES = 16  # of an utterance, for a recurrent model


def flops_of(model: nn.Module, arguments: tuple[Tensor, ...]) -> int:
    """Multiplications and additions of matrix products in one forward and backward pass on `arguments`.

    Counted on the meta device, where a tensor has a shape and no numbers: nothing is computed, and the model, its
    gradients and the random state stay as they are. There a recurrent layer goes step by step, 10 s for an utterance;
    as every step is as much work, utterances `(inputs, lengths)` are then counted by their first frames. Raises
    RuntimeError or NotImplementedError for a model whose course depends on the numbers.

    >>> flops_of(nn.Linear(3, 2), (torch.zeros(5, 3),))  # 5 * 3 * 2 forward and for the weight's gradient, 2 each
    120
    """
    named = [*model.named_parameters(), *model.named_buffers()]
    meta = {name: tensor.detach().to("meta").requires_grad_(tensor.requires_grad) for name, tensor in named}
    shapes, share = [tensor.to("meta") for tensor in arguments], 1.0
    if len(arguments) == 2 and any(isinstance(module, nn.RNNBase) for module in model.modules()):
        share = min(1.0, FEW_FRAMES / arguments[0].shape[1])
        shapes[0] = shapes[0][:, :FEW_FRAMES]

    def forward() -> Tensor:
        return functional_call(model, meta, tuple(shapes))

    with torch.enable_grad(), torch.compiler.set_stance("force_eager"):
        return round(measure_flops(model, forward, lambda outputs: outputs.sum()) / share)


def peak_flops(device: torch.device, precision: str) -> float | None:
    """The device's FLOP/s at Lightning's `precision` ("32-true", "bf16-mixed", "16-mixed"); None where not known.

    "32-true" uses TF32 where `torch.set_float32_matmul_precision` allows it.
    """
    if device.type != "cuda":
        return None
    tf32 = torch.get_float32_matmul_precision() != "highest" and torch.cuda.get_device_capability(device) >= (8, 0)
    kind = {"bf16-mixed": "bf16", "16-mixed": "fp16", "32-true": "tf32" if tf32 else "fp32"}.get(precision)
    return peak_of(torch.cuda.get_device_name(device), kind)


def peak_of(name: str, kind: str | None) -> float | None:
    """The FLOP/s of the device that the driver calls `name`, for fp32, tf32, bf16 or fp16; None where not known.

    >>> peak_of("Tesla T4", "fp16"), peak_of("Tesla T4", "bf16"), peak_of("NVIDIA H200 MIG 1g.18gb", "bf16")
    (65000000000000.0, None, None)
    """
    for pattern, peaks in PEAK_TFLOPS.items():
        if re.fullmatch(pattern, name):
            return peaks[kind] * 1e12 if kind in peaks else None
    return None
