#!/usr/bin/env bash
# The loss of Spark's MultilayerPerceptronClassifier at the same weights on the same rows depends on the number of
# partitions.
#
# Expected: the guide gives one loss, the cross-entropy, and `blockSize` as a matter of memory and speed; how many
# partitions hold the rows is a matter of the cluster. So the first loss, at given weights, is a number of the data.
# Happens: rows are stacked into blocks within each partition, the loss of a block is the mean over its rows,
# and the mean over blocks is taken with equal weights. The last block of a partition may be short: its rows count for more. With blocks of one row
# all partitions agree.
# Versions: PySpark 4.3.0 with Java 17, which has to be there; Python 3.11, NumPy 2.4.6.
# Source: Spark MLlib guide, multilayer perceptron classifier; its classes DataStacker and FeedForwardModel.
# Seen:
#   blockSize  partitions  first loss
#   1          1           1.795420
#   1          2           1.795420
#   1          3           1.795420
#   128        1           1.873153
#   128        2           1.881334
#   128        3           1.792777
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pyspark==4.3.0 numpy==2.4.6 setuptools==65.5.0
cd "$folder"
cat >check.py <<'PY'
import sys

import numpy as np
from pyspark.ml.classification import MultilayerPerceptronClassifier
from pyspark.ml.linalg import Vectors
from pyspark.sql import SparkSession

spark = (
    SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    .config("spark.ui.showConsoleProgress", "false")
    .config("spark.driver.host", "127.0.0.1").config("spark.driver.bindAddress", "127.0.0.1").getOrCreate()
)
spark.sparkContext.setLogLevel("OFF")
rng = np.random.default_rng(0)
y = np.sort(rng.integers(0, 3, 260))  # classes in turn, as a file may hold them
rows = [(float(label), Vectors.dense(x)) for label, x in zip(y, rng.normal(size=(260, 4)))]
layers, weights = [4, 3], Vectors.dense(rng.normal(size=4 * 3 + 3))
print("blockSize  partitions  first loss")
first = {}
for block in (1, 128):
    for partitions in (1, 2, 3):
        data = spark.createDataFrame(spark.sparkContext.parallelize(rows, partitions), ["label", "features"])
        network = MultilayerPerceptronClassifier(layers=layers, maxIter=1, blockSize=block, initialWeights=weights)
        first[block, partitions] = network.fit(data).summary().objectiveHistory[0]
        print(f"{block:<9}  {partitions:<10}  {first[block, partitions]:.6f}", flush=True)
means = [first[1, partitions] for partitions in (1, 2, 3)]
if max(means) - min(means) > 1e-12:
    sys.exit("changed: with blocks of one row the partitions used to agree")
stacked = [first[128, partitions] for partitions in (1, 2, 3)]
if abs(stacked[0] - stacked[2]) < 1e-3 or abs(stacked[0] - means[0]) < 1e-3:
    sys.exit("changed: with blocks of 128 rows the loss used to depend on the partitions")
PY
"$folder/venv/bin/python" check.py 2>log || { tail -5 log; exit 1; }
