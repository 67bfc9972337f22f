"""What MkDocs is told beyond ``mkdocs.yml``: pages outside ``docs/``, links between all pages.

Pages link to each other as files of the repository do. On the site a link to another page of it
leads there, and one to any other file of the repository to the place where its source lies.
"""

import re
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

PROJECT = Path(__file__).parents[1]
OUTSIDE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "RELEASING.md": "releasing.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/README.md": "benchmarks.md",
    "models/README.md": "bundled-model.md",
    "benchmarks/real_models.png": "real_models.png",
    "benchmarks/frontier.png": "frontier.png",
}
"""Files of the repository that are not in ``docs/`` -> where they are on the site."""
_LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)\s#]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files outside ``docs/``."""
    for source, place in OUTSIDE.items():
        content = (PROJECT / source).read_bytes()
        files.append(File.generated(config, place, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links between files of the repository at places of the site, outside of code."""
    place = page.file.src_uri
    sources = {site: source for source, site in OUTSIDE.items()}
    here = PurePosixPath(sources.get(place, f"docs/{place}")).parent

    def moved(link: re.Match[str]) -> str:
        target = normpath(str(here / link[1]))
        inside = OUTSIDE.get(target, target.removeprefix("docs/"))
        if files.get_file_from_path(inside):
            return relpath(inside, str(PurePosixPath(place).parent))
        return f"{config.repo_url}/blob/main/{target}"

    parts = re.split(r"(^```.*?^```$)", markdown, flags=re.MULTILINE | re.DOTALL)
    return "".join(part if part[:3] == "```" else _LINK.sub(moved, part) for part in parts)
