"""Measurements in a .npz, HDF5 or MATLAB 7.3 file, recognized by its arrays.

| arrays | measurement |
|---|---|
| kspace (H, W) or (P, H, W), mask | Fourier values of the image (`ncsnx.inverse.kspace`) |
| kspace (coils, H, W) or (P, coils, H, W), mask, maps | of the image seen by coils (`ncsnx.inverse.coils`) |
| sinogram, angles | radial tomography (`ncsnx.inverse.tomography`) |
| matrix, y | any linear measurement |

mask is (H, W), or (W,) for columns that are measured whole; several coils may have one for each picture, (P, H, W).
"""

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ncsnx.errors import Hint, NcsnxError, UsageError
from ncsnx.inverse.coils import Sense, estimated_maps
from ncsnx.inverse.kspace import (
    RANGE,
    in_fft_order,
    known_frequencies,
    mask_shapes,
    measured_frequencies,
    range_in,
    require_scale,
    size_advice,
)
from ncsnx.inverse.measurement_map import LinearMap, MatrixMap
from ncsnx.inverse.operators import MatrixOperator
from ncsnx.inverse.task import MEASURE, Task
from ncsnx.inverse.tasks import reconstruct
from ncsnx.inverse.tomography import Radon
from ncsnx.inverse.values import ValueRange, non_finite_in_words
from ncsnx.quantities import counted
from ncsnx.spelling import argument, parameter
from ncsnx.storage.array_files import COMPLEX, REAL, ExpectedArray, open_array_file, read_arrays
from ncsnx.storage.process import in_utf8

ESTIMATE = "estimate"
"""Stands for a file of coil maps, which are then estimated from the measured frequencies."""
ESTIMATED = "estimated"
"""Value of the fact `maps` of a task whose coil maps were estimated."""
Shape = tuple[int, int, int]
_COPIES = 5  # of kspace in memory: as read, masked, and as parts in double precision
_DECOMPOSED = 10**10
"""Most multiplications of the decomposition of a matrix, some seconds; a larger one is used as it is."""


def read_measured(
    path: Path,
    shape: Shape,
    values: ValueRange,
    *,
    maps: str | None = None,
    centred: bool | None = None,
    bounded: bool = True,
) -> Task:
    """The task of a file's measurement. shape: (C, H, W) of the images.

    maps: file of coil maps, or 'estimate'; None: in the file. centred: whether frequency 0 of kspace is in the middle;
    None: it is first, and a file that contradicts that is refused. values: black and white, unless the file has an
    array `range`. bounded: whether images lie between black and white. Raises UsageError, NcsnxError.
    """
    file = open_array_file(path)
    names = file.names or ()
    if "sinogram" in names:
        expected, how = _sinogram_arrays(shape), "numpy.savez(FILE, sinogram=…, angles=…)"
    elif "matrix" in names:
        expected, how = _matrix_arrays(shape), "numpy.savez(FILE, matrix=…, y=…)"
    elif maps is not None or "maps" in names or ("kspace" in names and len(file.header("kspace").shape) == 4):
        expected, how = _coil_arrays(shape, size_advice(file, shape)), "numpy.savez(FILE, kspace=…, mask=…, maps=…)"
    else:
        return reconstruct(path, shape, values, centred=centred, bounded=bounded)
    if centred is not None and "kspace" not in names:
        raise UsageError(f"{parameter('centred')} goes with frequencies (kspace), found {', '.join(names)}")
    if maps is not None and "kspace" not in names:
        raise UsageError(f"{parameter('maps')} goes with measurements by coils (kspace), found {', '.join(names)}")
    arrays = read_arrays(path, {**expected, "range": RANGE}, f"save it with {how}")
    if maps not in (None, ESTIMATE):
        arrays["maps"] = _maps_in(Path(maps), shape)
    elif maps == ESTIMATE:
        arrays.pop("maps", None)
    if "kspace" in arrays:
        kspace, mask = in_fft_order(arrays["kspace"], arrays["mask"], centred, in_utf8(path))
        arrays |= {"kspace": kspace, "mask": mask}
    return _task_of_arrays(arrays, in_utf8(path), shape, range_in(path, values), bounded=bounded)


def _task_of_arrays(
    arrays: Mapping[str, NDArray[Any]], name: str, shape: Shape, values: ValueRange, *, bounded: bool = True
) -> Task:
    """The task of kspace, mask and maps (estimated if missing), of sinogram and angles, or of matrix and y.

    name: name of the file, for messages and pictures. values: black and white of the images that were measured.
    Raises NcsnxError.
    """
    for key, array in arrays.items():
        if key == "kspace":  # of which only what was measured counts
            continue
        wide = torch.from_numpy(array.astype(np.complex128 if array.dtype.kind in COMPLEX else np.float64))
        if (wrong := non_finite_in_words(wide, f" in {key} of shape {array.shape}")) is not None:
            raise NcsnxError(f"{name}: {wrong}")
        if key in ("maps", "matrix") and not array.any():
            raise NcsnxError(f"{name}: all values of {key} are 0, so that nothing was measured")
    if "sinogram" in arrays:
        return _of_sinogram(arrays, name, shape, values)
    if "matrix" in arrays:
        return _of_matrix(arrays, name, shape, values)
    return _of_coils(arrays, name, shape, values, bounded=bounded)


def _coil_arrays(shape: Shape, advice: str = "") -> dict[str, ExpectedArray]:
    """advice: on kspace of another size."""
    size = shape[1:]
    several = (("coils", *size), ("P", "coils", *size))
    return {
        "kspace": ExpectedArray("complex numbers", COMPLEX, several, copies=_COPIES, advice=advice),
        "mask": ExpectedArray("zeros and ones", REAL, mask_shapes(shape[1:])),
        "maps": ExpectedArray("complex numbers", COMPLEX, several, optional=True, copies=3),
    }


def _sinogram_arrays(shape: Shape) -> dict[str, ExpectedArray]:
    each = ("angles", "detectors") if shape[0] == 1 else (shape[0], "angles", "detectors")
    return {
        "sinogram": ExpectedArray("real numbers", REAL, (each, ("P", *each)), copies=3),
        "angles": ExpectedArray("degrees", REAL, (("angles",),)),
    }


def _matrix_arrays(shape: Shape) -> dict[str, ExpectedArray]:
    return {
        "matrix": ExpectedArray("real numbers", REAL, (("m", math.prod(shape)),), copies=3),
        "y": ExpectedArray("real numbers", REAL, (("m",), ("P", "m")), copies=3),
    }


def _of_coils(
    arrays: Mapping[str, NDArray[Any]], name: str, shape: Shape, values: ValueRange, *, bounded: bool
) -> Task:
    kspace, mask = arrays["kspace"], arrays["mask"]
    if shape[0] not in (1, 2):
        raise NcsnxError(
            f"{name}: measurements by coils are of complex images, with 2 channels, or of real ones, with 1; the "
            f"model's images have {shape[0]}"
        )
    where = known_frequencies(mask, name)
    kspace = kspace if kspace.ndim == 4 else kspace[None]
    count, coils = kspace.shape[:2]
    if mask.ndim == 3 and len(mask) != count:
        raise NcsnxError(f"{name}: kspace is of {counted(count, 'picture')}, mask of {len(mask)}")
    measured = measured_frequencies(kspace, where[..., None, :, :], np.dtype(np.complex64), name)
    y, known = torch.from_numpy(measured), torch.from_numpy(where)
    facts = {"mask_sha256": _sha256(known)}
    if "maps" in arrays:
        given = arrays["maps"]
        maps = torch.from_numpy(given.astype(np.complex64 if given.dtype.itemsize <= 8 else np.complex128))
        if maps.shape[-3] != coils or (maps.dim() == 4 and len(maps) not in (1, count)):
            raise NcsnxError(
                f"{name}: expected coil maps ({coils}, {shape[1]}, {shape[2]}), alone or for each of "
                f"{counted(count, 'picture')}, as in kspace; found {tuple(maps.shape)}"
            )
    else:
        maps = _estimated(y, known, name)
        facts["maps"] = ESTIMATED
    operator = Sense(maps, known, channels=shape[0])
    if bounded:
        require_scale(name, y, operator.norm**2 * math.prod(shape), values.ends, "maps * image")
    return _task(operator, y, values.ends, name, {**facts, "maps_sha256": _sha256(torch.view_as_real(maps))})


def _estimated(y: Tensor, mask: Tensor, name: str) -> Tensor:
    """Coil maps of each picture, (P, coils, H, W)."""
    masks = mask.expand(len(y), *mask.shape[-2:])
    try:
        return torch.stack([estimated_maps(one, known) for one, known in zip(y, masks, strict=True)])
    except NcsnxError as error:
        raise NcsnxError(
            f"{name}: {error.message}", Hint("say where they are", adds=argument("maps", "FILE"))
        ) from error


def _of_sinogram(arrays: Mapping[str, NDArray[Any]], name: str, shape: Shape, values: ValueRange) -> Task:
    angles = torch.from_numpy(arrays["angles"].astype(np.float64))
    y = torch.from_numpy(arrays["sinogram"].astype(np.float64))
    if shape[0] == 1:
        y = y.unsqueeze(-3)
    y = y if y.dim() == 4 else y[None]
    if y.shape[2] != len(angles):
        turned = "; transpose it to (angles, detectors)" if y.shape[3] == len(angles) else ""
        raise NcsnxError(f"{name}: sinogram is of {y.shape[2]} angles, but there are {len(angles)} angles{turned}")
    operator = Radon(shape, angles, y.shape[3])
    return _task(operator, y, values.ends, name, {"angles_sha256": _sha256(angles), "detectors": y.shape[3]})


def _of_matrix(arrays: Mapping[str, NDArray[Any]], name: str, shape: Shape, values: ValueRange) -> Task:
    matrix = torch.from_numpy(arrays["matrix"].astype(np.float64))
    y = torch.from_numpy(arrays["y"].astype(np.float64))
    y = y if y.dim() == 2 else y[None]
    rows, columns = matrix.shape
    if y.shape[1] != rows:
        raise NcsnxError(f"{name}: matrix has {counted(rows, 'row')}, but y has {counted(y.shape[1], 'value')}")
    facts = {"matrix_sha256": _sha256(matrix)}
    if rows * columns * min(rows, columns) > _DECOMPOSED:
        return _task(MatrixMap(shape, matrix), y, values.ends, name, facts)
    black, white = values.ends
    y = (y - black * matrix.sum(dim=1)) / (white - black)
    names = _names(name, len(y))
    return Task.of_measurement(MatrixOperator(shape, matrix), y, name=MEASURE, pictures=names, facts=facts)


def _task(operator: LinearMap, y: Tensor, values: tuple[float, float], name: str, facts: dict[str, Any]) -> Task:
    """The task of measurements of images with these values of black and white."""
    black, white = values
    if black != 0:
        count = 1 if operator.pictures is None else operator.pictures
        y = y - operator.apply(torch.full((count, *operator.shape), black, dtype=torch.float64)).to(y)
    return Task(
        name=MEASURE,
        operator=operator,
        values=y / (white - black),
        pictures=_names(name, len(y)),
        facts=facts,
    )


def _names(name: str, count: int) -> tuple[str, ...]:
    return tuple(f"{Path(name).name}[{place}]" for place in range(count))


def _maps_in(path: Path, shape: Shape) -> NDArray[Any]:
    """Coil maps in a .npy, or in the array `maps` of another file."""
    file, expected = open_array_file(path), _coil_arrays(shape)["maps"]
    if file.names is None:
        expected.require(file.header())
        return file.read()
    if "maps" not in file.names:
        raise NcsnxError(f"{in_utf8(path)}: expected an array maps, found {', '.join(file.names)}")
    expected.require(file.header("maps"))
    return file.read("maps")


def _sha256(values: Tensor) -> str:
    return hashlib.sha256(values.contiguous().numpy().tobytes()).hexdigest()
