import attrs
import torch
from torch import nn

from ncsnx.config import NCSNv2 as Width
from ncsnx.config.discovery import resolve
from ncsnx.networks import build_network, to_published

from . import get_sigmas


class NCSNv2(nn.Module):
    def __init__(self, config):
        super().__init__()
        assert config.model.normalization == "InstanceNorm++"
        assert config.model.nonlinearity == "elu"
        experiment = resolve("digits").experiment
        assert (config.data.image_size, config.data.channels) == (8, 1)
        self.ours = [build_network(attrs.evolve(experiment, model=Width(width=config.model.ngf)))]
        self.names = to_published(self.ours[0])
        for name, theirs in self.names.items():
            *path, last = theirs.split(".")
            module = self
            for part in path:
                if part not in module._modules:
                    module.add_module(part, nn.Module())
                module = module._modules[part]
            module.register_parameter(last, self.ours[0].get_parameter(name))
        self.register_buffer("sigmas", get_sigmas(config))

    def forward(self, x, y):
        held = {name: self.get_parameter(theirs) for name, theirs in self.names.items()}
        output = torch.func.functional_call(self.ours[0], held, (x, None))
        return output / self.sigmas[y].view(-1, 1, 1, 1)
