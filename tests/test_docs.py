"""The README and docs/ show what the program prints."""

from __future__ import annotations

import doctest
import io
import re
import sys
from contextlib import redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
import shtab

from ms_edge.cli import arguments

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS))

import console  # noqa: E402
import generated  # noqa: E402
import picture  # noqa: E402
import refresh  # noqa: E402
import try_page  # noqa: E402

README = (ROOT / "README.md").read_text("utf-8")
PAGES = [*refresh.pages(), *(ROOT / name for name in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"))]
QUICK = [page for page in refresh.pages() if page not in refresh.SLOW]
by_name = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@pytest.fixture
def folder(tmp_path) -> Path:
    """The folder in which commands of the pages run."""
    console.prepare(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[pytest.mark.slow] * (page.name == "archive.md"))  # which starts Ray
        for page in QUICK
        if list(console.shown_commands(page.read_text("utf-8")))
    ],
    ids=lambda page: page.name,
)
def test_commands_print_what_the_page_shows(page, folder):
    for each in console.shown_commands(page.read_text("utf-8")):
        printed = console.run(each.line, folder)
        assert console.matches(each.shown, printed), f"{each.line}\n{printed}"


def test_no_line_is_a_comment_by_mistake():
    """MyST leaves out a line that begins with a percent sign."""
    assert not [page.name for page in PAGES if re.search("^%", page.read_text("utf-8"), re.M)]


@pytest.mark.slow
def test_draw_commands_print_what_is_shown(folder):
    for each in console.shown_commands((DOCS / "augmentation.md").read_text("utf-8")):
        assert console.matches(each.shown, console.run(each.line, folder)), each.line


@pytest.mark.slow
def test_tutorial_runs_from_recordings_to_deployment(folder, monkeypatch):
    text = refresh.TUTORIAL.read_text("utf-8")
    for block in console.BLOCK.finditer(text):
        for each in console.commands(block[1]):
            if not each.line.startswith("pip "):
                printed = console.run(each.line, folder)
                assert console.matches(each.shown, printed, digits=False), f"{each.line}\n{printed}"
    monkeypatch.chdir(folder)
    _run_example(text)


@pytest.mark.parametrize("page", [ROOT / "README.md", DOCS / "index.md"], ids=lambda page: page.name)
def test_example_prints_what_its_comment_says(page, monkeypatch):
    monkeypatch.chdir(ROOT)
    _run_example(page.read_text("utf-8"))


def _run_example(text: str) -> None:
    """Run the Python block of a page and compare its output with the comment at its end."""
    (example,) = re.findall(r"```python\n(.*?)```", text, re.S)
    printed = io.StringIO()
    with redirect_stdout(printed):
        exec(compile(example, "example", "exec"), {})
    assert printed.getvalue().splitlines() == re.findall(r"  # (.*)$", example, re.M)


@pytest.mark.parametrize("page", ["python.md", "cut.md", "augmentation.md", "live.md"])
def test_python_sessions_run(page, monkeypatch):
    monkeypatch.chdir(ROOT)
    failed, tried = doctest.testfile(str(DOCS / page), module_relative=False, optionflags=doctest.ELLIPSIS)
    assert failed == 0
    assert tried > 1


def test_imports_of_python_blocks_exist():
    """Look for the names in the sources: importing them would bring TensorFlow into this process."""
    for page in DOCS.glob("*.md"):
        for block in re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.S):
            for module, names in re.findall(r"^from (ms_[\w.]+) import ([\w, ]+)", block, re.M):
                found = find_spec(module)
                assert found, module
                source = Path(found.origin).read_text("utf-8")
                assert all(re.search(rf"\b{name.strip()}\b", source) for name in names.split(",")), page


@pytest.mark.parametrize(
    ("page", "part"), [(page, part) for page, parts in generated.PARTS.items() for part in parts], ids=str
)
def test_generated_part_is_current(page, part):
    text = (ROOT / page).read_text("utf-8")
    made = generated.PARTS[page][part]()
    if part == "scores":  # the fourth digit of a probability differs between processors
        shown = text.partition(f"<!-- {part} -->")[2].partition(f"<!-- /{part} -->")[0]
        numbers = [[float(each) for each in re.findall(r"0\.\d+", each)] for each in (shown, made)]
        assert numbers[0] == pytest.approx(numbers[1], abs=1e-3)
    else:
        assert generated.with_part(text, part, made) == text


def test_commands_page_is_current():
    assert (DOCS / "commands.md").read_text("utf-8") == generated.commands_page()
    assert "%%" not in generated.commands_page()  # argparse leaves it in a description


def test_every_command_has_an_example():
    page = (DOCS / "commands.md").read_text("utf-8")
    sections = re.split(r"^### ", page, flags=re.M)[1:]
    assert len(sections) >= 17
    for section in sections:
        assert re.search(r"^examples?:\s", section, re.M), section.partition("\n")[0]


def test_picture_shows_the_current_timeline():
    samples, truth = picture.programme()
    segments = picture.ms_edge.Classifier(device="cpu").classify(samples, picture.RATE_HZ).segments
    assert [each.label for each in segments] == [label for _, _, label in truth]
    assert f"<desc>{picture.labels(segments)}</desc>" in picture.PICTURE.read_text("utf-8")


def test_every_warning_is_raised_and_listed():
    sources = "".join(path.read_text("utf-8") for path in (ROOT / "edge" / "ms_edge").rglob("*.py"))
    raised = {a or b for a, b in re.findall(r'_warn\("([a-z-]+)"|notes\.append\("([a-z-]+)"\)', sources)}
    assert raised == set(generated.results.WARNINGS)


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_scripts_match_the_command_line(shell):
    script = (DOCS / "completion" / f"ms-edge.{shell}").read_text("utf-8")
    assert script == shtab.complete(arguments.parser(), shell)


@by_name
def test_links_lead_somewhere(page):
    text = page.read_text("utf-8")
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)]*))?\)", text):
        linked = page.parent / target if target else page
        assert linked.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", linked.read_text("utf-8"), re.M)
            assert anchor in [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]


def test_files_named_in_architecture_exist():
    text = (DOCS / "architecture.md").read_text("utf-8")
    named = re.findall(r"`((?:edge|train|export|tests|docs|benchmarks)/[\w/.-]*)`", text)
    assert len(named) > 30
    for path in named:
        assert (ROOT / path).exists(), path


def test_readme_fits_two_screens():
    assert len(README.splitlines()) <= 100
    assert README.index("$ make demo") < README.index("$ make test") < README.index("## Use")


def test_nothing_asks_to_install_an_unpublished_package():
    """Until a package index has ms-edge, pip finds it only in a clone or in a folder of wheels."""
    sources = [path for package in ("edge", "train", "export", "benchmarks") for path in (ROOT / package).rglob("*.py")]
    for path in (*PAGES, *DOCS.rglob("*.md"), *sources):
        for line in path.read_text("utf-8").splitlines():
            assert not re.search(r"install .*ms-edge(\[|$)", line) or "--find-links" in line, f"{path}: {line}"


def test_templates_of_the_site_replace_none_of_the_theme():
    """A file with the name of one would be shown instead of every page."""
    themes = (
        Path(find_spec("furo").origin).parent / "theme",
        Path(find_spec("sphinx").origin).parent / "themes" / "basic",
    )
    taken = {path.name for theme in themes for path in theme.rglob("*.html")}
    assert "page.html" in taken
    assert not taken & {path.name for path in (DOCS / "try").iterdir()}


@pytest.mark.parametrize("fetched", [True, False])
def test_site_says_if_it_cannot_classify(tmp_path, monkeypatch, fetched):
    for name in ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"):
        (tmp_path / name).write_bytes(bytes(1_000_000))
    monkeypatch.setattr(try_page, "RUNTIME", tmp_path if fetched else tmp_path / "none")
    monkeypatch.setattr(try_page, "wavesurfer", lambda: ["// wavesurfer.js"])
    app = SimpleNamespace(config=SimpleNamespace(root_doc="index"))
    context = {"body": f"<h1>Try</h1>{try_page.PLACE}<h2>Why</h2>", "title": "Try", "pathto": "{}.html".format}
    template = try_page._fill(app, "try", "page.html", context, None)
    if fetched:
        assert template == "bare.html"
        assert "connect-src 'self'" in context["try_page"]
        assert context["try_page"].index("<h1>Try") < context["try_page"].index('id="choose"')
    else:
        assert template is None
        assert "built without onnxruntime-web" in context["body"]
        assert context["body"].endswith("<h2>Why</h2>")
