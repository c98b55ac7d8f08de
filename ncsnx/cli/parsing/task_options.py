"""The tasks of `ncsnx restore`, as typed."""

from pathlib import Path
from typing import Annotated

import typer

from ncsnx.cli.options import MEASUREMENT_PANEL
from ncsnx.cli.parameters import a_path

_TASK = "Task (give one)"

Inpaint = Annotated[
    Path | None,
    typer.Option(
        "--inpaint",
        metavar="PICTURE",
        parser=a_path,
        help="Fill in the part of a picture that --mask marks.",
        rich_help_panel=_TASK,
    ),
]
Mask = Annotated[
    Path | None,
    typer.Option(
        "--mask",
        metavar="PICTURE|RECTANGLE",
        parser=a_path,
        help="For --inpaint: black is known, white is filled in; or the rectangle that is filled in, "
        "LEFT,TOP,RIGHT,BOTTOM in pixels, right and bottom not included.",
        rich_help_panel=_TASK,
    ),
]
FitPictures = Annotated[
    bool,
    typer.Option(
        "--fit",
        help="For --inpaint, --super-resolve and --colorize: resize and crop image files of other sizes, mask and "
        "truth too, as training images are.",
        rich_help_panel=_TASK,
    ),
]
Outpaint = Annotated[
    Path | None,
    typer.Option(
        "--outpaint",
        metavar="PICTURE",
        parser=a_path,
        help="Fill in around a picture that is smaller than the images.",
        rich_help_panel=_TASK,
    ),
]
At = Annotated[
    str | None,
    typer.Option(
        "--at",
        metavar="X,Y",
        help="For --outpaint: the picture's upper left corner.",
        show_default="centred",
        rich_help_panel=_TASK,
    ),
]
SuperResolve = Annotated[
    Path | None,
    typer.Option(
        "--super-resolve",
        metavar="PICTURE",
        parser=a_path,
        help="Enlarge a picture by --factor.",
        rich_help_panel=_TASK,
    ),
]
Factor = Annotated[
    int | None,
    typer.Option("--factor", metavar="F", help="For --super-resolve: a whole number from 2 on.", rich_help_panel=_TASK),
]
Colorize = Annotated[
    Path | None,
    typer.Option("--colorize", metavar="PICTURE", parser=a_path, help="Colour a grey picture.", rich_help_panel=_TASK),
]
Deblur = Annotated[
    Path | None,
    typer.Option(
        "--deblur",
        metavar="PICTURE",
        parser=a_path,
        help="Sharpen a picture that a Gaussian of --blur pixels blurred.",
        rich_help_panel=_TASK,
    ),
]
Blur = Annotated[
    float | None,
    typer.Option(
        "--blur",
        metavar="SIGMA",
        help="For --deblur: standard deviation of the Gaussian, in pixels.",
        rich_help_panel=_TASK,
    ),
]
MeasureFile = Annotated[
    Path | None,
    typer.Option(
        "--measure",
        metavar="FILE",
        parser=a_path,
        help="Reconstruct images from the arrays of a .npz, HDF5 or MATLAB 7.3 file: kspace and mask, in the order and "
        'scale of numpy.fft.fft2(image, norm="ortho"), with an axis of coils and their maps, if several; sinogram '
        "and angles in degrees; or matrix and y. Values are the data's own: from low to high for arrays, as packed, "
        "without limits if unbounded, else from 0 to 1; an array range (black, white) says otherwise.",
        rich_help_panel=_TASK,
    ),
]
Maps = Annotated[
    str | None,
    typer.Option(
        "--maps",
        metavar="FILE|estimate",
        help="For --measure with several coils: their sensitivity maps, as a .npy or the array maps of another file, "
        "or estimated from the fully sampled centre of kspace.",
        show_default="in the file, else estimated",
        rich_help_panel=MEASUREMENT_PANEL,
    ),
]
Centred = Annotated[
    bool | None,
    typer.Option(
        "--centred/--no-centred",
        help="For --measure: whether frequency 0 of kspace and mask is in the middle, as in fastMRI's files, or comes "
        "first.",
        show_default="it comes first; energy in the middle is refused",
        rich_help_panel=MEASUREMENT_PANEL,
    ),
]
Rule = Annotated[
    str | None,
    typer.Option(
        "--rule",
        metavar="NAME",
        help="How the measurement guides the sampler: exact (by singular values), cg (data consistency by conjugate "
        "gradients), langevin (annealed likelihood score, for Langevin samplers) or dps (gradients through the "
        "network, for what is not linear).",
        show_default="auto: exact if possible, else cg, else dps",
        rich_help_panel=MEASUREMENT_PANEL,
    ),
]
Operator = Annotated[
    str | None,
    typer.Option(
        "--operator", metavar="TAG", help="A task that an installed package registers.", rich_help_panel=_TASK
    ),
]
Input = Annotated[
    Path | None,
    typer.Option(
        "--input", metavar="FILE", parser=a_path, help="For --operator: its measurement.", rich_help_panel=_TASK
    ),
]
NoiseDeviation = Annotated[
    float | None,
    typer.Option(
        "--noise",
        metavar="STD",
        help="Standard deviation of the measurement's noise, where black is 0 and white 1; for unbounded data in "
        "its own values.",
        show_default="0; 8-bit rounding for --deblur",
        rich_help_panel=MEASUREMENT_PANEL,
    ),
]
Truth = Annotated[
    Path | None,
    typer.Option(
        "--truth",
        metavar="PICTURE",
        parser=a_path,
        help="The true picture, to compare with: PSNR, SSIM, NMSE, calibration. Folders are matched by file name; one "
        ".npy may hold the truths of all pictures.",
        rich_help_panel=MEASUREMENT_PANEL,
    ),
]
