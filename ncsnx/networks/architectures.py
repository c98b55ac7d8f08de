"""The networks: NCSN (Song & Ermon 2019, arXiv 1907.05600) and NCSNv2 (Song & Ermon 2020, arXiv 2006.09011).

NCSN's normalizations are conditional on the noise level. NCSNv2 is unconditional, s(x, σ) = s(x)/σ (technique 3).
"""

from functools import partial

from ncsnx.config.model import NCSN, ConditionalModel, NCSNDeeper, NCSNv2, NCSNv2Deeper, NCSNv2Deepest, RefineNetModel
from ncsnx.networks.blocks import BlockConfig
from ncsnx.networks.contract import NetworkSpec, network
from ncsnx.networks.layers import ActivationLayer, Convolution, SpectralConvolution
from ncsnx.networks.layouts import DEEPER, DEEPEST, NCSNV2
from ncsnx.networks.normalization import conditional, no_normalization, unconditional
from ncsnx.networks.refinenet import RefineNet
from ncsnx.networks.resampling import max_pool, mean_pool


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


@network(NCSN)
class NCSNNetwork(RefineNet):
    """Four stages. It takes only the levels that it was trained at."""

    layout = NCSNV2
    any_sigma = False

    def __init__(self, model: ConditionalModel, spec: NetworkSpec) -> None:
        normalization = partial(conditional, model.normalization, levels=len(spec.sigmas))
        config = BlockConfig(
            activation=ActivationLayer(model.activation),
            convolution=SpectralConvolution if model.spectral_norm else Convolution,
            normalization=normalization,
            refine_normalization=normalization,
            context_pool=mean_pool,
        )
        super().__init__(config, normalization(model.width), model.width, spec)


@network(NCSNDeeper)
class NCSNDeeperNetwork(NCSNNetwork):
    """Five stages."""

    layout = DEEPER
