"""Makes the two models of the quickstart: ridge regression on the diabetes data of scikit-learn (442 patients).

Run it with scikit-learn installed (rollout itself does not need it):

    python train.py

It writes model-1/model/ridge.json and model-2/model/ridge.json beside this file, the same bytes every time. Model 1 is
the version that serves today: body mass index, blood pressure and the lipid s5 only, strongly regularised. Model 2 is
the better one that shall take over: all ten features, lightly regularised.
"""

import json
from pathlib import Path

import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split

HERE = Path(__file__).resolve().parent
MODELS = {
    "model-1": {"features": ["bmi", "bp", "s5"], "alpha": 1.0},
    "model-2": {"features": None, "alpha": 0.05},
}


def lines(content: dict) -> str:
    """JSON with one line a key, and one a row of a matrix: short enough to read, stable enough to compare."""

    def value(thing: object) -> str:
        matrix = isinstance(thing, list) and isinstance(thing[0], list)
        return "[\n    " + ",\n    ".join(map(json.dumps, thing)) + "\n  ]" if matrix else json.dumps(thing)

    return "{\n" + ",\n".join(f"  {json.dumps(key)}: {value(thing)}" for key, thing in content.items()) + "\n}\n"


def main() -> None:
    data = load_diabetes()
    names = list(data.feature_names)
    train_x, test_x, train_y, test_y = train_test_split(data.data, data.target, test_size=0.25, random_state=7)
    for directory, recipe in MODELS.items():
        chosen = [names.index(name) for name in (recipe["features"] or names)]
        model = Ridge(alpha=recipe["alpha"]).fit(train_x[:, chosen], train_y)
        coefficients = np.zeros(len(names))
        coefficients[chosen] = model.coef_
        noise = np.sqrt(np.mean((train_y - model.predict(train_x[:, chosen])) ** 2))
        # The posterior of a Bayesian linear regression with this ridge as its prior: the intervals are drawn from it.
        precision = train_x[:, chosen].T @ train_x[:, chosen] + recipe["alpha"] * np.eye(len(chosen))
        covariance = np.zeros((len(names), len(names)))
        covariance[np.ix_(chosen, chosen)] = noise**2 * np.linalg.inv(precision)
        text = lines(
            {
                "model": "ridge regression on scikit-learn's diabetes data",
                "alpha": recipe["alpha"],
                "r2_on_held_out_data": round(r2_score(test_y, model.predict(test_x[:, chosen])), 4),
                "features": names,
                "intercept": round(float(model.intercept_), 4),
                "coefficients": np.round(coefficients, 4).tolist(),
                "noise": round(float(noise), 4),
                "covariance": np.round(covariance, 3).tolist(),
            }
        )
        target = HERE / directory / "model" / "ridge.json"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        print(target.relative_to(HERE), text, sep="\n")
    request = lines({"data": np.round(test_x[:2], 6).tolist()})
    (HERE / "sample-request.json").write_text(request, encoding="utf-8")
    print("sample-request.json: the true values are", test_y[:2].tolist())


if __name__ == "__main__":
    main()
