"""NCSNv2: unconditional networks, s(x, σ) = s(x)/σ (technique 3 of Song & Ermon 2020, arXiv 2006.09011)."""

from functools import partial

from ncsnx.config.model import NCSNv2, NCSNv2Deeper, NCSNv2Deepest, RefineNetModel
from ncsnx.networks.activations import ActivationLayer
from ncsnx.networks.blocks import BlockConfig
from ncsnx.networks.convolution import Convolution
from ncsnx.networks.layouts import DEEPER, DEEPEST, NCSNV2
from ncsnx.networks.makers import network
from ncsnx.networks.normalization import no_normalization, unconditional
from ncsnx.networks.operators.resampling import max_pool
from ncsnx.networks.refinenet import RefineNet
from ncsnx.networks.score_function import NetworkSpec


@network(NCSNv2)
class NCSNv2Network(RefineNet):
    """Four stages, for 32 and 64 px. It takes any σ > 0, since only its output is divided by σ."""

    layout = NCSNV2

    def __init__(self, model: RefineNetModel, spec: NetworkSpec) -> None:
        config = BlockConfig(
            activation=ActivationLayer(model.activation),
            convolution=Convolution,
            normalization=partial(unconditional, model.normalization),
            refine_normalization=no_normalization,
            context_pool=max_pool,
        )
        # The published networks pass the number of levels as the normalization's epsilon.
        last = unconditional(model.normalization, model.width, epsilon=float(len(spec.sigmas)))
        super().__init__(config, last, model.width, spec)


@network(NCSNv2Deeper)
class NCSNv2DeeperNetwork(NCSNv2Network):
    """Five stages, for 96 and 128 px."""

    layout = DEEPER


@network(NCSNv2Deepest)
class NCSNv2DeepestNetwork(NCSNv2Network):
    """Six stages, for 256 px."""

    layout = DEEPEST
