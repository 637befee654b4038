"""Documents point at things that exist, and name no machine."""

from __future__ import annotations

import re
from pathlib import Path

from tests.tidy.source import PACKAGES, ROOT, files, text

LINK = re.compile(r"\[[^\]\n]*\]\(([^()\s]+)\)")
CODE_PATH = re.compile(r"`((?:protocols|aonode|simnet|tests|docs|\.ci)/[\w./*{},-]*)`")
TEST_NAME = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
HEADING = re.compile(r"^#+ +(.+?)\s*$", re.MULTILINE)
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
BARE_TEST_NAME = re.compile(r"`(test_\w+)`")
MACHINE_PATH = re.compile(r"(?<![\w.$}~])/(?:home|root|Users|work|tmp|mnt)/\w")
TEXT_SUFFIXES = (".py", ".md", ".toml", ".json", ".html", ".c", ".sh", ".js", ".mjs", ".cddl")


def documents() -> list[Path]:
    """Every Markdown file of the project, relative."""
    top = [path.relative_to(ROOT) for path in ROOT.glob("*.md")]
    return sorted(top) + list(files(".md", "docs", *PACKAGES))


def anchors(document: Path) -> set[str]:
    """Anchors that the headings of a document make."""
    titles = HEADING.findall(FENCE.sub("", text(document)))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_links_are_alive() -> None:
    wrong = []
    for document in documents():
        for target in LINK.findall(FENCE.sub("", text(document))):
            if target.startswith(("http://", "https://", "mailto:")):
                continue
            name, _, anchor = target.partition("#")
            path = (ROOT / document.parent / name).resolve() if name else ROOT / document
            if not path.exists():
                wrong.append(f"{document}: {target}: no such file")
            elif anchor and anchor not in anchors(path.relative_to(ROOT)):
                wrong.append(f"{document}: {target}: no such heading")
    assert not wrong, "\n".join(wrong)


def test_paths_named_in_documents_exist() -> None:
    wrong = [
        f"{document}: {name}"
        for document in documents()
        for name in CODE_PATH.findall(text(document))
        if "{" not in name and not any(ROOT.glob(name.rstrip("/")))
    ]
    assert not wrong, "\n".join(wrong)


def test_tests_named_in_documents_exist() -> None:
    wrong = [
        f"{document}: {path}::{name}"
        for document in documents()
        for path, name in TEST_NAME.findall(text(document))
        if not re.search(rf"^(async )?def {name}\(", text(Path(path)), re.MULTILINE)
    ]
    assert not wrong, "\n".join(wrong)


def test_tests_named_without_their_file_exist() -> None:
    there: set[str] = set()
    for path in files(".py", "tests"):
        there |= set(re.findall(r"def (test_\w+)", text(path)))
    wrong = [
        f"{document}: {name}"
        for document in documents()
        for name in BARE_TEST_NAME.findall(text(document))
        if name not in there
    ]
    assert not wrong, "\n".join(wrong)


def test_no_path_of_a_machine_is_named() -> None:
    tracked = [path for suffix in TEXT_SUFFIXES for path in files(suffix, *PACKAGES, "docs")]
    tracked += [path.relative_to(ROOT) for path in ROOT.glob("*.*") if path.is_file()]
    tracked.append(Path(".ci/run"))
    wrong = [
        f"{path}:{number}"
        for path in sorted(set(tracked))
        for number, line in enumerate(text(path).splitlines(), 1)
        if MACHINE_PATH.search(line)
    ]
    assert not wrong, f"these paths exist on one machine only: {wrong}"
