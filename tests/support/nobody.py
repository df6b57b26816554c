"""What results must not reveal."""

from __future__ import annotations

import getpass
import socket
from pathlib import Path


def assert_names_nobody(text: str) -> None:
    """Check that a text has no host, user or path of this machine, except names of up to three letters."""
    names = [socket.gethostname(), getpass.getuser(), str(Path.home()), str(Path.cwd())]
    assert [name for name in names if len(name) > 3 and name in text] == []
