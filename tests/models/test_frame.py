"""What every model of single frames keeps: each window has its own answer, and a training can be repeated."""

from functools import partial

import pytest
import torch

from phoneme.models import Linear, Mlp, WindowedRecurrent
from tests.models.conftest import CONTEXT

SIZES = {"coeffs": 39, "classes": 41, "context": CONTEXT}
MODELS = {
    "linear": partial(Linear, **SIZES),
    "mlp": partial(Mlp, **SIZES, width=32, depth=3, norm="batch", dropout=0.5),
    "windowed_lstm": partial(WindowedRecurrent, **SIZES, width=16, depth=2, dropout=0.5),
}
every_model = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)


@every_model
def test_the_answer_does_not_depend_on_the_company(make, real_windows):
    windows, _ = real_windows
    torch.manual_seed(0)
    model = make()
    model(windows)  # statistics of batch norm to evaluate with
    model.eval()
    with torch.no_grad():
        together, alone = model(windows), torch.cat([model(window[None]) for window in windows[:20]])
        elsewhere = model(windows.flip(0)).flip(0)
    torch.testing.assert_close(together[:20], alone)
    torch.testing.assert_close(together, elsewhere)


@every_model
def test_the_same_training_gives_the_same_bits(make, real_windows):
    windows, labels = real_windows

    def weights() -> list[torch.Tensor]:
        torch.manual_seed(0)
        model = make().train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        for _ in range(3):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(windows), labels).backward()
            optimizer.step()
        return list(model.state_dict().values())

    assert all(torch.equal(a, b) for a, b in zip(weights(), weights(), strict=True))
