"""Burn and Candle, for accuracy: arrays go to a process in Rust and come back as files."""

import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from .launch import TARGET
from .reference import Results


class RustPeer:
    def __init__(self, name, threads):
        self.name = name
        self.folder = tempfile.TemporaryDirectory()
        command = [str(TARGET / "release/rust_peers"), name, str(threads), self.folder.name]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.version = json.loads(self.process.stdout.readline())["version"]

    def prepare(self, case, arrays):
        if case.dtype != "f32" or case.layout == "last":
            return None
        folder = Path(self.folder.name)
        for name in ["x", "dy", "gamma", "beta"]:
            values = getattr(arrays, name)
            (np.zeros(case.channels) if values is None else values).astype(np.float32).tofile(folder / name)
        self.process.stdin.write(case.key + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        if "skipped" in answer:
            return None
        read = lambda name: np.fromfile(folder / name, np.float32).reshape(case.shape)
        results = Results(y=read("y"), dx=read("dx") if case.step == "training" else None)
        return None, lambda: results
