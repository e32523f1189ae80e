#!/usr/bin/env python3
"""cellnorm stats beside others on the same data: a folder of PNG files, a large .npy, and rows for scikit-learn and Keras.

    python peers.py --cellnorm ../../target/release/cellnorm --images DIR --array FILE.npy [--runs 3] [--peers torch,sklearn,keras]

`--make N FILE.npy` writes an array of N × 64 × 32 × 32 f32 of N(10^6, 1) first. What was read before lies in the page cache; the
programs take turns. Needs numpy; torch and torchvision, scikit-learn, keras for the peers of these names.
"""
import argparse
import json
import os
import subprocess
import sys
import time

import numpy as np


def timed(work):
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def cellnorm(binary, *words):
    done = subprocess.run([binary, "stats", *words, "--json"], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    return found["mean"], found["std"]


def torch_images(folder):
    import torch
    from torchvision.datasets import ImageFolder
    from torchvision.io import ImageReadMode, decode_image
    threads = os.cpu_count()

    class Files(torch.utils.data.Dataset):
        def __init__(self):
            self.names = sorted(os.path.join(root, name) for root, _, names in os.walk(folder) for name in names)

        def __len__(self):
            return len(self.names)

        def __getitem__(self, place):
            return decode_image(self.names[place], ImageReadMode.GRAY)

    count, total, squares = 0, torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for batch in torch.utils.data.DataLoader(Files(), batch_size=256, num_workers=threads):
        x = batch.to(torch.float64) / 255
        count, total, squares = count + x.numel(), total + x.sum(), squares + (x * x).sum()
    mean = total / count
    return [mean.item()], [(squares / count - mean * mean).sqrt().item()]


def sklearn_rows(path):
    from sklearn.preprocessing import StandardScaler
    rows = np.load(path, mmap_mode="r")
    rows = rows.reshape(-1, rows.shape[-1])
    scaler = StandardScaler()
    for start in range(0, len(rows), 1 << 16):
        scaler.partial_fit(rows[start:start + (1 << 16)])
    return scaler.mean_.tolist(), scaler.scale_.tolist()


def keras_rows(path):
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    import tensorflow as tf
    rows = np.load(path, mmap_mode="r")
    rows = rows.reshape(-1, rows.shape[-1])
    layer = tf.keras.layers.Normalization(axis=-1)
    data = tf.data.Dataset.from_generator(
        lambda: (rows[start:start + (1 << 16)] for start in range(0, len(rows), 1 << 16)),
        output_signature=tf.TensorSpec((None, rows.shape[-1]), tf.float32))
    layer.adapt(data)
    return np.ravel(layer.mean).tolist(), np.sqrt(np.ravel(layer.variance)).tolist()


def numpy_rows(path):
    rows = np.load(path, mmap_mode="r")
    rows = rows.reshape(-1, rows.shape[-1])
    return rows.mean(0, dtype=np.float64).tolist(), rows.std(0, dtype=np.float64).tolist()


def read_only(path):
    """The bandwidth of the file in the page cache, on all processors."""
    from concurrent.futures import ThreadPoolExecutor
    size, threads, step = os.path.getsize(path), os.cpu_count(), 1 << 20
    file = os.open(path, os.O_RDONLY)

    def part(number):
        buffer = bytearray(step)
        for start in range(number * step, size, threads * step):
            os.preadv(file, [buffer], start)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(part, range(threads)))
    os.close(file)
    return size


def table(title, rows):
    print(f"\n{title}\n")
    print("| program | seconds, median | against ours | mean of the first channel | std |\n|---|---|---|---|---|")
    ours = sorted(rows[0][1])[len(rows[0][1]) // 2]
    for name, times, found in rows:
        median = sorted(times)[len(times) // 2]
        numbers = [f"{found[0][0]:.10g}", f"{found[1][0]:.10g}"] if found else ["", ""]
        print(f"| {name} | {median:.2f} | {median / ours:.2f} | {' | '.join(numbers)} |")


def compare(title, programs, runs):
    rows = [[name, [], None] for name, _ in programs]
    for _ in range(runs):
        for row, (_, work) in zip(rows, programs):
            seconds, found = timed(work)
            row[1].append(seconds)
            row[2] = found if isinstance(found, tuple) else None
    table(title, rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cellnorm", required=True)
    parser.add_argument("--images")
    parser.add_argument("--array")
    parser.add_argument("--make", type=int)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--peers", default="torch,sklearn,keras")
    args = parser.parse_args()
    peers = args.peers.split(",")
    if args.make:
        rng = np.random.default_rng(1)
        out = np.lib.format.open_memmap(args.array, "w+", np.float32, (args.make, 64, 32, 32))
        for start in range(0, args.make, 256):
            out[start:start + 256] = rng.standard_normal((min(256, args.make - start), 64, 32, 32), np.float32) + np.float32(1e6)
        out.flush()
        del out
    if args.images:
        programs = [("cellnorm stats", lambda: cellnorm(args.cellnorm, args.images))]
        decode = os.path.join(os.path.dirname(args.cellnorm), "examples", "decode")
        if os.path.exists(decode):
            programs.append(("decoding alone", lambda: subprocess.run([decode, args.images], check=True, stdout=subprocess.DEVNULL)))
        if "torch" in peers:
            programs.append(("torchvision, DataLoader", lambda: torch_images(args.images)))
        compare("PNG files", programs, args.runs)
    if args.array:
        size = os.path.getsize(args.array)
        programs = [("cellnorm stats, --channel-axis 3", lambda: cellnorm(args.cellnorm, args.array, "--channel-axis", "3")),
                    ("cellnorm stats, --channel-axis 1", lambda: cellnorm(args.cellnorm, args.array, "--channel-axis", "1")),
                    ("reading alone", lambda: read_only(args.array)),
                    ("NumPy, float64", lambda: numpy_rows(args.array))]
        if "sklearn" in peers:
            programs.append(("scikit-learn, partial_fit", lambda: sklearn_rows(args.array)))
        if "keras" in peers:
            programs.append(("Keras, adapt", lambda: keras_rows(args.array)))
        compare(f".npy of {size / 1e9:.2f} GB", programs, args.runs)


if __name__ == "__main__":
    sys.exit(main())
