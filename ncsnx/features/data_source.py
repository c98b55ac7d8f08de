"""The data set that classifiers are trained on and references are built from, opened only when needed."""

from pathlib import Path
from typing import Self

import attrs

from ncsnx.config.data_sets import Data
from ncsnx.config.variants import load_plugins
from ncsnx.data import DataMissingError, Splits, open_data
from ncsnx.data.places import by_data_folder, require_own
from ncsnx.errors import Hint, NcsnxError
from ncsnx.runs.folder import Run
from ncsnx.spelling import A_DIR, argument
from ncsnx.work import SILENT, Work


@attrs.define(kw_only=True)
class DataSource:
    """A data set that may be unavailable as long as everything derived from it is cached."""

    data: Data
    folder: Path
    """The data folder (`ncsnx.data.data_folder`)."""
    recorded: str | None = None
    """The fingerprint that a run recorded; None to use that of the available data."""
    work: Work = SILENT
    """Shows progress while the data is opened."""
    _splits: Splits | None = attrs.field(default=None, init=False)

    @classmethod
    def of_run(cls, run: Run, folder: Path, work: Work = SILENT) -> Self:
        """The data that a run was trained on. Raises NcsnxError if only the run names the data."""
        load_plugins("ncsnx.runtime")
        data, recorded = run.experiment().data, run.data_fingerprint()
        require_own(data, recorded, run.path)
        return cls(data=data, folder=folder, recorded=recorded, work=work)

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the data, recorded or computed. Raises NcsnxError if it is neither recorded nor readable."""
        return self.recorded or self.splits().fingerprint

    def splits(self) -> Splits:
        """The images. Raises NcsnxError if they are missing, or don't have the recorded fingerprint."""
        if self._splits is None:
            try:
                opened = open_data(self.data, self.folder, self.work)
            except DataMissingError as error:
                raise by_data_folder(error) from error
            if self.recorded is not None and opened.fingerprint != self.recorded:
                raise NcsnxError(
                    f"the data is not that of the run: its fingerprint is {opened.fingerprint[:12]}, not "
                    f"{self.recorded[:12]}",
                    Hint("restore the run's data"),
                    Hint("or say where it is", adds=argument("data", A_DIR)),
                )
            self._splits = opened
        return self._splits
