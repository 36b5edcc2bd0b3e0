"""The report page of the benchmark: what is in the file, and what a browser makes of it."""

import copy
import json
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import pytest
from browser import launched

from runkit.benchmark.report import write_report

OURS, SB3 = "firsthand", "stable_baselines3"
ATTACK = (
    "</script><img src=x onerror=\"document.title='broken'\"><!--<script>{{videos}}\u2028\udc80"
)


def interval(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 10, "high": value + 10}


def make_run(seed: int, evaluations: int = 11) -> dict[str, Any]:
    steps = [5_000 * i for i in range(evaluations)]
    means = [10.0 + 45 * i + 7 * seed for i in range(evaluations)]
    run: dict[str, Any] = {"seed": seed, "status": "finished", "error": None}
    run |= {"final": means[-1], "auc": float(np.mean(means)), "steps": steps, "means": means}
    return run | {"seconds": [(3.0 + seed / 10) * i for i in range(evaluations)]}


def make_arm(runs: list[dict[str, Any]]) -> dict[str, Any]:
    speed = {"env_steps_per_second": 812.0, "updates_per_second": 1203.0}
    speed |= {"train_seconds": 61.2, "peak_memory_bytes": 2**29}
    done = any(run["status"] == "finished" for run in runs)
    statistics = dict.fromkeys(("mean", "iqm", "auc"), interval(455.0) if done else None)
    return {"runs": runs, **statistics, "speed": speed if done else None}


def make_task(algorithm: str = "dqn", env_id: str = "CartPole-v1") -> dict[str, Any]:
    ours = [make_run(seed) for seed in range(3)]
    theirs = [make_run(0), {"seed": 1, "status": "failed", "error": "RuntimeError: out of luck"}]
    theirs += [{"seed": 2, "status": "missing", "error": None}]
    comparison = {"difference": interval(3.0), "verdict": "equivalent"}
    comparison |= {"probability_of_improvement": {"value": 0.5, "low": 0.25, "high": 0.75}}
    published = {"source": "rl-baselines3-zoo", "env_id": "CartPole-v0", "mean": 500, "std": None}
    return {
        "key": f"{algorithm}-{env_id}-50k",
        "algorithm": algorithm,
        "env_id": env_id,
        "total_steps": 50_000,
        "n_envs": 1,
        "eval_episodes": 20,
        "eval_every": 5_000,
        "threads": 1,
        "hyperparameters_from": "rl-baselines3-zoo, hyperparams",
        "hyperparameters": {"learning_rate": 0.0023, "net_arch": [256, 256], "clip": None},
        "scale": [9.3, 500],
        "band": 50.0,
        "arms": {OURS: make_arm(ours), SB3: make_arm(theirs)},
        "comparison": comparison,
        "same_against_same": copy.deepcopy(comparison),
        "equal_time": {"seconds": 29.5, "means": {OURS: 455.5, SB3: 444.5}},
        "published": [published | {"steps": 50_000, "runs": 1}],
    }


def make_summary() -> dict[str, Any]:
    tasks = [make_task(), make_task("sac", "LunarLanderContinuous-v3")]
    values = {"values": [1.0, 0.6, 0.0], "low": [0.9, 0.4, 0.0], "high": [1.0, 0.8, 0.1]}
    aggregate = {"algorithm": "dqn", "tasks": [tasks[0]["key"]], "runs": 6}
    aggregate |= {"iqm": {OURS: interval(0.9), SB3: interval(0.8)}}
    aggregate |= {"probability_of_improvement": {"value": 0.5, "low": 0.4, "high": 0.6}}
    aggregate |= {"profile": {"taus": [0.0, 0.5, 1.0], OURS: values, SB3: values}}
    return {
        "suite": "classic",
        "title": "Classic control and Box2D",
        "command": "python scripts/benchmark.py classic --jobs 2",
        "machines": ["AMD EPYC, 2 cores"],
        "versions": [{"python": "3.11.7", "torch": "2.13.0"}],
        "commits": ["abc123"],
        "arms": {OURS: "Firsthand", SB3: "Stable-Baselines3"},
        "tasks": tasks,
        "aggregates": [aggregate],
    }


def attacked(data: Any) -> Any:
    """``data`` with markup in every string that people or programs could have written."""
    if isinstance(data, dict):
        kept = {"status", "verdict", "key"}
        return {k: v if k in kept else attacked(v) for k, v in data.items()}
    if isinstance(data, list):
        return [attacked(value) for value in data]
    return data + ATTACK if isinstance(data, str) else data


@pytest.fixture(scope="module")
def mp4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("video") / "tiny.mp4"
    writer = imageio_ffmpeg.write_frames(str(file), (64, 48), fps=10, codec="libx264")
    writer.send(None)
    for i in range(10):
        writer.send(np.full((48, 64, 3), 20 * i, np.uint8).tobytes())
    writer.close()
    return file


class Elements(HTMLParser):
    """Every element's tag and attributes, and what is in those without any inside."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.content: dict[str, str] = {}  # by id, or by tag
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.inside = dict(attrs).get("id") or tag

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        self.content[self.inside] = self.content.get(self.inside, "") + data


# --- The file ---------------------------------------------------------------------------------


def test_the_file_has_the_summary_and_the_videos_in_it(tmp_path: Path, mp4: Path) -> None:
    summary, out = make_summary(), tmp_path / "report.html"
    key = summary["tasks"][0]["key"]
    write_report(summary, {key: {OURS: mp4}}, out)
    content = Elements(out.read_text()).content
    assert json.loads(content["summary"]) == summary
    video = json.loads(content["videos"])[key][OURS]
    assert video.startswith("data:video/mp4;base64,AAAA")
    assert len(video) > mp4.stat().st_size
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_nothing_is_loaded_from_anywhere(tmp_path: Path) -> None:
    write_report(make_summary(), {}, tmp_path / "report.html")
    page = Elements((tmp_path / "report.html").read_text())
    loading = {"src", "href", "srcset", "poster", "action", "formaction", "data", "background"}
    targets = [v for _, a in page.elements for name, v in a.items() if name in loading and v]
    assert targets
    assert all(target.startswith(("data:", "#")) for target in targets)
    assert not re.search(r"@import|url\((?!#)", page.content["style"])
    # url(#...) in the script is a clip path of the same page.
    assert not re.search(r"fetch\(|XMLHttp|WebSocket|import\(|innerHTML", page.content["script"])
    [policy] = [a["content"] for _, a in page.elements if "http-equiv" in a]
    rules = dict(rule.strip().split(" ", 1) for rule in (policy or "").split(";"))
    assert rules.pop("default-src") == "'none'"
    assert all(re.fullmatch(r"'none'|data:|'sha256-[\w+/]+='", rule) for rule in rules.values())
    assert set(rules) == {
        "script-src", "style-src", "img-src", "media-src", "base-uri", "form-action",
    }  # fmt: skip


def test_markup_in_the_data_stays_data(tmp_path: Path) -> None:
    summary = attacked(make_summary())
    write_report(make_summary(), {}, tmp_path / "plain.html")
    write_report(summary, {}, tmp_path / "attacked.html")
    plain, page = (Elements((tmp_path / f"{n}.html").read_text()) for n in ("plain", "attacked"))
    assert json.loads(page.content["summary"]) == summary
    assert page.content["videos"] == "{}"
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in plain.elements]


def test_the_page_does_not_depend_on_the_locale(tmp_path: Path) -> None:
    summary = make_summary() | {"title": "Käfer & ± <b>"}
    write_report(summary, {}, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_bytes()
    assert text.isascii()
    assert b"<h1>K&#228;fer &amp; &#177; &lt;b&gt;</h1>" in text


def test_what_was_there_stays_when_there_is_a_nan(tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    out.write_text("the report of yesterday")
    with pytest.raises(ValueError, match="JSON"):
        write_report(make_summary() | {"machines": [float("nan")]}, {}, out)
    assert out.read_text() == "the report of yesterday"
    assert list(tmp_path.iterdir()) == [out]


# --- In a browser -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    yield from launched()


Open = Callable[..., Any]


@pytest.fixture
def show(browser: Any, tmp_path: Path) -> Iterator[Open]:
    """Writes a report and opens it; no page may complain or ask for anything but itself."""
    contexts, complaints, requests = [], [], []

    def complain(message: Any) -> None:
        complaints.append(getattr(message, "text", str(message)))

    def show(
        summary: dict[str, Any] | None = None,
        videos: dict[str, dict[str, Path]] | None = None,
        width: int = 1280,
        height: int = 900,
        **options: Any,
    ) -> Any:
        out = tmp_path / "report.html"
        write_report(summary or make_summary(), videos or {}, out)
        viewport = {"width": width, "height": height}
        context = browser.new_context(viewport=viewport, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", complain)
        page.on("pageerror", complain)
        page.on("request", lambda request: requests.append(request.url))
        page.goto(out.as_uri())
        return page

    yield show
    for context in contexts:
        context.close()
    own = (tmp_path / "report.html").as_uri()
    assert complaints == []
    assert [url for url in requests if url != own and not url.startswith("data:")] == []


def wait(page: Any, condition: str) -> None:
    """Until ``condition`` holds. The page's policy forbids the way in which Playwright waits."""
    for _ in range(100):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"not within 5 s: {condition}")


def view(page: Any) -> list[float]:
    """The ranges of the first chart's axes."""
    chart = page.locator(".plot svg").first
    names = ("data-x-min", "data-x-max", "data-y-min", "data-y-max")
    return [float(chart.get_attribute(name)) for name in names]


def drag(page: Any, start: tuple[float, float], end: tuple[float, float]) -> None:
    """From one place of the first chart to another, both as fractions of its size."""
    chart = page.locator(".plot svg").first
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in (start, end)]
    page.mouse.move(*places[0])
    page.mouse.down()
    page.mouse.move(*places[1], steps=4)
    page.mouse.up()


def test_a_report_opens_with_all_that_is_in_it(show: Open) -> None:
    page = show()
    text = page.inner_text("main")
    parts = [
        "Classic control",
        "8 / 12",
        "equivalent",
        "+3.0 [−7.0, +13.0]",
        "455.0 [445.0, 465.0]",
    ]
    parts += ["RuntimeError: out of luck", "missing", "61.2 s", "1.00×", "512 MiB", "after 29.5 s"]
    parts += ["rl-baselines3-zoo · CartPole-v0", "AMD EPYC", "2.13.0", "abc123"]
    for part in parts:
        assert part in text, part
    assert page.locator("section.task").count() == 4  # two tasks, aggregates, versions
    assert page.locator(".plot svg").count() == 3


def test_arms_and_seeds_can_be_hidden(show: Open) -> None:
    page = show()
    card = page.locator(".card", has=page.locator(".plot")).first
    ours, theirs = (card.locator(f'path[data-arm="{arm}"]') for arm in (OURS, SB3))
    assert (ours.count(), theirs.count()) == (4, 2)  # seeds that finished, and the mean
    card.locator(f'button.arm[data-arm="{OURS}"]').click()
    assert (ours.count(), theirs.count()) == (0, 2)
    card.locator(f'button.arm[data-arm="{OURS}"]').click()
    mean = card.locator(f'path.mean[data-arm="{OURS}"]')
    before = mean.get_attribute("d")
    chip = card.locator(f'button.chip[data-arm="{OURS}"][data-seed="2"]')
    chip.click()
    assert chip.get_attribute("aria-pressed") == "false"
    assert (ours.count(), theirs.count()) == (3, 2)
    assert card.locator('path[data-seed="2"]').count() == 0
    assert mean.get_attribute("d") != before  # the mean is of the seeds that are shown
    chip.click()
    assert mean.get_attribute("d") == before
    card.get_by_text("Single seeds").click()
    assert (ours.count(), theirs.count()) == (1, 1)
    assert card.locator(f'button.chip[data-arm="{SB3}"][data-seed="1"]').is_disabled()


def test_zoom_by_rectangle_and_back(show: Open) -> None:
    page = show()
    full = view(page)
    drag(page, (0.4, 0.2), (0.6, 0.5))
    x_min, x_max, y_min, y_max = view(page)
    assert full[0] < x_min < x_max < full[1]
    assert full[2] < y_min < y_max < full[3]
    assert x_max - x_min == pytest.approx((full[1] - full[0]) * 0.2, rel=0.15)
    page.get_by_label("Reset zoom").first.click()
    assert view(page) == full
    drag(page, (0.4, 0.5), (0.6, 0.501))  # hardly any height: along x alone
    assert view(page)[0] > full[0]
    assert view(page)[2:] == full[2:]
    page.locator(".plot svg").first.dblclick()
    assert view(page) == full


def test_zoom_by_wheel_buttons_and_keys(show: Open) -> None:
    page = show()
    chart = page.locator(".plot svg").first
    chart.scroll_into_view_if_needed()
    chart.hover()
    full, scrolled = view(page), page.evaluate("scrollY")
    page.mouse.wheel(0, -200)
    wait(page, f"scrollY < {scrolled}")  # the page's own, until the chart is clicked
    assert view(page) == full
    chart.click()
    page.mouse.wheel(0, -200)
    wait(page, f"+document.querySelector('.plot svg').getAttribute('data-x-min') > {full[0]}")
    page.keyboard.press("0")
    assert view(page) == full
    page.keyboard.press("+")
    assert view(page)[0] > full[0]
    page.get_by_label("Zoom out").first.click()
    assert view(page) == pytest.approx(full)
    page.get_by_label("Zoom in").first.click()
    assert view(page)[0] > full[0]


def test_two_fingers_zoom(show: Open) -> None:
    page = show(width=360, height=740, has_touch=True, is_mobile=True)
    chart = page.locator(".plot svg").first
    chart.scroll_into_view_if_needed()
    full, box = view(page), chart.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    session = page.context.new_cdp_session(page)

    def touch(kind: str, reach: float) -> None:
        points = [{"x": x + way * reach, "y": y, "id": way + 1} for way in (-1, 1)]
        event = {"type": kind, "touchPoints": points if reach else []}
        session.send("Input.dispatchTouchEvent", event)

    touch("touchStart", 30)
    for reach in (40, 50, 60):
        touch("touchMove", reach)
    touch("touchEnd", 0)
    x_min, x_max = view(page)[:2]
    assert (x_max - x_min) / (full[1] - full[0]) == pytest.approx(0.5, abs=0.1)


def test_a_tap_reads_values(show: Open) -> None:
    page = show(width=360, height=740, has_touch=True, is_mobile=True)
    chart, tip = page.locator(".plot svg").first, page.locator(".tip").first
    chart.tap()
    assert tip.is_visible()
    assert chart.locator(".cross").count() == 1
    page.locator("h2").first.tap()
    assert tip.is_hidden()


def test_the_horizontal_axis_can_be_time(show: Open) -> None:
    page = show()
    assert view(page)[1] == pytest.approx(50_000, rel=0.05)
    page.get_by_text("Training seconds").first.click()
    assert view(page)[1] == pytest.approx(32, rel=0.05)
    assert page.locator(".x-label").first.text_content() == "training seconds"
    page.get_by_text("Environment steps", exact=True).first.click()
    assert view(page)[1] == pytest.approx(50_000, rel=0.05)


def test_values_can_be_read_with_mouse_and_keys(show: Open) -> None:
    page = show()
    chart, tip = page.locator(".plot svg").first, page.locator(".tip").first
    assert tip.is_hidden()
    chart.hover()
    assert tip.is_visible()
    assert "25,000 steps" in tip.inner_text()
    page.mouse.move(0, 0)
    assert tip.is_hidden()
    chart.focus()
    page.keyboard.press("ArrowRight")
    assert re.search(r"0 steps\s+Firsthand\s+17.0\s+10.0 to 24.0\s+Stable-Baselines3\s+10.0",
                     tip.inner_text())  # fmt: skip
    page.keyboard.press("ArrowRight")
    assert "5,000 steps" in tip.inner_text()
    page.keyboard.press("End")
    assert "50,000 steps" in page.locator("#live").inner_text()


@pytest.mark.parametrize("width", [320, 360, 400])
def test_a_phone_scrolls_tables_but_not_the_page(show: Open, width: int) -> None:
    summary = make_summary()
    summary["tasks"][0]["arms"][SB3]["runs"][1]["error"] = "E" * 300
    summary["tasks"][0]["hyperparameters"]["x" * 60] = "y" * 200
    summary["command"] += " --flag" * 30
    page = show(summary, width=width, height=740, is_mobile=True, has_touch=True)
    page.locator("details").first.click()
    assert page.evaluate("document.documentElement.scrollWidth") == width
    table = "document.querySelector('.overview').parentNode"
    assert page.evaluate(f"{table}.scrollWidth > {table}.clientWidth")


CONTRASTS = """(nodes) => nodes.slice(0, 30).map((node) => {
  const luminance = (colour) => {
    const part = (v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = colour.match(/[\\d.]+/g).map((v) => part(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  let ground = node;
  while (/, 0\\)$/.test(getComputedStyle(ground).backgroundColor)) ground = ground.parentNode;
  const colours = [getComputedStyle(node).color, getComputedStyle(ground).backgroundColor];
  const [low, high] = colours.map(luminance).sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
})"""


def background(page: Any) -> str:
    colour: str = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return colour


def test_dark_mode_follows_the_system_until_it_is_chosen(show: Open) -> None:
    page = show()
    light = background(page)
    page.emulate_media(color_scheme="dark")
    dark = background(page)
    assert dark != light
    button = page.locator(".theme")
    button.click()
    assert (button.inner_text().split()[-1], background(page)) == ("Light", light)
    button.click()
    page.emulate_media(color_scheme="light")
    assert (button.inner_text().split()[-1], background(page)) == ("Dark", dark)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_have_contrast_enough(show: Open, scheme: str) -> None:
    summary = make_summary()
    verdicts = ["equivalent", "better", "not worse", "worse", "undecided"]
    summary["tasks"] = [make_task(env_id=f"Env-v{i}") for i in range(5)]
    for task, verdict in zip(summary["tasks"], verdicts, strict=True):
        task["comparison"]["verdict"] = verdict
    page = show(summary, color_scheme=scheme)
    for selector in [".chip:enabled", ".badge", ".ci", ".lede", ".facts", ".hint", "thead th"]:
        contrasts = page.locator(selector).evaluate_all(CONTRASTS)
        assert contrasts, selector
        assert min(contrasts) >= 4.5, (selector, contrasts)


def test_videos_play_together(show: Open, mp4: Path) -> None:
    summary = make_summary()
    page = show(summary, {summary["tasks"][1]["key"]: {OURS: mp4, SB3: mp4}})
    assert page.locator("video").count() == 2
    each = "[...document.querySelectorAll('video')].every((v) => {})"
    wait(page, each.format("v.readyState >= 2 && v.videoWidth === 64"))
    assert page.evaluate(each.format("v.muted && v.loop && v.controls"))
    button = page.locator("button.play")
    button.click()
    wait(page, each.format("!v.paused && v.currentTime > 0"))
    assert button.inner_text() == "Pause both"
    button.click()
    wait(page, each.format("v.paused"))


def test_markup_in_the_data_is_shown_as_text(show: Open) -> None:
    page = show(attacked(make_summary()))
    assert page.locator("img").count() == 0
    assert page.title().endswith("Firsthand benchmark")
    attack = "</script><img src=x onerror="
    for selector in ["h1", "#command", ".error >> nth=0", "h2 >> nth=1", ".published >> nth=1"]:
        assert attack in page.inner_text(selector), selector


def test_the_command_can_be_copied(show: Open) -> None:
    page = show(permissions=["clipboard-read", "clipboard-write"])
    page.locator("#copy").click()
    wait(page, "document.getElementById('copy').textContent === 'Copied'")
    assert page.evaluate("navigator.clipboard.readText()") == make_summary()["command"]


def test_print_is_light_and_has_no_controls(show: Open) -> None:
    page = show()
    light = page.locator(".card").first.evaluate("(node) => getComputedStyle(node).backgroundColor")
    page.emulate_media(media="print", color_scheme="dark")
    card = page.locator(".card").first.evaluate("(node) => getComputedStyle(node).backgroundColor")
    assert card == light
    assert page.locator(".bar").is_hidden()
    assert page.locator(".toolbar").first.is_hidden()


def test_without_scripts_the_page_says_what_it_needs(show: Open) -> None:
    page = show(java_script_enabled=False)
    assert page.locator("noscript").is_visible()
    assert page.locator("#overview").is_hidden()
    assert page.locator("#copy").is_hidden()


# --- Unusual summaries ------------------------------------------------------------------------

UNMEASURED: dict[str, Any] = {
    "comparison": None,
    "same_against_same": None,
    "equal_time": None,
    "published": [],
}


def no_runs(task: dict[str, Any]) -> None:
    task.update(UNMEASURED, arms={OURS: make_arm([]), SB3: make_arm([])})


def nothing_finished(task: dict[str, Any]) -> None:
    missing = [{"seed": 0, "status": "missing", "error": None}]
    task.update(UNMEASURED, arms={OURS: make_arm(missing), SB3: make_arm(missing)})


def one_arm(task: dict[str, Any]) -> None:
    task.update(UNMEASURED, arms={SB3: task["arms"][SB3]})


def one_evaluation(task: dict[str, Any]) -> None:
    task["arms"] = {arm: make_arm([make_run(0, evaluations=1)]) for arm in (OURS, SB3)}


def many_evaluations(task: dict[str, Any]) -> None:
    runs = [make_run(seed, evaluations=500) for seed in range(10)]
    task["arms"] = {arm: make_arm(runs) for arm in (OURS, SB3)}


@pytest.mark.parametrize(
    ("change", "paths", "circles", "text"),
    [
        (no_runs, 0, 0, "No finished run yet."),
        (nothing_finished, 0, 0, "missing"),
        (one_arm, 2, 11, "no verdict"),
        (one_evaluation, 4, 4, "1 seed"),
        (many_evaluations, 22, 0, "mean of 10 seeds"),
    ],
)
def test_unusual_tasks(
    show: Open, change: Callable[[dict[str, Any]], None], paths: int, circles: int, text: str
) -> None:
    summary = make_summary() | {"aggregates": []}
    change(summary["tasks"][0])
    page = show(summary)
    section = page.locator("section.task").first
    assert section.locator("path[data-arm]").count() == paths
    assert section.locator("circle[data-arm]").count() == circles
    assert text in section.inner_text()
    assert "NaN" not in page.inner_text("main")
    assert "undefined" not in page.inner_text("main")
    assert page.locator("#aggregates").is_hidden()


def test_a_suite_without_tasks(show: Open) -> None:
    bare: dict[str, Any] = {
        "tasks": [],
        "aggregates": [],
        "machines": [],
        "versions": [],
        "commits": [],
    }
    assert "No tasks yet." in show(make_summary() | bare).inner_text("main")
