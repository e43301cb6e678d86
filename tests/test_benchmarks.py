"""The benchmarks run: each does its work once, untimed."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.peers import with_bouncycastle

HERE = Path(__file__).resolve().parent.parent


def test_every_benchmark_works() -> None:
    command = [sys.executable, "-m", "pytest", "benchmarks", "--benchmark-disable", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(with_bouncycastle.missing() is not None, reason=str(with_bouncycastle.missing()))
def test_bouncy_castle_enrolls_and_checks_what_it_gets() -> None:
    with with_bouncycastle.BouncyCastle(count=1, warm_up=1) as peer:
        assert peer.round() > 0
