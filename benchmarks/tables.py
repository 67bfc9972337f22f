"""Tables in ``benchmarks/README.md``, between markers."""

from pathlib import Path

README = Path(__file__).with_name("README.md")


def replace_table(name: str, lines: list[str]) -> None:
    """Write the lines between the markers of a table."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, _, rest = README.read_text(encoding="utf-8").partition(begin)
    _, _, after = rest.partition(end)
    README.write_text("\n".join([before + begin, *lines, end]) + after, encoding="utf-8")
