"""Errors: one line as text, and unchanged by pickling."""

import pickle

import pytest
import torch

from ncsnx.config.codec import ConfigError
from ncsnx.config.converter import NewerVersionError, StructureError
from ncsnx.data.decoding import BrokenImageError
from ncsnx.errors import AdvisedError, Hint, NcsnxError, UsageError, is_out_of_memory
from ncsnx.runs.manifest import UnsoundError

ERRORS = [
    NcsnxError("bedroom128 is missing", Hint("download it", "ncsnx data download bedroom128"), Hint("or", adds="a=1")),
    UsageError("no such run", Hint("list the runs", "ncsnx list")),
    AdvisedError("line 3 is invalid", "fix or remove that line"),
    StructureError([("steps", "expected an integer")], "config.json", "restore it"),
    NewerVersionError([("schema_version", "is 99")], "config.json"),
    ConfigError([("steps", "expected an integer")]),
    BrokenImageError("a.png", "it is truncated"),
    UnsoundError("model.safetensors is missing"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_survives_pickling_with_its_hints(error: NcsnxError) -> None:
    received = pickle.loads(pickle.dumps(error))
    assert type(received) is type(error)
    assert (str(received), received.message, received.hints) == (str(error), error.message, error.hints)
    assert vars(received) == vars(error)


def test_the_text_of_an_error_is_its_message_and_hints_in_one_line() -> None:
    assert str(ERRORS[0]) == "bedroom128 is missing; download it: ncsnx data download bedroom128; or: a=1"


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        torch.AcceleratorError("CUDA error: out of memory"),
        *map(
            RuntimeError,
            (
                "DefaultCPUAllocator: can't allocate memory: you tried to allocate 8000000000000 bytes",
                "MPS backend out of memory (MPS allocated: 8.00 GB)",
                "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
                "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
            ),
        ),
    ],
    ids=str,
)
def test_memory_that_ran_out_is_recognized_in_every_text(error: Exception) -> None:
    assert is_out_of_memory(error)
    assert not is_out_of_memory(RuntimeError("CUDA error: an illegal memory access was encountered"))
