"""Ways to damage a run directory, by accident or with intent. Each returns what it has done."""

import hashlib
import json
import pickle
import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lifecycle import seal
from safetensors.torch import load_file, save_file
from torch import Tensor

HUGE = 10**12
OTHER_TYPES: list[Any] = [None, True, "text", [], {}, 0.5, -1, 2**70, [[[]]], {"a": {"b": None}}]
NUMBERS = [-1, -(2**63), 2**31, 2**63, 10**30, 10**400, float("inf"), -float("inf")]


class Bomb:
    """A pickle of it makes a file when it is loaded."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return (Path.touch, (self.canary,))


# -- files as bytes ----------------------------------------------------------------------------


def tensor_file(part: Path) -> Path:
    (file,) = part.glob("*.safetensors")
    return file


def any_file(rng: random.Random, part: Path) -> Path:
    files = [part / "state.json", tensor_file(part), part.parent / "config.json"]
    return rng.choices(files, [5, 5, 1])[0]


def flip(rng: random.Random, file: Path) -> str:
    content = bytearray(file.read_bytes())
    places = [rng.randrange(len(content)) for _ in range(rng.choice([1, 1, 2, 20]))]
    for place in places:
        content[place] ^= 1 << rng.randrange(8)
    file.write_bytes(content)
    return f"bits flipped in {file.name} at {places}"


def flip_tensors(rng: random.Random, part: Path) -> str:
    return flip(rng, tensor_file(part))


def flip_json(rng: random.Random, part: Path) -> str:
    return flip(rng, part / "state.json")


def truncate(rng: random.Random, part: Path) -> str:
    file = any_file(rng, part)
    size = rng.randrange(file.stat().st_size)
    file.write_bytes(file.read_bytes()[:size])
    return f"{file.name} truncated to {size} bytes"


def remove(rng: random.Random, part: Path) -> str:
    file = any_file(rng, part)
    file.unlink()
    if rng.random() < 0.5:
        file.mkdir()
        return f"{file.name} is a directory"
    return f"{file.name} removed"


def replace(rng: random.Random, part: Path) -> str:
    file = any_file(rng, part)
    content: bytes = rng.choice(
        [
            b"",
            b"{}",
            b"[" * 100_000,
            rng.randbytes(rng.randrange(1, 5_000)),
            pickle.dumps(Bomb(part.parent.parent / "canary")),
            b'{"body": NaN, "format": 1e999, "sha256": ' + b"9" * 10_000 + b"}",
        ]
    )
    file.write_bytes(content)
    return f"{file.name} replaced by {content[:40]!r}"


def swap(rng: random.Random, part: Path) -> str:
    other = part.with_name({"policy": "checkpoint", "checkpoint": "policy"}[part.name])
    names = rng.choice([["state.json"], ["tensors"], ["state.json", "tensors"]])
    for name in names:
        pair = [f / name if name == "state.json" else tensor_file(f) for f in (part, other)]
        contents = [file.read_bytes() for file in pair]
        for folder, mine, file in zip((part, other), pair, reversed(pair), strict=True):
            mine.unlink(missing_ok=True)
            (folder / file.name).write_bytes(contents[pair.index(file)])
    return f"{' and '.join(names)} swapped with {other.name}"


# -- content, sealed again ---------------------------------------------------------------------


def unpack(part: Path) -> tuple[Any, dict[str, Tensor]]:
    body = json.loads((part / "state.json").read_text())["body"]
    return body["state"], load_file(tensor_file(part))


def pack(part: Path, tree: Any, tensors: dict[str, Tensor]) -> None:
    """Writes both with the right checksums, which anybody can do."""
    tensor_file(part).unlink()
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, part / "new")
    pack_file(part, tree, part / "new")


def pack_file(part: Path, tree: Any, file: Path) -> None:
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    name = f"{digest[:16]}.safetensors"
    file.replace(part / name)
    seal(part, {"tensors": name, "tensors_sha256": digest, "state": tree})


def nodes(tree: Any, path: str = "") -> list[tuple[Any, Any, str]]:
    """All places of a tree, as (container, key, path)."""
    pairs: Any = tree.items() if isinstance(tree, dict) else enumerate(tree)
    found = []
    for key, child in pairs:
        found.append((tree, key, f"{path}/{key}"))
        if isinstance(child, (dict, list)):
            found += nodes(child, f"{path}/{key}")
    return found


def alter(rng: random.Random, tree: Any) -> str:
    """One value of a tree: of another type, missing, or with something beside it."""
    container, key, path = rng.choice(nodes(tree))
    way = rng.choice(["type", "type", "missing", "extra"])
    if way == "missing":
        del container[key]
    elif way == "extra" and isinstance(container, dict):
        container["extra"] = rng.choice(OTHER_TYPES)
    elif way == "extra":
        container.insert(key, container[key])
    else:
        was = container[key]
        container[key] = rng.choice([v for v in OTHER_TYPES if type(v) is not type(was)])
        way = f"{container[key]!r}"
    return f"{path}: {way}"


def alter_state(rng: random.Random, part: Path) -> str:
    tree, tensors = unpack(part)
    done = alter(rng, tree)
    pack(part, tree, tensors)
    return done


def alter_config(rng: random.Random, part: Path) -> str:
    file = part.parent / "config.json"
    config = json.loads(file.read_text())
    if part.name == "policy":  # of which no more is read
        read = {name: config[name] for name in ("algorithm", "env_id")}
    else:
        read = {name: config[name] for name in ("algorithm", "env_id", "run", "config")}
    done = alter(rng, read)
    rest = {name: config[name] for name in config if name not in ("algorithm", "env_id")}
    if part.name != "policy":
        rest = {name: config[name] for name in ("machine", "versions")}
    file.write_text(json.dumps(rest | read))
    return f"config.json{done}"


def alter_number(rng: random.Random, part: Path) -> str:
    tree, tensors = unpack(part)
    places = [p for p in nodes(tree) if type(p[0][p[1]]) in (int, float)]
    container, key, path = rng.choice(places)
    container[key] = rng.choice(NUMBERS)
    pack(part, tree, tensors)
    return f"{path}: {container[key]!r:.20}"


def alter_shape(rng: random.Random, part: Path) -> str:
    tree, tensors = unpack(part)
    name = rng.choice(list(tensors))
    tensor = tensors[name]
    changed = {
        "one more dimension": lambda: tensor[None],
        "flat": lambda: tensor.flatten(),
        "one row more": lambda: torch.cat([tensor, tensor[:1]]),
        "one row less": lambda: tensor[1:],
        "twice as wide": lambda: torch.cat([tensor, tensor], -1),
        "nothing": lambda: tensor.new_zeros(0),
        "no columns": lambda: tensor.new_zeros(len(tensor), 0),
        "scalar": lambda: tensor.new_zeros(()),
    }
    how = rng.choice(list(changed))
    try:
        new = changed[how]()
    except (IndexError, RuntimeError, TypeError):  # a scalar has no rows
        how, new = "a row of rows", tensor.reshape(1, 1, -1)
    if new.shape == tensor.shape:
        how, new = "a cube", tensor.reshape(1, 1, -1)
    pack(part, tree, tensors | {name: new})
    return f"{name} {tuple(tensor.shape)}: {how}"


def alter_dtype(rng: random.Random, part: Path) -> str:
    tree, tensors = unpack(part)
    name = rng.choice(list(tensors))
    all_ = [torch.float64, torch.float32, torch.float16, torch.int64, torch.uint8, torch.bool]
    dtype = rng.choice([dtype for dtype in all_ if dtype != tensors[name].dtype])
    pack(part, tree, tensors | {name: tensors[name].to(dtype)})
    return f"{name} as {dtype}"


def not_finite(rng: random.Random, part: Path) -> str:
    """One weight; infinities elsewhere may mean something."""
    tree, tensors = unpack(part)
    networks = [n for n in tensors if ("critic" in n or "actor" in n or "network" in n)]
    networks = [n for n in networks if "optim" not in n and tensors[n].is_floating_point()]
    name = rng.choice(networks)
    value = rng.choice([float("nan"), float("inf"), -float("inf")])
    tensors[name].view(-1)[rng.randrange(tensors[name].numel())] = value
    pack(part, tree, tensors)
    return f"{value} in {name}"


def not_a_number(rng: random.Random, part: Path) -> str:
    tree, tensors = unpack(part)
    name = rng.choice([n for n in tensors if tensors[n].is_floating_point() and tensors[n].numel()])
    tensors[name].view(-1)[rng.randrange(tensors[name].numel())] = float("nan")
    pack(part, tree, tensors)
    return f"NaN in {name}"


def huge_header(rng: random.Random, part: Path) -> str:
    tree, _ = unpack(part)
    old = tensor_file(part)
    content = old.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    how = rng.choice(["length", "offset", "shape", "both"])
    if how == "length":
        (length,) = [rng.choice([2**63, 2**40, 2**26, 99_999_999])]
    name = rng.choice([n for n in header if n != "__metadata__"])
    if how in ("shape", "both"):
        header[name]["shape"] = [HUGE, HUGE] if rng.random() < 0.3 else [HUGE]
    if how in ("offset", "both"):
        header[name]["data_offsets"][1] += HUGE * 4
    text = json.dumps(header).encode()
    length = length if how == "length" else len(text)
    data = content[8 + struct.unpack("<Q", content[:8])[0] :]
    (part / "new").write_bytes(struct.pack("<Q", length) + text + data)
    old.unlink()
    pack_file(part, tree, part / "new")
    return f"header: {how} of {name}"


def huge_config(rng: random.Random, part: Path) -> str:
    """Sizes that fit together, everywhere they stand, and that no machine has room for."""
    name, value = rng.choice(
        [
            ("hidden_sizes", [HUGE]),
            ("hidden_sizes", [100_000, 100_000]),
            ("hidden_sizes", [8] * 5_000),
            ("lstm_size", HUGE),
            ("n_steps", HUGE),
            ("buffer_size", HUGE),
            ("buffer_size", 2**63),
            ("n_envs", HUGE),
            ("n_envs", 9_999),
            ("threads", HUGE),
        ]
    )
    tree, tensors = unpack(part)
    file = part.parent / "config.json"
    config = json.loads(file.read_text())
    for record in (tree, config):
        for options in (record.get("config"), record.get("run")):
            if options is not None and name in options:
                options[name] = value
    if name not in config["config"] and name not in config["run"]:
        config["config"][name] = value
        tree["config"][name] = value
    if part.name == "policy" and name not in tree["config"]:
        tree["config"][name] = value
    file.write_text(json.dumps(config))
    pack(part, tree, tensors)
    return f"{name} = {str(value)[:30]}"


def huge_space(rng: random.Random, part: Path) -> str:
    if part.name != "policy":
        return huge_config(rng, part)
    tree, tensors = unpack(part)
    box = {"type": "Box", "low": "-inf", "high": "inf", "dtype": "float32"}
    discrete = {"type": "Discrete", "n": HUGE, "start": 0}
    space: Any = rng.choice(
        [
            box | {"shape": [HUGE]},
            box | {"shape": [10_000] * 5},
            box | {"shape": [-3]},
            box | {"shape": [2**24]},
            discrete,
            discrete | {"n": 2**24},
            discrete | {"n": -5},
            discrete | {"n": 10**400},
            {"type": "MultiDiscrete", "nvec": [HUGE, HUGE], "start": [0, 0]},
            {"type": "MultiBinary", "n": HUGE},
            {"type": "Dict", "spaces": [[str(i), discrete | {"n": 2}] for i in range(5_000)]},
            {"type": "Dict", "spaces": [["a", box | {"shape": [2**23]}]] * 3},
        ]
    )
    for _ in range(rng.choice([0, 0, 150])):
        space = {"type": "Dict", "spaces": [["deeper", space]]}
    which = rng.choice(["observation_space", "action_space"])
    tree[which] = space
    pack(part, tree, tensors)
    return f"{which} = {str(space)[:60]}"


def misplace(rng: random.Random, part: Path) -> str:
    """A tensor in another's place, none in it, or one that has no place."""
    tree, tensors = unpack(part)
    places = [p for p in nodes(tree) if p[1] in ("__tensor__", "__array__")]
    container, key, path = rng.choice(places)
    how = rng.choice(["another", "none", "extra", "kind"])
    if how == "another":
        container[key] = rng.choice([n for n in tensors if n != container[key]])
    elif how == "none":
        container[key] = rng.choice(["/nowhere", "", "../x", 3, None])
    elif how == "extra":
        tensors["/extra"] = torch.zeros(3)
    else:
        container["also"] = 1
    pack(part, tree, tensors)
    return f"{path}: {how}"


# -- paths -------------------------------------------------------------------------------------


def mislead(rng: random.Random, part: Path) -> str:
    """Names and links that lead out of the run directory, to content that is sound."""
    outside = part.parent.with_name("outside")
    shutil.copytree(part, outside)
    tree, _ = unpack(part)
    file = tensor_file(outside)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    how = rng.choice(["relative", "absolute", "tensors", "state", "folder", "config", "device"])
    if how in ("relative", "absolute", "device"):
        names = {
            "relative": f"../../outside/{file.name}",
            "absolute": str(file),
            "device": "/dev/zero",
        }
        seal(part, {"tensors": names[how], "tensors_sha256": digest, "state": tree})
        return f"tensors = {names[how]}"
    if how == "folder":
        shutil.rmtree(part)
        part.symlink_to(outside)
        return "the folder is a link"
    here = {"tensors": tensor_file(part), "state": part / "state.json"}
    here["config"] = part.parent / "config.json"
    shutil.copy(here["config"], outside)
    here[how].unlink()
    here[how].symlink_to(outside / here[how].name)
    return f"{here[how].name} is a link"


WAYS: dict[Callable[[random.Random, Path], str], int] = {
    flip_tensors: 2,
    flip_json: 2,
    truncate: 2,
    remove: 2,
    replace: 2,
    swap: 1,
    alter_state: 6,
    alter_config: 2,
    alter_number: 1,
    alter_shape: 3,
    alter_dtype: 2,
    not_finite: 2,
    not_a_number: 1,
    huge_header: 2,
    huge_config: 2,
    huge_space: 2,
    misplace: 2,
    mislead: 2,
}


# What these do is sometimes within what is allowed, or not read at all: another number, a name of
# the configuration that has no use, an E for an e.
MAY_PASS = {flip_json, alter_config, alter_number, alter_shape, huge_config}


def damage(rng: random.Random, part: Path) -> tuple[str, bool]:
    """One way, chosen at random; also whether the run must be refused now."""
    way = rng.choices(list(WAYS), list(WAYS.values()))[0]
    return f"{way.__name__}: {way(rng, part)}", way not in MAY_PASS
