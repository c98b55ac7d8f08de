"""Every way of running a network gives the same numbers."""

import copy
import shutil
from functools import cache
from typing import Any

import attrs
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ncsnx.config import NCSN, Model, NCSNv2, UNet
from ncsnx.config.model import Normalization
from ncsnx.errors import NcsnxError
from ncsnx.networks import Execution, NetworkSpec, ScoreFunction, build_network, prepare
from ncsnx.networks.execution import RECOMPUTED
from tests.golden_networks import NETWORKS, TOLERANCE, load_golden, relative_error, small_experiment
from tests.networks.test_construction import EVERY_MODEL


class KernelCasts(TorchDispatchMode):
    """Counts casts of 1×1 and 3×3 kernels to bfloat16."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten._to_copy.default and result.dtype == torch.bfloat16:
            self.count += result.shape[-1] in (1, 3)
        return result


REWRITES = [
    Execution(memory_format="channels_last"),
    Execution(fused=True),
    Execution(memory_format="channels_last", fused=True),
]
DEFAULT = Execution(memory_format="channels_last", fused=True)
LEVELS = torch.tensor([0, 4, 9])


@cache
def built(model: Model) -> ScoreFunction:
    """A network shared by the tests; copy it before changing it."""
    return build_network(small_experiment(model))


def evaluated(network: ScoreFunction, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """The scaled score, and the gradient of a loss with respect to image and parameters, as one vector."""
    generator = torch.Generator().manual_seed(0)
    shape = (3, network.channels, network.image_size, network.image_size)
    x = torch.rand(shape, generator=generator, dtype=dtype).requires_grad_()
    target = torch.randn(shape, generator=generator, dtype=dtype)
    out = network.scaled_score(x, network.sigmas[LEVELS])
    parameters = list(network.parameters())
    by_image, *by_parameters = torch.autograd.grad((out + target).square().sum(), [x, *parameters])
    return out.detach(), by_image, torch.cat([gradient.flatten() for gradient in by_parameters])


@pytest.mark.parametrize("model", EVERY_MODEL, ids=str)
def test_rewrites_are_exact_algebra(model: Model) -> None:
    plain = copy.deepcopy(built(model)).double()
    rewritten = prepare(copy.deepcopy(plain), REWRITES[-1])
    for ours, expected in zip(evaluated(rewritten, torch.float64), evaluated(plain, torch.float64), strict=True):
        assert relative_error(ours, expected) < 1e-11


@pytest.mark.parametrize("execution", [Execution(), *REWRITES], ids=str)
@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_the_published_score_is_met_in_every_way_of_running(name: str, execution: Execution) -> None:
    golden = load_golden(name)
    # In float64, so that only the rounding of the published numbers remains.
    network = prepare(golden.network.double(), execution)
    x, levels = golden.tensors["x"].double(), golden.tensors["labels"]
    score = network.scaled_score(x, network.sigmas[levels]) / network.sigmas[levels].view(-1, 1, 1, 1)
    assert relative_error(score, golden.tensors["score"]) < TOLERANCE


@pytest.mark.parametrize("model", [NCSNv2(width=4), NCSN(width=4, spectral_norm=True)], ids=str)
def test_the_state_and_the_parameters_stay(model: Model) -> None:
    network = copy.deepcopy(built(model))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    parameters = list(network.parameters())
    prepare(network, Execution(memory_format="channels_last", fused=True, precision="bf16"))
    after = network.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    kernels = [tensor for tensor in network.parameters() if tensor.dim() == 4]
    assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)
    assert all(ours is theirs for ours, theirs in zip(network.parameters(), parameters, strict=True))


@pytest.mark.parametrize("model", [NCSNv2(width=4), NCSN(width=4, spectral_norm=True)], ids=str)
def test_gradients_arrive_in_the_order_of_their_kernels(model: Model) -> None:
    network = prepare(build_network(small_experiment(model)), REWRITES[-1])
    network.scaled_score(torch.rand(3, 1, 8, 8), network.sigmas[LEVELS]).square().sum().backward()  # type: ignore[no-untyped-call]
    for parameter in network.parameters():
        assert parameter.grad is not None
        if parameter.dim() == 4:
            assert parameter.grad.is_contiguous(memory_format=torch.channels_last)


def test_kernels_of_other_modules_are_ordered_if_they_are_ordinary() -> None:
    class Flattening(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            return x * self.weight.view(-1).sum()

    class Foreign(ScoreFunction):
        def __init__(self, spec: NetworkSpec) -> None:
            super().__init__(spec)
            self.ordinary, self.other = nn.Conv2d(2, 2, 3, padding=1), Flattening(2, 2, 3)

        def forward(self, x: Tensor, levels: Tensor | None) -> Tensor:
            return self.ordinary(self.other(x))

    network = prepare(Foreign(NetworkSpec(channels=2, image_size=8, sigmas=(1.0,), centered_input=False)), REWRITES[-1])
    assert network.score(torch.rand(1, 2, 8, 8), 1.0).isfinite().all()
    assert network.get_parameter("ordinary.weight").is_contiguous(memory_format=torch.channels_last)
    assert network.get_parameter("other.weight").is_contiguous()


@torch.no_grad()
def test_a_network_can_go_back_to_plain() -> None:
    network = build_network(small_experiment(NCSNv2(width=4)))
    x = torch.rand(2, 1, 8, 8)
    expected = network.score(x, 1.0)
    for execution in REWRITES:
        prepare(network, execution)
    assert torch.equal(prepare(network, Execution()).score(x, 1.0), expected)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("model", [NCSNv2(width=16), NCSN(width=16, spectral_norm=True)], ids=str)
def test_bf16_is_near_fp32(model: Model, fused: bool) -> None:
    plain = build_network(small_experiment(model))
    rounded = prepare(copy.deepcopy(plain), Execution(precision="bf16", fused=fused))
    (ours, _, gradient), (expected, _, true_gradient) = evaluated(rounded), evaluated(plain)
    assert ours.dtype == gradient.dtype == torch.float32
    assert not torch.equal(ours, expected)
    # bfloat16 rounds by up to 2**-9. The longest path has some 60 convolutions with three nearly independent roundings
    # each (image, kernel, result). The gradient passes it twice, and through maxima that may switch.
    assert (ours - expected).norm() / expected.norm() < 2**-9 * (3 * 60) ** 0.5
    assert torch.cosine_similarity(gradient, true_gradient, dim=0) > 0.98


@torch.no_grad()
def test_bf16_keeps_the_noise_of_the_lowest_level_in_the_first_convolution() -> None:
    network = prepare(build_network(small_experiment(NCSNv2(width=4))), Execution(precision="bf16"))
    seen: dict[str, torch.dtype] = {}
    for name in ("begin", "norm", "end"):
        network.get_submodule(name).register_forward_hook(
            lambda module, args, out, name=name: seen.update({name: args[0].dtype, f"{name} out": out.dtype})
        )
    network.get_submodule("stages.0.0.conv1").register_forward_hook(
        lambda module, args, out: seen.update(body=out.dtype)
    )
    network.score(torch.rand(1, 1, 8, 8), 0.01)
    assert seen.pop("body") == torch.bfloat16
    assert set(seen.values()) == {torch.float32}
    assert len(seen) == 6


@torch.no_grad()
def test_a_rounded_kernel_is_kept_until_its_parameter_changes() -> None:
    execution = attrs.evolve(REWRITES[-1], precision="bf16")
    frozen = copy.deepcopy(built(NCSNv2(width=4))).requires_grad_(False)
    network, same = (prepare(copy.deepcopy(frozen), execution) for _ in range(2))
    x = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    before = network.score(x, 1.0)
    with KernelCasts() as casts:
        assert torch.equal(network.score(x, 1.0), before)
    assert casts.count == 0
    doubled = {name: 2 * tensor for name, tensor in network.state_dict().items()}
    network.load_state_dict(doubled)
    same.load_state_dict(doubled)  # its first evaluation
    assert torch.equal(network.score(x, 1.0), same.score(x, 1.0))
    assert not torch.equal(network.score(x, 1.0), before)


@torch.no_grad()
def test_no_rounded_kernel_is_kept_while_an_optimizer_may_change_it() -> None:
    network = prepare(copy.deepcopy(built(NCSNv2(width=4))), attrs.evolve(REWRITES[-1], precision="bf16"))
    x = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    before = network.score(x, 1.0)
    for parameter in network.parameters():
        parameter.data.mul_(2)  # leaves no mark, like a fused optimizer
    assert not torch.equal(network.score(x, 1.0), before)


COMPILES = pytest.mark.skipif(shutil.which("g++") is None, reason="compilation needs a C++ compiler")
QUIET = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning",  # from the compiler's own imports
    "ignore:The .grad attribute of a Tensor:UserWarning",  # from its look at inputs, where it hides it from users
)


@pytest.mark.slow
@COMPILES
@QUIET
@pytest.mark.parametrize("model", EVERY_MODEL[::2], ids=str)  # each normalization: a compiler takes minutes for one
def test_compiled_scores_and_gradients_equal_eager_ones(model: Model) -> None:
    torch.compiler.reset()  # else torch silently runs eagerly after compiling one function 8 times
    eager = prepare(copy.deepcopy(built(model)), DEFAULT)
    compiled = prepare(copy.deepcopy(built(model)), attrs.evolve(DEFAULT, compile=True))
    for ours, expected in zip(evaluated(compiled), evaluated(eager), strict=True):
        assert relative_error(ours, expected) < 1e-5
    assert list(compiled.state_dict()) == list(eager.state_dict())


@pytest.mark.parametrize("name", ["instance++", "instance", "variance"])
def test_a_constant_channel_has_finite_gradients_when_fused(name: Normalization) -> None:
    network = prepare(build_network(small_experiment(NCSN(width=4, normalization=name))), Execution(fused=True))
    x = torch.ones(2, 4, 3, 3, requires_grad=True)
    out = network.norm(x, torch.tensor([0, 1]))
    (gradient,) = torch.autograd.grad(out.square().sum(), x)
    assert out.isfinite().all()
    assert gradient.isfinite().all()


CHECKPOINTED = Execution(memory_format="channels_last", fused=True, checkpointing=True)
SMALL_UNET = UNet(width=4, multipliers=(1, 2), blocks=1, attention=(8,))
MODELS: list[Model] = [
    *(NCSNv2(width=4), NCSN(width=4, spectral_norm=True), NCSN(width=4, normalization="batch")),
    SMALL_UNET,
]


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_two_steps_have_equal_bits_and_leave_equal_buffers(model: Model) -> None:
    network, checkpointed = prepare(copy.deepcopy(built(model)), DEFAULT), copy.deepcopy(built(model))
    prepare(checkpointed, CHECKPOINTED)
    for _ in range(2):  # in the second step the vectors and statistics of the first one count
        for ours, expected in zip(evaluated(checkpointed), evaluated(network), strict=True):
            assert torch.equal(ours, expected)
        for after, true_after in zip(checkpointed.buffers(), network.buffers(), strict=True):
            assert torch.equal(after, true_after)


def test_every_kind_of_block_is_recomputed_and_can_go_back() -> None:
    found = set[type[nn.Module]]()
    for model in (NCSNv2(width=4), SMALL_UNET):
        network = prepare(copy.deepcopy(built(model)), CHECKPOINTED)
        names = list(network.state_dict())
        found |= {type(module) for module in network.modules()}
        prepare(network, DEFAULT)
        assert not set(RECOMPUTED.values()) & {type(module) for module in network.modules()}
        assert list(network.state_dict()) == names
    assert set(RECOMPUTED.values()) <= found


def test_a_network_without_such_blocks_is_refused() -> None:
    class Plain(ScoreFunction):
        def forward(self, x: torch.Tensor, levels: torch.Tensor | None) -> torch.Tensor:
            return x

    spec = NetworkSpec(channels=1, image_size=8, sigmas=(1.0,), centered_input=False)
    with pytest.raises(NcsnxError, match="Plain has none of the blocks"):
        prepare(Plain(spec), CHECKPOINTED)


@pytest.mark.parametrize("model", [NCSNv2(width=4), SMALL_UNET], ids=str)
@torch.no_grad()
def test_bf16_stays_bf16_where_autocast_of_cuda_gives_float32(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    network = prepare(copy.deepcopy(built(model)), Execution(precision="bf16"))
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():  # those that start at 0 hide what comes before them
        parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    x = torch.rand(2, network.channels, network.height, network.width)
    expected, called = network.score(x, 1.0), set[str]()

    def wide(name: str) -> Any:
        function = getattr(nn.functional, name)

        def call(*args: Any, **kwargs: Any) -> Tensor:
            called.add(name)
            return function(*args, **kwargs).float()

        return call

    for name in ("interpolate", "group_norm"):
        monkeypatch.setattr(nn.functional, name, wide(name))
    assert torch.equal(network.score(x, 1.0), expected)
    assert called == ({"interpolate", "group_norm"} if model is SMALL_UNET else {"interpolate"})
