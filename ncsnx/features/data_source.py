"""The data set that features are trained on and references are built from: opened only where it is needed."""

from pathlib import Path
from typing import Self

import attrs

from ncsnx.config.data_sets import Data
from ncsnx.config.variants import load_plugins
from ncsnx.data import Splits, open_data
from ncsnx.data.places import require_own
from ncsnx.errors import NcsnxError
from ncsnx.runs.folder import Run
from ncsnx.spelling import A_DIR, argument
from ncsnx.work import SILENT, Work


@attrs.define(kw_only=True)
class DataSource:
    """A data set that may not be at hand, as long as what follows from it is cached."""

    data: Data
    folder: Path
    """The data folder (`ncsnx.data.data_folder`)."""
    recorded: str | None = None
    """The fingerprint that a run recorded; None takes that of the data that is there."""
    work: Work = SILENT
    """What takes long when the data is opened is shown there."""
    _splits: Splits | None = attrs.field(default=None, init=False)

    @classmethod
    def of_run(cls, run: Run, folder: Path, work: Work = SILENT) -> Self:
        """The data that a run was trained on. Raises NcsnxError for data that nothing but the run names."""
        load_plugins("ncsnx.runtime")
        data, recorded = run.experiment().data, run.data_fingerprint()
        require_own(data, recorded, run.path)
        return cls(data=data, folder=folder, recorded=recorded, work=work)

    @property
    def fingerprint(self) -> str:
        """Of the data: as recorded, else read from it. Raises NcsnxError where it has to be read and can't be."""
        return self.recorded or self.splits().fingerprint

    def splits(self) -> Splits:
        """The images. Raises NcsnxError where they aren't at hand, or aren't those that were recorded."""
        if self._splits is None:
            opened = open_data(self.data, self.folder, self.work)
            if self.recorded is not None and opened.fingerprint != self.recorded:
                raise NcsnxError(
                    f"the data is not that of the run (fingerprint {opened.fingerprint[:12]} instead of "
                    f"{self.recorded[:12]}); bring the run's data back, or name another place with "
                    f"{argument('data', A_DIR)}"
                )
            self._splits = opened
        return self._splits
