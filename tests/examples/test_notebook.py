"""examples/notebook.ipynb, executed by a kernel: as it is, and with a training of seconds."""

from pathlib import Path

import nbclient
import nbformat
import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "examples" / "notebook.ipynb"
SMALL = {
    "model.width=32": "model.width=4",
    "steps=600": "steps=6",
    "checkpoint_every=200": "checkpoint_every=3",
    "n=36": "n=4",
    "n=200": "n=12, features=ncsnx.config.Classifier(steps=20, width=8)",
    "n=50, seeds=2": "n=10, seeds=1, features=ncsnx.config.Classifier(steps=20, width=8)",
}
"""Text of the notebook → text for a quick test."""


def executed(folder: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str]) -> list[nbformat.NotebookNode]:
    """The code cells with their outputs. Raises CellExecutionError with the traceback of a cell that fails."""
    text = NOTEBOOK.read_text()
    for before, after in changes.items():
        assert before in text
        text = text.replace(before, after)
    notebook = nbformat.reads(text, 4)
    nbformat.validate(notebook)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("NCSNX_CACHE", str(folder / "cache"))
    client = nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder)}})
    client.execute()
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def shown(cell: nbformat.NotebookNode) -> str:
    """The HTML in the outputs of a cell."""
    return "".join(output.data.get("text/html", "") for output in cell.outputs if "data" in output)


def test_the_notebook_runs_and_shows_what_it_promises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment, _, trained, model, images, *_, restored = executed(tmp_path, monkeypatch, SMALL)

    assert "experiments/digits.py:" in shown(experiment)
    assert "6/6  100 %" in shown(trained)
    assert "checkpoint" in shown(trained)
    assert "EMA weights" in shown(model)
    assert "data:image/png;base64," in shown(images)
    assert "maximum misfit" in shown(restored)
    errors = [output.text for output in trained.outputs if output.output_type == "stream"]
    assert errors == []


def test_the_notebook_is_kept_without_outputs() -> None:
    cells = nbformat.read(NOTEBOOK, 4).cells

    assert [cell.outputs for cell in cells if cell.cell_type == "code" and cell.outputs] == []


@pytest.mark.slow
def test_the_notebook_runs_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    *_, compared, restored = executed(tmp_path, monkeypatch, {})

    assert "samplers" in shown(compared)
    assert "data:image/png;base64," in shown(restored)
