"""What a folder of samples says of itself; `ncsnx.sampling.sample_folder` writes it."""

from typing import Any

import attrs

from ncsnx.config.strict.fields import OMITTED, REST, versioned
from ncsnx.storage.documents.document import document

PROTOCOL_FILE, SAMPLES_FILE = "protocol.json", "samples.safetensors"


@document("the record of a sampling")
@attrs.frozen(kw_only=True)
class SampleRecord:
    """What protocol.json says."""

    schema_version: int = attrs.field(default=1, metadata=versioned(since=2))
    protocol: dict[str, Any] = attrs.field(metadata=REST)
    """What determines the images."""
    made: dict[str, Any] = attrs.field(factory=dict)
    """How they were made."""
    complete: bool
    """Whether they are all there."""
    samples_sha256: str | None = attrs.field(default=None, metadata=OMITTED)
    """Of samples.safetensors, in hexadecimal, once they are."""
