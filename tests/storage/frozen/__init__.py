"""One file of every kind of document, as examples for the tests of their reader."""

import pkgutil
from importlib import import_module
from pathlib import Path

import ncsnx
from ncsnx.data.patches import DecodedSizes
from ncsnx.data.readers.packed import PackedRecord
from ncsnx.data.scan import Scan
from ncsnx.evaluation.distance import Roughest
from ncsnx.evaluation.reference import PerfectModel, ReferenceRecord
from ncsnx.exports.exported import ExportConfig
from ncsnx.features.classifier import ClassifierRecord
from ncsnx.inverse.task_record import TaskRecord
from ncsnx.runs.folder import Origins, RunConfig
from ncsnx.runs.ledger import Entry, MeasurementProtocol
from ncsnx.runs.manifest import Manifest
from ncsnx.runs.result_records import SampleRecord, TrackerNotes
from ncsnx.runs.segments import Segment
from ncsnx.runs.writer_lock import HolderNote

V1 = Path(__file__).parent / "v1"
FILES: dict[str, type] = {
    "cache/classifier.json": ClassifierRecord,
    "cache/holder.json": HolderNote,
    "cache/perfect-model-n40.json": PerfectModel,
    "cache/reference.json": ReferenceRecord,
    "cache/roughness/found.json": Roughest,
    "cache/scans/found.json": Scan,
    "cache/sizes.json": DecodedSizes,
    "export/config.json": ExportConfig,
    "imported/config.json": RunConfig,
    "new-run/config.json": RunConfig,
    "ledger/protocols.jsonl": MeasurementProtocol,
    "ledger/entries.jsonl": Entry,
    "checkpoint/manifest.json": Manifest,
    "run/origins.json": Origins,
    "run/samples/*/protocol.json": SampleRecord,
    "run/segments.jsonl": Segment,
    "packed/packed.json": PackedRecord,
    "task*/protocol.json": SampleRecord,
    "task*/task.json": TaskRecord,
    "trackers/wandb.json": TrackerNotes,
}


def frozen_documents() -> list[tuple[str, type, bytes]]:
    """Path, kind and content of each frozen file."""
    found = []
    for pattern, cls in FILES.items():
        for path in sorted(V1.glob(pattern)):
            content = path.read_bytes()
            pieces = content.splitlines() if path.suffix == ".jsonl" else [content]
            found += [(f"{path.relative_to(V1)} {number}", cls, piece) for number, piece in enumerate(pieces)]
    return found


def import_every_module() -> None:
    """Imports all modules, so that every kind of document is declared."""
    for module in pkgutil.walk_packages(ncsnx.__path__, "ncsnx."):
        if not module.name.endswith("__main__"):
            import_module(module.name)
