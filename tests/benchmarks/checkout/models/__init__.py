"""A miniature stand-in of the published implementation: its interface, with our network under its names."""

import torch


def get_sigmas(config):
    assert config.model.sigma_dist == "geometric"
    ends = torch.tensor([config.model.sigma_begin, config.model.sigma_end], dtype=torch.float64).log()
    return torch.linspace(*ends.tolist(), config.model.num_classes, dtype=torch.float64).exp().float().to(config.device)
