"""Pages of one file that need nothing else: a template filled, and no network asked for anything.

A template is plain ASCII, and so is what is made of it, whatever the locale. It has one ``style``
and one plain ``script``, which are the only ones that the browser is allowed to use, and places
``{{name}}``; ``{{base}}`` is the style that all pages share (page.css).
"""

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

STYLE = Path(__file__).with_name("page.css")


def fill(template: Path, parts: Mapping[str, str]) -> str:
    """The template's text with every ``{{name}}`` replaced; KeyError if ``parts`` lacks one."""
    text = template.read_text(encoding="ascii")
    text = text.replace("{{base}}", STYLE.read_text(encoding="ascii").rstrip())
    hashes = {tag: source_hash(text, tag) for tag in ("script", "style")}
    # In one pass, so that braces inside the data stay what they are.
    return re.sub(r"\{\{(\w+)\}\}", lambda match: {**parts, **hashes}[match[1]], text)


def escaped(text: object) -> str:
    """As it stands in an element or in a quoted attribute, in ASCII."""
    return html.escape(str(text)).encode("ascii", "xmlcharrefreplace").decode()


def as_json(data: Any) -> str:
    """JSON that cannot end the script element it is in: there is no "<" in it."""
    return json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def data_uri(kind: str, content: bytes) -> str:
    """``content``, of media type ``kind``, as an address that holds it."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def source_hash(text: str, tag: str) -> str:
    """The hash by which a content security policy allows the text's one plain ``tag``."""
    [content] = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
