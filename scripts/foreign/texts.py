"""Text: the files of UCI, LibSVM, Weka, turbofan engines, spreadsheets, NumPy, R and Fortran."""

from __future__ import annotations

import gzip
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
from family import DATA, Case, Truth, check_equal, classes_of, drawn, family, generator, last, weighted


def write(path: Path, rows: Any, *, before: str = "", delimiter: str = ",", end: str = "\n") -> None:
    """Cells as text, one row a line."""
    lines = [delimiter.join(map(str, row)) for row in rows]
    path.write_bytes((before + end.join([*lines, ""])).encode())


@family("sklearn")
def libsvm(folder: Path) -> Case:
    """LibSVM (a9a): written by scikit-learn."""
    from sklearn.datasets import dump_svmlight_file

    x = (generator().random((360, 25)) < 0.3).astype(float)
    x[0, -1] = 1
    y = classes_of(x, 2) * 2 - 1
    dump_svmlight_file(x, y, str(folder / "a9a"), zero_based=False)
    return Case(
        ["import a9a --test-last 0.25 --out d.h5", "inspect d.h5"],
        Truth(x, y, last(360, 0.25)),
        enough=0.8,
        training="--epochs 30",
    )


@family()
def arff(folder: Path) -> Case:
    """ARFF of Weka: comments, nominal attributes."""
    x = generator().standard_normal((300, 3)).round(3)
    size = np.array(["small", "big"])[generator().integers(0, 2, 300)]
    inputs = np.concatenate([x, (size == "big")[:, None], (size == "small")[:, None]], 1)
    y = np.array(["Iris-setosa", "Iris-virginica"])[classes_of(inputs, 2)]
    head = (
        "% 1. Title: Iris\n%\n@RELATION iris\n\n@ATTRIBUTE sepallength REAL\n@ATTRIBUTE 'sepal width' NUMERIC\n"
        "@attribute petallength real\n@ATTRIBUTE size {small, big}\n@ATTRIBUTE class {Iris-setosa,Iris-virginica}\n"
        "\n@DATA\n"
    )
    write(folder / "iris.arff", [[*x[i], size[i], y[i]] for i in range(300)], before=head)
    return Case(
        ["import iris.arff --test-fraction 0.25 --out d.h5", "inspect d.h5"],
        Truth(inputs, y, drawn=drawn(y, 0.25)),
        enough=0.8,
    )


@family()
def yacht(folder: Path) -> Case:
    """UCI yacht, housing: columns between blanks, none at the top, .data."""
    x = generator().uniform(-5, 5, (300, 5)).round(2)
    y = weighted(x).round(3)
    rows = [[f"{value:6.2f}" for value in x[i]] + [f"{y[i]:8.3f}"] for i in range(300)]
    write(folder / "yacht_hydrodynamics.data", rows, before=" ", delimiter="  ", end=" \n ")
    return Case(
        ["import yacht_hydrodynamics.data --y 5 --test-fraction 0.2 --out d.h5", "inspect d.h5"],
        Truth(x, y[:, None], drawn=60),
        enough=0.5,
        training="--epochs 40",
    )


@family()
def seeds(folder: Path) -> Case:
    """UCI seeds: tabs, some doubled."""
    x = generator().uniform(1, 20, (210, 4)).round(2)
    y = classes_of(x, 3) + 1
    lines = ["\t".join([*map(str, x[i]), str(y[i])]) for i in range(210)]
    lines = [line.replace("\t", "\t\t", 1) if i % 20 == 9 else line for i, line in enumerate(lines)]
    (folder / "seeds_dataset.txt").write_text("\n".join([*lines, ""]))
    return Case(
        ["import seeds_dataset.txt --y 4 --delimiter blanks --test-fraction 0.25 --out d.h5", "inspect d.h5"],
        Truth(x, y, drawn=drawn(y, 0.25)),
        enough=0.75,
        training="--epochs 60",
    )


@family()
def cmapss(folder: Path) -> Case:
    """C-MAPSS: engines one after the other, the rows of an engine on one side."""
    rng = generator()
    unit, cycle = np.repeat(np.arange(1, 11), 35), np.tile(np.arange(1, 36), 10)
    x = rng.standard_normal((350, 4)).round(4)
    y = weighted(x).round(4)
    rows = [[unit[i], cycle[i], *x[i], y[i]] for i in range(350)]
    write(folder / "train_FD001.txt", rows, delimiter=" ", end="  \n")

    def check(where: Path) -> None:
        import h5py

        with h5py.File(where / "d.h5") as file:
            train, test = (set(file[f"{part}/x"][:, 0].round(4).tolist()) for part in ("train", "test"))
        per_unit = {u: set(x[unit == u, 0].astype(np.float32).round(4).tolist()) for u in range(1, 11)}
        sides = [bool(values & train) + 2 * bool(values & test) for values in per_unit.values()]
        assert sides.count(2) == 2, f"of 10 engines {sides.count(2)} are for testing, {sides.count(3)} on both sides"

    return Case(
        ["import train_FD001.txt --x 2,3,4,5 --y 6 --test-fraction 0.2 --test-group 0 --out d.h5", "inspect d.h5"],
        Truth(x, y[:, None], drawn=70, names=("2", "3", "4", "5")),
        enough=0.5,
        training="--epochs 40",
        check=check,
    )


@family()
def savetxt(folder: Path) -> Case:
    """Np.savetxt: # before the names, labels as 1.000e+00."""
    x = generator().standard_normal((300, 3))
    y = classes_of(x, 2)
    np.savetxt(folder / "out.txt", np.concatenate([x, y[:, None]], 1), header="a b c kind")
    return Case(
        ["import out.txt --y kind --task classes --test-last 0.25 --out d.h5", "inspect d.h5"],
        Truth(x, y, last(300, 0.25), names="abc"),
        enough=0.85,
    )


@family()
def covtype(folder: Path) -> Case:
    """UCI covtype.data.gz: no header, labels from 1."""
    rng = generator()
    x = np.concatenate([rng.integers(1000, 4000, (400, 4)), rng.integers(0, 2, (400, 3))], 1)
    y = classes_of(x, 3) + 1
    with gzip.open(folder / "covtype.data.gz", "wt") as file:
        np.savetxt(file, np.concatenate([x, y[:, None]], 1), fmt="%d", delimiter=",")
    return Case(
        ["import covtype.data.gz --y 7 --test-last 0.25 --out d.h5", "inspect d.h5"],
        Truth(x, y, last(400, 0.25)),
        enough=0.8,
        training="--epochs 40",
    )


@family()
def abalone(folder: Path) -> Case:
    """UCI abalone.data: a text column, rings as a quantity."""
    rng = generator()
    x = rng.uniform(0.1, 1, (400, 3)).round(3)
    sex = np.array(["M", "F", "I"])[rng.integers(0, 3, 400)]
    rings = np.round(10 * np.exp(weighted(x) * 0.6)).astype(int)
    write(folder / "abalone.data", [[sex[i], *x[i], rings[i]] for i in range(400)])
    inputs = np.concatenate([*((sex == one)[:, None] for one in "FIM"), x], 1)
    return Case(
        [
            "! import abalone.data --y 4 --test-last 0.25 --out no.h5 # --task",
            "import abalone.data --y 4 --task targets --test-last 0.25 --out d.h5",
            "inspect d.h5",
        ],
        Truth(inputs, rings[:, None].astype(float), last(400, 0.25), names=("0=F", "0=I", "0=M", "1", "2", "3")),
        enough=0.6,
        training="--epochs 60",
    )


@family()
def adult(folder: Path) -> Case:
    """UCI adult.data and adult.test: blanks after commas, ? is missing, labels end in a point in one file."""
    rng = generator()
    n = 360
    age, hours = rng.integers(17, 80, n), rng.integers(1, 99, n)
    work = np.array(["Private", "State-gov"])[rng.integers(0, 2, n)]
    numbers = np.stack([age, hours], 1)
    y = np.array(["<=50K", ">50K"])[classes_of(numbers, 2)]
    shown = work.astype("U12")
    shown[7] = "?"
    rows = [[age[i], shown[i], hours[i], y[i]] for i in range(n)]
    write(folder / "adult.data", rows[:270], delimiter=", ", end="\n")
    write(folder / "adult.test", rows[270:], before="|1x3 Cross validator\n", delimiter=", ")
    kept = np.arange(n) != 7
    inputs = np.stack([age, work == "Private", work == "State-gov", hours], 1)[kept]
    return Case(
        [
            "! import adult.data --test adult.test --y 3 --out no.h5",
            "import adult.data --test adult.test --y 3 --on-missing drop --out d.h5",
            "inspect d.h5",
        ],
        Truth(inputs, y[kept], np.arange(n - 1) >= 269, names=("0", "1=Private", "1=State-gov", "2")),
        enough=0.85,
        training="--epochs 30",
    )


@family()
def wine(folder: Path) -> Case:
    """UCI wine quality: semicolons and quoted names."""
    x = generator().uniform(0, 10, (300, 3)).round(2)
    y = classes_of(x, 3) + 5
    rows = [[*x[i], y[i]] for i in range(300)]
    head = '"fixed acidity";"pH";"alcohol";"quality"\n'
    write(folder / "winequality-red.csv", rows, before=head, delimiter=";")
    return Case(
        ["import winequality-red.csv --y quality --test-fraction 0.25 --out d.h5", "inspect d.h5"],
        Truth(x, y, drawn=drawn(y, 0.25), names=("fixed acidity", "pH", "alcohol")),
        enough=0.75,
        training="--epochs 40",
    )


@family()
def wine_targets(folder: Path) -> Case:
    """UCI wine quality as a regression: few whole numbers that are targets."""
    x = generator().uniform(0, 10, (300, 3)).round(2)
    y = np.clip(np.round(weighted(x) * 2 + 6), 3, 9).astype(int)
    head = '"fixed acidity";"pH";"alcohol";"quality"\n'
    write(folder / "winequality-white.csv", [[*x[i], y[i]] for i in range(300)], before=head, delimiter=";")
    return Case(
        [
            "import winequality-white.csv --y quality --task targets --test-fraction 0.25 --out d.h5",
            "inspect d.h5",
        ],
        Truth(x, y[:, None].astype(float), drawn=75, names=("fixed acidity", "pH", "alcohol")),
        enough=0.6,
        training="--epochs 40",
    )


@family()
def spreadsheets(folder: Path) -> Case:
    """Spreadsheets: UTF-16, tabs, decimal commas; Latin-1, thousands marks."""
    x = (generator().integers(-(10**6), 10**6, (300, 2)) / 100).round(2)
    y = np.array(["süß", "herb"])[classes_of(x, 2)]
    lines = ["Größe\tDruck\tArt"] + [f"{x[i, 0]:.2f}\t{x[i, 1]:.2f}\t{y[i]}".replace(".", ",") for i in range(300)]
    (folder / "mess.txt").write_bytes("\r\n".join([*lines, ""]).encode("utf-16"))
    german = [f"{x[i, 0]:,.2f};{x[i, 1]:,.2f};{y[i]}" for i in range(300)]
    turned = [line.translate(str.maketrans(".,", ",.")) for line in german]
    (folder / "mess.csv").write_bytes("\n".join(["Größe;Druck;Art", *turned, ""]).encode("latin-1"))

    return Case(
        [
            "import mess.csv --y Art --decimal , --thousands . --encoding latin-1 --test-last 0.25 --out german.h5",
            "import mess.txt --y Art --decimal , --test-last 0.25 --out d.h5",
            "inspect d.h5",
        ],
        Truth(x, y, last(300, 0.25), names=("Größe", "Druck")),
        enough=0.85,
        check=lambda where: check_equal(where / "german.h5", where / DATA),
    )


@family()
def text_pair(folder: Path) -> Case:
    """X and y as a pair of text files (UCI HAR)."""
    x = generator().standard_normal((320, 5))
    y = classes_of(x, 3) + 1
    for part, rows in (("train", slice(0, 240)), ("test", slice(240, 320))):
        np.savetxt(folder / f"X_{part}.txt", x[rows], fmt="%16.7e")
        np.savetxt(folder / f"y_{part}.txt", y[rows], fmt="%d")
    return Case(
        [
            "import X_train.txt --y-from y_train.txt --out train.h5",
            "import X_test.txt --y-from y_test.txt --out d.h5",
            "inspect train.h5",
        ],
        Truth(x[240:], y[240:], np.zeros(80, bool), np.zeros(80, bool)),
        train="train.h5",
        evaluate="d.h5 --split train",
        predict="d.h5 --split train",
        enough=0.8,
    )


@family("pandas")
def columns_turned(folder: Path) -> Case:
    """Two networks on columns in another order: names put them right."""
    import pandas as pd

    rng = generator()
    x = rng.standard_normal((300, 3))
    y = np.array(["no", "yes"])[(x[:, 0] > 0).astype(int)]
    frame = pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "c": x[:, 2], "lab": y})
    frame[:220].to_csv(folder / "one.csv", index=False)
    frame[220:][["c", "lab", "b", "a"]].to_csv(folder / "other.csv", index=False)
    return Case(
        [
            "import one.csv --y lab --out one.h5",
            "import other.csv --y lab --out d.h5",
            "inspect one.h5",
        ],
        Truth(frame[220:][["c", "b", "a"]].to_numpy(), y[220:], np.zeros(80, bool), np.zeros(80, bool), names="cba"),
        train="one.h5",
        evaluate="d.h5 --split train",
        predict="d.h5 --split train",
        enough=0.9,
    )


R_SCRIPT = """
x <- read.csv("source.csv")
x$kind <- ifelse(x$kind == 1, "up", NA)
x$kind[is.na(x$kind)] <- "down"
x$kind[3] <- NA
x$big <- as.numeric(x$big)
write.csv(x, "r.csv")
write.csv2(x, "r2.csv", row.names = FALSE)
write.table(x, "r.txt")
"""


@family("program:Rscript")
def r_text(folder: Path) -> Case:
    """R: write.csv with row names and NA, write.csv2, write.table."""
    x = generator().standard_normal((300, 2)).round(6)
    y = classes_of(x, 2)
    np.savetxt(
        folder / "source.csv",
        np.concatenate([x, y[:, None], np.full((300, 1), 1e5)], 1),
        delimiter=",",
        header="a,b,kind,big",
        comments="",
    )
    (folder / "make.R").write_text(R_SCRIPT)
    subprocess.run(["Rscript", "make.R"], cwd=folder, check=True, capture_output=True, timeout=60)
    kept = np.arange(300) != 2
    common = "--y kind --drop big --on-missing drop --test-last 0.25"

    def check(where: Path) -> None:
        for name in ("r2.h5", "table.h5"):
            check_equal(where / name, where / DATA)

    return Case(
        [
            "! import r.csv --y kind --drop big --test-last 0.25 --out no.h5",
            f"import r2.csv --decimal , {common} --out r2.h5",
            f"import r.txt {common} --out table.h5",
            f"import r.csv {common} --out d.h5",
            "inspect d.h5",
        ],
        Truth(x[kept], np.array(["down", "up"])[y[kept]], last(299, 0.25), names="ab"),
        enough=0.85,
        check=check,
    )


FORTRAN = """
program make
  real(8) :: a(3)
  integer :: i, j, k
  open(10, file="numbers.txt", status="old")
  open(20, file="list.dat")
  open(21, file="narrow.dat")
  open(22, file="double.dat")
  do i = 1, 300
    read(10, *) a, k
    write(20, *) a, k
    write(21, '(3D24.15,I4)') a, k
    write(22, '(D24.15,ES26.16E3,D24.15,I4)') a, k
  end do
end program
"""


@family("program:gfortran")
def fortran_text(folder: Path) -> Case:
    """Fortran: list-directed output, and D exponents."""
    x = generator().standard_normal((300, 3)) * np.array([1, 1e-120, 1e12])
    y = classes_of(x, 2)
    np.savetxt(folder / "numbers.txt", np.concatenate([x, y[:, None]], 1), fmt=["%.17g"] * 3 + ["%d"])
    (folder / "make.f90").write_text(FORTRAN)
    for command in (["gfortran", "make.f90", "-o", "make"], ["./make"]):
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=60)
    return Case(
        [
            "! import narrow.dat --y 3 --dtype float64 --test-last 0.25 --out no.h5 # exponent",
            "import double.dat --y 3 --dtype float64 --test-last 0.25 --out double.h5",
            "import list.dat --y 3 --dtype float64 --test-last 0.25 --out d.h5",
            "inspect d.h5",
        ],
        Truth(x, y, last(300, 0.25)),
        enough=0.85,
        training="--dtype float64",
        check=lambda where: check_equal(where / "double.h5", where / DATA),
    )
