"""What every frame model shares: a window of an odd number of frames in, one answer for its centre out."""

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from phoneme.errors import InputError


def check_context(context: int, *, where: str) -> None:
    """Raises InputError for a number of frames that has no centre."""
    if context < 1 or context % 2 == 0:
        raise InputError(
            expected="an odd number of frames",
            got=context,
            where=where,
            hint="the centre frame counts too: 11 is five frames on each side",
        )


class FrameModel(nn.Module):
    """Base of the models that see one window and label its centre frame.

    `unit` tells the data module what a batch is made of ("frame": windows; "utterance": whole utterances).

    Raises InputError when `context`, the frames in a window, is not odd: it would have no centre.
    """

    unit: ClassVar[str] = "frame"

    def __init__(self, *, coeffs: int, classes: int, context: int):
        super().__init__()
        check_context(context, where="model.context")
        self.coeffs, self.classes, self.context = coeffs, classes, context

    @property
    def inputs(self) -> int:
        """Numbers in one window."""
        return self.context * self.coeffs

    def flatten(self, windows: Float[Tensor, "batch context coeff"]) -> Float[Tensor, "batch inputs"]:
        """One row a window, frame after frame. Raises InputError as `check_windows`."""
        self.check_windows(windows)
        return windows.flatten(start_dim=1)  # [batch, context, coeff] -> [batch, context * coeff]

    def check_windows(self, windows: Float[Tensor, "batch context coeff"]) -> None:
        """Raises InputError when the axes are not (context, coeff).

        [batch, 39, 11] has as many numbers as [batch, 11, 39], so nothing else would notice.
        """
        if windows.shape[1:] != (self.context, self.coeffs):
            raise InputError(
                expected=f"windows of {self.context} frames x {self.coeffs} coefficients",
                got=" x ".join(str(size) for size in windows.shape[1:]),
                where=f"the input of {type(self).__name__}",
                hint="the axes are [batch, context, coeff]; compare model.context and the features",
            )
