"""Searches for good values with Optuna: each trial is a run of ncsnx, scored by its held-out loss.

    pip install optuna
    python optuna_sweep.py digits --trials 20 steps=1k

Words of the form FIELD=VALUE are the same for all trials. The study is optuna.db in the runs folder: the same command
continues it, and several processes may work on it at once. Change `suggest` to what you want to search over.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import optuna


def suggest(trial: optuna.Trial) -> list[str]:
    """The values of a trial, as words of the command line."""
    width = trial.suggest_categorical("model.width", [8, 16, 32])
    lr = trial.suggest_float("optimizer.lr", 1e-4, 1e-2, log=True)
    rate = trial.suggest_float("ema.rate", 0.9, 0.9999)
    return [f"model.width={width}", f"optimizer.lr={lr!r}", f"ema.rate={rate!r}"]


def ncsnx(*words: str) -> str:
    """What a command of ncsnx prints. Raises CalledProcessError if it fails."""
    command = [sys.executable, "-m", "ncsnx", *words]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def held_out_loss(trial: optuna.Trial, experiment: str, fixed: list[str]) -> float:
    """Trains a trial's run, and measures its newest checkpoint."""
    run = f"optuna-{trial.number}"
    ncsnx("train", experiment, *suggest(trial), *fixed, "--run", run, "--quiet")
    (row,) = json.loads(ncsnx("loss", run, "--range", "latest", "--json", "--quiet"))
    trial.set_user_attr("run", run)
    return float(row["score"])


def main() -> None:
    """Runs trials, and says which was the best."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment")
    parser.add_argument("fixed", nargs="*", metavar="FIELD=VALUE")
    parser.add_argument("--trials", type=int, default=20)
    arguments = parser.parse_intermixed_args()

    runs = Path(os.environ.get("NCSNX_RUNS", "runs"))
    runs.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(study_name="ncsnx", storage=f"sqlite:///{runs}/optuna.db", load_if_exists=True)
    study.optimize(
        lambda trial: held_out_loss(trial, arguments.experiment, arguments.fixed),
        n_trials=arguments.trials,
        catch=subprocess.CalledProcessError,  # a training that fails is a failed trial
    )
    best = study.best_trial
    print(f"{best.user_attrs['run']}: held-out loss {best.value:.4g} with {best.params}")


if __name__ == "__main__":
    main()
