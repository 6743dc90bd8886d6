#!/usr/bin/env bash
# ONNX Runtime: the sigmoid of -20 is exactly 0, so its logarithm is minus infinity.
#
# Expected: 2.06e-9, an ordinary float32 (they go down to 1e-38), as 1 / (1 + exp(-x)) gives in NumPy and the reference
# evaluator of the onnx package. ONNX defines Sigmoid by that formula.
# Happens: float32 inputs of -18 and less give exactly 0, and those from -15 to -18 values that are wrong by up to 116
# %. A network trained with float32 sigmoids elsewhere and run here has a log loss of infinity where it was 20. In
# float64, -20 is right.
# Versions: onnxruntime 1.32.0, onnx 1.23.2, NumPy 2.4.6, Python 3.11, x86-64.
# Source: ONNX operator Sigmoid; a fast rational approximation with inputs cut off at -18 and 18 is used for float32.
# Seen:
#   x        float32        relative error
#   -10.0    4.538894e-05   -2.0e-04
#   -17.0    8.940697e-08   +1.2e+00
#   -20.0    0.000000e+00   -1.0e+00
#   float64, x = -20: 2.061154e-09
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
cd "$folder"
cat >check.py <<'PY'
import sys

import numpy as np
import onnxruntime
from onnx import TensorProto, helper


def sigmoid(x, kind):
    graph = helper.make_graph([helper.make_node("Sigmoid", ["x"], ["y"])], "graph",
                              [helper.make_tensor_value_info("x", kind, x.shape)],
                              [helper.make_tensor_value_info("y", kind, x.shape)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


x = np.array([-10, -17, -20], np.float32)
y, true = sigmoid(x, TensorProto.FLOAT), 1 / (1 + np.exp(-x.astype(np.float64)))
print("x        float32        relative error")
for row in zip(x, y, y / true - 1, strict=True):
    print("{:<8.1f} {:<14.6e} {:+.1e}".format(*row))
double = sigmoid(x.astype(np.float64), TensorProto.DOUBLE)[2]
print(f"float64, x = -20: {double:.6e}")
if y[2] != 0 or abs(double / true[2] - 1) > 1e-6:
    sys.exit("changed: the float32 sigmoid of -20 used to be 0, and the float64 one right")
PY
"$folder/venv/bin/python" check.py
