"""The syllabus: what it says of a paper is so, and its tables are those of the READMEs."""

import re
from pathlib import Path

import pytest
from command import ROOT

from runkit import syllabus
from runkit.papers import available, experiment

from supervised import PAPERS, Paper, create

KEYS = """
perceptron backprop relu adam dropout batch_norm weight_decay
lenet alexnet vgg resnet unet
rnn lstm seq2seq bahdanau transformer bert word2vec vit moe mamba
vae gan ddpm biggan wavenet
dqn ddpg sac a3c alphago alphafold
grasping lora domain_randomization flash_attention
"""
ORDER = KEYS.split()
PHASES = ("foundations", "vision", "sequence", "generative", "structure", "scaling")


def evidence(paper: Paper, root: Path = ROOT) -> dict[str, bool]:
    """What a paper that works has, each looked up in the files."""
    module = root / f"{(paper.module or 'none').replace('.', '/')}.py"
    tests = [root / "tests" / f"test_{module.stem}{end}.py" for end in ("", "_parity")]
    own = "".join(file.read_text() for file in tests if file.exists())
    # All agents learn in one file, which is marked as a whole and has a line for each.
    everyones = root / "tests" / "test_identity.py"
    agents = everyones.read_text() if module.parent.name == "agents" else ""
    learns = "pytest.mark.learning" in own or f'"{paper.key}": (' in agents
    notes = module.parent / "README.md"
    return {
        "module": module.is_file(),
        "parity": "pytest.mark.parity" in own,
        "learning": learns,
        "notes": notes.is_file() and f'<a id="{paper.key}"></a>' in notes.read_text(),
    }


def test_the_syllabus_is_complete_and_in_order() -> None:
    assert list(PAPERS) == ORDER
    assert len(PAPERS) == 37
    assert all(paper.key == key for key, paper in PAPERS.items())


@pytest.mark.parametrize("key", ORDER)
def test_row(key: str) -> None:
    paper = PAPERS[key]
    assert 1957 < paper.year < 2024
    assert paper.title.strip() == paper.title != ""
    authors = paper.authors.split(", ")
    assert len(authors) <= 5
    assert all(re.fullmatch(r"[A-Z][\w' -]+( et al\.)?|van den Oord et al\.", a) for a in authors)
    if paper.module is not None and paper.module.startswith("supervised."):
        assert paper.phase in PHASES
        assert paper.module == f"supervised.{paper.phase}.{key}"


@pytest.mark.parametrize("key", ORDER)
def test_status_is_what_the_files_say(key: str) -> None:
    """Works: module, parity test, learning check and notes exist. And nothing that has all of them
    is still planned.
    """
    found = evidence(PAPERS[key])
    assert (PAPERS[key].status == "works") == all(found.values()), found


@pytest.mark.parametrize("lacking", ["module", "parity", "learning", "notes", "nothing"])
def test_every_piece_of_evidence_is_looked_for(tmp_path: Path, lacking: str) -> None:
    paper = PAPERS["lenet"]
    folder = tmp_path / "supervised" / "vision"
    folder.mkdir(parents=True)
    (tmp_path / "tests").mkdir()
    marks = [f"pytest.mark.{mark}" for mark in ("parity", "learning") if mark != lacking]
    (tmp_path / "tests" / "test_lenet.py").write_text("\n".join(marks))
    if lacking != "module":
        (folder / "lenet.py").touch()
    if lacking != "notes":
        (folder / "README.md").write_text('## <a id="lenet"></a>LeNet-5')
    found = evidence(paper, tmp_path)
    assert [name for name, there in found.items() if not there] == (
        [] if lacking == "nothing" else [lacking]
    )


def test_files_of_phases_are_those_of_the_syllabus() -> None:
    """A paper's file is named by its key; what belongs to one may stand beside it."""
    for paper in PAPERS.values():
        if paper.status == "works" and paper.module:
            assert (ROOT / f"{paper.module.replace('.', '/')}.py").is_file()
    folders = {file.name for file in (ROOT / "supervised").iterdir() if file.is_dir()}
    assert folders - {"__pycache__"} <= set(PHASES)


@pytest.mark.parametrize("file", syllabus.READMES, ids=lambda file: file.parent.name)
def test_tables_in_the_readmes(file: Path) -> None:
    same = file.read_text() == syllabus.updated(file)
    assert same, f"{file} is behind: PYTHONPATH=scripts python -m runkit.syllabus"


def test_figures_belong_to_papers() -> None:
    figures = syllabus.figures()
    assert set(figures) <= set(PAPERS)
    for row in figures.values():
        assert set(row) <= {"measure", "paper", "ours"}
        assert all(isinstance(text, str) and "|" not in text for text in row.values())


def test_a_readme_without_its_markers(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(f"{syllabus.BEGIN}\n")
    with pytest.raises(ValueError, match="lacks"):
        syllabus.updated(tmp_path / "README.md")


# -- create --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("resent", "unknown paper 'resent'; did you mean 'resnet'\\? there is: perceptron, "),
        ("zzz", "unknown paper 'zzz'; there is: perceptron, "),
        ("mamba", "mamba is planned: it has no module yet"),
        ("dqn", "dqn is an agent: use `from agents import DQN`"),
    ],
)
def test_create_refuses_in_one_line(key: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}") as error:
        create(key)
    assert "\n" not in str(error.value)


def test_create_calls_the_modules_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a_paper.py").write_text("def create(*args, **kwargs): return args, kwargs")
    monkeypatch.syspath_prepend(tmp_path)
    row = Paper("new", "vision", "New", "Nobody", 2000, "a_paper", "planned")
    monkeypatch.setitem(PAPERS, "new", row)
    assert create("new", 3, width=4) == ((3,), {"width": 4})


@pytest.mark.parametrize("key", [k for k, p in PAPERS.items() if p.status == "works"])
def test_what_works_can_be_created(key: str) -> None:
    """Its module has a ``create``; agents are made by ``agents``."""
    module = PAPERS[key].module
    assert module is not None
    if module.startswith("supervised."):
        assert "\ndef create(" in (ROOT / f"{module.replace('.', '/')}.py").read_text()


@pytest.mark.parametrize("key", available())
def test_experiments(key: str) -> None:
    """Each has what ``train_paper.py`` asks for, and explains its flags."""
    module = experiment(key)
    assert module.DATASETS
    assert all(isinstance(name, str) for name in module.DATASETS)
    assert module.Options() == module.Options()
    assert callable(module.run)
