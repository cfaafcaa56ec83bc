"""What builds leave on the worker's disk: releases and logs under their digests, with a journal."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import NamedTemporaryFile

from pydantic import ValidationError

from domain.model import Model


class StoredFile(Model):
    """A file in the store; `digest` is ``sha256:…``."""

    uri: str
    digest: str
    size: int


class JournalEntry(Model):
    """One published release: the line of the journal that says so."""

    at: str
    application: str
    version: str
    commit: str
    artefact: StoredFile
    image: str


class ArtefactStore:
    """Files under ``artefacts/`` and ``logs/`` of the worker's root, named by content."""

    def __init__(self, root: Path) -> None:
        self._artefacts = root / "artefacts"
        self._logs = root / "logs"

    @property
    def journal(self) -> Path:
        """The append-only list of published releases, one JSON object a line."""
        return self._artefacts / "journal.jsonl"

    def keep_artefact(self, file: Path) -> StoredFile:
        """Copy a built file into the store; the source stays where it is."""
        return _keep(file, self._artefacts / "sha256", file.name)

    def keep_log(self, file: Path, name: str) -> StoredFile:
        """Copy a log into the store."""
        return _keep(file, self._logs / "sha256", f"{name}.log")

    def holds(self, stored: StoredFile) -> bool:
        """Whether the file is still there and has its digest."""
        path = Path(stored.uri.removeprefix("file://"))
        return path.is_file() and _digest(path) == stored.digest

    def find_built(self, application: str, version: str, commit: str) -> StoredFile | None:
        """The artefact that was built for this version, if it is whole."""
        try:
            stored = StoredFile.model_validate_json(self._record(application, version, commit).read_bytes())
        except (FileNotFoundError, ValidationError):
            return None
        return stored if self.holds(stored) else None

    def record_built(self, application: str, version: str, commit: str, stored: StoredFile) -> None:
        """Remember the artefact of a version, so that it is never built again."""
        write_atomically(self._record(application, version, commit), stored.model_dump_json())

    def find_published(
        self, application: str, version: str, commit: str, artefact: StoredFile
    ) -> JournalEntry | None:
        """The journal's entry for this very artefact."""
        wanted = (application, version, commit, artefact.digest)
        for entry in self._entries():
            if (entry.application, entry.version, entry.commit, entry.artefact.digest) == wanted:
                return entry
        return None

    def publish(self, entry: JournalEntry) -> None:
        """Append an entry, which has reached the disk when this returns; needs `journal_lock`."""
        line = json.dumps(entry.model_dump(mode="json"), sort_keys=True) + "\n"
        self.journal.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.journal, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        with os.fdopen(descriptor, "r+b", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            # A crash while writing left half a line: end it, so that it is skipped on reading.
            if size:
                file.seek(size - 1)
                line = line if file.read(1) == b"\n" else f"\n{line}"
            file.write(line.encode())
            os.fsync(file.fileno())

    def release_lock(self, application: str, version: str, commit: str) -> Path:
        """The lock file of one version's release."""
        return self._record(application, version, commit).with_suffix(".lock")

    def journal_lock(self) -> Path:
        """The lock file of the journal, for appending."""
        return self._artefacts / "journal.lock"

    def _record(self, application: str, version: str, commit: str) -> Path:
        key = hashlib.sha256("\x00".join((application, version, commit)).encode()).hexdigest()
        return self._artefacts / "releases" / f"{key}.json"

    def _entries(self) -> Iterator[JournalEntry]:
        if not self.journal.exists():
            return
        for line in self.journal.read_bytes().splitlines():
            try:
                yield JournalEntry.model_validate_json(line)
            except ValidationError:
                continue


def write_atomically(path: Path, text: str) -> None:
    """Replace a file as a whole: readers, and a crash, see the old or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}-", delete=False) as draft:
        draft.write(text)
        draft.flush()
        os.fsync(draft.fileno())
    Path(draft.name).replace(path)


def _keep(file: Path, store: Path, name: str) -> StoredFile:
    digest = _digest(file)
    kind, _, hexadecimal = digest.partition(":")
    directory = store.parent / kind / hexadecimal[:2] / hexadecimal
    target = directory / name
    if not (target.is_file() and _digest(target) == digest):
        directory.mkdir(parents=True, exist_ok=True)
        with (
            NamedTemporaryFile("wb", dir=directory, prefix=".draft-", delete=False) as draft,
            file.open("rb") as source,
        ):
            shutil.copyfileobj(source, draft)
            draft.flush()
            os.fsync(draft.fileno())
        Path(draft.name).chmod(0o444)
        Path(draft.name).replace(target)
    return StoredFile(uri=target.as_uri(), digest=digest, size=target.stat().st_size)


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return f"sha256:{hashlib.file_digest(content, 'sha256').hexdigest()}"
