"""A robot's URDF file made lighter: no fixed joints, white, thinner meshes.

What a fixed joint holds is one rigid body, yet PyBullet works through each of its links in every
step, and its own way of merging them puts the masses in the wrong place.
"""

import hashlib
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement

import numpy as np

from envs.robotics import meshes

THIN_FROM = 1000  # triangles


@dataclass(frozen=True)
class Light:
    """The lighter robot's file, and each link's frame there.

    frames: link of the original -> the link it is part of now, and its frame in that, [4, 4].
    """

    file: Path
    frames: dict[str, tuple[str, np.ndarray]]


@cache
def lightened(urdf: Path, welded: tuple[str, ...] = ()) -> Light:
    """That of a robot file, the joints ``welded`` rigid at 0.

    Its files stay for the process's life: PyBullet reads only files, and caches by name.
    """
    key = " ".join([str(urdf), *welded])
    folder = meshes.scratch("robots") / hashlib.sha256(key.encode()).hexdigest()[:16]
    folder.mkdir()
    root = ElementTree.parse(urdf).getroot()
    for joint in root.findall("joint"):
        if joint.attrib["name"] in welded:
            joint.set("type", "fixed")
    frames = merge_fixed(root)
    for visual in root.iter("visual"):
        for material in visual.findall("material"):
            visual.remove(material)
        SubElement(SubElement(visual, "material", name="white"), "color", rgba="1 1 1 1")
    for kind in ("visual", "collision"):
        for mesh in (mesh for part in root.iter(kind) for mesh in part.iter("mesh")):
            file = urdf.parent / mesh.attrib["filename"].removeprefix("package://")
            if kind == "visual" and file.suffix == ".obj":
                file = _thinned(file, folder)
            mesh.set("filename", str(file))
    ElementTree.ElementTree(root).write(folder / urdf.name)
    return Light(folder / urdf.name, frames)


def merge_fixed(root: Element) -> dict[str, tuple[str, np.ndarray]]:
    """Makes every link behind a fixed joint a part of the one before; returns ``Light.frames``."""
    links = {link.attrib["name"]: link for link in root.findall("link")}
    frames = {name: (name, np.eye(4)) for name in links}
    for joint in [joint for joint in root.findall("joint") if joint.attrib["type"] == "fixed"]:
        parent, child = (_child(joint, end).attrib["link"] for end in ("parent", "child"))
        moved = _pose(joint)
        _merge(links[parent], links[child], moved)
        for other in root.findall("joint"):
            if _child(other, "parent").attrib["link"] == child:
                _child(other, "parent").set("link", parent)
                _set_pose(other, moved @ _pose(other))
        for name, (holder, frame) in frames.items():
            if holder == child:
                frames[name] = (parent, moved @ frame)
        root.remove(joint)
        root.remove(links.pop(child))
    return frames


def _merge(parent: Element, child: Element, moved: np.ndarray) -> None:
    for kind in ("visual", "collision"):
        for part in child.findall(kind):
            _set_pose(part, moved @ _pose(part))
            parent.append(part)
    mass, centre, inertia = _inertial(parent)
    more, other, turned = _inertial(child)
    other, turned = (moved @ [*other, 1.0])[:3], moved[:3, :3] @ turned @ moved[:3, :3].T
    total = mass + more
    middle = (mass * centre + more * other) / total if total else np.zeros(3)
    whole = inertia + turned
    for weight, place in ((mass, centre), (more, other)):
        arm = place - middle
        whole = whole + weight * (arm @ arm * np.eye(3) - np.outer(arm, arm))
    for old in parent.findall("inertial"):
        parent.remove(old)
    new = SubElement(parent, "inertial")
    SubElement(new, "origin", xyz=_text(middle), rpy="0 0 0")
    SubElement(new, "mass", value=repr(float(total)))
    axes = {
        f"i{'xyz'[i]}{'xyz'[j]}": repr(float(whole[i, j])) for i in range(3) for j in range(i, 3)
    }
    SubElement(new, "inertia", axes)


def _inertial(link: Element) -> tuple[float, np.ndarray, np.ndarray]:
    """Mass, centre of mass, and inertia about it along the link's axes."""
    found = link.find("inertial")
    if found is None:
        return 0.0, np.zeros(3), np.zeros((3, 3))
    values = _child(found, "inertia").attrib
    own = np.array([[float(values["i" + "".join(sorted(a + b))]) for b in "xyz"] for a in "xyz"])
    pose = _pose(found)
    inertia = pose[:3, :3] @ own @ pose[:3, :3].T
    return float(_child(found, "mass").attrib["value"]), pose[:3, 3], inertia


def _pose(element: Element) -> np.ndarray:
    """Its origin, [4, 4]: turned about the fixed axes x, y, z in this order, then moved."""
    origin = element.find("origin")
    pose = np.eye(4)
    if origin is None:
        return pose
    roll, pitch, yaw = (float(part) for part in origin.get("rpy", "0 0 0").split())
    for axis, angle in enumerate((roll, pitch, yaw)):
        c, s = np.cos(angle), np.sin(angle)
        i, j = (axis + 1) % 3, (axis + 2) % 3
        turn = np.eye(4)
        turn[i, i], turn[i, j], turn[j, i], turn[j, j] = c, -s, s, c
        pose = turn @ pose
    pose[:3, 3] = [float(part) for part in origin.get("xyz", "0 0 0").split()]
    return pose


def _set_pose(element: Element, pose: np.ndarray) -> None:
    m = pose[:3, :3]
    across = np.hypot(m[0, 0], m[1, 0])
    if across > 1e-9:
        angles = (
            np.arctan2(m[2, 1], m[2, 2]),
            np.arctan2(-m[2, 0], across),
            np.arctan2(m[1, 0], m[0, 0]),
        )
    else:  # straight up or down: yaw and roll are one
        angles = (np.arctan2(-m[1, 2], m[1, 1]), np.arctan2(-m[2, 0], across), 0.0)
    for old in element.findall("origin"):
        element.remove(old)
    element.insert(0, Element("origin", xyz=_text(pose[:3, 3]), rpy=_text(np.array(angles))))


def _child(element: Element, name: str) -> Element:
    found = element.find(name)
    if found is None:
        raise ValueError(f"a {element.tag} {element.get('name', '')} without {name}")
    return found


def _text(vector: np.ndarray) -> str:
    return " ".join(repr(float(part)) for part in vector)


def _thinned(file: Path, folder: Path) -> Path:
    vertices, faces = meshes.read(file)
    if len(faces) > THIN_FROM:
        vertices, faces = meshes.thin(vertices, faces)
    thinned = folder / f"{file.parent.name}_{file.name}"
    meshes.write(thinned, vertices, faces)
    return thinned
