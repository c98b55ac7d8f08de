import torch


def anneal_dsm_score_estimation(scorenet, samples, sigmas, labels=None, anneal_power=2.0, hook=None):
    assert labels is None
    assert hook is None
    labels = torch.randint(len(sigmas), (len(samples),))
    used = sigmas[labels].view(-1, 1, 1, 1)
    noise = torch.randn_like(samples)
    missed = (scorenet(samples + used * noise, labels) + noise / used).square().flatten(1).sum(dim=1)
    return (missed * used.flatten() ** anneal_power).mean() / 2
