"""Data sets: the real ones as published, and one line for what is absent or damaged."""

import gzip
import hashlib
import io
import json
import struct
import tarfile
from pathlib import Path
from typing import Any
from urllib.error import URLError

import cv2
import numpy as np
import pytest
import torch
from command import files
from datasets import real
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from supervised import data, download
from supervised.data import (
    LOADERS,
    DataError,
    Dataset,
    load,
    read_cifar10,
    read_idx,
    stratified_split,
)

# -- the real ones -------------------------------------------------------------------------------


def assert_pictures(dataset: Dataset, shape: tuple[int, ...], classes: int) -> None:
    assert tuple(dataset.inputs.shape) == shape
    assert tuple(dataset.targets.shape) == shape[:1]
    assert dataset.inputs.dtype == torch.uint8
    assert dataset.targets.dtype == torch.int64
    assert len(dataset.classes) == classes
    assert dataset.targets.unique().tolist() == list(range(classes))


def test_mnist() -> None:
    mnist = real("mnist")
    assert_pictures(mnist.train, (60_000, 1, 28, 28), 10)
    assert_pictures(mnist.test, (10_000, 1, 28, 28), 10)
    assert mnist.train.targets[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert mnist.test.targets[:5].tolist() == [7, 2, 1, 0, 4]
    assert mnist.train.inputs.float().mean() / 255 == pytest.approx(0.1307, abs=1e-4)
    assert mnist.train.inputs.float().std() / 255 == pytest.approx(0.3081, abs=1e-4)


def test_fashion_mnist() -> None:
    fashion = real("fashion_mnist")
    assert_pictures(fashion.train, (60_000, 1, 28, 28), 10)
    assert_pictures(fashion.test, (10_000, 1, 28, 28), 10)
    assert fashion.train.targets.bincount().tolist() == [6_000] * 10


def test_cifar10() -> None:
    cifar = real("cifar10")
    assert len(cifar.train) % 10_000 == 0
    assert_pictures(cifar.train, (len(cifar.train), 3, 32, 32), 10)
    assert_pictures(cifar.test, (10_000, 3, 32, 32), 10)
    assert cifar.test.targets.bincount().tolist() == [1_000] * 10
    assert [cifar.test.classes[c] for c in cifar.test.targets[:4]] == [
        "cat",
        "ship",
        "ship",
        "airplane",
    ]
    means = cifar.test.inputs.float().mean((0, 2, 3)) / 255  # known: red, green, blue
    assert means.tolist() == pytest.approx([0.494, 0.485, 0.450], abs=2e-3)


def test_isbi2012() -> None:
    isbi = real("isbi2012")
    assert tuple(isbi.train.inputs.shape) == (24, 1, 512, 512)
    assert tuple(isbi.test.targets.shape) == (6, 512, 512)
    assert isbi.train.inputs.dtype == isbi.train.targets.dtype == torch.uint8
    assert isbi.train.targets.unique().tolist() == [0, 1]
    dark, bright = (isbi.train.inputs[:, 0][isbi.train.targets == c].float().mean() for c in (0, 1))
    assert dark + 30 < bright  # membranes are stained
    assert 0.15 < (isbi.train.targets == 0).float().mean() < 0.3


@pytest.mark.parametrize(
    ("name", "count", "features", "classes"),
    [("iris", 150, 4, 3), ("breast_cancer", 569, 30, 2), ("wine", 178, 13, 3)],
)
def test_tables(name: str, count: int, features: int, classes: int) -> None:
    splits = load(name)
    assert len(splits.train) + len(splits.test) == count
    for part in (splits.train, splits.test):
        assert part.inputs.dtype == torch.float32
        assert part.inputs.shape[1] == features
        assert part.targets.unique().tolist() == list(range(classes))
        assert len(part.classes) == classes


def test_diabetes() -> None:
    splits = load("diabetes")
    assert len(splits.train) + len(splits.test) == 442
    assert splits.train.targets.dtype == splits.train.inputs.dtype == torch.float32
    assert splits.train.classes == ()
    assert splits.train.targets.min() >= 25
    assert splits.train.targets.max() <= 346


def test_digits_and_faces() -> None:
    digits, faces = load("digits"), load("lfw_subset")
    assert_pictures(digits.train, (1_438, 1, 8, 8), 10)
    assert_pictures(digits.test, (359, 1, 8, 8), 10)
    assert digits.train.inputs.max() == 16
    assert_pictures(faces.train, (160, 1, 25, 25), 2)
    assert_pictures(faces.test, (40, 1, 25, 25), 2)
    assert faces.train.inputs.max() == 255
    # Faces look like each other, other places do not.
    spread = [
        faces.train.take(faces.train.targets == c).inputs.float().std(0).mean() for c in (0, 1)
    ]
    assert spread[1] < spread[0]


def test_a_split_is_always_the_same() -> None:
    one, other = load("digits"), load("digits")
    assert torch.equal(one.test.inputs, other.test.inputs)
    both = torch.cat([one.train.inputs, one.test.inputs]).flatten(1)
    assert len(both.unique(dim=0)) == 1_797  # no picture is in both


# -- splits --------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(0, 4), max_size=60),
    st.floats(0, 1),
    st.integers(0, 2**31),
)
def test_stratified_split(classes: list[int], fraction: float, seed: int) -> None:
    count = len(classes)
    whole = Dataset(torch.arange(count)[:, None].float(), torch.tensor(classes, dtype=torch.int64))
    first, second = stratified_split(whole, fraction, seed)
    rows = [part.inputs[:, 0].long() for part in (first, second)]
    assert torch.cat(rows).sort().values.tolist() == list(range(count))
    for part, chosen in zip((first, second), rows, strict=True):
        assert torch.equal(part.targets, whole.targets[chosen])  # each with its own target
    for c in set(classes):
        expected = fraction * classes.count(c)
        assert abs(int((second.targets == c).sum()) - expected) <= 0.5 + 1e-9
    again = stratified_split(whole, fraction, seed)
    assert torch.equal(again[0].inputs, first.inputs)
    assert torch.equal(again[1].inputs, second.inputs)


def test_split_is_shuffled_by_its_seed() -> None:
    whole = Dataset(torch.arange(100)[:, None].float(), torch.zeros(100, dtype=torch.int64))
    one, other = stratified_split(whole, 0.5, 0), stratified_split(whole, 0.5, 1)
    assert not torch.equal(one[0].inputs, other[0].inputs)
    assert one[0].inputs[:, 0].tolist() != sorted(one[0].inputs[:, 0].tolist())


def test_split_of_numbers_and_masks() -> None:
    numbers = Dataset(torch.ones(10, 1), torch.arange(10.0))
    masks = Dataset(torch.ones(10, 1, 2, 2), torch.ones(10, 2, 2, dtype=torch.uint8))
    for whole in (numbers, masks):
        assert [len(part) for part in stratified_split(whole, 0.3, 0)] == [7, 3]


def test_bad_splits() -> None:
    whole = Dataset(torch.ones(3, 1), torch.arange(3))
    with pytest.raises(ValueError, match=r"fraction must lie in \[0, 1\], not 1.5"):
        stratified_split(whole, 1.5, 0)
    with pytest.raises(ValueError, match="3 inputs have 2 targets"):
        Dataset(torch.ones(3, 1), torch.arange(2))


# -- files: formats ------------------------------------------------------------------------------


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=4), st.booleans(), st.randoms())
def test_idx(tmp_path_factory: Any, shape: list[int], zipped: bool, rng: Any) -> None:
    size = int(np.prod(shape))
    array = np.frombuffer(rng.randbytes(size), np.uint8).reshape(shape)
    file = tmp_path_factory.mktemp("idx") / ("x.gz" if zipped else "x")
    file.write_bytes(gzip.compress(idx(array)) if zipped else idx(array))
    assert np.array_equal(read_idx(file).numpy(), array)


GOOD = idx(np.arange(12, dtype=np.uint8).reshape(3, 4))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no idx file"),
        (GOOD[:3], "no idx file"),
        (GOOD[:9], "damaged"),
        (GOOD[:-1], "12 bytes should follow its header, not 11"),
        (GOOD + b"x", "12 bytes should follow its header, not 13"),
        (b"\0\0\x0d" + GOOD[3:], "no idx file of unsigned bytes"),  # floats
        (b"\0\0\x08\xff" + b"\xff" * 1_020, "damaged"),  # 255 dimensions of 4 billion
        (b"\0\0\x08\xff" + bytes(1_020), "no idx file"),
    ],
)
def test_damaged_idx(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(DataError, match=words):
        read_idx(tmp_path / "x")


@pytest.mark.parametrize("content", [b"", b"no gzip", gzip.compress(GOOD)[:-9]])
def test_damaged_gzip(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.gz").write_bytes(content)
    with pytest.raises(DataError, match=r"x\.gz is damaged"):
        read_idx(tmp_path / "x.gz")


def test_gzip_that_unzips_to_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "MAX_UNZIPPED", 1_000)
    (tmp_path / "x.gz").write_bytes(gzip.compress(bytes(1_001)))
    with pytest.raises(DataError, match="more than 1,000 bytes"):
        read_idx(tmp_path / "x.gz")


def cifar_batch(seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).integers(0, 256, (10_000, 3_073), np.uint8)
    rows[:, 0] %= 10
    return rows


def test_cifar10_batch(tmp_path: Path) -> None:
    rows = cifar_batch()
    file = tmp_path / "data_batch_2.bin.gz"
    file.write_bytes(gzip.compress(rows.tobytes(), 1))
    pictures, classes = read_cifar10(file)
    assert np.array_equal(classes.numpy(), rows[:, 0])
    x, y = 7, 21  # the green plane comes second; within a plane, rows
    assert pictures[5, 1, y, x] == rows[5, 1 + 1_024 + 32 * y + x]


def test_damaged_cifar10_batches(tmp_path: Path) -> None:
    rows = cifar_batch()
    (tmp_path / "data_batch_3.bin").write_bytes(rows.tobytes()[:-1])
    with pytest.raises(DataError, match="30,729,999 bytes"):
        read_cifar10(tmp_path / "data_batch_3.bin")
    (tmp_path / "data_batch_1.bin").write_bytes(rows.tobytes())
    with pytest.raises(DataError, match=r"data_batch_1\.bin is damaged: its sha256"):
        read_cifar10(tmp_path / "data_batch_1.bin")
    rows[77, 0] = 10
    (tmp_path / "data_batch_3.bin").write_bytes(rows.tobytes())
    with pytest.raises(DataError, match="a class 10"):
        read_cifar10(tmp_path / "data_batch_3.bin")


# -- files: absent, downloaded, damaged ----------------------------------------------------------


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """An internet of these addresses alone."""
    pages: dict[str, bytes] = {}

    def urlopen(url: str, timeout: float) -> io.BytesIO:
        assert timeout > 0
        if url not in pages:
            raise URLError("no such page")
        return io.BytesIO(pages[url])

    monkeypatch.setattr(download, "urlopen", urlopen)
    return pages


@pytest.fixture
def small_mnist(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Files of three examples that pass for MNIST's."""
    pictures = idx(np.arange(3 * 28 * 28, dtype=np.uint8).reshape(3, 28, 28))
    contents = {
        name: gzip.compress(pictures if "images" in name else idx(np.array([4, 0, 9], np.uint8)))
        for name in data.MNIST_DIGESTS
    }
    digests = {n: f"sha256:{hashlib.sha256(c).hexdigest()}" for n, c in contents.items()}
    monkeypatch.setattr(data, "MNIST_DIGESTS", digests)
    return contents


def assert_one_line(error: pytest.ExceptionInfo[DataError], *words: str) -> None:
    text = str(error.value)
    assert "\n" not in text
    for word in words:
        assert word in text, text


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mnist", ["mnist/train-images-idx3-ubyte.gz", "put", "https://", "no such page"]),
        ("fashion_mnist", ["fashion-mnist/train-images-idx3-ubyte.gz", "put"]),
        ("cifar10", ["cifar-10-batches-bin/cifar-10-binary.tar.gz", "cs.toronto.edu"]),
        ("isbi2012", ["isbi2012-em/train/image/0.png", "put the 30 training slices"]),
        ("simulator_classes", ["python scripts/render_dataset.py simulator_classes"]),
        ("simulator_masks", ["python scripts/render_dataset.py simulator_masks"]),
    ],
)
def test_absent(tmp_path: Path, web: dict[str, bytes], name: str, words: list[str]) -> None:
    with pytest.raises(DataError) as error:
        load(name, tmp_path)
    assert_one_line(error, str(tmp_path), *words)
    assert not list(tmp_path.iterdir())


def test_unknown() -> None:
    with pytest.raises(DataError) as error:
        load("minst")
    assert_one_line(error, "unknown data set 'minst'", "did you mean 'mnist'?", *LOADERS)


def test_downloaded_once(
    tmp_path: Path,
    web: dict[str, bytes],
    small_mnist: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From the second mirror, where the first has another file; into $FIRSTHAND_DATA."""
    for name, content in small_mnist.items():
        web[data.MNIST_MIRRORS[0] + name] = content + b"x"
        web[data.MNIST_MIRRORS[1] + name] = content
    monkeypatch.setenv("FIRSTHAND_DATA", str(tmp_path / "new"))
    assert load("mnist").train.targets.tolist() == [4, 0, 9]
    assert files(tmp_path / "new" / "mnist") == small_mnist
    web.clear()
    assert load("mnist").test.inputs.shape == (3, 1, 28, 28)


def test_download_with_a_wrong_digest_is_no_download(
    tmp_path: Path, web: dict[str, bytes], small_mnist: dict[str, bytes]
) -> None:
    for name, content in small_mnist.items():
        for mirror in data.MNIST_MIRRORS:
            web[mirror + name] = content[:-1]
    with pytest.raises(DataError) as error:
        load("mnist", tmp_path)
    assert_one_line(error, "could not be downloaded", "its sha256 is")
    assert not list(tmp_path.iterdir())


def test_damaged_file_is_named_and_stays(
    tmp_path: Path, web: dict[str, bytes], small_mnist: dict[str, bytes]
) -> None:
    (tmp_path / "mnist").mkdir()
    for name, content in small_mnist.items():
        (tmp_path / "mnist" / name).write_bytes(content)
        web[data.MNIST_MIRRORS[0] + name] = content
    (tmp_path / "mnist" / "t10k-labels-idx1-ubyte.gz").write_bytes(b"mine")
    before = files(tmp_path)
    with pytest.raises(DataError) as error:
        load("mnist", tmp_path)
    assert_one_line(error, "t10k-labels-idx1-ubyte.gz is damaged", "sha256")
    assert files(tmp_path) == before


def archive(contents: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz", compresslevel=1) as opened:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            opened.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def test_cifar10_from_its_archive(
    tmp_path: Path, web: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All six batches come out of it, and what else is in it does not."""
    names = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]
    batches = {name: cifar_batch(i)[:3].tobytes() for i, name in enumerate(names)}
    members = {f"cifar-10-batches-bin/{name}": content for name, content in batches.items()}
    packed = archive({**members, "../../outside": b"x", "batches.meta.txt": b"x"})
    digest = f"md5:{hashlib.md5(packed).hexdigest()}"
    monkeypatch.setattr(data, "CIFAR10_DIGESTS", {data.CIFAR10_ARCHIVE: digest})
    monkeypatch.setattr(data, "CIFAR10_BATCH", 3)
    web[data.CIFAR10_MIRRORS[0] + data.CIFAR10_ARCHIVE] = packed
    splits = load("cifar10", tmp_path / "root")
    assert [len(splits.train), len(splits.test)] == [15, 3]
    folder = tmp_path / "root" / "cifar-10-batches-bin"
    assert files(tmp_path / "root").keys() == {
        f"{folder.name}/{name}" for name in [*names, data.CIFAR10_ARCHIVE]
    }
    assert not (tmp_path / "outside").exists()
    (folder / "test_batch.bin").unlink()
    with pytest.raises(DataError, match=r"lacks test_batch\.bin"):
        load("cifar10", tmp_path / "root")


def test_archive_without_a_batch(
    tmp_path: Path, web: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = archive({"cifar-10-batches-bin/data_batch_1.bin": b"x"})
    digest = f"md5:{hashlib.md5(packed).hexdigest()}"
    monkeypatch.setattr(data, "CIFAR10_DIGESTS", {data.CIFAR10_ARCHIVE: digest})
    web[data.CIFAR10_MIRRORS[0] + data.CIFAR10_ARCHIVE] = packed
    with pytest.raises(DataError, match=r"cifar-10-binary\.tar\.gz is damaged: .*data_batch_2"):
        load("cifar10", tmp_path)


@pytest.mark.parametrize(
    ("way", "words"),
    [
        ("text", "3.png is damaged: it is no picture"),
        ("size", "not all slices are grey, 512 x 512"),
        ("colour", "not all slices are grey, 512 x 512"),
        ("pixel", "its sha256 is"),
        ("gone", "label/3.png is missing"),
    ],
)
def test_damaged_isbi2012(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str, words: str
) -> None:
    folder = tmp_path / "isbi2012-em" / "train"
    for kind in ("image", "label"):
        (folder / kind).mkdir(parents=True)
        for i in range(30):
            cv2.imwrite(str(folder / kind / f"{i}.png"), np.zeros((512, 512), np.uint8))
    file = folder / "image" / "3.png"
    if way == "text":
        file.write_text("text")
    elif way == "size":
        cv2.imwrite(str(file), np.zeros((511, 512), np.uint8))
    elif way == "colour":
        cv2.imwrite(str(file), np.zeros((512, 512, 3), np.uint8))
    elif way == "gone":
        (folder / "label" / "3.png").unlink()
        zeros = hashlib.sha256(bytes(30 * 512 * 512)).hexdigest()  # the pictures are right
        monkeypatch.setattr(
            data, "ISBI2012_DIGESTS", dict.fromkeys(("image", "label"), f"sha256:{zeros}")
        )
    with pytest.raises(DataError) as error:
        load("isbi2012", tmp_path)
    assert_one_line(error, words)


# -- simulator sets ------------------------------------------------------------------------------


def simulator(folder: Path, masks: bool) -> dict[str, torch.Tensor]:
    """A set as scripts/render_dataset.py writes it."""
    folder.mkdir()
    inputs = torch.randint(256, (4, 3, 6, 5), dtype=torch.uint8)
    shape, dtype = ((4, 6, 5), torch.uint8) if masks else ((4,), torch.int64)
    tensors = {"inputs": inputs, "targets": torch.randint(2, shape).to(dtype)}
    if masks:  # what else it holds is left unread
        tensors["poses"] = torch.rand(4, 4, 8)
    for part in ("train", "test"):
        save_file(tensors, folder / f"{part}.safetensors")
    (folder / "classes.json").write_text(json.dumps(["ground", "cube"]))
    return tensors


@pytest.mark.parametrize("name", ["simulator_classes", "simulator_masks"])
def test_simulator_sets(tmp_path: Path, name: str) -> None:
    tensors = simulator(tmp_path / name, masks=name == "simulator_masks")
    splits = load(name, tmp_path)
    assert torch.equal(splits.train.inputs, tensors["inputs"])
    assert torch.equal(splits.test.targets, tensors["targets"])
    assert splits.test.classes == ("ground", "cube")


@pytest.mark.parametrize(
    ("way", "words"),
    [
        ("torn", "damaged"),
        ("float", "not uint8 [N, C, H, W]"),
        ("flat", "not uint8 [N, C, H, W]"),
        ("empty", "not uint8 [N, C, H, W]"),
        ("no targets", "damaged"),
        ("masks", "targets are torch.uint8"),
        ("fewer targets", "4 inputs have 3 targets"),
        ("class 2", "without one of the 2 classes"),
        ("class -1", "without one of the 2 classes"),
        ("names", "classes.json is no list of names"),
        ("no json", "damaged"),
        ("gone", "test.safetensors is missing; draw it with"),
    ],
)
def test_damaged_simulator_sets(tmp_path: Path, way: str, words: str) -> None:
    folder = tmp_path / "simulator_classes"
    tensors = simulator(folder, masks=False)
    file = folder / "test.safetensors"
    changed: dict[str, dict[str, torch.Tensor]] = {
        "float": {"inputs": tensors["inputs"].float()},
        "flat": {"inputs": tensors["inputs"].flatten(1)},
        "empty": {name: tensor[:0] for name, tensor in tensors.items()},
        "masks": {"targets": torch.zeros(4, 6, 5, dtype=torch.uint8)},
        "fewer targets": {"targets": tensors["targets"][:3]},
        "class 2": {"targets": torch.tensor([0, 1, 2, 0])},
        "class -1": {"targets": torch.tensor([0, 1, -1, 0])},
    }
    if way in changed:
        save_file(tensors | changed[way], file)
    elif way == "torn":
        file.write_bytes(file.read_bytes()[:-1])
    elif way == "no targets":
        save_file({"inputs": tensors["inputs"]}, file)
    elif way == "names":
        (folder / "classes.json").write_text("[1, 2]")
    elif way == "no json":
        (folder / "classes.json").write_text("cube")
    else:
        file.unlink()
    with pytest.raises(DataError) as error:
        load("simulator_classes", tmp_path)
    assert_one_line(error, words)
