"""The adaptive solver against torchdiffeq, which solves each image by itself."""

import pytest
import torch
from torch import Tensor
from torchdiffeq import odeint

from ncsnx.samplers.dormand_prince import rms_error, solve

START, END = 5.0, 0.01
CENTERS = torch.tensor([-1.0, 0.3, 1.2], dtype=torch.float64)


def slope(sigma: Tensor, y: Tensor) -> Tensor:
    """The probability flow of points at CENTERS with noise of 0.05, which bends where an image decides for one."""
    variance = (0.05**2 + sigma**2).view(-1, 1, 1)
    towards = CENTERS - y[..., None]
    shares = torch.softmax(-(towards**2) / (2 * variance), dim=-1)
    return -sigma.view(-1, 1) * (shares * towards).sum(dim=-1) / variance[..., 0]


def start(images: int) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    spread = torch.logspace(-1, 0.5, images, dtype=torch.float64).view(-1, 1)
    return spread * torch.randn(images, 6, generator=generator, dtype=torch.float64)


def by_torchdiffeq(y: Tensor, tolerance: float, begin: float, end: float) -> tuple[Tensor, int]:
    """The solution of one image and its evaluations."""
    taken = 0

    def counted(sigma: Tensor, y: Tensor) -> Tensor:
        nonlocal taken
        taken += 1
        return slope(sigma.view(1), y)

    ends = torch.tensor([begin, end], dtype=torch.float64)
    options = {"norm": lambda errors: errors.square().mean().sqrt(), "step_t": ends[1:]}
    found = odeint(counted, y, ends, rtol=tolerance, atol=tolerance, method="dopri5", options=options)
    return found[-1], taken


@pytest.mark.parametrize("tolerance", [1e-2, 1e-6])
@pytest.mark.parametrize(("begin", "end"), [(START, END), (END, START)])
def test_every_image_has_the_steps_that_torchdiffeq_gives_it_alone(tolerance: float, begin: float, end: float) -> None:
    y, taken = start(4), torch.zeros(4, dtype=torch.int64)

    def counted(sigma: Tensor, y: Tensor, rows: Tensor) -> Tensor:
        taken[rows] += 1
        return slope(sigma, y)

    found = solve(counted, y, begin, end, tolerance=tolerance, norm=rms_error)
    for row in range(len(y)):
        expected, evaluations = by_torchdiffeq(y[row : row + 1], tolerance, begin, end)
        assert int(taken[row]) == evaluations
        torch.testing.assert_close(found[row : row + 1], expected, rtol=1e-9, atol=1e-9)
    assert len(set(taken.tolist())) > 1, "images that arrived aren't evaluated any more"


def test_a_known_slope_at_the_start_saves_an_evaluation() -> None:
    y, counts = start(3), []
    for first in (None, slope(torch.full((3,), START, dtype=torch.float64), y)):
        seen: list[int] = []

        def counted(sigma: Tensor, y: Tensor, rows: Tensor, seen: list[int] = seen) -> Tensor:
            seen.append(len(rows))
            return slope(sigma, y)

        counts.append((solve(counted, y, START, END, tolerance=1e-3, norm=rms_error, first=first), sum(seen)))
    assert torch.equal(counts[0][0], counts[1][0])
    assert counts[0][1] - counts[1][1] == 3
