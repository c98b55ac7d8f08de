"""Linear measurements of images, and sampling images that agree with them."""

from ncsnx.inverse.condition import Condition, Measured
from ncsnx.inverse.operators import (
    Averaging,
    Blurring,
    Fourier,
    Graying,
    LinearOperator,
    Masking,
    MatrixOperator,
)

__all__ = [
    "Averaging",
    "Blurring",
    "Condition",
    "Fourier",
    "Graying",
    "LinearOperator",
    "Masking",
    "MatrixOperator",
    "Measured",
]
