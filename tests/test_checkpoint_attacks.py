"""Checkpoints that were made to do harm: each is refused by name, soon, in little memory, and nothing else is opened.

A forger can make any file and any checksum; so a file is attacked where the checksum is not looked at yet, or with a
right one.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from runs import LIMIT, configuration, environment, train_on, write_data

from distbp.errors import CheckpointError
from distbp.training import checkpoint
from distbp.training.checkpoint import read

MEMORY = 300  # MiB that reading may take, beyond that of the program
BIAS = "/network/layer_2/b"
PACKED = zlib.compress(bytes(8 * 2**20), 9)
READ = """
import resource, sys
from pathlib import Path
from distbp.training.checkpoint import read
from distbp.errors import CheckpointError
pages = int(Path("/proc/self/statm").read_text().split()[0])
limit = pages * resource.getpagesize() + {memory} * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
for name in sys.argv[1:]:
    try:
        read(Path(name))
        print("accepted")
    except CheckpointError as error:
        print(error)
"""


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("good")
    train_on(1, configuration(write_data(here / "data.h5"), here / "run", epochs=2))
    return here / "run" / "checkpoint-0000000008.h5"


def replaced(file: h5py.File, name: str, **how: object) -> h5py.Dataset:
    del file[name]
    return file.create_dataset(name, **how)


def secret(file: h5py.File) -> str:
    """A file beside the checkpoint, which nobody but the test may open."""
    path = Path(file.filename).with_name("secret.h5")
    with h5py.File(path, "w") as other:
        other["b"] = np.zeros(6)
    return str(path)


def external_link(file: h5py.File) -> None:
    del file["network"]
    file["network"] = h5py.ExternalLink(secret(file), "/")


def soft_link_of_a_group(file: h5py.File) -> None:
    del file["optimizer"]
    file["optimizer"] = h5py.SoftLink("/optimizer")


def user_defined_link(file: h5py.File) -> None:
    del file["input/shift"]
    file["input/shift"] = h5py.ExternalLink("/dev/zero", "/")


def cycle(file: h5py.File) -> None:
    del file["network/layer_3"]
    file["network/layer_3"] = file["/"]


def endless_fan(file: h5py.File) -> None:
    """10^9 ways through three levels of one group."""
    group = file.create_group("fan")
    for i in range(1000):
        group[f"{i}"] = group


def deep(file: h5py.File) -> None:
    name = "network" + "/x" * 3000
    file.create_group(name)


def one_array_under_many_names(file: h5py.File) -> None:
    """600 layers of 512 x 512 that are one: 1.2 GB of parameters in 2 MB."""
    layers, n = 600, 512
    config = json.loads(file.attrs["config"])
    file.attrs["config"] = np.bytes_(json.dumps({**config, "hidden": [n] * layers}))
    del file["network"]
    W, b = np.zeros((n, n)), np.zeros(n)
    file["network/layer_2/W"], file["network/layer_2/b"] = W, b
    for l in range(3, layers + 3):
        file[f"network/layer_{l}"] = file["network/layer_2"]


def virtual_without_end(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((6,), "f8", maxshape=(None,))
    layout[: h5py.h5s.UNLIMITED] = h5py.VirtualSource(secret(file), "b", (6,), maxshape=(None,))[: h5py.h5s.UNLIMITED]
    del file[BIAS]
    file.create_virtual_dataset(BIAS, layout)


def external_storage(file: h5py.File) -> None:
    replaced(file, BIAS, shape=(6,), dtype="f8", external=[(secret(file), 0, 48)])


def bomb(file: h5py.File) -> None:
    """400 MB in 400 KB."""
    how = {"chunks": (2**20,), "compression": "gzip"}
    dataset = replaced(file, BIAS, shape=(50 * 2**20,), dtype="f8", **how)
    for i in range(50):
        dataset.id.write_direct_chunk((i * 2**20,), PACKED)


def declared(file: h5py.File) -> None:
    """A terabyte in 50 KB."""
    replaced(file, BIAS, shape=(2**37,), dtype="f8")


def declared_and_allocated(file: h5py.File) -> None:
    """A terabyte in a file with a hole of that size, which takes 50 KB of the disk."""
    how = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    how.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    how.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    del file[BIAS]
    space = h5py.h5s.create_simple((2**37,))
    h5py.h5d.create(file.id, BIAS.encode(), h5py.h5t.NATIVE_DOUBLE, space, dcpl=how)


def compact(file: h5py.File) -> None:
    how = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    how.set_layout(h5py.h5d.COMPACT)
    del file[BIAS]
    h5py.h5d.create(file.id, BIAS.encode(), h5py.h5t.NATIVE_DOUBLE, h5py.h5s.create_simple((6,)), dcpl=how)


def no_values(file: h5py.File) -> None:
    replaced(file, BIAS, dtype="f8", data=h5py.Empty("f8"))


def of_type(kind: object) -> Callable[[h5py.File], None]:
    def attack(file: h5py.File) -> None:
        replaced(file, BIAS, shape=(6,), dtype=kind)

    return attack


def odd_float(file: h5py.File) -> None:
    """Exponent and mantissa where no processor has them."""
    kind = h5py.h5t.IEEE_F64LE.copy()
    kind.set_fields(60, 1, 10, 11, 40)
    del file[BIAS]
    h5py.h5d.create(file.id, BIAS.encode(), kind, h5py.h5s.create_simple((6,)))


def named_type(file: h5py.File) -> None:
    del file[BIAS]
    file[BIAS] = np.dtype("f8")


def array_instead_of_a_group(file: h5py.File) -> None:
    del file["input"]
    file["input"] = np.zeros(3)


def group_instead_of_an_array(file: h5py.File) -> None:
    del file[BIAS]
    file.create_group(BIAS)


def attribute_of_an_array(file: h5py.File) -> None:
    file[BIAS].attrs["x"] = 1


def attribute_of_a_group(file: h5py.File) -> None:
    file["network"].attrs["x"] = np.zeros(10**6)


def set_attribute(name: str, value: object, kind: object = None) -> Callable[[h5py.File], None]:
    def attack(file: h5py.File) -> None:
        file.attrs.create(name, value, dtype=kind)

    return attack


def many_attributes(file: h5py.File) -> None:
    for i in range(2000):
        file.attrs[f"a{i}"] = i


def configure(text: str) -> Callable[[h5py.File], None]:
    """The configuration as text: {} stands for all that is right in it."""

    def attack(file: h5py.File) -> None:
        inside = bytes(file.attrs["config"]).decode()[1:-1]
        file.attrs["config"] = np.bytes_(text.replace("{}", inside).encode())

    return attack


def option(name: str, value: str) -> Callable[[h5py.File], None]:
    def attack(file: h5py.File) -> None:
        config = json.loads(file.attrs["config"])
        del config[name]
        file.attrs["config"] = np.bytes_((json.dumps(config)[:-1] + f', "{name}": {value}' + "}").encode())

    return attack


PLAIN, NUMBERS = f"{BIAS} is not a plain array", f"{BIAS} is not an array of numbers"
ATTACKS: dict[str, tuple[Callable[[h5py.File], None], str]] = {
    "external link": (external_link, "/network is a link"),
    "soft link of a group to itself": (soft_link_of_a_group, "/optimizer is a link"),
    "link to a device": (user_defined_link, "/input/shift is a link"),
    "hard links in a circle": (cycle, "/network/layer_3 has attributes"),
    "10^9 paths": (endless_fan, "'/fan' does not belong"),
    "3000 levels": (deep, "'/network/x' does not belong"),
    "one array under many names": (one_array_under_many_names, "does not store them"),
    "virtual without end": (virtual_without_end, PLAIN),
    "external storage": (external_storage, PLAIN),
    "compression bomb": (bomb, PLAIN),
    "a terabyte declared": (declared, f"{BIAS} declares 137438953472 values"),
    "a terabyte allocated": (
        declared_and_allocated,
        f"{BIAS}: 137438953472 values do not fit into the memory",
    ),
    "compact": (compact, PLAIN),
    "no values": (no_values, NUMBERS),
    "strings of any length": (of_type(h5py.string_dtype()), NUMBERS),
    "arrays of any length": (of_type(h5py.vlen_dtype("f8")), NUMBERS),
    "references": (of_type(h5py.ref_dtype), NUMBERS),
    "region references": (of_type(h5py.regionref_dtype), NUMBERS),
    "compound": (of_type(np.dtype([("a", "f4"), ("b", "f4")])), NUMBERS),
    "array type": (of_type(np.dtype(("f8", (1000, 1000)))), NUMBERS),
    "enumeration": (of_type(h5py.enum_dtype({"a": 1})), NUMBERS),
    "opaque": (of_type(h5py.opaque_dtype(np.dtype("V8"))), NUMBERS),
    "complex": (of_type("c16"), NUMBERS),
    "half precision": (of_type("f2"), NUMBERS),
    "long double": (of_type(np.longdouble), NUMBERS),
    "fixed strings": (of_type("S8"), NUMBERS),
    "strange floats": (odd_float, NUMBERS),
    "named type": (named_type, NUMBERS),
    "array instead of a group": (array_instead_of_a_group, "/input is not a group"),
    "group instead of an array": (group_instead_of_an_array, NUMBERS),
    "attribute of an array": (attribute_of_an_array, PLAIN),
    "attribute of a group": (attribute_of_a_group, "/network has attributes"),
    "many attributes": (many_attributes, "has 2007 attributes"),
    "huge extra attribute": (set_attribute("more", np.zeros(10**7)), "the attributes are"),
    "huge attribute": (set_attribute("config", np.bytes_(b" " * (2**24 + 1))), "attribute config is of 16777217 bytes"),
    "attribute of many": (set_attribute("format", np.array([b"a"] * 10**6)), "attribute format is of the wrong type"),
    "attribute of any length": (set_attribute("config", "x" * 10**6), "attribute config is of the wrong type"),
    "attribute reference": (
        set_attribute("machines", h5py.Reference(), h5py.ref_dtype),
        "attribute machines is of the wrong type",
    ),
    "number for text": (set_attribute("config", 3), "attribute config is of the wrong type"),
    "text for a number": (set_attribute("format_version", np.bytes_(b"2")), "attribute format_version is of the wrong"),
    "strange version": (set_attribute("format_version", -(2**63)), "format version -9223372036854775808"),
    "strange format": (set_attribute("format", np.bytes_(b"\x1b[2J" * 50000)), "format b'"),
    "JSON cut": (configure("{"), "attribute config"),
    "JSON in 10^5 levels": (configure('{"data": ' + "[" * 10**5), "attribute config"),
    "JSON list": (configure("[]"), "attribute config is not an object"),
    "JSON with a name twice": (configure('{{}, "seed": 1}'), "attribute config: a name is given twice"),
    "JSON with an unknown name": (configure('{"' + "x" * 10**6 + '": 1}'), "attribute config: config: unknown option"),
    "JSON of 10^7 lists": (configure('{"data": [' + "[]," * 4 * 10**6 + "[]]}"), "attribute config"),
    "NaN": (option("learning_rate", "NaN"), "NaN is not a number"),
    "1e400": (option("learning_rate", "1e400"), "learning-rate: expected a finite number"),
    "number of 10^6 digits": (option("epochs", "9" * 10**6), "attribute config"),
    "huge number": (option("epochs", "9" * 400), "epochs: expected whole numbers up to 2^53"),
    "batches of nothing": (option("batch_size", "0"), "batch-size: expected at least 1"),
    "a huge layer": (option("hidden", "[1000000000000]"), "the checksum does not match"),
    "10^6 layers": (option("hidden", "[1" + ",1" * 10**6 + "]"), "hidden: expected at most 1000 layers"),
    "negative layers": (option("hidden", "[" + "-1," * 900 + "-1]"), "hidden: a layer has at least 1 neuron"),
    "layers of text": (option("hidden", '"128"'), "hidden: expected a value like"),
    "half a character": (option("split", '"\\ud800"'), "split: expected text"),
    "zeros in a name": (option("data", '["a\\u0000b"]'), "expected text"),
}


@pytest.fixture(scope="module")
def attacked(good: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the file of each attack."""
    here = tmp_path_factory.mktemp("attacks")
    for number, (attack, _) in enumerate(ATTACKS.values()):
        path = here / f"{number}.h5"
        shutil.copy(good, path)
        with h5py.File(path, "r+", libver=("v108", "v110")) as file:
            attack(file)
    os.utime(here / "secret.h5", ns=(0, (here / "secret.h5").stat().st_mtime_ns))
    return here


@pytest.fixture(scope="module")
def said(attacked: Path) -> list[str]:
    """What was said of each, by a process that may not take more memory and time than a good file needs."""
    names = [f"{number}.h5" for number in range(len(ATTACKS))]
    command = [sys.executable, "-c", READ.format(memory=MEMORY), *names]
    done = subprocess.run(
        command, cwd=attacked, env=environment(OPENBLAS_NUM_THREADS="1"), capture_output=True, text=True, timeout=LIMIT
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == len(names), done.stdout
    return lines


@pytest.mark.parametrize("number", range(len(ATTACKS)), ids=list(ATTACKS))
def test_an_attack_is_refused(said: list[str], number: int) -> None:
    _, message = list(ATTACKS.values())[number]
    assert said[number].startswith(f"{number}.h5: ")
    assert message in said[number]
    assert len(said[number]) < 600
    assert said[number].isprintable()


def test_nothing_but_the_file_is_opened(attacked: Path, said: list[str]) -> None:
    """The system is asked, for HDF5 does not tell: when the secret was read last."""
    secret_file = attacked / "secret.h5"
    read_at = secret_file.stat().st_atime_ns
    secret_file.read_bytes()
    if secret_file.stat().st_atime_ns == 0:
        pytest.skip("this file system does not note when a file was read")
    assert read_at == 0


def test_a_user_block_a_pipe_and_a_directory(good: Path, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "block.h5", "w", userblock_size=512) as file:
        file["x"] = 1
    with pytest.raises(CheckpointError, match="has a user block"):
        read(tmp_path / "block.h5")
    os.mkfifo(tmp_path / "pipe.h5")
    with pytest.raises(CheckpointError, match="is not a file"):
        read(tmp_path / "pipe.h5")
    with pytest.raises(CheckpointError, match="is not a file"):
        read(tmp_path)
    (tmp_path / "loop.h5").symlink_to("loop.h5")
    with pytest.raises(CheckpointError, match=r"loop\.h5"):
        read(tmp_path / "loop.h5")


def test_a_truncated_file(good: Path, tmp_path: Path) -> None:
    content = good.read_bytes()
    for length in [*range(0, len(content), len(content) // 50), len(content) - 1]:
        (tmp_path / "cut.h5").write_bytes(content[:length])
        with pytest.raises(CheckpointError, match=r"cut\.h5: not a readable HDF5 file"):
            read(tmp_path / "cut.h5")


def test_what_is_too_long_to_be_read_is_not_written(good: Path, tmp_path: Path) -> None:
    state = read(good)
    state.config.data = ["x" * 2**20] * 17
    with pytest.raises(ValueError, match="attribute config is longer"):
        checkpoint.write(tmp_path / "long.h5", state)
    assert not list(tmp_path.iterdir())


def test_what_is_larger_than_the_free_memory(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is taken first: a file with a hole can declare any size that the disk allows for."""
    monkeypatch.setattr("distbp.training.checkpoint.free_bytes", lambda: 100)
    with pytest.raises(
        CheckpointError, match=r": /.*: \d+ values do not fit into the memory that is free on this node"
    ):
        checkpoint.read(good)
