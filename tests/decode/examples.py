"""Random posteriors, chains and utterances."""

import torch

from phoneme.decode import Chain


def offsets_of(lengths: list[int]) -> torch.Tensor:
    return torch.tensor([0, *lengths], dtype=torch.int64).cumsum(0)


def random_log_posteriors(frames: int, classes: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (2 * torch.randn(frames, classes, generator=generator)).log_softmax(dim=1)


def random_chain(classes: int, minimum: int, seed: int = 0) -> Chain:
    generator = torch.Generator().manual_seed(seed)
    move = torch.randn(classes, classes, generator=generator).fill_diagonal_(-torch.inf)
    return Chain(
        torch.randn(classes, generator=generator), torch.randn(classes, generator=generator), move, minimum=minimum
    )
