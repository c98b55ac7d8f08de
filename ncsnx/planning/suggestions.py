"""What may serve a person's pictures better than the experiment that was written for them, said with what to type."""

import shlex
from pathlib import Path

from ncsnx.config.data_sets import Images
from ncsnx.data.readers.own_images import picture_files
from ncsnx.data.scan import scan_of
from ncsnx.exports.exported import SHIPPED, Export
from ncsnx.planning.budget import parse_budget
from ncsnx.planning.experiment_proposal import MUCH_LARGER
from ncsnx.quantities import counted
from ncsnx.spelling import argument
from ncsnx.work import Work

_FEW_PICTURES, _SHORT_S = 1_000, 4 * 3_600
"""Pictures and seconds below which a network of photographs that starts from nothing stays behind the one that comes
along, which took 23 pictures of 4K and 8 hours of a processor core."""


def suggest_patches(data: Images, path: Path, work: Work) -> None:
    """Says how to cut patches, where most pictures are much larger than the images that they become.

    path: the folder or zip of the pictures.
    """
    scan, (height, width) = scan_of(picture_files(data, path), work), data.stored_size
    if scan.smaller_than((MUCH_LARGER * height, MUCH_LARGER * width)) < scan.sound / 2:
        work.info(
            f"most pictures have at least {MUCH_LARGER} times the height and width of the images, which lose their "
            "details\nto learn these from patches, repeat the command with another name, and add "
            f"{argument('patches', True)}"
        )


def suggest_photographs(name: str, data: Images, path: Path, budget: str, work: Work) -> None:
    """Says that a training from the weights that come along is better, for few pictures or little time.

    Unless most pictures are too small for it, or noisy: it learns from clean ones.

    name: of the experiment. path: the folder or zip of the pictures. budget: see `parse_budget`.
    """
    files, budget_s = picture_files(data, path), parse_budget(budget)
    count, scan = len(files), scan_of(files, work)
    learned = Export(SHIPPED / "photographs").declared().data
    assert isinstance(learned, Images)
    has_room = scan.smaller_than(learned.room) <= scan.sound / 2
    is_suited = data.channels == 3 and has_room and not (data.noise or data.gain)
    if is_suited and (count < _FEW_PICTURES or (budget_s is not None and budget_s < _SHORT_S)):
        folder, run = shlex.quote(data.root), shlex.quote(f"{name}-photographs")
        work.info(
            f"for photographs, {counted(count, 'picture')} in {budget} restore better if the training starts "
            f"from the model that comes along:  ncsnx train photographs --from photographs --run {run} "
            f"data.root={folder}"
        )
