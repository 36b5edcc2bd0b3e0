"""Files of data sets: downloaded where there is internet, believed only with the right digest."""

import gzip
import hashlib
import os
import zlib
from collections.abc import Sequence
from http.client import HTTPException
from io import BytesIO
from pathlib import Path
from urllib.request import urlopen

TIMEOUT = 20.0  # seconds without an answer or a byte
MAX_UNZIPPED = 2**28  # bytes; the largest file of a set has 47 million


class DataError(RuntimeError):
    """A data set is unknown, absent or damaged; the message says what to do."""


def fetch(file: Path, digest: str, mirrors: Sequence[str]) -> None:
    """Sees to it that ``file`` is there and has this digest ("md5:…" or "sha256:…").

    An absent one is downloaded from the first of the mirrors (addresses of the folder) that has
    it right, and appears in one step. DataError if none has, or if the one there is another.
    """
    if file.is_file():
        check_digest(file, file.read_bytes(), digest)
        return
    problems = []
    for mirror in mirrors:
        try:
            with urlopen(f"{mirror}{file.name}", timeout=TIMEOUT) as response:
                content: bytes = response.read()
            check_digest(Path(mirror) / file.name, content, digest)
        except (OSError, HTTPException, DataError) as error:  # URLError is an OSError
            problems.append(f"{mirror}: {error}")
            continue
        write(file, content)
        return
    raise DataError(
        f"{file} is missing and could not be downloaded; put {file.name} from {mirrors[0]} into "
        f"{file.parent} ({'; '.join(problems)})"
    )


def check_digest(file: Path, content: bytes, digest: str) -> None:
    """Raises DataError that names ``file`` unless ``content`` has the digest."""
    kind, _, expected = digest.partition(":")
    found = hashlib.new(kind, content, usedforsecurity=False).hexdigest()
    if found != expected:
        raise DataError(f"{file} is damaged: its {kind} is {found}, not {expected}")


def write(file: Path, content: bytes) -> None:
    """Writes a file in one step, its folder too if need be."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)


def unzipped(file: Path) -> bytes:
    """The content, of a file whose name ends in .gz the unzipped one; DataError if it is torn."""
    content = file.read_bytes()
    if file.suffix != ".gz":
        return content
    try:
        with gzip.GzipFile(fileobj=BytesIO(content)) as stream:
            content = stream.read(MAX_UNZIPPED + 1)
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(f"{file} is damaged: {error}") from None
    if len(content) > MAX_UNZIPPED:
        raise DataError(f"{file} is damaged: it unzips to more than {MAX_UNZIPPED:,} bytes")
    return content
