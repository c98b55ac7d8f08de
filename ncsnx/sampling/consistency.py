"""Samplers of networks that were tuned for consistency (loss=consistency), whose D is the end of the probability flow.

Multistep consistency sampling (Song et al. 2023, arXiv 2303.01469, algorithm 1) takes D, adds fresh noise of the next
level, and takes D again. That is `cas` of order 1 with η = 1, on a grid of one to three levels.
"""

import attrs

from ncsnx.config.experiment import Experiment
from ncsnx.config.sampler import ConsistentAnnealed, Karras, Sampler
from ncsnx.space import Space

TUNED = "this one was tuned for consistency; use the run that it was tuned from"
MULTISTEP_WORDS = "sampler=cas sampler.order=1 sampler.eta=1"
_LAST = (0.5, 0.3, 0.8)
"""Last levels that are tried, relative to half the range of the data; the first is the default."""
_MOST_STEPS = 3


def multistep(steps: int, last: float) -> ConsistentAnnealed:
    """Multistep consistency sampling. last: σ of the last level, where there are several."""
    return ConsistentAnnealed(steps=steps, order=1, eta=1.0, grid=Karras(sigma_min=last if steps > 1 else None))


def is_multistep(sampler: Sampler) -> bool:
    """Whether a sampler is multistep consistency sampling."""
    if not isinstance(sampler, ConsistentAnnealed):
        return False
    return sampler.order == 1 and sampler.eta == 1 and sampler.eta_min is None


def tuned_candidates(experiment: Experiment) -> list[ConsistentAnnealed]:
    """Settings with one to three evaluations, that with two by default first.

    Classes and guidance are those of the experiment's own sampler.
    """
    half = 1 / Space.unmeasured(experiment.data).gain
    lasts = [half * last for last in _LAST if half * last < experiment.schedule.sigma_max]
    several = [multistep(steps, last) for steps in range(2, _MOST_STEPS + 1) for last in lasts]
    drawn = {field.name: getattr(experiment.sampler, field.name) for field in attrs.fields(Sampler)}
    return [attrs.evolve(one, **drawn) for one in (*several[:1], multistep(1, 0.0), *several[1:])]
