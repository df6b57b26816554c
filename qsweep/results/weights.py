"""Weights of trials, kept beside the store: what stages start from, and what is exported.

A file's name says whose weights they are, where they were made and what they are: the trial's key, and digests of the
environment and of the content. So a file that was cut or changed is none, and is made again.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from qsweep import files

FOLDER = "weights"
DIGITS = 16
"""Of each digest in a name."""


@dataclass(frozen=True)
class Weights:
    """The weights that trials gave in one environment, as safetensors.

    Attributes:
        folder: where they lie; made with the first of them.
    """

    folder: Path
    environment: str

    @classmethod
    def beside(cls, results: Path, environment: str) -> Weights:
        """Those of a results folder."""
        return cls(results / FOLDER, environment)

    def get(self, key: str) -> bytes | None:
        """A trial's weights; None where there are none, or none that are whole."""
        for path in self._files(key):
            with suppress(OSError):
                content = path.read_bytes()
                if path.name == self._name(key, content):
                    return content
        return None

    def put(self, key: str, content: bytes) -> str:
        """Keep a trial's weights, in place of any others of it: they lie on the disk when this returns their SHA-256.

        Raises:
            UserError: the folder can't be written, or the disk is full.
        """
        path = self.folder / self._name(key, content)
        files.write(path, content)
        for other in self._files(key):
            if other != path:
                files.remove(other)
        return hashlib.sha256(content).hexdigest()

    def owners(self) -> dict[str, int]:
        """Bytes that are kept for each trial, by key, of all environments."""
        found: dict[str, int] = {}
        for path in sorted(self.folder.glob("*.safetensors")):
            key = path.name.partition("-")[0]
            found[key] = found.get(key, 0) + path.stat().st_size
        return found

    def delete(self, key: str) -> None:
        """Take a trial's weights away, of all environments.

        Raises:
            UserError: the folder can't be written.
        """
        for path in self.folder.glob(f"{key}-*.safetensors"):
            files.remove(path)

    def _files(self, key: str) -> list[Path]:
        return sorted(self.folder.glob(f"{self._owner(key)}-*.safetensors"))

    def _owner(self, key: str) -> str:
        return f"{key}-{_digest(self.environment.encode())}"

    def _name(self, key: str, content: bytes) -> str:
        return f"{self._owner(key)}-{_digest(content)}.safetensors"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:DIGITS]
