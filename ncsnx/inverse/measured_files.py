"""Measurements in a .npz, HDF5 or MATLAB 7.3 file, recognized by its arrays.

| arrays | measurement |
|---|---|
| kspace (H, W) or (P, H, W), mask | Fourier values of the image |
| kspace (coils, H, W) or (P, coils, H, W), mask, maps | of the image seen by coils (`ncsnx.inverse.operators.coils`) |
| sinogram, angles | radial tomography (`ncsnx.inverse.operators.tomography`) |
| matrix, y | any linear measurement |

kspace is in the order and scale of `numpy.fft.fft2(image, norm="ortho")`, frequency 0 first, or has it in the middle,
as fastMRI stores it: fftshift(fft2(ifftshift(image))), so that the middle of the image is the origin (arXiv
1811.08839). The order can't be read off a file, so it is said, or frequency 0 is first; a file whose energy contradicts
that is refused. Values outside the mask are ignored. mask is (H, W), 1 where kspace was measured, or (W,) for columns
that are measured whole; several coils may have one for each picture, (P, H, W). Values are the data's own.

An array `noise` of the shape of the measurement, or of one picture's, is the standard deviation of each value; of
complex values, that of each part. It is ignored outside the mask.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ncsnx.config.image_sizes import size_of_sides
from ncsnx.errors import Hint, NcsnxError, UsageError
from ncsnx.inverse.operators.coils import Sense, estimated_maps
from ncsnx.inverse.operators.frequencies import Fourier
from ncsnx.inverse.operators.linear_operator import LinearOperator
from ncsnx.inverse.operators.matrix import MatrixOperator
from ncsnx.inverse.operators.measurement_map import require_finite, sha256_of_values
from ncsnx.inverse.operators.tomography import Radon
from ncsnx.inverse.task import MEASURE, Task
from ncsnx.quantities import counted
from ncsnx.space import Space
from ncsnx.spelling import argument, parameter
from ncsnx.storage.array_files import COMPLEX, REAL, ArrayFile, ExpectedArray, open_array_file, read_arrays
from ncsnx.storage.process import in_utf8

ESTIMATE = "estimate"
"""Stands for a file of coil maps, which are then estimated from the measured frequencies."""
ESTIMATED = "estimated"
"""Value of the fact `maps` of a task whose coil maps were estimated."""
Shape = tuple[int, int, int]
Arrays = Mapping[str, NDArray[Any]]
_COPIES = 8
"""Copies of kspace in memory: of one coil in double precision, as read, masked, and as coefficients."""
_COPIES_OF_COILS = 5
"""Copies of kspace in memory: of coils as read, masked, and as parts in double precision."""
_FASTMRI_OTHERS = ("reconstruction_rss", "reconstruction_esc")
"""Arrays in fastMRI's files that measurements don't need."""
_SHARE = 8
"""One part in this many of the frequencies, on each side, is compared around both places."""
_CLEARLY = 9.0
"""Ratio of energies that images don't have the wrong way round."""


def reconstruct(path: Path, space: Space, *, maps: str | None = None, centered: bool | None = None) -> Task:
    """The task of a file's measurement of images in this space.

    maps: file of coil maps, or 'estimate'; None: in the file. centered: whether frequency 0 of kspace is in the middle;
    None: it is first, and a file that contradicts that is refused. Raises UsageError, NcsnxError.
    """
    file, shape = open_array_file(path), space.shape
    names = file.names or ()
    has_coils = maps is not None or "maps" in names or ("kspace" in names and len(file.array("kspace").shape) == 4)
    expected = _expected_arrays(file, shape, has_coils=has_coils)
    if "kspace" not in expected and (stray := "centered" if centered is not None else "maps" if maps else None):
        raise UsageError(f"{parameter(stray)} goes with frequencies (kspace), found {', '.join(names)}")
    needed = [f"{name}=…" for name in expected if name != "noise"]
    saved = f"save it with numpy.savez(FILE, {', '.join(needed)})"
    arrays = read_arrays(path, expected, saved, ignored=_FASTMRI_OTHERS)
    if maps == ESTIMATE:
        arrays.pop("maps", None)
    elif maps is not None:
        arrays["maps"] = _maps_in(Path(maps), shape)
    try:
        if "sinogram" in arrays:
            task = _of_sinogram(arrays, shape)
        elif "matrix" in arrays:
            task = _of_matrix(arrays, shape)
        else:
            task = (_of_coils if has_coils else _of_one_coil)(arrays, shape, centered)
    except NcsnxError as error:
        raise NcsnxError(f"{in_utf8(path)}: {error.message}", *error.hints) from error
    task = _in_unit(task, space)
    return attrs.evolve(task, pictures=tuple(f"{in_utf8(Path(path.name))}[{place}]" for place in range(task.count)))


def _expected_arrays(file: ArrayFile, shape: Shape, *, has_coils: bool) -> dict[str, ExpectedArray]:
    """The arrays that a file must have. has_coils: whether its kspace is that of coils."""
    names, (channels, *size) = file.names or (), shape
    if "sinogram" in names:
        each = ("angles", "detectors") if channels == 1 else (channels, "angles", "detectors")
        return {
            "sinogram": ExpectedArray("real numbers", REAL, (each, ("P", *each)), copies=3),
            "angles": ExpectedArray("degrees", REAL, (("angles",),)),
            "noise": _expected_noise((each, ("P", *each))),
        }
    if "matrix" in names:
        return {
            "matrix": ExpectedArray("real numbers", REAL, (("m", math.prod(shape)),), copies=3),
            "y": ExpectedArray("real numbers", REAL, (("m",), ("P", "m")), copies=3),
            "noise": _expected_noise((("m",), ("P", "m"))),
        }
    found, advice = file.array("kspace").shape if "kspace" in names else (), ""
    if len(found) > 1 and (size[0], size[1]) not in set(pairwise(found)):  # else it is right, or other axes come last
        advice = f"; for images of that size add {argument('size', size_of_sides(found[-2:]))}"
    picture: tuple[int | str, ...] = ("coils", *size) if has_coils else tuple(size)
    masks: tuple[tuple[int | str, ...], ...] = (tuple(size), (size[1],), (1, size[1]))
    copies = _COPIES_OF_COILS if has_coils else _COPIES
    return {
        "kspace": ExpectedArray("complex numbers", COMPLEX, (picture, ("P", *picture)), copies=copies, advice=advice),
        "mask": ExpectedArray("zeros and ones", REAL, (*masks, ("P", *size)) if has_coils else masks),
        **({"maps": _expected_maps(shape)} if has_coils else {}),
        "noise": _expected_noise((picture, ("P", *picture))),
    }


def _expected_noise(shapes: tuple[tuple[int | str, ...], ...]) -> ExpectedArray:
    return ExpectedArray("standard deviations", REAL, shapes, optional=True, copies=3)


def _noise_in(arrays: Arrays, one: Sequence[int]) -> Tensor | float:
    """The noise of each value, (P or 1, *one) for measurements of this shape; 0 for a file without it."""
    noise = arrays.get("noise")
    return 0.0 if noise is None else torch.from_numpy(noise.astype(np.float64)).reshape(-1, *one)


def _expected_maps(shape: Shape) -> ExpectedArray:
    each = ("coils", *shape[1:])
    return ExpectedArray("complex numbers", COMPLEX, (each, ("P", *each)), optional=True, copies=3)


def _maps_in(path: Path, shape: Shape) -> NDArray[Any]:
    """Coil maps in a .npy, or in the array `maps` of another file, or its only one."""
    file = open_array_file(path)
    name = file.chosen("maps" if len(file.names or ()) > 1 else None, parameter("maps"), "")
    array = file.array(name)
    _expected_maps(shape).require(array)
    return array.read()


def _of_one_coil(arrays: Arrays, shape: Shape, centered: bool | None) -> Task:
    y, known, noise = _frequencies(arrays, centered, axes=2)
    operator = Fourier(shape, known)
    facts = {"mask_sha256": sha256_of_values(operator.measured)}
    if not isinstance(noise, Tensor):
        return Task(name=MEASURE, operator=operator, values=operator.of_spectrum(y), facts=facts)
    values, noises = operator.of_spectrum(y, noise), operator.of_noise(noise)
    return Task(name=MEASURE, operator=operator, values=values, noise=noises, facts=facts)


def _of_coils(arrays: Arrays, shape: Shape, centered: bool | None) -> Task:
    y, known, noise = _frequencies(arrays, centered, axes=3)
    facts = {"mask_sha256": sha256_of_values(known)}
    if "maps" in arrays:
        with np.errstate(all="ignore"):  # overflow gives infinity, which is refused
            maps = torch.from_numpy(arrays["maps"].astype(np.complex64))
    else:
        masks = known.expand(len(y), *shape[1:])
        maps = torch.stack([estimated_maps(kspace, of_picture) for kspace, of_picture in zip(y, masks, strict=True)])
        facts["maps"] = ESTIMATED
    facts["maps_sha256"] = sha256_of_values(maps)
    operator = Sense(maps, known, channels=shape[0])
    return Task(name=MEASURE, operator=operator, values=y, noise=noise, facts=facts)


def _of_sinogram(arrays: Arrays, shape: Shape) -> Task:
    angles = torch.from_numpy(arrays["angles"].astype(np.float64))
    sinogram = torch.from_numpy(arrays["sinogram"].astype(np.float64))
    y = sinogram.reshape(-1, shape[0], *sinogram.shape[-2:])
    facts = {"angles_sha256": sha256_of_values(angles), "detectors": y.shape[3]}
    noise = _noise_in(arrays, y.shape[1:])
    return Task(name=MEASURE, operator=Radon(shape, angles, y.shape[3]), values=y, noise=noise, facts=facts)


def _of_matrix(arrays: Arrays, shape: Shape) -> Task:
    matrix = torch.from_numpy(arrays["matrix"].astype(np.float64))
    y = torch.from_numpy(np.atleast_2d(arrays["y"].astype(np.float64)))
    if y.shape[1] != len(matrix):
        raise NcsnxError(f"matrix has {counted(len(matrix), 'row')}, but y has {counted(y.shape[1], 'value')}")
    facts = {"matrix_sha256": sha256_of_values(matrix)}
    noise = _noise_in(arrays, y.shape[1:])
    return Task.of_measurement(MatrixOperator(shape, matrix), y, name=MEASURE, noise=noise, facts=facts)


def _in_unit(task: Task, space: Space) -> Task:
    """The task of the same images with black 0 and white 1, of one of images in own numbers."""
    operator, (black, white) = task.operator, space.own
    if black != 0:
        if isinstance(operator, LinearOperator):
            of_black = operator.coefficients(torch.full((1, *operator.shape), black, dtype=torch.float64))
        else:
            count = operator.pictures or 1
            of_black = operator.apply(torch.full((count, *operator.shape), black, dtype=torch.float64))
        task = attrs.evolve(task, values=task.values - of_black.to(task.values))
    return task.divided(white - black)


def _frequencies(arrays: Arrays, centered: bool | None, axes: int) -> tuple[Tensor, Tensor, Tensor | float]:
    """kspace (P, …) with 0 where it wasn't measured, the mask as booleans, and the noise, (P or 1, …) or 0, with
    frequency 0 first.

    axes: number of axes of a picture's kspace. Raises NcsnxError unless the mask has ones, and else zeros, and for NaN
    and infinity where it is 1.
    """
    kspace, mask, size = arrays["kspace"], arrays["mask"], arrays["kspace"].shape[-2:]
    kspace = kspace.reshape(-1, *kspace.shape[-axes:])
    if mask.ndim == 3 and len(mask) != len(kspace):
        raise NcsnxError(f"kspace is of {counted(len(kspace), 'picture')}, mask of {len(mask)}")
    others = mask[~np.isin(mask, (0, 1))]
    if others.size or not mask.any():
        found = str(others[0]) if others.size else "only zeros"
        raise NcsnxError(f"expected mask to be 1 where kspace was measured and else 0, found {found}")
    known = np.broadcast_to(mask, (*mask.shape[:-2], *size)).astype(bool)  # of columns, it holds for all rows
    where, kind = (known, np.complex128) if axes == 2 else (known[..., None, :, :], np.complex64)
    with np.errstate(all="ignore"):  # overflow gives infinity, which is refused
        measured = np.where(where, kspace, 0).astype(kind)
    require_finite(torch.from_numpy(measured), f"kspace of shape {kspace.shape} where mask is 1")
    measured, known = in_fft_order(measured, known, centered)
    noise = _noise_of_frequencies(_noise_in(arrays, kspace.shape[1:]), where, len(kspace), centered=bool(centered))
    return torch.from_numpy(measured.astype(kind)), torch.from_numpy(known), noise


def _noise_of_frequencies(given: Tensor | float, where: NDArray[Any], count: int, *, centered: bool) -> Tensor | float:
    """The noise of kspace, (P or 1, …), frequency 0 first; outside the mask, where it isn't used, the largest.

    given: as in the file. where: the mask. count: number of pictures.
    """
    if not isinstance(given, Tensor):
        return given
    if len(given) not in (1, count):
        raise NcsnxError(f"kspace is of {counted(count, 'picture')}, noise of {len(given)}")
    noise, where = np.broadcast_arrays(given.numpy(), where)
    if not ((noise > 0) & np.isfinite(noise))[where].all():
        raise NcsnxError("expected noise above 0, and finite, where mask is 1")
    noise = np.where(where, noise, noise[where].max())
    return torch.from_numpy(np.fft.ifftshift(noise, axes=(-2, -1)) if centered else noise)


def in_fft_order(kspace: NDArray[Any], mask: NDArray[Any], centered: bool | None) -> tuple[NDArray[Any], NDArray[Any]]:
    """kspace and mask, (…, H, W), with frequency 0 first, of images whose corner is the origin.

    centered: whether frequency 0 is in the middle, and so is the origin of the images; None: it is first. Raises
    NcsnxError if the energy says otherwise.
    """
    size = kspace.shape[-2:]
    if centered:
        down, across = (np.exp(-2j * np.pi * np.arange(length) * (length // 2) / length) for length in size)
        turned = np.fft.ifftshift(kspace, axes=(-2, -1)) * (down[:, None] * across)
        return turned, np.fft.ifftshift(mask, axes=(-2, -1))
    if centered is None and min(size) >= _SHARE:
        first, middle = (_energy_around(kspace, *place) for place in ((0, 0), (size[0] // 2, size[1] // 2)))
        if middle > _CLEARLY * first:
            raise NcsnxError(
                "expected frequency 0 of kspace first, as numpy.fft.fft2 has it; found the energy in the middle",
                Hint("if frequency 0 is in the middle, as in fastMRI's files", adds=argument("centered", True)),
                Hint("if it is not", adds=argument("centered", False)),
            )
    return kspace, mask


def _energy_around(kspace: NDArray[Any], down: int, across: int) -> float:
    """Sum of squares of the frequencies near this one."""
    height, width = kspace.shape[-2:]
    rows = np.arange(down - height // _SHARE, down + height // _SHARE + 1) % height
    columns = np.arange(across - width // _SHARE, across + width // _SHARE + 1) % width
    near = kspace[..., rows[:, None], columns].astype(np.complex128)  # squares of large values overflow in complex64
    return float(np.square(np.abs(near)).sum())
