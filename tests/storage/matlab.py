"""Files as MATLAB writes them."""

import struct
from pathlib import Path
from typing import Any

import h5py
import numpy as np


def matlab_73(path: Path, arrays: dict[str, Any]) -> None:
    """Saves as MATLAB does with -v7.3: axes reversed, complex numbers as pairs, behind 512 bytes of text."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, values in arrays.items():
            stored = np.atleast_2d(values).T
            if np.iscomplexobj(stored):
                pairs = np.empty(stored.shape, [("real", "f4"), ("imag", "f4")])
                pairs["real"], pairs["imag"] = stored.real, stored.imag
                stored = pairs
            file[name] = stored
            file[name].attrs["MATLAB_class"] = np.bytes_("double")
        file["text"] = np.array([[104], [105]], "u2")
        file["text"].attrs["MATLAB_class"] = np.bytes_("char")
    with path.open("r+b") as written:
        written.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + struct.pack("<H2s", 0x0200, b"IM"))
