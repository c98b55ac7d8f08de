"""Looks into every corner of a run: verifies what has a hash, reads what can be read, names what belongs to nothing.

Nothing is changed but by a repair, which removes what certainly is debris of ncsnx itself, moves checkpoints that
aren't sound aside, into `RUN/unsound/`, and separates hard-linked logs from their other names. Neither follows a link,
or touches a file that ncsnx didn't write.
"""

from ncsnx.runs.doctor.examination import examine
from ncsnx.runs.doctor.examined import NOTES, Examination, Finding

__all__ = ["NOTES", "Examination", "Finding", "examine"]
