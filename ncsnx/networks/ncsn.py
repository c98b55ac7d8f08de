"""NCSN: networks whose normalizations are conditional on the noise level (Song & Ermon 2019, arXiv 1907.05600)."""

from functools import partial

from ncsnx.config.model import NCSN, ConditionalModel, NCSNDeeper
from ncsnx.networks.activations import ActivationLayer
from ncsnx.networks.blocks import BlockConfig
from ncsnx.networks.convolution import Convolution, SpectralConvolution
from ncsnx.networks.layouts import DEEPER, NCSNV2
from ncsnx.networks.makers import network
from ncsnx.networks.normalization import conditional
from ncsnx.networks.operators.resampling import mean_pool
from ncsnx.networks.refinenet import RefineNet
from ncsnx.networks.score_function import NetworkSpec


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
