"""Joins the grids of three samplings into the picture at the top of the README.

ncsnx sample digits --n 64
ncsnx sample digits_edm --n 64
ncsnx sample phantom64x48 --n 16 sampler=cas sampler.steps=40
python docs/images/samples.py DIGITS/grid.png DIGITS_EDM/grid.png PHANTOMS/grid.png docs/images/samples.png
"""

import sys

from PIL import Image

GAP = 16


def main(digits: str, digits_edm: str, phantoms: str, out: str) -> None:
    first, second, third = (Image.open(path).convert("RGB") for path in (digits, digits_edm, phantoms))
    third = third.resize((2 * third.width, 2 * third.height), Image.Resampling.NEAREST)
    grids = [first, second, third]
    joined = Image.new(
        "RGB", (sum(grid.width + GAP for grid in grids) - GAP, max(grid.height for grid in grids)), "white"
    )
    left = 0
    for grid in grids:
        joined.paste(grid, (left, 0))
        left += grid.width + GAP
    joined.save(out, optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
