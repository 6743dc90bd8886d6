"""Single cells: AnnData's .h5ad and the matrices of 10x Genomics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from family import Case, Truth, drawn, family, generator

CELLS, GENES, TYPES = 360, 30, ("B", "CD4 T", "NK")


def counts_and_types() -> tuple[Any, Any]:
    """Counts of genes (cells, genes), most of them 0, and the type of each cell (0, 1, 2)."""
    rng = generator()
    kind = rng.integers(0, 3, CELLS)
    rate = np.where(np.arange(GENES)[None] // 10 == kind[:, None], 2.0, 0.4)
    return rng.poisson(rate).astype(np.float32), kind


def cells(X: Any, kind: Any, **columns: Any) -> Any:
    """AnnData with names of genes, the types and donors of the cells."""
    import anndata
    import pandas as pd

    obs = pd.DataFrame(
        {
            "louvain": pd.Categorical.from_codes(kind, TYPES),
            "donor": pd.Categorical([f"d{i % 4}" for i in range(CELLS)]),
            "n_counts": np.arange(CELLS) * 1.5,
            **columns,
        },
        index=[f"cell{i}" for i in range(CELLS)],
    )
    return anndata.AnnData(X, obs=obs, var=pd.DataFrame(index=[f"G{j}" for j in range(GENES)]))


@family("anndata", "scipy")
def h5ad_sparse(folder: Path) -> Case:
    """Single cells: .h5ad, sparse X."""
    from scipy import sparse

    x, kind = counts_and_types()
    cells(sparse.csr_matrix(x), kind).write_h5ad(folder / "cells.h5ad")
    test = np.arange(CELLS) % 4 == 3
    return Case(
        [
            "inspect cells.h5ad",
            "import cells.h5ad --x X --y obs/louvain --test-where obs/donor=d3 --out d.h5",
        ],
        Truth(x, np.array(TYPES)[kind], test),
        says=("X", "obs/louvain"),
        enough=0.9,
    )


@family("anndata", "scipy")
def h5ad_layer(folder: Path) -> Case:
    """Single cells: .h5ad, sparse X by columns (CSC), a layer."""
    from scipy import sparse

    x, kind = counts_and_types()
    data = cells(sparse.csr_matrix(x * 0), kind)
    data.layers["counts"] = sparse.csc_matrix(x)
    data.write_h5ad(folder / "cells.h5ad", compression="gzip")
    y = np.array(TYPES)[kind]
    return Case(
        [
            "inspect cells.h5ad",
            "import cells.h5ad --x layers/counts --y obs/louvain --test-fraction 0.25 --out d.h5",
        ],
        Truth(x, y, drawn=drawn(y, 0.25)),
        enough=0.9,
    )


@family("anndata")
def h5ad_embedding(folder: Path) -> Case:
    """Single cells: .h5ad, an embedding, trained on as it is."""
    x, kind = counts_and_types()
    data = cells(x, kind)
    data.obsm["X_pca"] = x @ generator().standard_normal((GENES, 8)).astype(np.float32)
    data.write_h5ad(folder / "cells.h5ad")
    every = np.ones(CELLS, bool)
    return Case(
        ["inspect cells.h5ad"],
        Truth(np.asarray(data.obsm["X_pca"]), np.array(TYPES)[kind], every, every),
        train="cells.h5ad --split / --x obsm/X_pca --y obs/louvain",
        evaluate="cells.h5ad --split /",
        predict="cells.h5ad --split /",
        says=("obsm/X_pca", "obs/louvain"),
        enough=0.85,
    )


@family("anndata")
def h5ad_missing(folder: Path) -> Case:
    """Single cells: .h5ad, dense X, types missing."""
    x, kind = counts_and_types()
    kind[::9] = -1
    cells(x, kind).write_h5ad(folder / "cells.h5ad")
    known = kind >= 0
    y = np.array(TYPES)[kind[known]]
    return Case(
        [
            "inspect cells.h5ad",
            "! import cells.h5ad --x X --y obs/louvain --test-fraction 0.25 --out no.h5 # 40",
            "! train cells.h5ad --split / --x X --y obs/louvain --out no",
            "import cells.h5ad --x X --y obs/louvain --on-missing drop --test-fraction 0.25 --out d.h5",
        ],
        Truth(x[known], y, drawn=drawn(y, 0.25)),
        enough=0.9,
    )


@family("anndata")
def h5ad_nullable(folder: Path) -> Case:
    """Single cells: .h5ad, nullable columns under a mask."""
    import pandas as pd

    x, kind = counts_and_types()
    stage = pd.array(kind, "Int64")
    stage[5], stage[17] = pd.NA, pd.NA
    cells(x, kind, stage=stage, treated=pd.array(x[:, 0] > 0, "boolean")).write_h5ad(folder / "cells.h5ad")
    known = ~np.isin(np.arange(CELLS), (5, 17))
    inputs = np.concatenate([x, x[:, :1] > 0], axis=1)[known]
    return Case(
        [
            "inspect cells.h5ad",
            "! import cells.h5ad --x X --y obs/stage --test-fraction 0.25 --out no.h5 # 2",
            "import cells.h5ad --x X,obs/treated --y obs/stage --on-missing drop --test-last 0.25 --out d.h5",
        ],
        Truth(inputs, kind[known], np.arange(known.sum()) >= known.sum() - round(known.sum() / 4)),
        enough=0.9,
    )


@family("anndata")
def h5ad_genes_turned(folder: Path) -> Case:
    """Single cells: two .h5ad files with the same genes in another order, which their names put right."""
    x, kind = counts_and_types()
    one, other = cells(x, kind)[:270], cells(x, kind)[270:, ::-1]
    one.copy().write_h5ad(folder / "one.h5ad")
    other.copy().write_h5ad(folder / "other.h5ad")
    none = np.zeros(CELLS - 270, bool)
    return Case(
        [
            "inspect one.h5ad",
            "import one.h5ad --x X --y obs/louvain --out one.h5",
            "import other.h5ad --x X --y obs/louvain --out d.h5",
        ],
        Truth(x[270:, ::-1], np.array(TYPES)[kind[270:]], none, none),
        train="one.h5",
        evaluate="d.h5 --split train",
        enough=0.9,
    )


@family("scipy")
def ten_x(folder: Path) -> Case:
    """10x Genomics: matrix.h5 (a column is a cell) and clusters.csv."""
    import h5py
    from scipy import sparse

    x, kind = counts_and_types()
    matrix = sparse.csc_matrix(x.T)
    barcodes = np.array([f"CELL{i:012d}-1" for i in range(CELLS)], "S18")
    with h5py.File(folder / "filtered_feature_bc_matrix.h5", "w") as file:
        group = file.create_group("matrix")
        group["data"], group["shape"] = matrix.data.astype("i4"), np.array(matrix.shape, "i4")
        group["indices"], group["indptr"] = matrix.indices.astype("i8"), matrix.indptr.astype("i8")
        group["barcodes"] = barcodes
        group["features/id"] = group["features/name"] = np.array([f"ENSG{j}" for j in range(GENES)], "S8")
        group["features/feature_type"] = np.array(["Gene Expression"] * GENES, "S15")
    lines = [f"{barcode.decode()},{one + 1}" for barcode, one in zip(barcodes, kind, strict=True)]
    (folder / "clusters.csv").write_text("\n".join(["Barcode,Cluster", *lines, ""]))
    return Case(
        [
            "inspect filtered_feature_bc_matrix.h5",
            "import filtered_feature_bc_matrix.h5 --x matrix --y-from clusters.csv --y Cluster --test-fraction 0.25"
            " --out d.h5",
        ],
        Truth(x, kind + 1, drawn=drawn(kind, 0.25)),
        enough=0.9,
    )
