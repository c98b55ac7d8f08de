"""A recorder for the progress and messages of a job."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import attrs

from ncsnx.work import Advance, Work


@attrs.define
class Watcher:
    """Records progress, warnings and other messages."""

    warnings: list[str] = attrs.Factory(list)
    infos: list[str] = attrs.Factory(list)
    jobs: list[tuple[str, int]] = attrs.Factory(list)
    """(name, units done) of each job."""
    totals: list[int] = attrs.Factory(list)
    """Number of units announced by each job."""
    check_stop: Callable[[], None] = lambda: None

    @property
    def work(self) -> Work:
        return Work(
            progress=self._progress, info=self.infos.append, warning=self.warnings.append, check_stop=self.check_stop
        )

    @contextmanager
    def _progress(self, name: str, *, total: int, unit: str = "") -> Iterator[Advance]:
        done = 0

        def advance(count: int = 1) -> None:
            nonlocal done
            done += count

        self.totals.append(total)
        yield advance
        self.jobs.append((name, done))
