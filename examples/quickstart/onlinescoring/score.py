"""Scores the diabetes model: the progression of the disease after one year, with a 90% interval.

The contract is that of Azure ML's online endpoints: `init()` runs once, `run()` for every request, AZUREML_MODEL_DIR
names the folder that contains the model's own folder. The point prediction is the ridge regression itself. The interval
comes from draws of the posterior of its coefficients, which is what gives a request its millisecond or two of work.
"""

import json
import os
from pathlib import Path

import numpy as np

DRAWS = 20_000
FEATURES = 10


def init() -> None:
    """Loads the coefficients and draws the ensemble; the seed is fixed, so every instance gives the same answers."""
    global intercept, coefficients, ensemble, noise
    model = json.loads((Path(os.environ["AZUREML_MODEL_DIR"]) / "model" / "ridge.json").read_text(encoding="utf-8"))
    intercept, coefficients = model["intercept"], np.array(model["coefficients"])
    rng = np.random.default_rng(seed=1)
    ensemble = rng.multivariate_normal(coefficients, np.array(model["covariance"]), size=DRAWS, method="svd").T
    noise = rng.normal(0.0, model["noise"], size=DRAWS)


def run(raw_data: str) -> dict[str, list]:
    """Takes `{"data": [[ten features], ...]}`, gives a prediction and an interval [low, high] for every row."""
    rows = np.array(json.loads(raw_data)["data"], dtype=float)
    if rows.ndim != 2 or rows.shape[1] != FEATURES:
        raise ValueError(f"data: expected rows of {FEATURES} numbers, got the shape {rows.shape}")
    predictions = intercept + rows @ coefficients
    low, high = np.quantile(intercept + rows @ ensemble + noise, [0.05, 0.95], axis=1)
    return {
        "predictions": np.round(predictions, 2).tolist(),
        "intervals": np.round(np.column_stack([low, high]), 2).tolist(),
    }
