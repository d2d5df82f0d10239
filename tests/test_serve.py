"""`nightcap serve` refuses what could not be run every night, before it stays."""

import pytest
from typer.testing import CliRunner

from flows.cli import app
from storage.errors import ConfigurationError


def serve(*options: str) -> BaseException | None:
    return CliRunner().invoke(app, ["serve", "pictures", "root", *options]).exception


@pytest.mark.parametrize("options", [("--cron", "at night"), ("--timezone", "Mars/Olympus")])
def test_a_schedule_that_is_none_is_named(options: tuple[str, str]) -> None:
    error = serve(*options)
    assert isinstance(error, ConfigurationError)
    assert options[1] in str(error)


def test_a_server_that_does_not_last_is_refused() -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        error = serve()
    assert isinstance(error, ConfigurationError)
    assert "prefect server start" in str(error)
