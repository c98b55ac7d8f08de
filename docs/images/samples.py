"""Joins the grids of two samplings into the picture at the top of the README.

ncsnx sample digits --ckpt latest --n 64
ncsnx sample phantom64x48 --n 16 sampler=cas sampler.steps=40
python docs/images/samples.py DIGITS/grid.png PHANTOMS/grid.png docs/images/samples.png
"""

import sys

from PIL import Image

GAP = 16


def main(digits: str, phantoms: str, out: str) -> None:
    left, right = (Image.open(path).convert("RGB") for path in (digits, phantoms))
    right = right.resize((2 * right.width, 2 * right.height), Image.Resampling.NEAREST)
    joined = Image.new("RGB", (left.width + GAP + right.width, max(left.height, right.height)), "white")
    joined.paste(left, (0, 0))
    joined.paste(right, (left.width + GAP, 0))
    joined.save(out, optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
