"""examples/notebook.ipynb by a kernel, with a training of seconds."""

from pathlib import Path

import nbclient
import nbformat
import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "examples" / "notebook.ipynb"
SMALL = {
    "model.width=32 steps=600 checkpoint_every=200": "model.width=4 steps=6 checkpoint_every=3 schedule.levels=4 "
    "sampler.steps_per_level=1",
    "n=36": "n=4",
    "n=200": "n=12, features=ncsnx.config.Classifier(steps=20, width=8)",
    "n=50, seeds=2": "n=10, seeds=1, features=ncsnx.config.Classifier(steps=20, width=8)",
}
"""Text of the notebook's file → text for a quick test."""


def made_small() -> str:
    """The notebook's file with small numbers."""
    text = NOTEBOOK.read_text()
    for before, after in SMALL.items():
        assert before in text
        text = text.replace(before, after)
    return text


def test_the_notebook_is_kept_without_outputs() -> None:
    cells = nbformat.read(NOTEBOOK, 4).cells

    assert [cell.outputs for cell in cells if cell.cell_type == "code" and cell.outputs] == []


def executed(text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[nbformat.NotebookNode]:
    """The code cells with their outputs. Raises CellExecutionError with the traceback of a cell that fails."""
    notebook = nbformat.reads(text, 4)
    nbformat.validate(notebook)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("NCSNX_CACHE", str(folder / "cache"))
    client = nbclient.NotebookClient(notebook, timeout=1200, resources={"metadata": {"path": str(folder)}})
    client.execute()
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def shown(cell: nbformat.NotebookNode) -> str:
    """The HTML in the outputs of a cell."""
    return "".join(output.data.get("text/html", "") for output in cell.outputs if "data" in output)


def printed(cell: nbformat.NotebookNode) -> str:
    """The lines in the outputs of a cell."""
    return "".join(output.text for output in cell.outputs if "text" in output)


@pytest.mark.slow
def test_a_kernel_shows_progress_and_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment, _, trained, model, images, *_, restored = executed(made_small(), tmp_path, monkeypatch)

    assert "checkpoint_every" in shown(experiment)
    assert "finished at step 6/6" in printed(trained)
    assert "EMA weights" in shown(model)
    assert "data:image/png;base64," in shown(images)
    assert "largest difference from the measurement" in shown(restored)
