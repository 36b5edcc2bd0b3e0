"""Saved state: what comes back, and what damage is noticed."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lifecycle import seal
from safetensors.torch import save_file
from torch import Tensor

from agents.state import StateError, load_state, save_state


def example(value: float = 0.0) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    tensors = {
        str(dtype): (torch.arange(6).reshape(2, 3) + value).to(dtype)
        for dtype in (torch.bool, torch.uint8, torch.int64, torch.bfloat16, torch.float32)
    }
    arrays = {
        str(dtype): (np.arange(6).reshape(2, 3) + value).astype(dtype)
        for dtype in (np.bool_, np.uint64, np.int32, np.float32, np.float64)
    }
    return {
        "tensors": tensors,
        "arrays": arrays,
        "shapes": [torch.tensor(1.5), torch.zeros(0, 3), torch.arange(6.0).reshape(2, 3).T],
        "strided": np.arange(10)[::-3],
        "rng": rng.bit_generator.state,  # integers of 128 bits
        "nested": {"list": [1, None, {"deep": [torch.ones(2), "text", []]}], "empty": {}},
        "plain": [True, 0.1 + 0.2, -(2**200), "\n\"'", float("inf")],
    }


def assert_equal(first: Any, second: Any) -> None:
    assert type(first) is type(second)
    if isinstance(first, dict):
        assert list(first) == list(second)
        for key in first:
            assert_equal(first[key], second[key])
    elif isinstance(first, list):
        assert len(first) == len(second)
        for a, b in zip(first, second, strict=True):
            assert_equal(a, b)
    elif isinstance(first, (Tensor, np.ndarray)):
        assert first.dtype == second.dtype
        assert first.shape == second.shape
        assert (first == second).all()
    else:
        assert first == second


def files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def tensor_file(folder: Path) -> Path:
    (file,) = folder.glob("*.safetensors")
    return file


# -- what comes back ---------------------------------------------------------------------------


def test_round_trip(tmp_path: Path) -> None:
    save_state(tmp_path / "new" / "folder", example())
    assert_equal(load_state(tmp_path / "new" / "folder"), example())


def test_text_of_any_alphabet(tmp_path: Path) -> None:
    save_state(tmp_path, {"αβγ": "ünï 机器人"})
    assert load_state(tmp_path) == {"αβγ": "ünï 机器人"}


def test_scalar_array_keeps_its_shape(tmp_path: Path) -> None:
    save_state(tmp_path, {"scalar": np.array(2.5)})
    assert_equal(load_state(tmp_path), {"scalar": np.array(2.5)})


def test_state_without_tensors(tmp_path: Path) -> None:
    save_state(tmp_path, {"step": 3})
    assert load_state(tmp_path) == {"step": 3}


def test_tuples_come_back_as_lists(tmp_path: Path) -> None:
    save_state(tmp_path, {"pair": (1, torch.ones(2))})
    assert_equal(load_state(tmp_path), {"pair": [1, torch.ones(2)]})


def test_saving_again_replaces_everything(tmp_path: Path) -> None:
    save_state(tmp_path, example(0.0))
    (tmp_path / "tensors.123.tmp").write_bytes(b"left by a process that was killed")
    save_state(tmp_path, example(1.0))
    assert_equal(load_state(tmp_path), example(1.0))
    assert sorted(files(tmp_path)) == sorted(["state.json", tensor_file(tmp_path).name])


# -- interrupted while saving ------------------------------------------------------------------


@pytest.mark.parametrize("call", [1, 2])
def test_failure_while_saving_leaves_the_old_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    """The two moments between which something comes into being: both files' renaming."""
    save_state(tmp_path, example(0.0))
    calls = 0

    def replace(source: Path, target: Path, real: Callable[..., None] = os.replace) -> None:
        nonlocal calls
        calls += 1
        if calls == call:
            raise OSError("no space left on device")
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        with pytest.raises(OSError, match="no space left"):
            save_state(tmp_path, example(1.0))
    assert calls == call
    assert_equal(load_state(tmp_path), example(0.0))
    assert not list(tmp_path.glob("*.tmp"))
    save_state(tmp_path, example(1.0))
    assert_equal(load_state(tmp_path), example(1.0))


def test_state_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    save_state(tmp_path, example(0.0))
    with pytest.raises(TypeError):
        save_state(tmp_path, {"new": torch.ones(3), "unknown": object()})
    assert_equal(load_state(tmp_path), example(0.0))
    assert not list(tmp_path.glob("*.tmp"))


# -- damage ------------------------------------------------------------------------------------


@pytest.mark.lifecycle
@pytest.mark.parametrize("pattern", ["state.json", "*.safetensors"])
def test_flipped_bits_are_noticed(tmp_path: Path, pattern: str) -> None:
    """JSON knows harmless flips (1e-8 and 1E-8 are the same); the example has none of those."""
    save_state(tmp_path, example())
    (file,) = tmp_path.glob(pattern)
    whole = file.read_bytes()
    rng = np.random.default_rng(0)
    for position in rng.choice(len(whole), size=200, replace=False):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << int(rng.integers(8))
        file.write_bytes(damaged)
        with pytest.raises(StateError):
            load_state(tmp_path)
    file.write_bytes(whole)
    assert_equal(load_state(tmp_path), example())


@pytest.mark.lifecycle
@pytest.mark.parametrize("pattern", ["state.json", "*.safetensors"])
def test_every_truncation_is_noticed(tmp_path: Path, pattern: str) -> None:
    save_state(tmp_path, example())
    (file,) = tmp_path.glob(pattern)
    whole = file.read_bytes()
    for size in [0, 1, 7, 8, 9, len(whole) // 2, len(whole) - 1]:
        file.write_bytes(whole[:size])
        with pytest.raises(StateError):
            load_state(tmp_path)


@pytest.mark.parametrize("pattern", ["state.json", "*.safetensors"])
def test_missing_file(tmp_path: Path, pattern: str) -> None:
    save_state(tmp_path, example())
    (file,) = tmp_path.glob(pattern)
    file.unlink()
    with pytest.raises(StateError, match=f"{file.name} is missing"):
        load_state(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", '{"body": 1, "sha256": 2, "format": 3}'])
def test_foreign_json(tmp_path: Path, text: str) -> None:
    (tmp_path / "state.json").write_text(text)
    with pytest.raises(StateError, match="damaged"):
        load_state(tmp_path)


@pytest.mark.parametrize("place", ["../outside.safetensors", "{outside}", "..", ".", "", "/"])
def test_never_reads_outside_its_folder(tmp_path: Path, place: str) -> None:
    """Everything is as it should be but for where the tensors lie."""
    outside, folder = tmp_path / "outside.safetensors", tmp_path / "folder"
    folder.mkdir()
    save_file({"/x": torch.ones(1)}, outside)
    digest = hashlib.sha256(outside.read_bytes()).hexdigest()
    body = {"tensors_sha256": digest, "state": {"x": {"__tensor__": "/x"}}}

    (folder / "inside.safetensors").write_bytes(outside.read_bytes())
    seal(folder, {**body, "tensors": "inside.safetensors"})
    assert_equal(load_state(folder), {"x": torch.ones(1)})  # the forgery itself is sound

    seal(folder, {**body, "tensors": place.format(outside=outside)})
    with pytest.raises(StateError):
        load_state(folder)


@pytest.mark.parametrize(
    "body",
    [
        [],
        "text",
        {},
        {"tensors": 3, "tensors_sha256": "", "state": {}},
        {"tensors": "x", "tensors_sha256": "", "state": {}},
    ],
)
def test_sealed_nonsense_is_a_state_error(tmp_path: Path, body: Any) -> None:
    seal(tmp_path, body)
    with pytest.raises(StateError):
        load_state(tmp_path)


def test_tensors_that_the_file_does_not_hold(tmp_path: Path) -> None:
    save_state(tmp_path, {"x": torch.ones(1)})
    body = json.loads((tmp_path / "state.json").read_text())["body"]
    seal(tmp_path, {**body, "state": {"x": {"__tensor__": "/y"}}})
    with pytest.raises(StateError):
        load_state(tmp_path)
