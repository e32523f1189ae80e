#!/usr/bin/env python3
"""Cut a small, balanced subset out of Fashion-MNIST.

    python3 make_subset.py FOLDER

FOLDER holds the four gzipped IDX files of Fashion-MNIST. The first 400 images
of every class of its training set and the first 100 of every class of its test
set are written beside this script, in their original order, as gzipped IDX
files. The same input always gives the same bytes.
"""

import gzip
import struct
import sys
from pathlib import Path

CLASSES = 10
PIXELS = 28 * 28
PER_CLASS = {"train": 400, "t10k": 100}


def read(path, magic, header_bytes):
    data = gzip.decompress(path.read_bytes())
    if struct.unpack(">I", data[:4])[0] != magic:
        sys.exit(f"{path}: not the IDX file it should be")
    return data[header_bytes:]


def write(path, header, body):
    with open(path, "wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as file:
        file.write(struct.pack(f">{len(header)}I", *header) + body)
    print(f"{path}: {path.stat().st_size} bytes")


def subset(source, target, part, per_class):
    images = read(source / f"{part}-images-idx3-ubyte.gz", 0x803, 16)
    labels = read(source / f"{part}-labels-idx1-ubyte.gz", 0x801, 8)
    taken = [0] * CLASSES
    kept = []
    for index, label in enumerate(labels):
        if taken[label] < per_class:
            taken[label] += 1
            kept.append(index)
    if min(taken) < per_class:
        sys.exit(f"{part}: a class has fewer than {per_class} images")
    write(
        target / f"{part}-images-idx3-ubyte.gz",
        [0x803, len(kept), 28, 28],
        b"".join(images[i * PIXELS : (i + 1) * PIXELS] for i in kept),
    )
    write(
        target / f"{part}-labels-idx1-ubyte.gz",
        [0x801, len(kept)],
        bytes(labels[i] for i in kept),
    )


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    for part, per_class in PER_CLASS.items():
        subset(Path(sys.argv[1]), Path(__file__).resolve().parent, part, per_class)


if __name__ == "__main__":
    main()
