"""How many bytes files of weights have: that follows from the experiment, so that no other file is read or hashed.

A safetensors file holds the values of its tensors and, before them, eight bytes and a header in JSON. What the values
take is exact. What the header takes depends on who wrote it (order, spaces, metadata), so it has a generous limit, less
than a thousandth of a network of usual width.
"""

import attrs

from ncsnx.config.experiment import Experiment
from ncsnx.errors import NcsnxError
from ncsnx.quantities import counted
from ncsnx.runs.names import part_file

_HEADER_BYTES, _ENTRY_BYTES = 4_096, 512
"""Of a header at most: for metadata, and for each tensor, whose name, type, shape and place take some 150."""
_OPTIMIZER_TENSORS = 8
"""Tensors that an optimizer keeps for each parameter, at most: Adam has 3 (4 with amsgrad), RMSProp 4; those of
packages may have more. Each is of its parameter's size, or one number, as loading requires."""


@attrs.frozen
class WeightSizes:
    """What the files of weights of an experiment's checkpoints may have."""

    values: int
    """Bytes of all tensors of the network."""
    header: int
    """Bytes of a header at most."""

    def problem(self, file: str, size: int) -> str | None:
        """What is wrong with this size of the file of a checkpoint or an export, in words that follow its path."""
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
    """The sizes; None where the network can't be built here, which whoever needs it says."""
    from ncsnx.config.variants import load_plugins
    from ncsnx.networks.construction import meta_network  # imports torch, which looking at a run doesn't need

    try:
        load_plugins("ncsnx.runtime")
        tensors = meta_network(experiment).state_dict()
    except NcsnxError:
        return None
    values = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    # a character of a name takes six at most, as an escape
    return WeightSizes(values, _HEADER_BYTES + sum(_ENTRY_BYTES + 6 * len(name) for name in tensors))


def size_problem(experiment: Experiment, file: str, size: int) -> str | None:
    """`WeightSizes.problem` of the experiment's weights."""
    sizes = weight_sizes(experiment)
    return None if sizes is None else sizes.problem(file, size)
