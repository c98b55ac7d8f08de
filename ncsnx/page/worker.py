"""A process that looks at pictures and restores them, for a server that ends it to stop it.

    python -m ncsnx.page.worker RUNS

It reads one request per line (JSON on standard input) and answers with events, one per line: `ready`, `seen`, `done`
or `failed` end a request; `progress` and `warning` come before. It ends when its input does, so it never outlives the
server.
"""

import json
import os
import queue
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw

import ncsnx
from ncsnx.config.data_sets import cuts_patches
from ncsnx.data.decoding import BrokenImageError, decode, fitted, flattened, is_gray, opened_picture
from ncsnx.data.jpeg import Jpeg
from ncsnx.errors import NcsnxError, is_out_of_memory
from ncsnx.inverse.noisy_pictures.denoising import FoundNoise
from ncsnx.inverse.posterior_sampler import PREVIEW_STEPS
from ncsnx.inverse.restoring import RestoredImages
from ncsnx.inverse.rules.contract import RESTORING
from ncsnx.inverse.task_pictures import Pictures
from ncsnx.page.asked import MASK, PICTURE, RESTORED, SHOWN, WHOLE, Asked, Stroke, option
from ncsnx.sampling.model import Model
from ncsnx.spelling import spelled_by
from ncsnx.storage.process import available_memory
from ncsnx.work import Advance, Work

_BYTES, _BYTES_PER_PIXEL = 10**9, 240
"""Memory of a restoration: for network and tiles, and for each pixel; 2.5 GB for 8 megapixels."""
_SHOWN = 1_600
"""Longest side of the picture that is painted on."""
_LOOKED_AT = 2_048
"""Largest side of the middle that noise is estimated from."""
_TIMED = 256
"""Side of the square that an evaluation is timed with."""
_SUFFIXES = {"JPEG": ".jpg", "HEIF": ".heic"}
"""Suffixes of formats that aren't named as these are."""
_EVERY_S = 0.2


class Worker:
    """The requests, and the model that is loaded."""

    def __init__(self, runs: Path) -> None:
        self._runs = runs
        self._model: tuple[str, Model] | None = None
        self._names: dict[str, str] = {}
        """Paths of the request's files → their names on the page."""
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)  # what libraries print is no event

    def say(self, event: str, **values: Any) -> None:
        """Writes an event."""
        self._out.write(json.dumps({"event": event, **values}) + "\n")
        self._out.flush()

    def answer(self, request: dict[str, Any]) -> None:
        """Does what is asked, and says how it ended."""
        try:
            with spelled_by(option):
                match request.pop("do"):
                    case "load":
                        self._load(**request)
                    case "look":
                        self._look(**request)
                    case "show":
                        self._show(**request)
                    case "restore":
                        self._restore(**request)
        except NcsnxError as error:
            self.say("failed", error=self._for_the_page(error.message))
        except OSError as error:
            self.say("failed", error=f"A file could not be read or written: {error.strerror or error}")
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            self.say("failed", error="There is not enough memory for this photograph")

    def _for_the_page(self, text: str) -> str:
        """A message with names in place of paths, as a sentence."""
        for path, name in self._names.items():
            text = text.replace(path, name)
        return text[:1].upper() + text[1:]

    def _opened(self, name: str) -> Model:
        if self._model is None or self._model[0] != name:
            self._model = name, ncsnx.load(name, runs=self._runs)
        return self._model[1]

    @torch.no_grad()
    def _load(self, model: str) -> None:
        """Loads the model, and times an evaluation: the second one, since the first warms up."""
        opened = self._opened(model)
        channels, height, width = opened.shape
        if cuts_patches(opened.spec().data):
            height = width = _TIMED
        x = torch.zeros(1, channels, height, width, device=opened.runtime.device)
        inputs = opened.inputs(0, torch.zeros(1, dtype=torch.int64, device=x.device))
        began = 0.0
        for _ in range(2):
            began = time.monotonic()
            opened.denoise(x, opened.levels[0], inputs).cpu()
        pace = (time.monotonic() - began) / (height * width)
        self.say("ready", pace=pace, steps={"quick": PREVIEW_STEPS, "full": RESTORING.steps})

    def _look(self, model: str, folder: str) -> None:
        """Says what a picture is and how much noise it has; names its file by its format, and writes what is shown."""
        spec, upload = self._opened(model).spec(), Path(folder, PICTURE)
        channels, height, width = spec.space.shape
        if not spec.space.bounded or channels not in (1, 3):
            raise NcsnxError(f"The model {model} is of arrays of numbers, not of pictures; choose another model")
        content = (upload if upload.exists() else next(Path(folder).glob(f"{PICTURE}.*"))).read_bytes()
        try:
            name = f"{PICTURE}{_suffix_of(content)}"
            image = decode(content, name)
        except BrokenImageError as error:
            raise NcsnxError(f"This picture can't be read: {error.reason}") from error
        if upload.exists():
            upload.rename(Path(folder, name))
        gray, patches = is_gray(image), cuts_patches(spec.data)
        shown = flattened(image, 1 if gray else 3)
        preview = shown.copy()
        preview.thumbnail((_SHOWN, _SHOWN), Image.Resampling.LANCZOS)
        preview.save(Path(folder, SHOWN), compress_level=1)
        black, white = spec.space.ends
        jpeg = Jpeg.of(content, name)
        noise = _estimate(shown, jpeg, spec.levels[-1] / (white - black))
        self.say(
            "seen",
            file=name,
            size=[image.width, image.height],
            gray=gray,
            jpeg=jpeg is not None,
            noise=noise.at(0.5),
            is_shot=noise.shot is not None,
            most=max(0, available_memory() - _BYTES) // _BYTES_PER_PIXEL,
            channels=channels,
            fixed=None if patches else [width, height],
        )

    def _show(self, picture: str) -> None:
        """Writes the whole picture, upright, beside it."""
        path = Path(picture)
        flattened(decode(path.read_bytes(), path.name), 3).save(path.with_name(WHOLE), compress_level=1)
        self.say("shown")

    def _restore(self, model: str, picture: str, folder: str, asked: dict[str, Any]) -> None:
        """Restores a picture; its files lie in the folder, and `done` names them."""
        place, wanted = Path(folder), Asked.of(asked)
        image = decode(Path(picture).read_bytes(), picture)
        photograph = dict.fromkeys((f"{option(wanted.task)} {picture}", picture), "The photograph")
        self._names = {**photograph, str(place / MASK): "The mask"}
        factor = wanted.factor if wanted.task == "super_resolve" else 1
        if _BYTES + _BYTES_PER_PIXEL * image.width * image.height * factor**2 > available_memory():
            raise NcsnxError("There is no longer enough memory for this photograph; close other programs")
        if wanted.task == "inpaint":
            mask = mask_of(wanted.strokes, image.size)
            if mask.getextrema() in ((0, 0), (255, 255)):
                raise NcsnxError("Nothing or everything is painted; paint over what should be filled in")
            mask.save(place / MASK)
        parameters = wanted.parameters(picture, str(place / MASK))
        if wanted.n > 1:
            parameters["posterior"] = True
        work = Work(progress=self._progress, warning=lambda text: self.say("warning", text=self._for_the_page(text)))
        result = ncsnx.restore(self._opened(model), out=place / "out", save=place / RESTORED, work=work, **parameters)
        assert isinstance(result, RestoredImages)
        with Image.open(place / RESTORED) as restored:
            size = restored.size
        before = flattened(image, 3)
        if wanted.fit:
            before = fitted(before, (size[1] // factor, size[0] // factor))
        before.save(place / "before.png", compress_level=1)
        files = {"before.png": "before.png", RESTORED: RESTORED}
        if wanted.task == "inpaint":
            files[MASK] = MASK
        for number, path in enumerate(result.images, start=1):
            files[f"alternative-{number}.png"] = str(path.relative_to(place))
        most = write_spread(result, place / "spread.png") if wanted.n > 1 else None
        if most is not None:
            files["spread.png"] = "spread.png"
        self.say("done", files=files, size=size, spread=most)

    @contextmanager
    def _progress(self, name: str, *, total: int, unit: str = "") -> Iterator[Advance]:
        done, said = 0, time.monotonic()
        self.say("progress", stage=name, done=0, total=total)

        def advance(count: int = 1, *, kept: bool = False) -> None:
            nonlocal done, said
            done += count
            if done == total or time.monotonic() - said > _EVERY_S:
                said = time.monotonic()
                self.say("progress", stage=name, done=done, total=total)

        yield advance


def _suffix_of(content: bytes) -> str:
    """The suffix that a picture's file should have. Raises BrokenImageError."""
    is_heic = content[4:8] == b"ftyp" and not content.startswith(b"\xff\xd8")
    name = "x.heic" if is_heic else "x.gif" if content.startswith(b"GIF8") else "x"
    with opened_picture(content, name) as picture:
        kind = str(picture.format)
    return _SUFFIXES.get(kind, f".{kind.lower()}")


def _estimate(image: Image.Image, jpeg: Jpeg | None, least: float) -> FoundNoise:
    """The noise of the middle of a picture (L or RGB)."""
    width, height = image.size
    left, top = max(0, width - _LOOKED_AT) // 2, max(0, height - _LOOKED_AT) // 2
    middle = np.asarray(image.crop((left, top, min(width, left + _LOOKED_AT), min(height, top + _LOOKED_AT))))
    y = torch.from_numpy(middle.astype(np.float64) / 255).view(*middle.shape[:2], -1).permute(2, 0, 1)[None]
    return FoundNoise.of(Pictures((PICTURE,), y, (jpeg,)), y, least)


def mask_of(strokes: tuple[Stroke, ...], size: tuple[int, int]) -> Image.Image:
    """The painted mask, of 0 and 255 alone. size: width and height of the picture."""
    mask = Image.new("L", size)
    pen = ImageDraw.Draw(mask)
    for stroke in strokes:
        color, radius = 0 if stroke.erase else 255, max(stroke.size / 2, 0.5)
        if stroke.size == 0:
            (x0, y0), (x1, y1) = stroke.points[0], stroke.points[-1]
            # right and bottom are not included, as in a typed rectangle
            pen.rectangle((min(x0, x1), min(y0, y1), max(x0, x1) - 1, max(y0, y1) - 1), fill=color)
            continue
        pen.line(stroke.points, fill=color, width=max(1, round(stroke.size)))
        for x, y in stroke.points:
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=color)
    return mask


def write_spread(result: RestoredImages, path: Path) -> float:
    """Writes the deviation of the alternatives as a picture, black where they agree; returns what is brightest there.

    That is the quantile 0.995 of the deviation, averaged over channels, where white is 1.
    """
    deviation = result.maps().deviation[0].mean(dim=0).numpy()
    most = max(float(np.quantile(deviation, 0.995)), 1e-6)
    colors = matplotlib.colormaps["inferno"](np.clip(deviation / most, 0, 1), bytes=True)
    Image.fromarray(colors[..., :3]).save(path)
    return most


def main() -> None:
    """Answers requests until the input ends."""
    requests: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            requests.put(json.loads(line))
        os._exit(0)

    worker = Worker(Path(sys.argv[1]))
    threading.Thread(target=read, name="requests", daemon=True).start()
    while True:
        worker.answer(requests.get())


if __name__ == "__main__":
    main()
