"""Models of a laboratory: a folder with lab.json, which says what the U-Net is, and its weights."""

from pathlib import Path

from safetensors.torch import load_file

from ncsnx.bounded_reads import sha256_of
from ncsnx.config import Experiment, Heun, LogNormal, Pretrained, Provenance, UNet
from ncsnx.exchange.model_source import FoundModel, ModelSource, read_json_object, source
from ncsnx.work import Work


@source
class Lab(ModelSource):
    """A folder of the laboratory."""

    kind, form = "lab", "a folder with lab.json"

    def recognizes(self, address: str) -> bool:
        return (Path(address) / "lab.json").is_file()

    def read(self, address: str, experiment: Experiment | None, work: Work) -> FoundModel:
        folder, weights = Path(address), Path(address) / "unet.safetensors"
        said = read_json_object(folder / "lab.json")
        declared = Pretrained(
            name=folder.name,
            source=Provenance(kind=self.kind, address=folder.name, sha256=sha256_of(weights), license=said["license"]),
            shape=tuple(said["shape"]),
            ends=(-1.0, 1.0),
            sigma_data=0.5,
            schedule=LogNormal(sigma_max=80.0, sigma_min=0.002, levels=18),
            model=UNet(width=said["width"], multipliers=(1, 2), blocks=1, attention=()),
            sampler=Heun(steps=18),
        )
        return FoundModel.of(declared, load_file(weights), weights.stat().st_size)
