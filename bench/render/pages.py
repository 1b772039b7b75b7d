"""The files a board is rendered to: its own page in Markdown and in HTML, and its part of the README."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.board.leaderboard import Row
from bench.files import locked, write_text
from bench.render.html.page import Beside, render_html
from bench.render.markdown import BEGIN, render_markdown, sections, splice


def write_pages(boards: Mapping[str, Sequence[Row]], board: Path, *, check: bool = False) -> list[Path]:
    """Write `board`/README.md, and the ranked rows into the README beside `board` where it has the markers.

    Args:
        boards: rows by the track's name.
        board: folder of entries.
        check: change nothing.

    Returns:
        The files that were stale.
    """
    pages = {board / "README.md": render_markdown(boards)}
    beside = board.resolve().parent / "README.md"
    if beside.is_file() and BEGIN in (text := beside.read_text(encoding="utf-8")):
        base = f"{board.resolve().name}/"
        embedded = "\n\n".join(sections(boards, base=base, whole=f"{base}README.md"))
        pages[beside] = splice(text, embedded)
    return _write(pages, board, check=check)


def write_html(
    boards: Mapping[str, Sequence[Row]], board: Path, published: Beside | None = None, *, check: bool = False
) -> list[Path]:
    """Write `board`/index.html; arguments and answer as above and as of `render_html`."""
    return _write({board / "index.html": render_html(boards, published)}, board, check=check)


def write_page(text: str, path: Path, *, check: bool = False) -> list[Path]:
    """Write one page of a board's folder, if it is stale; arguments and answer as above."""
    return _write({path: text}, path.parent, check=check)


def _write(pages: Mapping[Path, str], board: Path, *, check: bool) -> list[Path]:
    stale = [path for path, text in pages.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    if stale and not check:
        with locked(board):
            for path in stale:
                write_text(path, pages[path])
    return stale
