"""Makes the folder of pictures that `experiments/photographs.py` trains on, from packages of Debian.

    apt-get download budgie-backgrounds lomiri-wallpapers-16.04
    for package in *.deb; do dpkg-deb -x "$package" unpacked; done
    python examples/photographs.py unpacked photographs

Pictures are copied as they are. Only photographs are taken whose licence, by the package's own copyright file, is CC0
or CC-BY; `ATTRIBUTION.txt` beside them has title, author and licence of each.
"""

import re
import shutil
import sys
from pathlib import Path

LICENCES = {
    "CC0-1.0": "https://creativecommons.org/publicdomain/zero/1.0/",
    "CC-BY-4.0": "https://creativecommons.org/licenses/by/4.0/",
}
PHOTOGRAPHS = {
    "budgie-backgrounds": (
        *("abstract-spiral", "beacon-street-sunset", "blue-periwinkle", "canyon-wren", "casa-mila"),
        *("extreme-desert-hike", "high-trestle-trail", "lake-sherburne", "oakland-zoo-otters", "perched-osprey"),
        *("piazza-gae-aulenti", "roman-colosseum", "singaporean-cityscape", "tea-gardens"),
    ),
    "lomiri-wallpapers-16.04": (
        *("Picture_0B_by_freespace", "Picture_1A_by_freespace", "Wine_by_Jakkub_Mede"),
        *("aitzgorri_by_Aitzol_Berasategi", "friends_by_Aitzol_Berasategi", "life_by_Aitzol_Berasategi"),
        *("picosdeeuropa_by_Aitzol_Berasategi", "seeding_by_Clements_Engelhardt", "sunset_by_Aitzol_Berasategi"),
    ),
}
LEFT_OUT = {
    "ocean-waves": "a woodblock print",
    "saturnian-profile": "assembled from images of a probe, and mostly black",
    "valley-midnight": "a drawing",
    "waves-midnight": "a drawing",
    "umang_by_Abhishek_Mudgal": "a rendering",
    "Bridge_by_Sander_Klootwijk": "CC-BY-SA",
    "Dragonfly_by_Bolly": "CC-BY-SA",
    "analogpattern_by_Peter_Nerlich": "CC-BY-SA",
    "free_by_Peter_Nerlich": "CC-BY-SA",
    "greentock_by_Peter_Nerlich": "CC-BY-SA",
}
"""Other pictures of these packages, and why they aren't taken."""


def licence_of(copyright_file: Path, name: str) -> tuple[str, str]:
    """(holder, licence) of a picture by a package's copyright file: those of its own paragraph, else of all files."""
    found = {}
    for paragraph in copyright_file.read_text().split("\n\n"):
        fields = dict(re.findall(r"^(Files|Copyright|License): *(.*)$", paragraph, re.M))
        for pattern in fields.get("Files", "").split():
            if not pattern.endswith("/*"):  # debian/* are the packagers' own files
                found[pattern.rpartition("/")[2]] = fields["Copyright"], fields["License"]
    return found.get(name) or found["*"]


def main(unpacked: Path, out: Path) -> None:
    out.mkdir(parents=True)
    lines = ["Photographs from packages of Debian, copied without changes.", ""]
    for package, names in PHOTOGRAPHS.items():
        for name in names:
            (picture,) = unpacked.rglob(f"{name}.jpg")
            (copyright_file,) = unpacked.rglob(f"doc/{package}/copyright")
            holder, licence = licence_of(copyright_file, picture.name)
            if licence not in LICENCES:
                sys.exit(f"{package}: {picture.name} has the licence {licence}, expected {' or '.join(LICENCES)}")
            shutil.copyfile(picture, out / picture.name)
            lines.append(f"{picture.name}: {holder}; {licence}, {LICENCES[licence]}; {package}")
    (out / "ATTRIBUTION.txt").write_text("\n".join(lines) + "\n")
    known = {*(name for names in PHOTOGRAPHS.values() for name in names), *LEFT_OUT}
    further = sorted({path.stem for path in unpacked.rglob("*.jpg")} - known)
    print(f"{out}: {len(lines) - 2} photographs; not taken, since nobody has looked: {', '.join(further) or 'none'}")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
