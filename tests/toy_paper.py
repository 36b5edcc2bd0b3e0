"""``scripts/train_paper.py`` with one more paper, "toy": tests/papers/toy.py.

python tests/toy_paper.py toy --steps 20
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def install() -> None:
    """Adds the paper to the syllabus and its experiment to the others."""
    from runkit import papers

    from supervised import PAPERS, Paper

    PAPERS["toy"] = Paper("toy", "vision", "Toy", "Nobody", 2000, None, "planned")
    papers.__path__.append(str(ROOT / "tests" / "papers"))


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "scripts"))
    install()
    import train_paper

    from runkit.errors import run_main

    run_main(train_paper.main)
