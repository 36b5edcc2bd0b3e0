"""Nested state <-> a folder with one safetensors file and one JSON file. Nothing is unpickled.

    FOLDER/state.json                  structure, plain values, name and sha256 of the tensor file
    FOLDER/<sha256[:16]>.safetensors   every tensor and array

The JSON file is replaced last and in one step, so at every moment it names a tensor file that is
whole: a process killed while saving leaves the state from before.

What is read may come from anywhere. Checksums are there against accidents; against forgery, all
that is read is checked before it is used, and before memory is claimed for it. Infinite numbers
are allowed (a bound, the logarithm of a temperature of 0), NaN is neither saved nor loaded.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

FORMAT = "firsthand-state-1"
MAX_JSON = 2**24  # bytes; the largest states have a few hundred thousand
_TENSOR, _ARRAY = "__tensor__", "__array__"


class StateError(ValueError):
    """A saved state is missing, damaged, or of another kind than asked for; or one to be saved
    holds what could not be loaded again.
    """


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Writes nested dicts and lists of tensors, arrays and JSON values, atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Tensor] = {}
    tree = _take_tensors(state, "", tensors)
    _refuse_nan(tensors)
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
        if len(text) > MAX_JSON:
            raise StateError(f"{len(text):,} bytes of JSON are too many to save in {folder}")
        temporary = folder / f"state.{os.getpid()}.tmp"
        temporary.write_text(text)
        _sync(temporary)
        os.replace(temporary, folder / "state.json")
    finally:
        temporary.unlink(missing_ok=True)
    _sync(folder)  # the new names are on the disk before the old file is not
    for old in [*folder.glob("*.safetensors"), *folder.glob("*.tmp")]:
        if old.name != name:
            old.unlink()


def load_state(folder: Path) -> dict[str, Any]:
    """Reads what ``save_state`` wrote; raises StateError if anything of it is not as written."""
    file = folder / "state.json"
    if not file.is_file():
        raise StateError(f"{folder} holds no saved state ({file.name} is missing)")
    try:
        outer = read_json(file)
        body, digest = outer["body"], outer["sha256"]
        intact = outer["format"] == FORMAT and _json_digest(body) == digest
        name, tensors_digest, tree = body["tensors"], body["tensors_sha256"], body["state"]
        if len(outer) != 3 or len(body) != 3 or type(tree) is not dict or Path(name).name != name:
            raise ValueError("it is no saved state")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise StateError(f"{file} is damaged: {error}") from None
    if not intact:
        raise StateError(f"{file} is damaged: its checksum or format does not match")
    tensor_file = folder / name
    try:
        if not tensor_file.is_file():
            raise StateError(f"{folder} is incomplete: {tensor_file.name} is missing")
        with safe_open(tensor_file, framework="pt") as opened:  # maps it; checks sizes and offsets
            if _sha256(tensor_file) != tensors_digest:
                raise StateError(f"{tensor_file} is damaged: its checksum does not match")
            tensors = {path: opened.get_tensor(path) for path in opened.keys()}  # noqa: SIM118
        _refuse_nan(tensors)
        state: dict[str, Any] = _put_tensors(tree, "", tensors)
        if tensors:
            raise ValueError(f"{next(iter(tensors))!r} has no place")
    except StateError:
        raise
    except Exception as error:  # whatever the parser and the conversions say of strange content
        raise StateError(f"{tensor_file} is damaged: {error}") from None
    return state


def read_json(file: Path) -> Any:
    """The content of a JSON file; ValueError for one that is too long, too deep or ambiguous."""
    with open(file, "rb") as stream:
        content = stream.read(MAX_JSON + 1)
    if len(content) > MAX_JSON:
        raise ValueError(f"more than {MAX_JSON:,} bytes")
    return parse_json(content)


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text; ValueError for one that is too deep or ambiguous."""
    try:
        return json.loads(text, parse_constant=_constant, object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def check_like(value: Any, template: Any, path: str = "") -> None:
    """Raises ValueError unless ``value`` has the structure, types and shapes of ``template``.

    In the template, None stands for anything, an empty list for any list, and a tensor or array
    without rows for any number of rows. A number may be negative only if the template's is.
    """
    if template is None:
        return
    type_: Any = dict if isinstance(template, dict) else type(template)  # modules have ordered ones
    if not isinstance(value, type_) or isinstance(value, bool) != (type_ is bool):
        raise ValueError(f"{path} is of type {type(value).__name__}, not {type_.__name__}")
    if isinstance(template, dict):
        if value.keys() != template.keys():
            raise ValueError(
                f"{path} has unknown or lacks {sorted(value.keys() ^ template.keys())}"
            )
        for key in template:
            check_like(value[key], template[key], f"{path}/{key}")
    elif isinstance(template, list) and template:
        if len(value) != len(template):
            raise ValueError(f"{path} has {len(value)} parts, not {len(template)}")
        for i, part in enumerate(template):
            check_like(value[i], part, f"{path}/{i}")
    elif isinstance(template, (Tensor, np.ndarray)):
        first = 1 if template.ndim and len(template) == 0 else 0
        same = value.ndim == template.ndim and value.shape[first:] == template.shape[first:]
        if value.dtype != template.dtype or not same:
            raise ValueError(
                f"{path} is {value.dtype} {tuple(value.shape)}, "
                f"not {template.dtype} {tuple(template.shape)}"
            )
    elif isinstance(template, (int, float)) and value < 0 <= template:
        raise ValueError(f"{path} is negative")


def _take_tensors(node: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """Copies ``node``, moving its tensors and arrays to ``tensors`` and leaving their names."""
    if isinstance(node, dict):
        if any(not isinstance(key, str) or "/" in key for key in node):
            raise TypeError(f"keys must be strings without a slash: {list(node)}")
        if _TENSOR in node or _ARRAY in node:
            raise TypeError(f"{_TENSOR} and {_ARRAY} are keys with a meaning of their own")
        return {key: _take_tensors(child, f"{path}/{key}", tensors) for key, child in node.items()}
    if isinstance(node, (list, tuple)):
        return [_take_tensors(child, f"{path}/{i}", tensors) for i, child in enumerate(node)]
    if isinstance(node, Tensor):
        tensors[path] = node.detach().cpu().contiguous()
        return {_TENSOR: path}
    if isinstance(node, np.ndarray):
        tensors[path] = torch.from_numpy(np.array(node, order="C"))
        return {_ARRAY: path}
    if isinstance(node, np.generic):
        node = node.item()
    if isinstance(node, float) and node != node:
        raise StateError(f"{path} is NaN")
    return node


def _put_tensors(node: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """The inverse of ``_take_tensors``: empties ``tensors``. Each may stand only in its place."""
    if isinstance(node, dict):
        if node == {_TENSOR: path}:
            return tensors.pop(path)
        if node == {_ARRAY: path}:
            return tensors.pop(path).numpy()
        if _TENSOR in node or _ARRAY in node:
            raise ValueError(f"{path} is another's tensor")
        return {key: _put_tensors(child, f"{path}/{key}", tensors) for key, child in node.items()}
    if isinstance(node, list):
        return [_put_tensors(child, f"{path}/{i}", tensors) for i, child in enumerate(node)]
    return node


def _refuse_nan(tensors: dict[str, Tensor]) -> None:
    for path, tensor in tensors.items():
        # A sum is quick, and NaN if any term is; it is also if there are infinities of both signs.
        if tensor.is_floating_point() and tensor.sum().isnan() and tensor.isnan().any():
            raise StateError(f"{path} holds NaN")


def _constant(text: str) -> float:
    if text == "NaN":
        raise ValueError("it holds NaN")
    return float(text)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(found := dict(pairs)) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _json_digest(body: Any) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _sha256(file: Path) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sync(path: Path) -> None:
    """Waits until a file's content, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
