"""The built wheel, installed elsewhere, holds all that the commands need."""

import json
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
REPOSITORY = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def nightcap(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command of a wheel in a new environment that sees this one's libraries."""
    home = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--outdir", str(home), str(REPOSITORY)]
    subprocess.run(build, check=True, capture_output=True, timeout=300)
    (wheel,) = home.glob("nightcap-*.whl")
    subprocess.run([sys.executable, "-m", "venv", home / "venv"], check=True, timeout=120)
    python = home / "venv" / "bin" / "python"
    install = [python, "-m", "pip", "install", "--no-deps", "--no-index", wheel]
    subprocess.run(install, check=True, capture_output=True, timeout=120)
    packages = next((home / "venv" / "lib").glob("python*/site-packages"))
    # libraries come from this environment, the packages under test from the wheel alone
    (packages / "zz-libraries.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return home / "venv" / "bin" / "nightcap"


def test_the_wheel_is_what_runs(nightcap: Path) -> None:
    code = "import flows, captioner; print(flows.__file__, captioner.__file__)"
    python = nightcap.with_name("python")
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    assert all(str(nightcap.parent.parent) in place for place in done.stdout.split())


def test_the_wheel_answers_help(nightcap: Path) -> None:
    done = subprocess.run([nightcap, "--help"], capture_output=True, text=True, check=True, cwd="/")
    assert "demo" in done.stdout


def test_the_wheel_says_where_the_comparison_is(nightcap: Path) -> None:
    done = subprocess.run([nightcap, "bench"], capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 2
    assert "--quick" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.timeout(600)
def test_the_wheel_runs_the_demo(nightcap: Path, tmp_path: Path) -> None:
    words = ["demo", tmp_path / "out", "--pictures", "600", "--unseen", "100", "--json"]
    done = subprocess.run(
        [nightcap, *words], capture_output=True, text=True, cwd="/", timeout=580, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["scenes"] == 100
    assert found["captioned"] == 700
    assert found["attribute_true"] > 0.8
