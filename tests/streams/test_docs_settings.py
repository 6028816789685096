"""Every piece of tapeline.toml in the docs is one that is accepted."""

import re
from pathlib import Path

import pytest

from tapeline.streams.settings import check_bars, check_logics, check_venues, load_settings

DOCS = Path(__file__).resolve().parents[2] / "docs"
EXAMPLES = [
    pytest.param(text, id=f"{page.stem}-{number}")
    for page in sorted(DOCS.glob("*.md"))
    for number, text in enumerate(re.findall(r"^```toml\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE))
]


@pytest.mark.slow  # calendars load pandas
@pytest.mark.parametrize("text", EXAMPLES)
def test_it_is_accepted(text: str, tmp_path: Path) -> None:
    path = tmp_path / "tapeline.toml"
    path.write_text(text)
    for name in re.findall(r'(?:file|_location) = "([^"]+)"', text):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    env = dict.fromkeys(re.findall(r'env = "([^"]+)"', text), "x")
    settings = load_settings(path, env=env)
    check_logics(settings)
    check_bars(settings)
    check_venues(settings)
