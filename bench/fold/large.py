#!/usr/bin/env python3
"""Writes a large model to measure folding on: N times Conv and BatchNormalization.

    python large.py N OUT [--megabytes 500] [--external]

`large.py 500 large.onnx` writes 1,000 nodes and 500 MB of random float32 weights,
opset 17. Every Conv is 3x3, padded, with equally many channels in and out, so the
input and the output are [1, C, 8, 8]. The weights are scaled so that values stay
near 1 through all layers. `--external` puts the tensors in OUT.bin instead, which a
model of 2 GB or more needs. The same arguments write the same bytes.
"""
import argparse
import math
import os

import numpy as np
import onnx
from onnx import TensorProto, helper

CHUNK = 1 << 22


def channels(count, megabytes):
    """Channels with which `count` layers of C*C*9 + 5*C numbers come closest to the size."""
    target = megabytes * 1e6 / 4 / count
    guess = int((math.sqrt(25 + 36 * target) - 5) / 18)
    return min((guess, guess + 1), key=lambda c: abs(9 * c * c + 5 * c - target))


def tensors(rng, layer, c):
    """The tensors of a Conv and its BatchNormalization."""
    w = rng.standard_normal((c, c, 3, 3), np.float32)
    w *= np.float32(0.95 / math.sqrt(9 * c))
    yield f"conv{layer}_w", w
    yield f"conv{layer}_b", rng.standard_normal(c, np.float32) * np.float32(0.1)
    yield f"bn{layer}_scale", rng.random(c, np.float32) + np.float32(0.5)
    yield f"bn{layer}_bias", rng.standard_normal(c, np.float32) * np.float32(0.1)
    yield f"bn{layer}_mean", rng.standard_normal(c, np.float32) * np.float32(0.1)
    yield f"bn{layer}_var", rng.random(c, np.float32) + np.float32(0.5)


def nodes(layer, x):
    conv = helper.make_node("Conv", [x, f"conv{layer}_w", f"conv{layer}_b"], [f"conv{layer}_y"],
                            name=f"conv{layer}", kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    parameters = [f"bn{layer}_{p}" for p in ("scale", "bias", "mean", "var")]
    bn = helper.make_node("BatchNormalization", [conv.output[0]] + parameters, [f"bn{layer}_y"],
                          name=f"bn{layer}", epsilon=1e-5)
    return [conv, bn]


def build(count, c, side=None, location=None):
    """The model; with `side`, an open file, its tensors are written there."""
    rng = np.random.default_rng(5)
    model = onnx.ModelProto(ir_version=8, producer_name="fold-large")
    model.opset_import.add(domain="", version=17)
    graph = model.graph
    graph.name = "large"
    graph.input.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, c, 8, 8]))
    x = "x"
    for layer in range(count):
        graph.node.extend(nodes(layer, x))
        x = graph.node[-1].output[0]
        for name, array in tensors(rng, layer, c):
            tensor = graph.initializer.add(name=name, data_type=TensorProto.FLOAT, dims=array.shape)
            data = array.astype("<f4").tobytes()
            if side is None:
                tensor.raw_data = data
                continue
            # each tensor at a multiple of 4096 bytes, so that it can be mapped
            offset = -(-side.tell() // 4096) * 4096
            side.write(b"\0" * (offset - side.tell()))
            side.write(data)
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in (("location", location), ("offset", offset), ("length", len(data))):
                tensor.external_data.add(key=key, value=str(value))
    graph.output.append(helper.make_tensor_value_info(x, TensorProto.FLOAT, [1, c, 8, 8]))
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("count", type=int, help="Conv and BatchNormalization pairs")
    parser.add_argument("out")
    parser.add_argument("--megabytes", type=float, default=500, help="size of all tensors, in 10^6 bytes")
    parser.add_argument("--external", action="store_true", help="tensors in a file beside")
    args = parser.parse_args()
    c = channels(args.count, args.megabytes)
    if args.external:
        location = os.path.basename(args.out) + ".bin"
        with open(args.out + ".bin", "wb", buffering=CHUNK) as side:
            model = build(args.count, c, side, location)
    else:
        if args.megabytes > 2000:
            parser.error("a file of 2 GB or more needs --external")
        model = build(args.count, c)
    with open(args.out, "wb") as f:
        f.write(model.SerializeToString(deterministic=True))
    sizes = [os.path.getsize(p) for p in (args.out, args.out + ".bin") if os.path.exists(p) and (p == args.out or args.external)]
    print(f"{args.out}: {len(model.graph.node)} nodes, {c} channels, {' + '.join(f'{s / 1e6:.1f} MB' for s in sizes)}")


if __name__ == "__main__":
    main()
