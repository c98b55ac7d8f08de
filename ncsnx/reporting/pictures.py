"""Pictures within the page: curves that are drawn, and PNGs of the run, as addresses that hold their content."""

import base64
import io
from collections.abc import Sequence
from typing import Literal

from PIL import Image

from ncsnx.errors import NcsnxError
from ncsnx.evaluation.plots import scale_values, style

Curve = Sequence[tuple[float, float]]
"""Points (x, y) of finite numbers."""
Style = Literal["images", "plot"]

_SIZE_IN, _DOTS_PER_INCH = (4.4, 2.9), 180
_LARGE_BYTES = 400_000
"""Size above which a picture is embedded as a smaller JPEG."""
_LONGEST_SIDE = 1_600


def draw_curve(curve: Curve, y_label: str) -> bytes:
    """A curve by training step as a PNG.

    The axis of values is logarithmic if they are positive and span more than a factor of ten.
    """
    from matplotlib.figure import Figure

    with style():
        figure = Figure(figsize=_SIZE_IN, dpi=_DOTS_PER_INCH, layout="constrained")
        axes = figure.subplots()
        axes.plot(*zip(*curve, strict=True), marker="." if len(curve) < 30 else "")
        scale_values(axes)
        axes.set(xlabel="training step", ylabel=y_label)
        content = io.BytesIO()
        figure.savefig(content, format="png", metadata={"Software": None})
    return content.getvalue()


def address(content: bytes, style: Style) -> str:
    """A PNG as a data URI: a plot in 128 colours, or images, large ones as a smaller JPEG.

    Raises NcsnxError for an incomplete picture.
    """
    kind, reduced = "png", io.BytesIO()
    try:
        with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
            if style == "plot":
                image.convert("RGB").quantize(128, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(
                    reduced, format="PNG"
                )
            elif len(content) > _LARGE_BYTES:
                kind = "jpeg"
                image.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
                image.convert("RGB").save(reduced, format="JPEG", quality=85)
            else:
                image.load()
                reduced.write(content)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise NcsnxError(f"not a complete picture: {error}") from error
    return f"data:image/{kind};base64,{base64.b64encode(reduced.getvalue()).decode('ascii')}"
