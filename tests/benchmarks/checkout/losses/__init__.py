import torch


def get_optimizer(config, parameters):
    assert config.optim.optimizer == "Adam"
    return torch.optim.Adam(parameters, lr=config.optim.lr, betas=(config.optim.beta1, 0.999), eps=config.optim.eps)
