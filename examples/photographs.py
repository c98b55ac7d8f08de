"""Makes the folder of pictures that `experiments/photographs.py` trains on, from packages of Debian and by drawing.

    apt-get download budgie-backgrounds lomiri-wallpapers-16.04
    for package in *.deb; do dpkg-deb -x "$package" unpacked; done
    python examples/photographs.py unpacked photographs

Pictures of the packages are copied as they are: photographs, and a few that were drawn or rendered. Only those are
taken whose license, by the package's own copyright file, is CC0 or CC-BY; `ATTRIBUTION.txt` beside them has title,
author and license of each. `drawing-*.png` are flat shapes, gradients, lines and letters at random places, which this
script draws: without them, a network of photographs leaves traces in diagrams, screenshots and cartoons.
"""

import re
import shutil
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

LICENSES = {
    "CC0-1.0": "https://creativecommons.org/publicdomain/zero/1.0/",
    "CC-BY-4.0": "https://creativecommons.org/licenses/by/4.0/",
}
PICTURES = {
    "budgie-backgrounds": (
        *("abstract-spiral", "beacon-street-sunset", "blue-periwinkle", "canyon-wren", "casa-mila"),
        *("extreme-desert-hike", "high-trestle-trail", "lake-sherburne", "oakland-zoo-otters", "perched-osprey"),
        *("piazza-gae-aulenti", "roman-colosseum", "singaporean-cityscape", "tea-gardens"),
        *("ocean-waves", "valley-midnight", "waves-midnight"),  # a woodblock print, two drawings
    ),
    "lomiri-wallpapers-16.04": (
        *("Picture_0B_by_freespace", "Picture_1A_by_freespace", "Wine_by_Jakkub_Mede"),
        *("aitzgorri_by_Aitzol_Berasategi", "friends_by_Aitzol_Berasategi", "life_by_Aitzol_Berasategi"),
        *("picosdeeuropa_by_Aitzol_Berasategi", "seeding_by_Clements_Engelhardt", "sunset_by_Aitzol_Berasategi"),
        "umang_by_Abhishek_Mudgal",  # a rendering
    ),
}
LEFT_OUT = {
    "saturnian-profile": "assembled from images of a probe, and mostly black",
    "Bridge_by_Sander_Klootwijk": "CC-BY-SA",
    "Dragonfly_by_Bolly": "CC-BY-SA",
    "analogpattern_by_Peter_Nerlich": "CC-BY-SA",
    "free_by_Peter_Nerlich": "CC-BY-SA",
    "greentock_by_Peter_Nerlich": "CC-BY-SA",
}
"""Other pictures of these packages, and why they aren't taken."""
DRAWINGS, SIZE = 8, (2400, 1600)
LETTERS = "the quick brown fox jumps over the lazy dog THE QUICK BROWN FOX 0123456789 (+-=.,:;?!)"


def license_of(copyright_file: Path, name: str) -> tuple[str, str]:
    """(holder, license) of a picture by a package's copyright file: those of its own paragraph, else of all files."""
    found = {}
    for paragraph in copyright_file.read_text().split("\n\n"):
        fields = dict(re.findall(r"^(Files|Copyright|License): *(.*)$", paragraph, re.M))
        for pattern in fields.get("Files", "").split():
            if not pattern.endswith("/*"):  # debian/* are the packagers' own files
                found[pattern.rpartition("/")[2]] = fields["Copyright"], fields["License"]
    return found.get(name) or found["*"]


def drawing(random: np.random.Generator) -> Image.Image:
    """Flat and blended shapes with and without outlines, over one another, then curves and lines of text.

    Sizes are from 8 px to a third of the picture, as often within each octave. There are 12 colors, from gray to pure,
    white and black among them.
    """
    gray, pure = random.integers(0, 256, (12, 1)), random.integers(0, 256, (12, 3))
    palette = (gray + random.random((12, 1)) * (pure - gray)).astype(np.uint8)
    palette[:2] = [[255], [0]]

    def color() -> tuple[int, ...]:
        return tuple(palette[random.integers(12)].tolist())

    def gradient() -> Image.Image:
        corners = Image.fromarray(palette[random.integers(12, size=(2, 2))])
        return corners.resize(SIZE, Image.Resampling.BICUBIC)

    def place() -> tuple[int, int]:
        return int(random.integers(-100, SIZE[0])), int(random.integers(-100, SIZE[1]))

    image = gradient() if random.random() < 0.5 else Image.new("RGB", SIZE, color())
    pen = ImageDraw.Draw(image)
    for size in sorted(np.exp(random.uniform(np.log(8), np.log(800), 250)), reverse=True):
        (left, top), (width, height) = place(), np.maximum(size * random.uniform(0.3, 1, 2), 8).astype(int).tolist()
        box = (left, top, left + width, top + height)
        line = min(int(random.integers(1, 13)), min(width, height) // 4)
        outline = color() if random.random() < 0.4 else None
        match random.integers(4):
            case 0:
                pen.ellipse(box, color(), outline, line)
            case 1:
                pen.rounded_rectangle(box, int(min(width, height) * random.uniform(0, 0.4)), color(), outline, line)
            case 2:
                corners = random.uniform(0, 1, (random.integers(3, 8), 2)) * (width, height) + (left, top)
                pen.polygon([tuple(corner) for corner in corners], color(), outline, line)
            case 3:
                mask = Image.new("L", (width, height))
                ImageDraw.Draw(mask).ellipse((0, 0, width, height), 255)
                image.paste(gradient().resize(mask.size), box[:2], mask)
    for _ in range(20):
        (left, top), (width, height) = place(), random.uniform(-600, 600, 2)
        way = np.linspace(0, 1, 50)
        curve = np.stack([left + width * way, top + height * np.sin(way * random.uniform(0, 9))], axis=1)
        pen.line([tuple(point) for point in curve], color(), int(random.integers(2, 17)), joint="curve")
    for _ in range(30):
        start, size = random.integers(len(LETTERS) - 10), float(np.exp(random.uniform(np.log(18), np.log(160))))
        pen.text(place(), LETTERS[start : start + 30], color(), ImageFont.load_default(size))
    return image


def main(unpacked: Path, out: Path) -> None:
    out.mkdir(parents=True)
    lines = ["Pictures from packages of Debian, copied without changes.", ""]
    for package, names in PICTURES.items():
        for name in names:
            (picture,) = unpacked.rglob(f"{name}.jpg")
            (copyright_file,) = unpacked.rglob(f"doc/{package}/copyright")
            holder, license = license_of(copyright_file, picture.name)
            if license not in LICENSES:
                sys.exit(f"{package}: {picture.name} has the license {license}, expected {' or '.join(LICENSES)}")
            shutil.copyfile(picture, out / picture.name)
            lines.append(f"{picture.name}: {holder}; {license}, {LICENSES[license]}; {package}")
    (out / "ATTRIBUTION.txt").write_text("\n".join(lines) + "\n")
    for number in range(DRAWINGS):
        drawing(np.random.default_rng(number)).save(out / f"drawing-{number}.png")
    known = {*(name for names in PICTURES.values() for name in names), *LEFT_OUT}
    further = sorted({path.stem for path in unpacked.rglob("*.jpg")} - known)
    print(
        f"{out}: {len(lines) - 2} pictures of packages; drawings: {DRAWINGS}; not taken, since nobody has looked:",
        end=" ",
    )
    print(", ".join(further) or "none")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
