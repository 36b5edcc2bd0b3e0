"""Experiments of the foundations, small and on the digits: they run, draw, and can be resumed."""

from pathlib import Path

import pytest
from experiments import assert_runs_and_resumes

from runkit.papers import adam, relu

COMMANDS = {
    "relu": ["--epochs", 1, "--width", 16, "--pretrain-epochs", 1, "--precision", "bfloat16"],
    "adam logistic": ["--figure", "logistic", "--epochs", 1],
    "adam mlp": ["--figure", "mlp", "--epochs", 1, "--width", 16],
    "adam bias": ["--figure", "bias", "--epochs", 1, "--hidden", 16, "--latent", 4],
    "dropout": ["--epochs", 2, "--width", 16, "--samples", 3, "--max-norm", 0],
    "dropout alone": ["--epochs", 1, "--width", 16, "--samples", 0],
    "batch_norm": ["--steps", 20, "--eval-every", 10],
}
FIGURES = {  # one that each must report
    "relu": "rectifier_zeros_percent",
    "adam logistic": "adam_averaged_test_error",
    "adam mlp": "nesterov_cost",
    "adam bias": "uncorrected_best_at_beta2_0.9999",
    "dropout": "monte_carlo_test_error",
    "dropout alone": "lowered_by_percent",
    "batch_norm": "normalized_accuracy_population",
}


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A single rate for each optimizer, and a grid of eight trainings."""
    first = {k: {name: rates[:1] for name, rates in v.items()} for k, v in adam.RATES.items()}
    monkeypatch.setattr(adam, "RATES", first)
    monkeypatch.setattr(adam, "BETA2", (0.999, 0.9999))
    monkeypatch.setattr(adam, "ALPHA", (1e-3,))


@pytest.mark.parametrize("command", COMMANDS)
def test_experiment(command: str, tmp_path: Path) -> None:
    """Its figures are finite, and the same when its last training has to be done again."""
    key = command.split()[0]
    flags = ["--dataset", "digits", *COMMANDS[command]]
    picture = assert_runs_and_resumes(tmp_path / "run", key, FIGURES[command], *flags)
    assert picture.stat().st_size < 150_000


@pytest.mark.parametrize(
    ("module", "options"),
    [
        (adam, {"epochs": 0}),
        (relu, {"learning_rate": 0.0}),
        (relu, {"activations": ()}),
    ],
)
def test_bad_options_are_refused(module: object, options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="positive"):
        module.Options(**options)  # type: ignore[attr-defined]
