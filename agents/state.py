"""Nested state <-> a folder with one safetensors file and one JSON file. Nothing is unpickled.

    FOLDER/state.json                  structure, plain values, name and sha256 of the tensor file
    FOLDER/<sha256[:16]>.safetensors   every tensor and array

The JSON file is replaced last and in one step, so at every moment it names a tensor file that is
whole: a process killed while saving leaves the state from before.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

FORMAT = "firsthand-state-1"
_TENSOR, _ARRAY = "__tensor__", "__array__"


class StateError(ValueError):
    """A saved state is missing, damaged, or of another kind than asked for."""


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Writes nested dicts and lists of tensors, arrays and JSON values, atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Tensor] = {}
    tree = _take_tensors(state, "", tensors)
    temporary = folder / f"tensors.{os.getpid()}.tmp"
    try:
        try:
            save_file(tensors, temporary)
        except SafetensorError as error:  # how it reports a full disk
            raise OSError(f"cannot write {temporary}: {error}") from None
        digest = _sha256(temporary)
        name = f"{digest[:16]}.safetensors"
        _sync(temporary)
        os.replace(temporary, folder / name)
        body = {"tensors": name, "tensors_sha256": digest, "state": tree}
        text = json.dumps({"format": FORMAT, "sha256": _json_digest(body), "body": body})
        temporary = folder / f"state.{os.getpid()}.tmp"
        temporary.write_text(text)
        _sync(temporary)
        os.replace(temporary, folder / "state.json")
    finally:
        temporary.unlink(missing_ok=True)
    for old in [*folder.glob("*.safetensors"), *folder.glob("*.tmp")]:
        if old.name != name:
            old.unlink()


def load_state(folder: Path) -> dict[str, Any]:
    """Reads what ``save_state`` wrote; raises StateError if anything of it is not as written."""
    file = folder / "state.json"
    if not file.is_file():
        raise StateError(f"{folder} holds no saved state ({file.name} is missing)")
    try:
        outer = json.loads(file.read_text())
        body, digest = outer["body"], outer["sha256"]
        intact = outer["format"] == FORMAT and _json_digest(body) == digest
        name, tensors_digest = Path(body["tensors"]).name, body["tensors_sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise StateError(f"{file} is damaged: {error}") from None
    if not intact:
        raise StateError(f"{file} is damaged: its checksum or format does not match")
    tensor_file = folder / name
    if not tensor_file.is_file():
        raise StateError(f"{folder} is incomplete: {tensor_file.name} is missing")
    if _sha256(tensor_file) != tensors_digest:
        raise StateError(f"{tensor_file} is damaged: its checksum does not match")
    try:
        tensors = load_file(tensor_file)
        state: dict[str, Any] = _put_tensors(body["state"], tensors)
    except (SafetensorError, KeyError, TypeError) as error:
        raise StateError(f"{tensor_file} is damaged: {error}") from None
    return state


def _take_tensors(node: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """Copies ``node``, moving its tensors and arrays to ``tensors`` and leaving their names."""
    if isinstance(node, dict):
        if any(not isinstance(key, str) or "/" in key for key in node):
            raise TypeError(f"keys must be strings without a slash: {list(node)}")
        return {key: _take_tensors(child, f"{path}/{key}", tensors) for key, child in node.items()}
    if isinstance(node, (list, tuple)):
        return [_take_tensors(child, f"{path}/{i}", tensors) for i, child in enumerate(node)]
    if isinstance(node, Tensor):
        tensors[path] = node.detach().cpu().contiguous()
        return {_TENSOR: path}
    if isinstance(node, np.ndarray):
        tensors[path] = torch.from_numpy(np.array(node, order="C"))
        return {_ARRAY: path}
    return node


def _put_tensors(node: Any, tensors: dict[str, Tensor]) -> Any:
    """The inverse of ``_take_tensors``."""
    if isinstance(node, dict):
        if _TENSOR in node:
            return tensors[node[_TENSOR]]
        if _ARRAY in node:
            return tensors[node[_ARRAY]].numpy()
        return {key: _put_tensors(child, tensors) for key, child in node.items()}
    if isinstance(node, list):
        return [_put_tensors(child, tensors) for child in node]
    return node


def _json_digest(body: Any) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _sha256(file: Path) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sync(file: Path) -> None:
    with open(file, "rb") as stream:
        os.fsync(stream.fileno())
