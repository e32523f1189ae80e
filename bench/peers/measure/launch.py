"""Runs each peer in a process of its own: their pools of threads would disturb each other."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "target"
#: whose environment each is in, by the names that --python takes
PYTHON = {
    "torch": "torch", "compile": "torch", "jax": "jax", "tf": "tf", "xla": "tf", "ort": "ort",
    "onednn": "onednn", "onednn-omp": "onednn", "ggml": "ggml", "openvino": "openvino",
}
OPENMP = ["torch", "compile", "onednn-omp", "ggml"]
RUST = ["burn", "candle"]
PEERS = [*PYTHON, *RUST]

#: outputs come back from malloc warm and in huge pages, instead of being mapped and cleared page by page
WARM = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "1000000000000",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}


def environment(peer, threads, warm=True):
    """The best settings known for each; without a binding, OpenMP's threads at times share a processor."""
    variables = dict(os.environ, **(WARM if warm else {}), TF_CPP_MIN_LOG_LEVEL="3", JAX_PLATFORMS="cpu")
    variables |= {"OMP_NUM_THREADS": str(threads), "RAYON_NUM_THREADS": str(threads)}
    if peer in OPENMP:
        variables["OMP_PROC_BIND"] = "true"
    if peer == "compile":
        variables["TORCHINDUCTOR_CACHE_DIR"] = str(TARGET / "inductor")
    return variables


def build(peers):
    """Builds what the peers need, but for a library that is given: to compare versions, each is built once."""
    command = ["cargo", "build", "--release", "--quiet", "--lib"]
    if "CELLNORM_PEERS_LIBRARY" not in os.environ:
        subprocess.run(command, cwd=ROOT, check=True)
    if any(peer in RUST for peer in peers):
        subprocess.run([*command[:4], "--features", "rust-peers", "--bin", "rust_peers"], cwd=ROOT, check=True)


def measure(peer, keys, pythons, threads, budget):
    """Yields what the peer's process says of the time of each case."""
    if peer in RUST:
        command = [str(TARGET / "release/rust_peers")]
    else:
        command = [python_of(peer, pythons), "-m", "measure.worker"]
    return converse(peer, [*command, peer, str(threads), str(budget)], keys, threads)


def python_of(peer, pythons):
    """The interpreter that has the peer; any with numpy does for those in Rust."""
    return pythons.get(peer) or pythons.get(PYTHON.get(peer, "torch")) or sys.executable


def converse(peer, command, keys, threads):
    """Gives the process a case a line and yields its answers. If it dies, the case it died of is skipped and another goes on."""
    (TARGET / "logs").mkdir(parents=True, exist_ok=True)
    with open(TARGET / "logs" / f"{peer}.log", "w") as log:
        while keys:
            process = subprocess.Popen(
                command, cwd=ROOT, env=environment(peer, threads), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=log, text=True,
            )
            hello = process.stdout.readline()
            if not hello:
                yield {"peer": peer, "skipped": f"did not start: see {log.name}"}
                return
            yield json.loads(hello)
            for at, key in enumerate(keys):
                try:
                    process.stdin.write(key + "\n")
                    process.stdin.flush()
                    line = process.stdout.readline()
                except BrokenPipeError:
                    line = ""
                yield json.loads(line) if line else {"key": key, "peer": peer, "skipped": "its process died"}
                if not line:
                    break
            keys = keys[at + 1 :]
            process.stdin.close()
            process.wait()
