"""Sizes of weight files, computed from the experiment, so that files of other sizes are neither read nor hashed.

A safetensors file holds eight bytes, a JSON header and the values of its tensors. The size of the values is exact. The
size of the header depends on its writer (order, spaces, metadata), so it has a generous limit: less than a thousandth
of a network of usual width.
"""

import attrs

from ncsnx.config.experiment import Experiment
from ncsnx.errors import NcsnxError
from ncsnx.quantities import counted
from ncsnx.runs.names import part_file

_HEADER_BYTES, _ENTRY_BYTES = 4_096, 512
"""Limits of a header: for metadata, and per tensor, whose name, type, shape and offsets take some 150 bytes."""
_OPTIMIZER_TENSORS = 8
"""Limit of tensors that an optimizer keeps per parameter: Adam has 3 (4 with amsgrad), RMSProp 4; optimizers from
packages may have more. Each has its parameter's size or is one number, as loading requires."""


@attrs.frozen
class WeightSizes:
    """Allowed sizes of the weight files of an experiment."""

    values: int
    """Bytes of all tensors of the network."""
    header: int
    """Limit of the header in bytes."""

    def problem(self, file: str, size: int) -> str | None:
        """The problem with the size of a checkpoint's or export's file, in words that follow its path, or None."""
        found = counted(size, "byte")
        least, most = self.values + 8, self.values + 8 + self.header
        if file == part_file("optimizer"):
            most *= _OPTIMIZER_TENSORS
            if size > most:
                return f"has {found}; the optimizer's state of the experiment's network has {most:,} at most"
        elif file in (part_file("model"), part_file("ema")) and not least <= size <= most:
            return (
                f"has {found}; the weights of the experiment's network have {self.values:,}, and a header of "
                f"{self.header:,} at most"
            )
        return None


def weight_sizes(experiment: Experiment) -> WeightSizes | None:
    """The sizes; None if the network can't be built here, which is reported where the network is needed."""
    from ncsnx.config.variants import load_plugins
    from ncsnx.networks.construction import meta_network  # here, since it imports torch

    try:
        load_plugins("ncsnx.runtime")
        tensors = meta_network(experiment).state_dict()
    except NcsnxError:
        return None
    values = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    # a character of a name takes at most six bytes, as an escape
    return WeightSizes(values, _HEADER_BYTES + sum(_ENTRY_BYTES + 6 * len(name) for name in tensors))


def size_problem(experiment: Experiment, file: str, size: int) -> str | None:
    """`WeightSizes.problem` for the experiment's weights."""
    sizes = weight_sizes(experiment)
    return None if sizes is None else sizes.problem(file, size)
