"""Makes the folder of pictures that `experiments/photographs.py` trains on, from packages of Debian and by drawing.

    apt-get download budgie-backgrounds lomiri-wallpapers-16.04
    for package in *.deb; do dpkg-deb -x "$package" unpacked; done
    python examples/photographs.py unpacked photographs

Pictures of the packages are copied as they are: photographs, and a few that were drawn or rendered. Only those are
taken whose license, by the package's own copyright file, is CC0 or CC-BY; `ATTRIBUTION.txt` beside them has title,
author and license of each. `drawing-*.png` are flat shapes, gradients, lines and letters at random places, which this
script draws: without them, a network of photographs leaves traces in diagrams, screenshots and cartoons. `screen-*.png`
have edges without antialiasing, small letters and patterns that repeat themselves. Each of their pixels is a square of
2×2, since the experiment cuts patches at a half of the size.
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
SCREENS, SCREEN_SIZE = 6, (1200, 800)
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


def palette_of_12(random: np.random.Generator) -> np.ndarray:
    """12 colors (12, 3), from gray to pure; the first are white and black."""
    gray, pure = random.integers(0, 256, (12, 1)), random.integers(0, 256, (12, 3))
    palette = (gray + random.random((12, 1)) * (pure - gray)).astype(np.uint8)
    palette[:2] = [[255], [0]]
    return palette


def drawing(random: np.random.Generator) -> Image.Image:
    """Flat and blended shapes with and without outlines, over one another, then curves and lines of text.

    Sizes are from 8 px to a third of the picture, as often within each octave.
    """
    palette = palette_of_12(random)

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


def screen(random: np.random.Generator) -> Image.Image:
    """Shapes, patterns and small text with hard edges, as in screenshots; enlarged by 2."""
    palette = palette_of_12(random)

    def color() -> tuple[int, ...]:
        return tuple(palette[random.integers(12)].tolist())

    def pattern(width: int, height: int) -> Image.Image:
        """A small random tile, repeated: of few colors, each a block of 1 to 3 px."""
        rows, columns = random.integers(2, 13, 2)
        tile = palette[random.choice(12, 3)][random.integers(0, random.integers(2, 4), (rows, columns))]
        tile = np.repeat(np.repeat(tile, random.integers(1, 4), axis=0), random.integers(1, 4), axis=1)
        times = (height // tile.shape[0] + 1, width // tile.shape[1] + 1, 1)
        return Image.fromarray(np.tile(tile, times)[:height, :width])

    image = Image.new("RGB", SCREEN_SIZE, color())
    pen = ImageDraw.Draw(image)
    pen.fontmode = "1"  # no antialiasing
    for size in sorted(np.exp(random.uniform(np.log(6), np.log(300), 200)), reverse=True):
        left, top = int(random.integers(-50, SCREEN_SIZE[0])), int(random.integers(-50, SCREEN_SIZE[1]))
        width, height = np.maximum(size * random.uniform(0.3, 1, 2), 6).astype(int).tolist()
        box = (left, top, left + width, top + height)
        outline = color() if random.random() < 0.6 else None
        match random.integers(5):
            case 0:
                pen.ellipse(box, color(), outline)
            case 1 | 2:
                pen.rectangle(box, color(), outline, int(random.integers(1, 4)))
            case 3:
                pen.line((left, top, *random.integers(0, SCREEN_SIZE)), color(), int(random.integers(1, 5)))
            case 4:
                image.paste(pattern(width, height), box[:2])
    for _ in range(120):
        start, size = random.integers(len(LETTERS) - 10), float(np.exp(random.uniform(np.log(9), np.log(40))))
        pen.fontmode = "1" if random.random() < 0.3 else "L"
        place = int(random.integers(-100, SCREEN_SIZE[0])), int(random.integers(0, SCREEN_SIZE[1]))
        pen.text(place, LETTERS[start : start + 40], color(), ImageFont.load_default(size))
    return image.resize((2 * SCREEN_SIZE[0], 2 * SCREEN_SIZE[1]), Image.Resampling.NEAREST)


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
    for number in range(SCREENS):
        screen(np.random.default_rng(DRAWINGS + number)).save(out / f"screen-{number}.png")
    known = {*(name for names in PICTURES.values() for name in names), *LEFT_OUT}
    further = sorted({path.stem for path in unpacked.rglob("*.jpg")} - known)
    print(f"{out}: {len(lines) - 2} pictures of packages, {DRAWINGS + SCREENS} drawings")
    print("not taken, since nobody has looked:", ", ".join(further) or "none")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
