"""What the error surface is like at a point, for any module and any mean loss. One stage a file:

    parameters -> probe -> objective -> hvp -> lanczos (basis, bounds) -> inertia, density, trace, minimum_ratio
                                     -> kinks, taylor, escape, landscape, sharpness
    all of them -> critical_point (the verdict), ends -> answer -> analyse (the face)

Pure PyTorch; the model that is looked at is left as it was found.
"""

from phoneme.curvature.analyse import analyse
from phoneme.curvature.answer import CriticalPoint

__all__ = ["CriticalPoint", "analyse"]
