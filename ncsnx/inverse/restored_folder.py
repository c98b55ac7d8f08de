"""The pictures of a folder, restored one by one, each at its own size."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from ncsnx.errors import Hint, NcsnxError, UsageError
from ncsnx.inverse.restoring import RestoredImages
from ncsnx.inverse.task_pictures import picture_files
from ncsnx.quantities import counted
from ncsnx.results import Result
from ncsnx.spelling import A_DIR, argument, parameter
from ncsnx.storage.atomic import make_folder
from ncsnx.storage.process import in_utf8
from ncsnx.work import Work


@attrs.frozen(kw_only=True, repr=False)
class RestoredFolder(Result):
    """The pictures of a folder, which were restored one by one."""

    restored: tuple[RestoredImages, ...]
    """Results of the pictures that were restored by this call, in the order of their names."""
    skipped: tuple[Path, ...] = ()
    """Pictures whose restored file already exists."""
    failed: Mapping[Path, NcsnxError] = attrs.field(factory=dict)
    """Errors of the pictures that could not be restored."""

    @property
    def _count(self) -> int:
        return len(self.restored) + len(self.skipped) + len(self.failed)

    def problem(self) -> NcsnxError | None:
        if not self.failed:
            return None
        first = [error.message for error in self.failed.values()][:3]
        told = "; ".join([*first, *(["…"] if len(self.failed) > 3 else [])])
        return NcsnxError(f"{counted(len(self.failed), 'picture')} of {self._count:,} not restored: {told}")

    def closing(self) -> Sequence[str]:
        if len(self.skipped) < self._count:
            return ()
        return [f"all restored pictures already exist; replace them:  {argument('overwrite', True)}"]

    def to_json(self) -> object:
        return {
            "restored": [one.to_json() for one in self.restored],
            "skipped": [str(file) for file in self.skipped],
            "failed": [{"picture": str(file), "error": str(error)} for file, error in self.failed.items()],
        }

    def heading(self) -> tuple[str, str]:
        others = [("already restored", self.skipped), ("not restored", self.failed)]
        told = ", ".join(f"{len(files):,} {what}" for what, files in others if files)
        return f"{counted(len(self.restored), 'restored picture')}", told


@attrs.frozen(kw_only=True)
class FolderFiles:
    """The files that belong to the pictures of a folder, which `FolderFiles.of` checks."""

    pictures: tuple[Path, ...]
    out: Path | None
    """Folder of a folder for each picture."""
    save: Path | None
    """Folder of the restored pictures."""
    beside: Mapping[str, object]
    """Truth and mask, as given: a folder has one for each picture."""

    @classmethod
    def of(cls, folder: Path, out: Path | None, save: Path | None, **beside: object) -> "FolderFiles":
        """Raises UsageError for a folder of restored pictures that can't be made or is that of the given ones."""
        if save is not None:
            if save.exists() and save.samefile(folder):
                raise UsageError(
                    f"{parameter('save')} {in_utf8(save)} is the folder of the given pictures, which are kept",
                    Hint("give another folder", adds=argument("save", A_DIR)),
                )
            make_folder(save)
        return cls(pictures=tuple(picture_files(folder)), out=out, save=save, beside=beside)

    def saved(self, picture: Path) -> Path | None:
        """File of the restored picture."""
        return None if self.save is None else self.save / picture.name

    def parameters(self, picture: Path) -> dict[str, Any]:
        """The parameters of `ncsnx.restore` that differ between pictures. Raises UsageError for a missing file."""
        is_alone = [one.stem for one in self.pictures].count(picture.stem) == 1
        out = None if self.out is None else self.out / (picture.stem if is_alone else picture.name)
        beside = {name: _beside(name, given, picture) for name, given in self.beside.items()}
        return {"out": out, "save": self.saved(picture), **beside}


def _beside(name: str, given: object, picture: Path) -> object:
    """The truth or mask of a picture: in a folder the one of the same name, if need be without suffix."""
    if not isinstance(given, Path | str) or not Path(given).is_dir():
        return given
    found = [one for one in picture_files(Path(given)) if one.stem == picture.stem]
    found = [one for one in found if one.name == picture.name] or found
    if len(found) != 1:
        raise UsageError(
            f"{parameter(name)} {given}: expected one picture with the name of {picture.name}, found {len(found)}"
        )
    return found[0]


def restore_each(
    files: FolderFiles, restored: Callable[[Path, dict[str, Any]], RestoredImages], work: Work, *, overwrite: bool
) -> RestoredFolder:
    """Restores the pictures one by one; one that can't be restored stops no other.

    restored: restores a picture with `FolderFiles.parameters`. overwrite: whether existing files are replaced. Raises
    UsageError if each picture has one, which then is probably of what was typed.
    """
    results: list[RestoredImages] = []
    skipped: list[Path] = []
    failed: dict[Path, NcsnxError] = {}
    told: set[str] = set()
    for number, picture in enumerate(files.pictures, start=1):
        shown, saved = in_utf8(Path(picture.name)), files.saved(picture)
        if saved is not None and saved.exists() and not overwrite:
            work.info(f"{shown}: {in_utf8(saved)} already exists")
            skipped.append(picture)
            continue
        work.info(f"picture {number:,} of {len(files.pictures):,}: {shown}")
        try:
            results.append(restored(picture, files.parameters(picture)))
        except NcsnxError as error:
            failed[picture] = error
            problem = error.message.replace(str(picture), "")
            if problem not in told:  # a mistake in what was typed is that of each picture
                work.warning(error.message)
            told.add(problem)
    if len(failed) == len(files.pictures) and all(isinstance(error, UsageError) for error in failed.values()):
        raise next(iter(failed.values()))
    return RestoredFolder(restored=tuple(results), skipped=tuple(skipped), failed=failed)
