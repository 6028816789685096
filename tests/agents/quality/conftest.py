"""The folder of real recordings, and reports of some of them."""

from pathlib import Path

import pytest

from tapeline.agents.quality import QualityReport, Rules
from tapeline.agents.quality.command import analyse
from tapeline.agents.quality.files import open_files
from tests.connectors.venues.conftest import DATA


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real recordings beside the project."""
    if not DATA.is_dir():
        pytest.skip(f"no real recordings here: {DATA} is missing")
    return DATA


def report_of(*paths: Path) -> QualityReport:
    """The report of recorded files, as `tapeline quality --file` makes it."""
    return analyse(open_files(paths), None, Rules())


@pytest.fixture(scope="session")
def usdm(data: Path) -> QualityReport:
    return report_of(data / "ws_raw/hftbacktest/usdm_btcusdt_20240808.gz")


@pytest.fixture(scope="session")
def spot(data: Path) -> QualityReport:
    return report_of(data / "ws_raw/hftbacktest/spot_btcusdt_20240809.gz")
