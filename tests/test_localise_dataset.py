"""Pictures on disk: the same whoever draws them, whole or not there, and sealed if they are."""

import fcntl
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import files
from localisable import CAMERA, Drawn
from safetensors.numpy import load_file, save_file

from envs.robotics import assets, objects
from sim2real import dataset, domains
from sim2real.dataset import DatasetError, Request, generate, load, load_for_training
from sim2real.domains import Domain, SealedError, constant
from sim2real.views import place

GREY = {"path": "body.table.grey", "distribution": {"kind": "uniform", "low": 0.1, "high": 0.4}}
DOMAIN = Domain("grey", False, "drawn", {}, (GREY,))
REQUEST = Request(DOMAIN, "cube", 32, seed=3, shard=8)


def test_pictures_positions_and_places_belong_together(tmp_path: Path) -> None:
    generate(REQUEST, tmp_path, 20)
    found = load(tmp_path)
    assert found.pictures.shape == (24, 3, 32, 32)  # in whole shards
    assert (found.low, found.high) == (Drawn.low, Drawn.high)
    assert len(found.positions.unique(dim=0)) == 24
    drawn = dataset.draws(tmp_path, 24)
    for picture, (u, v), values in zip(
        found.pictures, found.places[:, 0].tolist(), drawn, strict=True
    ):
        grey = round(255 * values["body.table.grey"])
        # The square, and nothing else, is of the other colour, and is where the place says.
        assert picture[:, int(32 * v), int(32 * u)].tolist() == [255 - grey] * 3
        assert (picture == grey).sum() == 3 * (32 * 32 - 9)
    assert Drawn.opened == 0


def test_a_picture_follows_from_domain_seed_and_number_alone(tmp_path: Path) -> None:
    for name, order in [("one", (24,)), ("other", (8, 24))]:
        for count in order:
            generate(REQUEST, tmp_path / name, count)
    assert files(tmp_path / "one") == files(tmp_path / "other")
    env = dataset.make(REQUEST)
    picture = dataset.draw(env, REQUEST, 17)
    env.close()
    found = load(tmp_path / "one")
    np.testing.assert_array_equal(found.pictures[17].permute(1, 2, 0), picture.pixels)
    np.testing.assert_allclose(found.positions[17], picture.position, rtol=1e-6)
    generate(replace(REQUEST, seed=4), tmp_path / "seed", 24)
    assert not torch.equal(load(tmp_path / "seed").positions, found.positions)


def test_it_stops_between_two_shards_and_goes_on(tmp_path: Path) -> None:
    generate(REQUEST, tmp_path / "whole", 24)
    seen: list[int] = []

    def on_shard(there: int) -> bool:
        seen.append(there)
        return there < 8

    generate(REQUEST, tmp_path / "stopped", 24, on_shard=on_shard)
    assert seen == [0, 8]
    assert load(tmp_path / "stopped").pictures.shape[0] == 8
    with pytest.raises(DatasetError, match="holds 8 pictures, not 24"):
        load(tmp_path / "stopped", 24)
    # What a killed process left is neither used nor kept.
    (tmp_path / "stopped" / ".00001.safetensors.1.tmp").write_text("half")
    (tmp_path / "stopped" / "00002.jsonl").write_text("{}\n")
    before = (tmp_path / "stopped" / "00000.safetensors").stat().st_mtime_ns
    generate(REQUEST, tmp_path / "stopped", 24)
    assert files(tmp_path / "stopped") == files(tmp_path / "whole")
    assert (tmp_path / "stopped" / "00000.safetensors").stat().st_mtime_ns == before


def test_what_is_there_is_not_drawn_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generate(REQUEST, tmp_path, 16)
    monkeypatch.setattr(dataset, "make", None)
    generate(REQUEST, tmp_path, 16)
    assert len(load(tmp_path, 3).pictures) == 3


def test_another_set_is_not_mixed_in(tmp_path: Path) -> None:
    generate(REQUEST, tmp_path, 8)
    before = files(tmp_path)
    for other, words in [
        (replace(REQUEST, seed=4), "seed 3, not 4"),
        (replace(REQUEST, size=33), "size 32, not 33"),
        (replace(REQUEST, domain=replace(DOMAIN, parameters=())), "sha256"),
    ]:
        with pytest.raises(DatasetError, match=words):
            generate(other, tmp_path, 16)
    assert files(tmp_path) == before


def test_only_one_process_draws_into_a_folder(tmp_path: Path) -> None:
    with open(tmp_path / ".lock", "w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        with pytest.raises(DatasetError, match="another process"):
            generate(REQUEST, tmp_path, 8)
    generate(REQUEST, tmp_path, 8)


def test_pictures_of_a_sealed_domain_are_not_for_training(tmp_path: Path) -> None:
    sealed = replace(REQUEST, domain=replace(DOMAIN, sealed=True))
    generate(sealed, tmp_path, 8)
    with pytest.raises(SealedError, match="grey, which is sealed"):
        load_for_training(tmp_path)
    assert len(load_for_training(tmp_path, ceiling=True).pictures) == 8
    assert len(load(tmp_path).pictures) == 8


@pytest.mark.parametrize(
    "damage",
    ["cut", "other shape", "no manifest", "manifest", "another format"],
)
def test_damage_is_one_line(tmp_path: Path, damage: str) -> None:
    generate(REQUEST, tmp_path, 8)
    file, manifest = tmp_path / "00000.safetensors", tmp_path / "dataset.json"
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-10])
    elif damage == "other shape":
        save_file(load_file(file) | {"visible": np.zeros(7, np.float32)}, file)
    elif damage == "no manifest":
        manifest.unlink()
    elif damage == "manifest":
        manifest.write_text("{")
    else:
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format": 1}))
    with pytest.raises(DatasetError) as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)
    assert "damaged" in str(caught.value) or "missing" in str(caught.value)


def test_no_count_and_no_jobs_are_refused(tmp_path: Path) -> None:
    for count, jobs in [(0, 1), (8, 0)]:
        with pytest.raises(ValueError, match="must be positive"):
            generate(REQUEST, tmp_path / "new", count, jobs)
    assert not (tmp_path / "new").exists()


# -- where in the picture --------------------------------------------------------------------------


def test_places_in_a_picture() -> None:
    """The camera looks down from a metre above (0.5, 0, 0); half its view is tan 22.5°."""
    half = np.tan(np.deg2rad(22.5))
    for point, expected in [
        ((0.5, 0, 0), (0.5, 0.5)),
        ((0.5 + half, 0, 0), (0.5, 0.0)),  # x is up
        ((0.5, half, 0), (0.0, 0.5)),  # y is left
        ((0.5, -half / 2, 0.5), (1.0, 0.5)),  # nearer by half
    ]:
        np.testing.assert_allclose(place(CAMERA, {}, point), expected, atol=1e-9)


def test_what_was_drawn_of_the_camera_counts() -> None:
    point = (0.6, 0.0, 0.0)
    moved = {"camera.main.position": [0.6, 0, 1.0], "camera.main.target": [0.6, 0, 0]}
    np.testing.assert_allclose(place(CAMERA, moved, point), (0.5, 0.5), atol=1e-9)
    wide = place(CAMERA, {"camera.main.fov": 90.0}, point)
    np.testing.assert_allclose(wide, (0.5, 0.45), atol=1e-9)
    other = place(CAMERA, {"camera.other.fov": 90.0}, point)
    np.testing.assert_allclose(other, place(CAMERA, {}, point))


@pytest.mark.parametrize("engine", ["bullet", "mujoco"])
def test_places_are_where_the_engines_draw_the_object(engine: str) -> None:
    """Its pixels' middle, under a camera that stands, looks, rolls and zooms at random. Fails for
    a mirrored place, and for a roll the other way round.
    """
    path = "camera.main"
    drawn: dict[str, tuple[str, dict[str, Any]]] = {
        f"{path}.position": ("add", {"kind": "box", "size": [0.1, 0.1, 0.1]}),
        f"{path}.target": ("add", {"kind": "box", "size": [0.2, 0.2, 0.0]}),
        f"{path}.roll": ("add", {"kind": "uniform", "low": 0.2, "high": 0.4}),
        f"{path}.fov": ("scale", {"kind": "uniform", "low": 1.1, "high": 1.3}),
    }
    tables = [
        {"path": name, "operation": how, "distribution": what}
        for name, (how, what) in drawn.items()
    ]
    request = Request(Domain("cameras", False, engine, {}, tuple(tables)), "cube", 96, seed=0)
    env = dataset.make(request)
    number = [body.name for body in env.get_wrapper_attr("scene").bodies].index("object") + 1
    for index in range(6):
        picture = dataset.draw(env, request, index)
        seen = env.get_wrapper_attr("engine").render("main", 96, 96).segmentation == number
        rows, columns = np.nonzero(seen)
        middle = (columns.mean() + 0.5, rows.mean() + 0.5)
        np.testing.assert_allclose(96 * picture.places[0], middle, atol=1.2)
    env.close()


def test_two_processes_draw_the_same_pictures(tmp_path: Path) -> None:
    request = Request(domains.read("source_dr"), "cube", 32, seed=0, shard=2)
    generate(request, tmp_path / "one", 6, jobs=1)
    generate(request, tmp_path / "two", 6, jobs=2)
    assert files(tmp_path / "one") == files(tmp_path / "two")
    assert load(tmp_path / "two").visible.isnan().all()


def test_what_is_to_be_occluded_is_if_it_is_looked_for() -> None:
    hidden = Domain("hidden", False, "bullet", {}, (constant("task.occluded", 1),))
    request = Request(hidden, "cube", 64, seed=0, visibility=True)
    env = dataset.make(request)
    shares = [dataset.draw(env, request, index).visible for index in range(4)]
    env.close()
    assert 0.3 <= np.mean(shares) <= 0.85


def test_mixed_objects_are_shapes_and_meshes_that_no_target_has() -> None:
    mixed = objects.pool("mixed", 20, "cube")
    assert mixed[:20] == objects.pool("shapes", 20, "cube")
    meshes = {shape.file for shape in mixed[20:]}
    assert len(meshes) == 20
    assert meshes <= set(assets.training_meshes())
    assert not meshes & {shape.file for shape in objects.pool("training_meshes", 20)}


def test_no_distractor_has_the_targets_shape() -> None:
    for target in ("cube", "cone"):
        shown = objects.pool("shapes", 20, target)
        assert len(shown) == 20
        assert objects.shape(target) not in shown
        assert len(set(shown)) == 7
