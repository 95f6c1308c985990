"""An orthonormal basis that grows, with inner products accumulated in float64 whatever the vectors are stored in.

A float32 norm over 2.6 million entries is off by 8e-5 of itself, and spoils an eigenvalue by 1e-3.
"""

import torch
from jaxtyping import Float, Float64
from torch import Tensor

BLOCK = 1 << 16  # entries widened to float64 at a time: half a megabyte a vector, which stays in the cache
CANCELLED = 0.1  # Rutishauser 1970: below this ratio of lengths, orthogonalise again
ROWS = 32  # vectors allocated at a time


def inner(left: Float[Tensor, "left n"], right: Float[Tensor, "right n"]) -> Float64[Tensor, "left right"]:
    """All inner products of rows, summed in float64, on the CPU.

    >>> inner(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    tensor([[1., 2.]], dtype=torch.float64)
    """
    total = torch.zeros(len(left), len(right), dtype=torch.float64, device=left.device)
    for a, b in zip(left.split(BLOCK, dim=1), right.split(BLOCK, dim=1), strict=True):
        total += a.double() @ b.double().T
    return total.cpu()


def norms(vectors: Float[Tensor, "vector n"]) -> Float64[Tensor, " vector"]:
    """The length of each row, summed in float64, on the CPU."""
    parts = [part.double().square().sum(dim=1) for part in vectors.split(BLOCK, dim=1)]
    return torch.stack(parts).sum(dim=0).sqrt().cpu()


class Basis:
    """Orthonormal rows. They are appended, never changed."""

    def __init__(self, size: int, dtype: torch.dtype, device: torch.device):
        self.size, self.dtype, self.device = size, dtype, device
        self._chunks: list[Tensor] = []
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def append(self, rows: Float[Tensor, "row n"]) -> None:
        """Add rows that `orthonormal` has made."""
        for row in rows:
            if self._length % ROWS == 0:
                self._chunks.append(torch.empty(ROWS, self.size, dtype=self.dtype, device=self.device))
            self._chunks[-1][self._length % ROWS] = row
            self._length += 1

    def combine(self, coefficients: Float64[Tensor, "vector row"]) -> Float[Tensor, "vector n"]:
        """The vectors with these coordinates."""
        total = torch.zeros(len(coefficients), self.size, dtype=self.dtype, device=self.device)
        columns = coefficients.to(device=self.device, dtype=self.dtype).split(ROWS, dim=1)
        for rows, part in zip(self._filled(), columns, strict=True):
            total.addmm_(part, rows)
        return total

    def project_out(self, vectors: Float[Tensor, "vector n"]) -> Float64[Tensor, "vector row"]:
        """Makes the vectors orthogonal to the basis, in place, and returns their coordinates in it.

        Two passes of classical Gram-Schmidt: "twice is enough" (Giraud, Langou, Rozloznik 2005).
        """
        coordinates = torch.zeros(len(vectors), len(self), dtype=torch.float64)
        for _ in range(2 if len(self) else 0):
            parts = torch.cat([inner(vectors, rows) for rows in self._filled()], dim=1)
            vectors -= self.combine(parts)
            coordinates += parts
        return coordinates

    def orthonormal(
        self, vectors: Float[Tensor, "vector n"], negligible: float
    ) -> tuple[Float[Tensor, "new n"], Float64[Tensor, "new vector"], float]:
        """Orthonormal rows for vectors that are orthogonal to the basis already: rows, R and what was dropped.

        vectors = R^T rows, except for remainders whose length is at most `negligible`: the largest is returned.
        """
        kept: list[Tensor] = []
        columns = torch.zeros(len(vectors), len(vectors), dtype=torch.float64)
        dropped = 0.0
        for index, vector in enumerate(vectors):
            remainder = vector[None].clone()
            before = norms(remainder).item()
            for _ in range(2 if kept else 0):
                rows = torch.stack(kept)
                parts = inner(remainder, rows)
                remainder -= parts.to(remainder) @ rows
                columns[: len(kept), index] += parts[0]
            length = norms(remainder).item()
            if length <= negligible:
                dropped = max(dropped, length)
                continue
            remainder /= length
            if length < CANCELLED * before:  # then rounding is a good part of it, and that is not orthogonal
                self.project_out(remainder)
                remainder /= norms(remainder).item()
            columns[len(kept), index] = length
            kept.append(remainder[0])
        rows = torch.stack(kept) if kept else vectors[:0]
        return rows, columns[: len(kept)], dropped

    def _filled(self) -> list[Tensor]:
        parts = list(self._chunks)
        if self._length % ROWS:
            parts[-1] = parts[-1][: self._length % ROWS]
        return parts
