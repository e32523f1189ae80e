#!/usr/bin/env python3
"""Pack JapaneseVowels, as the Python package aeon carries it, into two small files.

    pip install aeon==1.6.0
    python3 make_sequences.py

The sequences are written beside this script in their original order, gzipped. A file holds, little-endian: the number
of sequences (u16); a class from 0 for each (u8); a length for each (u8); then their values (f32), sequence after
sequence, step after step, the 12 channels of a step together. The same input always gives the same bytes.
"""

import gzip
import struct
from importlib.util import find_spec
from pathlib import Path

CHANNELS = 12


def read(path):
    """The sequences of a .ts file: one a line, its channels and then its class separated by colons."""
    lines = path.read_text(encoding="utf-8").splitlines()
    for line in lines[lines.index("@data") + 1 :]:
        *channels, label = line.split(":")
        channels = [[float(value) for value in channel.split(",")] for channel in channels]
        if len(channels) != CHANNELS:
            raise SystemExit(f"{path}: a sequence has {len(channels)} channels instead of {CHANNELS}")
        yield list(zip(*channels, strict=True)), int(label) - 1


def write(path, sequences):
    body = struct.pack("<H", len(sequences))
    body += bytes(label for _, label in sequences)
    body += bytes(len(steps) for steps, _ in sequences)
    body += b"".join(struct.pack(f"<{CHANNELS}f", *step) for steps, _ in sequences for step in steps)
    with open(path, "wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as file:
        file.write(body)
    print(f"{path}: {len(sequences)} sequences, {path.stat().st_size} bytes")


def main():
    # Found, not imported: reading text needs none of what the package imports.
    package = Path(find_spec("aeon").submodule_search_locations[0])
    for part in ["train", "test"]:
        source = package / f"datasets/data/JapaneseVowels/JapaneseVowels_{part.upper()}.ts"
        write(Path(__file__).resolve().parent / f"japanese-vowels-{part}.gz", list(read(source)))


if __name__ == "__main__":
    main()
