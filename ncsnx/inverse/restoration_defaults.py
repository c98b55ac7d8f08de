"""What a restoration takes where nobody says: the size, the tiles, the images per batch and the alternatives."""

import math
from pathlib import Path

import attrs

from ncsnx.config.data_sets import cuts_patches
from ncsnx.config.image_sizes import ImageSize, height_and_width
from ncsnx.config.sampler import Sampler
from ncsnx.config.variants import load_plugins
from ncsnx.errors import UsageError, require_between
from ncsnx.inverse.operators.measurement_map import NoisyPicture
from ncsnx.inverse.rules.contract import EXACT
from ncsnx.inverse.task import Task
from ncsnx.inverse.task_pictures import size_of
from ncsnx.model_spec import ModelSpec
from ncsnx.networks import meta_network
from ncsnx.networks.tiling import DEFAULT_SIDE, is_in_tiles
from ncsnx.runs.selection import ModelFolder
from ncsnx.sampling.model import Model, require_size
from ncsnx.sampling.request import images_at_once, shape_at
from ncsnx.spelling import argument, parameter

ALTERNATIVES = 4
"""Alternatives of a picture where no mean is known without them, and the fewest that maps are written of."""
MOST_PIXELS = 89_478_485
"""Pixels of the largest picture, given or restored: those of Pillow's largest."""
_LARGE = 2**18
"""Pixels from which on images are drawn one by one."""


def restored_size(name: str, picture: Path, channels: int, factor: int) -> tuple[int, int]:
    """Height and width in pixels of a picture that is restored at its own size, or at `factor` times that.

    name: the parameter of the picture, a file or a folder, whose first one counts. channels: those of the model.
    Raises UsageError for more than `MOST_PIXELS`, NcsnxError for what can't be read.
    """
    height, width = (side * factor for side in size_of(picture, channels))
    if height * width > MOST_PIXELS:
        raise UsageError(f"{parameter(name)}: expected at most {MOST_PIXELS:,} pixels, found {height}×{width}")
    return height, width


def tile_side(model: ModelFolder | Model, size: ImageSize | None, asked: int | None) -> int | None:
    """Side in pixels of the tiles that pictures are evaluated in; None: as the model is.

    size: that of the images; None: the data's. asked: the side that was asked for; by default `DEFAULT_SIDE`, for a
    network of patches whose value at a pixel depends on the surroundings only. Raises UsageError for a side out of
    range, and for a size that the network can't take as it is.
    """
    if asked is not None:
        require_between("tile", asked, 8, 65_536, " pixels")
        return asked
    if size is None:
        return None
    load_plugins("ncsnx.runtime")
    network = model.network if isinstance(model, Model) else meta_network(model.declared(), model.space())
    is_local = network.tile_unit is not None and not is_in_tiles(network)
    if is_local and cuts_patches(model.spec().data):
        return DEFAULT_SIDE
    require_size(network, size)
    return None


def images_per_batch(spec: ModelSpec, size: ImageSize | None, asked: int | None) -> int:
    """Images that are drawn at once. size: that of the images; None: the data's. asked: what was asked for.

    Large ones are drawn one by one, so that an interruption loses less than an image: tiles fill a processor as well.
    """
    is_large = cuts_patches(spec.data) and size is not None and math.prod(height_and_width(size)) >= _LARGE
    if is_large and asked is None:
        return 1
    return images_at_once(shape_at(spec.space.shape, size), asked)


def alternatives(asked: int | None, spec: ModelSpec, *, has_mean: bool, is_quick: bool, enlarges: bool) -> int:
    """Alternatives per picture: as many as are asked for, else by default.

    has_mean: whether the mean is known without them. is_quick: for a preview. Raises UsageError for 0 without a mean.
    """
    if asked == 0 and not has_mean:
        with_mean = f"{parameter('denoise')} and {parameter('jpeg')}, by score networks that know any noise"
        raise UsageError(f"{parameter('n')} must be at least 1; 0, for the mean alone, is for {with_mean}")
    if asked is not None:
        return asked
    if not spec.learns_scores:
        return 1
    if is_quick:
        # a single one is behind Lanczos, the mean of four isn't
        return ALTERNATIVES if enlarges else 1
    return 0 if has_mean else ALTERNATIVES


def require_different(count: int, task: Task, spec: ModelSpec, sampler: Sampler) -> None:
    """Raises UsageError for several alternatives of a noisy picture that would all be the same.

    A network that was tuned for consistency leads from a noisy picture to one image, but where a part of the noise is
    drawn, as of gray pictures in color, or the images have several classes.
    """
    is_drawn = isinstance(task.operator, NoisyPicture) and task.operator.evaluations > 1
    if count > 1 and not spec.learns_scores and not is_drawn and len(sampler.classes) < 2:
        raise UsageError(
            f"{argument('n', count)}: this network was tuned for consistency, and gives one image for a noisy picture; "
            "use the run that it was tuned from",
        )


def with_usual_rule(task: Task, spec: ModelSpec) -> Task:
    """The task with the rule that suits the model: trained levels don't begin at the noise of a picture."""
    return attrs.evolve(task, rule=EXACT) if task.how.begins_at_noise and not spec.any_sigma else task
