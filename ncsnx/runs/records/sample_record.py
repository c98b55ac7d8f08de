"""Record of a folder of samples, written by `ncsnx.sampling.sample_folder`."""

from typing import Any

import attrs

from ncsnx.config.variants import OMITTED, REST, VERSION
from ncsnx.storage.documents import document

PROTOCOL_FILE, SAMPLES_FILE = "protocol.json", "samples.safetensors"
TASK_FILE = "task.json"


@document("the record of a sampling")
@attrs.frozen(kw_only=True)
class SampleRecord:
    """Content of protocol.json."""

    schema_version: int = attrs.field(default=1, metadata=VERSION)
    protocol: dict[str, Any] = attrs.field(metadata=REST)
    """Everything that determines the images."""
    made: dict[str, Any] = attrs.field(factory=dict)
    """Provenance: how the images were made."""
    complete: bool
    """Whether all images are done."""
    samples_sha256: str | None = attrs.field(default=None, metadata=OMITTED)
    """sha256 of samples.safetensors (hexadecimal), once complete."""
