#!/usr/bin/env bash
# scikit-learn's MLPRegressor reports another loss than it descends: with K targets it goes K times as far as loss_
# says.
#
# Expected: plain SGD without momentum and penalty moves each weight by learning rate * d loss_ / d weight: the user
# guide gives one loss, half the squared length of the error, meant over samples, and says that its gradient is
# followed.
# Happens: the steps are those of the guide's loss, a sum over targets. `loss_`, `loss_curve_` and what `tol` is
# compared with are a mean over targets as well. With one target they agree; with 10 the data's part of the reported
# loss is a tenth of what is descended, the part of the penalty `alpha` is whole, so training can stop early and curves
# of networks with different numbers of targets cannot be compared.
# Versions: scikit-learn 1.9.1, SciPy 1.17.1, NumPy 2.4.6, Python 3.11.
# Source: scikit-learn user guide, neural networks (supervised), mathematical formulation; its functions squared_loss
# and _backprop.
# Seen:
#   targets  step / (rate * gradient of loss_)
#   1        1.000
#   2        2.000
#   10       10.000
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check scikit-learn==1.9.1 scipy==1.17.1 numpy==2.4.6
cd "$folder"
cat >check.py <<'PY'
import sys

import numpy as np
from sklearn.neural_network import MLPRegressor

RATE = 1e-3
rng = np.random.default_rng(0)
X, Y = rng.normal(size=(20, 3)), rng.normal(size=(20, 10))
print("targets  step / (rate * gradient of loss_)")
for targets in (1, 2, 10):
    y = Y[:, :targets] if targets > 1 else Y[:, 0]
    network = MLPRegressor(hidden_layer_sizes=(4,), activation="tanh", solver="sgd", learning_rate_init=RATE,
                           momentum=0, alpha=0, batch_size=20, shuffle=False, random_state=0)
    network.partial_fit(X, y)
    (W1, W2), (b1, b2) = [w.copy() for w in network.coefs_], [b.copy() for b in network.intercepts_]

    def loss(change):
        W = W1.copy()
        W[0, 0] += change
        out = np.tanh(X @ W + b1) @ W2 + b2
        return ((out - y.reshape(20, -1)) ** 2).mean() / 2

    gradient = (loss(1e-5) - loss(-1e-5)) / 2e-5
    network.partial_fit(X, y)
    if abs(network.loss_ - loss(0)) > 1e-9:
        sys.exit("changed: loss_ is no longer half the mean of all squared errors")
    ratio = (W1[0, 0] - network.coefs_[0][0, 0]) / (RATE * gradient)
    print(f"{targets:<7}  {ratio:.3f}")
    if abs(ratio - targets) > 1e-3:
        sys.exit(f"changed: with {targets} targets the step used to be {targets} times as long")
PY
"$folder/venv/bin/python" check.py
