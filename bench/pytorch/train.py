"""Trains one small network in PyTorch with each normalization after its convolution.

The network is that of TensorFlow Addons' tutorial on normalizations: Conv2d(1, 10, 3),
normalization, Flatten, Linear 128 with ReLU, Dropout 0.2, Linear 10; Adam with learning
rate 1e-3, cross entropy, batches of 32, pixels divided by 255. It is the yardstick for
accuracy and time of the same training elsewhere.

    pip install torch==2.15.0 numpy
    python train.py --data DIR [--epochs 1] [--seed 0] [--threads 2] [--norms batch,group]

DIR holds the four IDX files of MNIST or Fashion-MNIST, gzipped or not.
"""

import argparse
import gzip
import json
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

BATCH = 32
CHANNELS = 10


class SampleRms(nn.Module):
    """RMS over all features of a sample; gamma per channel, which nn.RMSNorm has no way to say."""

    def __init__(self, channels, eps=1e-5):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x):
        scale = torch.rsqrt(x.square().mean(dim=(1, 2, 3), keepdim=True) + self.eps)
        return x * scale * self.weight.view(1, -1, 1, 1)


NORMS = {
    "none": nn.Identity,
    "batch": lambda: nn.BatchNorm2d(CHANNELS),
    "layer": lambda: nn.GroupNorm(1, CHANNELS),
    "instance": lambda: nn.InstanceNorm2d(CHANNELS, affine=True),
    "group": lambda: nn.GroupNorm(5, CHANNELS),
    "rms": lambda: SampleRms(CHANNELS),
}


def network(norm, side):
    features = CHANNELS * (side - 2) ** 2
    return nn.Sequential(
        nn.Conv2d(1, CHANNELS, 3),
        NORMS[norm](),
        nn.Flatten(),
        nn.Linear(features, 128),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Linear(128, 10),
    )


def read_idx(directory, name):
    """An IDX file of bytes: two zero bytes, the type 8, the rank, the lengths, the data."""
    path = directory / name
    if path.exists():
        data = path.read_bytes()
    else:
        data = gzip.decompress(path.with_name(name + ".gz").read_bytes())
    if data[:3] != b"\0\0\x08":
        raise SystemExit(f"{path}: not an IDX file of bytes")
    rank = data[3]
    shape = np.frombuffer(data, ">u4", rank, 4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(shape)


def load(directory, part):
    images = read_idx(directory, f"{part}-images-idx3-ubyte").astype(np.float32) / 255
    labels = read_idx(directory, f"{part}-labels-idx1-ubyte").astype(np.int64)
    return torch.from_numpy(images).unsqueeze(1), torch.from_numpy(labels)


def train_epoch(model, optimizer, images, labels, order):
    model.train()
    for batch in order.split(BATCH):
        optimizer.zero_grad()
        F.cross_entropy(model(images[batch]), labels[batch]).backward()
        optimizer.step()


@torch.no_grad()
def evaluate(model, images, labels):
    model.eval()
    loss, correct = 0.0, 0
    for x, wanted in zip(images.split(500), labels.split(500)):
        logits = model(x)
        loss += F.cross_entropy(logits, wanted, reduction="sum").item()
        correct += (logits.argmax(1) == wanted).sum().item()
    return correct / len(labels), loss / len(labels)


def run(norm, options, train, test):
    """Yields a row after each epoch; seconds are those of training, without the test."""
    torch.manual_seed(options.seed)
    images, labels = train
    model = network(norm, images.shape[-1])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, eps=1e-8)
    for epoch in range(1, options.epochs + 1):
        order = torch.randperm(len(images))
        start = time.perf_counter()
        train_epoch(model, optimizer, images, labels, order)
        seconds = time.perf_counter() - start
        accuracy, loss = evaluate(model, *test)
        yield {
            "norm": norm,
            "seed": options.seed,
            "epoch": epoch,
            "accuracy": round(accuracy, 4),
            "loss": round(loss, 4),
            "seconds": round(seconds, 2),
        }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="directory of the IDX files")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--norms", default=",".join(NORMS), help="of %(default)s")
    parser.add_argument("--json", action="store_true", help="one JSON object a line, no table")
    options = parser.parse_args()
    norms = options.norms.split(",")
    if unknown := set(norms) - set(NORMS):
        parser.error(f"no such normalization: {', '.join(sorted(unknown))}")

    torch.set_num_threads(options.threads)
    train, test = load(options.data, "train"), load(options.data, "t10k")
    if not options.json:
        print(f"PyTorch {torch.__version__}, {options.threads} threads, seed {options.seed},"
              f" {len(train[0])} training and {len(test[0])} test images")
        print(f"{'norm':<10}{'epoch':>6}{'test accuracy':>15}{'test loss':>11}{'s/epoch':>9}")
    for norm in norms:
        for row in run(norm, options, train, test):
            if options.json:
                print(json.dumps(row), flush=True)
            else:
                print(f"{norm:<10}{row['epoch']:>6}{row['accuracy']:>15.4f}"
                      f"{row['loss']:>11.4f}{row['seconds']:>9.1f}", flush=True)


if __name__ == "__main__":
    main()
