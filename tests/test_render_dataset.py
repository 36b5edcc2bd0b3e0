"""The simulator's data sets: the same for the same seed; labels agree with the pictures."""

import json
import os
import stat
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import render_dataset
from command import assert_error, files, run
from safetensors.numpy import load_file

from runkit.studio import FIELD_OF_VIEW, SCENES, TEXTURES, Picture, Studio, _pattern

SIZE = 32
SMALL = ["--count", "20", "--test-count", "10", "--size", str(SIZE), "--jobs", "1"]


@pytest.fixture(scope="module")
def studio() -> Studio:
    return Studio("simulator_masks", 0, 0, SIZE)


@pytest.fixture(scope="module")
def drawn(studio: Studio) -> list[Picture]:
    return [studio.draw(i) for i in range(20)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The set of masks, as the command leaves it."""
    folder = tmp_path_factory.mktemp("data") / "simulator_masks"
    outcome = run(render_dataset.main, "simulator_masks", *SMALL, "--out", folder)
    assert outcome.status == 0, outcome
    return folder


def test_a_picture_follows_from_seed_split_and_index(studio: Studio, drawn: list[Picture]) -> None:
    again = Studio("simulator_masks", 0, 0, SIZE)
    for index in (7, 3):  # in another order
        for name in ("pixels", "instances", "classes", "poses", "view"):
            picture = getattr(again.draw(index), name)
            np.testing.assert_array_equal(picture, getattr(drawn[index], name), err_msg=name)


@pytest.mark.parametrize(("seed", "split"), [(1, 0), (0, 1)])
def test_another_seed_or_split_has_other_textures_and_poses(
    drawn: list[Picture], seed: int, split: int
) -> None:
    other = Studio("simulator_masks", seed, split, SIZE).draw(0)
    assert not np.array_equal(other.poses, drawn[0].poses)
    # The corners show table or floor: of another colour.
    assert not np.array_equal(other.pixels[:, 0, 0], drawn[0].pixels[:, 0, 0])


def test_the_splits_have_no_texture_in_common(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[bytes] = []

    def recorded(rng: np.random.Generator) -> np.ndarray:
        pattern = _pattern(rng)
        drawn.append(pattern.tobytes())
        return pattern

    monkeypatch.setattr("runkit.studio._pattern", recorded)
    for split in (0, 1):
        Studio("simulator_classes", 0, split, SIZE)
    assert len(set(drawn)) == len(drawn) == 2 * TEXTURES


def test_every_object_is_seen(drawn: list[Picture]) -> None:
    for picture in drawn:
        seen, counts = np.unique(picture.instances, return_counts=True)
        assert seen.tolist() == list(range(len(picture.poses) + 1))
        assert counts.min() >= SCENES["simulator_masks"].visible * SIZE**2


def test_hidden_objects_mean_another_attempt(
    studio: Studio, drawn: list[Picture], monkeypatch: pytest.MonkeyPatch
) -> None:
    covered = [min(np.unique(p.instances, return_counts=True)[1]) / SIZE**2 for p in drawn]
    least = min(covered)
    monkeypatch.setattr(studio, "scene", replace(studio.scene, visible=1.2 * least))
    index = covered.index(least)
    again = studio.draw(index)
    assert np.unique(again.instances, return_counts=True)[1].min() >= 1.2 * least * SIZE**2
    assert again.classes[0] == drawn[index].classes[0]


def test_masks_lie_where_the_poses_say(drawn: list[Picture]) -> None:
    """The middle of an object, projected, lies in the box around its pixels or next to it: what
    hides it may hide the middle. Fails for a mirrored, transposed or shifted mask.
    """
    focal = 1 / np.tan(np.deg2rad(FIELD_OF_VIEW) / 2)
    for picture in drawn:
        for i, pose in enumerate(picture.poses):
            x, y, z = (picture.view @ [*pose[:3], 1])[:3]
            column = (1 + focal * x / -z) / 2 * SIZE
            row = (1 - focal * y / -z) / 2 * SIZE
            rows, columns = np.nonzero(picture.instances == i + 1)
            assert rows.min() - 3 <= row <= rows.max() + 4, (i, row, rows)
            assert columns.min() - 3 <= column <= columns.max() + 4, (i, column, columns)


def test_masks_agree_with_the_pixels(
    studio: Studio, drawn: list[Picture], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without its objects a picture is the same where the mask says background, but for shadows,
    and another one where the mask says object.
    """
    place = studio._place
    monkeypatch.setattr(
        studio, "_place", lambda body, *_: place(body, (50, 0, -50), (0, 0, 0, 1), (0, 0, 0, 0))
    )
    compared = 0
    for index, picture in enumerate(drawn[:6]):
        empty = studio._attempt(np.random.default_rng([0, 0, 1, index]), index % 5)
        if not np.array_equal(empty.poses, picture.poses):
            continue  # it took more than one attempt
        compared += 1
        difference = np.abs(empty.pixels.astype(int) - picture.pixels).max(0)
        shadow = (picture.pixels <= empty.pixels).all(0)
        # Pixels on edges are mixed and belong to neither side.
        objects = (picture.instances > 0).astype(np.uint8)
        inside, around = (f(objects, np.ones((3, 3))) for f in (cv2.erode, cv2.dilate))
        assert ((difference <= 3) | shadow)[around == 0].mean() > 0.99
        assert (difference > 3)[inside == 1].mean() > 0.95
    assert compared >= 3


def test_classes_are_balanced(tmp_path: Path) -> None:
    out = tmp_path / "simulator_classes"
    assert run(render_dataset.main, "simulator_classes", *SMALL, "--out", out).status == 0
    classes = json.loads((out / "classes.json").read_text())
    assert len(classes) == 10
    for name, count in [("train", 20), ("test", 10)]:
        tensors = load_file(out / f"{name}.safetensors")
        assert tensors["inputs"].shape == (count, 3, SIZE, SIZE)
        assert tensors["inputs"].dtype == np.uint8
        assert tensors["targets"].dtype == np.int64
        assert np.bincount(tensors["targets"]).tolist() == [count // 10] * 10


def test_the_file_of_masks(folder: Path, drawn: list[Picture]) -> None:
    tensors = load_file(folder / "train.safetensors")
    classes = json.loads((folder / "classes.json").read_text())
    assert classes == ["background", *SCENES["simulator_masks"].classes]
    for name in ("inputs", "targets", "instances"):
        assert tensors[name].dtype == np.uint8
    assert tensors["poses"].dtype == tensors["views"].dtype == np.float32
    for i, picture in enumerate(drawn):
        np.testing.assert_array_equal(tensors["inputs"][i], picture.pixels)
        np.testing.assert_array_equal(tensors["instances"][i], picture.instances)
        np.testing.assert_array_equal(tensors["views"][i], picture.view)
        n = len(picture.poses)
        np.testing.assert_array_equal(tensors["poses"][i, :n, 1:], picture.poses)
        assert not tensors["poses"][i, n:].any()
        # Targets are the instances' classes.
        numbers = np.array([0, *tensors["poses"][i, :, 0]])
        np.testing.assert_array_equal(tensors["targets"][i], numbers[picture.instances])
        assert set(np.unique(tensors["targets"][i])) == {0, *(picture.classes + 1)}
    assert set(np.unique(tensors["targets"])) == set(range(len(classes)))
    settings = json.loads((folder / "settings.json").read_text())
    assert "TinyRenderer" in settings["renderer"]
    assert settings["size"] == SIZE


def test_two_processes_draw_the_same(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "again"
    arguments = ["simulator_masks", *SMALL[:-1], "2", "--out", out]
    assert run(render_dataset.main, *arguments).status == 0
    assert files(out) == files(folder)


def test_a_set_that_is_there_is_only_replaced_if_asked(folder: Path, tmp_path: Path) -> None:
    before = files(folder)
    refused = run(render_dataset.main, "simulator_masks", *SMALL, "--out", folder)
    assert_error(refused, "is there already", "--overwrite")
    assert files(folder) == before

    old = tmp_path / "old"
    old.mkdir()
    (old / "left over").write_text("")
    arguments = ["simulator_masks", "--count", "1", "--test-count", "1", "--size", "16"]
    arguments += ["--jobs", "1", "--out", str(old), "--overwrite"]
    assert run(render_dataset.main, *arguments).status == 0
    assert "left over" not in files(old)
    assert [path.name for path in tmp_path.iterdir()] == ["old"]  # nothing temporary


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), ["SET"]),
        (("simulator_cups",), ["simulator_cups", "simulator_classes"]),
        (("simulator_masks", "--count", "0"), ["count", "1,000,000"]),
        (("simulator_masks", "--size", "8"), ["size", "16 to 512"]),
        (("simulator_masks", "--jobs", "0"), ["jobs"]),
        (("simulator_masks", "--seed", "-1"), ["seed"]),
    ],
)
def test_bad_arguments_are_one_line(arguments: tuple[str, ...], words: list[str]) -> None:
    assert_error(run(render_dataset.main, *arguments), *words)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    arguments = ["simulator_masks", *SMALL, "--out", tmp_path / "set"]
    assert_error(run(render_dataset.main, *arguments), "Permission denied")


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    arguments = ["simulator_masks", *SMALL, "--out", tmp_path / "file" / "set"]
    assert_error(run(render_dataset.main, *arguments), "file")
