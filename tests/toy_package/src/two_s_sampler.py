"""DPM-Solver++ (2S): Lu et al. 2022 (arXiv 2211.01095), algorithm 1, with σ instead of t."""

from two_s_config import DPMSolver2S

from ncsnx.samplers import append_zero, sampler


@sampler(DPMSolver2S, label="DPM-Solver++ (2S)", order=2)
def dpm_solver_2s(x, sigmas, model, *, r):
    for sigma, sigma_next in append_zero(sigmas):
        x, denoised, _ = yield x, sigma
        if sigma_next > 0:
            middle = sigma * (sigma_next / sigma) ** r
            there, _ = model(denoised + middle / sigma * (x - denoised), middle)
            denoised = denoised + (there - denoised) / (2 * r)
        x = denoised + sigma_next / sigma * (x - denoised)
    return x
