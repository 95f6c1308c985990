"""Problems whose whole Hessian is cheap."""

import pytest
import torch

from phoneme.lab.small import COMPONENTS, FRAMES, descents, little_speech, principal, sinc
from tests.lab.helpers import small_bench


def test_little_speech_is_whitened_real_speech_of_four_phones():
    problem = little_speech(small_bench(), 0)
    assert problem.inputs.shape == (FRAMES, COMPONENTS) and problem.inputs.dtype == torch.float64
    assert sorted(problem.targets.unique().tolist()) == [0, 1, 2, 3]
    torch.testing.assert_close(problem.inputs.T.cov(), torch.eye(COMPONENTS, dtype=torch.float64))


def test_principal_components_are_along_the_axes_of_a_stretched_cloud():
    generator = torch.Generator().manual_seed(0)
    cloud = torch.randn(500, 3, generator=generator, dtype=torch.float64) * torch.tensor([1.0, 20.0, 0.1])
    parts = principal(cloud, 2)
    for part, axis in ((0, 1), (1, 0)):
        assert abs(torch.corrcoef(torch.stack([parts[:, part], cloud[:, axis]]))[0, 1]) > 0.99


def test_a_snapshot_is_what_adam_alone_reaches():
    problem = sinc(torch.device("cpu"))
    objective = problem.objective((3, 3), 0, 1e-3)
    starts = torch.stack([objective.point, problem.objective((3, 3), 1, 1e-3).point])
    seen = descents(objective, starts, (0, 7), 1e-2)
    assert torch.equal(seen[0], starts)
    optimizer = torch.optim.Adam(objective.model.parameters(), lr=1e-2)
    for _ in range(7):
        optimizer.zero_grad()
        decay = sum(p.square().sum() for p in objective.model.parameters()) * 1e-3 / 2
        (problem.loss(objective.model(problem.inputs), problem.targets) + decay).backward()
        optimizer.step()
    alone = torch.nn.utils.parameters_to_vector(objective.model.parameters())
    assert seen[1, 0].tolist() == pytest.approx(alone.tolist(), rel=1e-6)
