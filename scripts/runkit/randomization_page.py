"""The page of a randomization: tables, pictures, histograms and motions in one file."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np

from runkit import charts
from runkit import randomization_study as study
from runkit.page import data_uri, escaped, fill
from runkit.randomization_study import Row
from runkit.rundir import machine, versions, write_text

from envs.robotics.textures import Texture
from sim2real.randomization import DomainRandomization

TEMPLATE = Path(__file__).with_name("randomization_page.html")
SWATCHES = 32
MANY = 36  # random pictures


def write_page(env: DomainRandomization, env_id: str, command: str, seed: int, out: Path) -> None:
    """Looks at ``env`` from all sides and writes the page in one step."""
    rows = study.rows(env)
    parts = {
        "parameters": ("Parameters", parameters(env, rows)),
        "each": ("One at a time", one_at_a_time(env, rows)),
        "random": ("All at once", at_once(env, rows, seed)),
        "draws": ("Draws", draws(rows, seed)),
        "motions": ("Motions", motions(env, rows)),
    }
    sections = "".join(
        f'<section id="{name}" class="task"><div class="section-head"><h2>{title}</h2></div>'
        f"{content}</section>\n"
        for name, (title, content) in parts.items()
    )
    links = (f'<a href="#{name}">{title}</a>' for name, (title, _) in parts.items())
    tiles = [(len(env.bound), "parameters drawn"), (len(rows), "kinds of them")]
    tiles.append((len(env.parameters) - len(env.bound), "left as they are"))
    if env.unsupported:
        tiles.append((len(env.unsupported), "cannot be changed here"))
    page = fill(
        TEMPLATE,
        {
            "title": escaped(env_id),
            "lede": f"Randomized by <b>{escaped(env.domain_spec.name)}</b>. Every value below was "
            "set in the environment itself, and every picture and motion is what came of it.",
            "command": escaped(command),
            "tiles": "".join(f"<li><b>{n}</b><span>{text}</span></li>" for n, text in tiles),
            "navigation": "".join(links),
            "sections": sections,
            "made": escaped(
                f"{machine()}; {', '.join(f'{name} {v}' for name, v in versions().items())}."
            ),
        },
    )
    write_text(out, page)


def parameters(env: DomainRandomization, rows: Sequence[Row]) -> str:
    """What is drawn, what could be, and what cannot."""
    drawn = [
        [
            row.name,
            f"{study.value_text(row.parameter.nominal)} {row.parameter.unit}",
            study.range_text(row),
            study.distribution_text(row.entry.distribution),
            row.entry.operation,
            study.timing_text(row.entry),
            row.entry.group,
        ]
        for row in rows
    ]
    head = ["parameter", "nominal", "range", "distribution", "operation", "when", "group"]
    others = study.others(env)
    rest = [
        [name, f"{study.value_text(p.nominal)} {p.unit}"]
        + (["", ""] if p.kind == "texture" else [f"{p.low:g}", f"{p.high:g}"])
        for name, p in others
    ]
    refused = [[path, reason] for path, reason in study.refused(env)]
    found = f'<div class="card">{_table(head, drawn)}</div>'
    if rest:
        table = _table(["parameter", "nominal", "lowest", "highest"], rest)
        text = f"What could be randomized and is not ({len(others)} kinds)"
        found += f'<details class="card"><summary>{text}</summary>{table}</details>'
    if refused:
        table = _table(["parameter", "why"], refused)
        text = "What is there and cannot be changed in this environment"
        found += f'<details class="card"><summary>{text}</summary>{table}</details>'
    return found


def one_at_a_time(env: DomainRandomization, rows: Iterable[Row]) -> str:
    """A card for each row that is seen."""
    seen = [row for row in rows if row.seen]
    if not seen:
        return _note("Nothing that this spec draws is seen.")
    camera, cards = study.Camera(env), []
    for row in seen:
        try:
            pictures, surroundings = camera.row(row)
        except Exception as error:  # an environment is anybody's code
            return _note(f"The environment cannot draw itself: {error}")
        figures = "".join(figure(picture, label) for label, picture in pictures)
        if surroundings == "nothing":
            remark = _note("Changes no pixel of this view.")
        else:
            remark = f'<p class="hint small soft">{escaped(surroundings)}</p>'
        cards.append(
            f'<div class="card"><h3>{escaped(row.name)}</h3>'
            f'<div class="triple">{figures}</div>{remark}</div>'
        )
    text = "The same moment with one kind of parameter at its ends, and others nominal unless said."
    return f"<p>{text}</p>" + f'<div class="rows">{"".join(cards)}</div>'


def at_once(env: DomainRandomization, rows: Iterable[Row], seed: int) -> str:
    """As many random first moments as fit in a square."""
    if not any(row.seen for row in rows):
        return _note("Nothing that this spec draws is seen.")
    camera = study.Camera(env)
    try:
        pictures = [camera.picture(seed=seed + i) for i in range(MANY)]
    except Exception as error:  # as above
        return _note(f"The environment cannot draw itself: {error}")
    images = "".join(f"<img {_source(p)} alt='seed {seed + i}'>" for i, p in enumerate(pictures))
    last = seed + MANY - 1
    return f"<p>First moments of episodes with seeds {seed} to {last}.</p>" + (
        f'<div class="many">{images}</div>'
    )


def draws(rows: Iterable[Row], seed: int) -> str:
    """Histograms, and swatches of textures."""
    cards = []
    for row in rows:
        if row.parameter.kind == "texture":
            values = study.draws(row, seed)
            tiles = [Texture.from_dict(value).pixels(32) for value in values[:SWATCHES]]
            images = "".join(f'<img {_source(tile)} alt="">' for tile in tiles)
            kinds = [value["kind"] for value in values]
            shares = {kind: kinds.count(kind) / len(kinds) for kind in sorted(set(kinds))}
            text = ", ".join(f"{kind} {share:.0%}" for kind, share in shares.items())
            body = f'<div class="swatches">{images}</div><p class="hint small soft">{text}</p>'
        else:
            body = "".join(histogram(h) for h in study.histograms(row, seed))
        cards.append(f'<div class="card"><h3>{escaped(row.name)}</h3>{body}</div>')
    text = (
        "Bars are draws, of the very streams that episodes draw from; the line is what the spec's "
        "distribution says, by its formula. They are as drawn, before operation and clip. D is "
        "how far the two cumulative shares are apart at most; of 600 true draws 95% are within "
        "0.055."
    )
    key = '<p class="key"><span>drawn</span><span class="expected">by the spec</span></p>'
    return f'<p>{text}</p>{key}<div class="rows">{"".join(cards)}</div>'


def histogram(h: study.Histogram) -> str:
    bins = len(h.shares)
    if h.whole:
        step = max(1, bins // 8)
        labels = {i + 0.5: charts.short(h.low + 0.5 + i) for i in range(0, bins, step)}
    else:
        labels = {bins * s: charts.short(h.low + s * (h.high - h.low)) for s in (0.0, 0.5, 1.0)}
    title = f"{h.count} draws, D = {h.distance:.3f}"
    return charts.bars(h.shares, h.expected, labels, title) + (
        f'<p class="hint small soft">{title}</p>'
    )


def motions(env: DomainRandomization, rows: Iterable[Row]) -> str:
    """A chart for each row that is not seen at once."""
    moving = [row for row in rows if not row.seen and row.parameter.kind != "texture"]
    if not moving:
        return _note("Nothing that this spec draws changes how things move.")
    stage, cards = study.Stage(env), []
    for row in moving:
        motion = stage.motion(row)
        series = {"low": motion.low, "high": motion.high}
        title = f"{row.name}: distance from the nominal motion"
        text = [f"least {motion.labels[0]}", f"greatest {motion.labels[1]}"]
        key = f'<span>{escaped(text[0])}</span><span class="high">{escaped(text[1])}</span>'
        if max(motion.low + motion.high) > 0:
            body = f'{charts.lines(series, stage.seconds, title)}<p class="key">{key}</p>'
        else:
            body = _note("Moves nothing: these actions are fixed, whatever is observed.")
        cards.append(f'<div class="card"><h3>{escaped(row.name)}</h3>{body}</div>')
    about = (
        f"The same {len(stage.actions)} actions from the same start, with one kind of parameter at "
        f"its ends and all others nominal: the distance of {stage.what} from the nominal episode's."
    )
    return f'<p>{about}</p><div class="rows">{"".join(cards)}</div>'


def figure(picture: np.ndarray, label: str) -> str:
    image = f'<img {_source(picture)} alt="{escaped(label)}">'
    return f"<figure>{image}<figcaption>{escaped(label)}</figcaption></figure>"


def _source(picture: np.ndarray) -> str:
    _, file = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])
    height, width = picture.shape[:2]
    source = data_uri("image/jpeg", file.tobytes())
    return f'src="{source}" width="{width}" height="{height}"'


def _note(text: str) -> str:
    return f'<p class="empty">{escaped(text)}</p>'


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    top = "".join(f'<th scope="col">{escaped(cell)}</th>' for cell in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{escaped(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="table"><table class="table">'
        f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )
