"""Examines a run: verifies every hash, reads every document, and lists files that belong to nothing.

Only a repair changes anything. It removes debris that is certainly ncsnx's own, moves unsound checkpoints into
`RUN/unsound/`, and separates hard-linked logs from their other names. It follows no link and touches no file that ncsnx
didn't write.
"""

from ncsnx.runs.doctor.examination import examine
from ncsnx.runs.doctor.examined import NOTES, Examination, Finding

__all__ = ["NOTES", "Examination", "Finding", "examine"]
