#!/usr/bin/env python3
"""Compares what several tools fold: what they leave, and whether the result is right.

    python peers.py [--cellnorm PATH] [--models FILE ...] [--csv FILE] [--tools NAME ...]
                    [--only PATTERN ...] [--no-patterns] [--dim NAME=SIZE ...] [--keep FOLDER]

Each tool runs over each pattern of crates/cellnorm-onnx/tests/fixtures/patterns.json
and each model given, in processes of their own with a timeout. README.md says what
the cells of the table mean.
"""
import argparse
import csv
import importlib.metadata
import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zlib

HERE = os.path.dirname(os.path.abspath(__file__))
FIXTURES = os.path.join(HERE, "..", "..", "crates", "cellnorm-onnx", "tests", "fixtures")
PEERS = ["onnxoptimizer", "onnxsim", "onnxslim", "onnxscript", "onnxruntime"]
TOLERANCES = {"float32": 1e-4, "float16": 2e-2, "bfloat16": 1e-1, "float64": 1e-4}
AFFINE = ("Mul", "Add", "Sub", "Div")
NORMS = ("LayerNormalization", "RMSNormalization")


# ---------------------------------------------------------------------------
# The tools, each in a worker process
# ---------------------------------------------------------------------------
def onnxoptimizer_(source, target):
    import onnx
    import onnxoptimizer
    model = onnx.load(source)
    passes = onnxoptimizer.get_fuse_and_elimination_passes()
    onnx.save(onnxoptimizer.optimize(model, passes, fixed_point=True), target)


def onnxsim_(source, target):
    import onnx
    import onnxsim
    model, _ = onnxsim.simplify(source, include_subgraph=True)
    onnx.save(model, target)


def onnxslim_(source, target):
    import onnx
    import onnxslim
    onnx.save(onnxslim.slim(source), target)


def onnxscript_(source, target):
    import onnx
    import onnxscript.optimizer
    import onnxscript.rewriter
    model = onnxscript.optimizer.optimize(onnx.load(source))
    onnx.save(onnxscript.rewriter.rewrite(model), target)


def onnxruntime_(source, target):
    import onnxruntime as ort
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = target
    options.log_severity_level = 4
    ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])


TOOLS = {"onnxoptimizer": onnxoptimizer_, "onnxsim": onnxsim_, "onnxslim": onnxslim_,
         "onnxscript": onnxscript_, "onnxruntime": onnxruntime_}


# ---------------------------------------------------------------------------
# Judging a result
# ---------------------------------------------------------------------------
def bodies(node):
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def count(model):
    """{"batch_norms", "affine", "norms"} of a model, bodies and functions included.

    Affine: Mul, Add, Sub, Div with one operand computed from constants only and
    one that is not; not the Add right behind a MatMul, which is its bias.
    Norms: those whose scale is not 1 or whose bias is not 0.
    """
    import numpy as np
    from onnx import numpy_helper
    found = {"batch_norms": 0, "affine": 0, "norms": 0}

    def values(tensors, name):
        try:
            return numpy_helper.to_array(tensors[name])
        except Exception:  # not an initializer, or in a file beside
            return None

    def walk(nodes, constant, tensors, producers):
        for node in nodes:
            for name in node.output:
                producers[name] = node.op_type
            inner = list(bodies(node))
            data = [i for i in node.input if i]
            if node.op_type == "Constant":
                constant.update(node.output)
                for attribute in node.attribute:
                    if attribute.name == "value":
                        tensors[node.output[0]] = attribute.t
                continue
            if not inner and data and all(i in constant for i in data) and not node.op_type.startswith("Random"):
                constant.update(node.output)
                continue
            if node.op_type == "BatchNormalization":
                found["batch_norms"] += 1
            elif node.op_type in NORMS:
                parts = [values(tensors, i) for i in node.input[1:3] if i]
                plain = len(parts) > 0 and parts[0] is not None and bool((parts[0] == 1).all())
                if len(parts) > 1:
                    plain = plain and parts[1] is not None and not np.any(parts[1])
                found["norms"] += not plain
            elif node.op_type in AFFINE and len(data) == 2:
                runtime = [i for i in data if i not in constant]
                bias = node.op_type == "Add" and runtime and producers.get(runtime[0]) == "MatMul"
                if len(runtime) == 1 and not bias:
                    found["affine"] += 1
            for graph in inner:
                enter(graph, constant, tensors, producers)

    def enter(graph, constant, tensors, producers):
        tensors = dict(tensors)
        tensors.update({i.name: i for i in graph.initializer})
        constant = set(constant)
        constant -= {i.name for i in graph.input}
        constant |= {i.name for i in graph.initializer}
        walk(graph.node, constant, tensors, dict(producers))

    enter(model.graph, set(), {}, {})
    for function in model.functions:
        walk(function.node, set(), {}, {})
    return found


def feeds_of(model, job):
    """Inputs for a model: those stored, else random ones from a fixed seed."""
    import ml_dtypes
    import numpy as np
    from onnx import helper
    types = {"bfloat16": ml_dtypes.bfloat16}
    if job.get("inputs"):
        return {name: np.array(v["values"]).astype(types.get(v["type"], v["type"])).reshape(v["shape"])
                for name, v in job["inputs"].items()}
    initializers = {i.name for i in model.graph.initializer}
    rng = np.random.default_rng(zlib.crc32(job["name"].encode()))
    feeds = {}
    for value in model.graph.input:
        if value.name in initializers:
            continue
        tensor = value.type.tensor_type
        shape = []
        for axis, dim in enumerate(tensor.shape.dim):
            known = dim.dim_value if dim.HasField("dim_value") else 0
            shape.append(known if known > 0 else job["dims"].get(dim.dim_param, 1 if axis == 0 else 64))
        dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        data = rng.standard_normal(shape)
        feeds[value.name] = data.astype(dtype) if dtype.kind in "fV" else np.ones(shape, dtype)
    return feeds


def overridable(model):
    """Initializers that the caller may replace."""
    if model.ir_version < 4:
        return []
    names = {i.name for i in model.graph.initializer}
    return [i.name for i in model.graph.input if i.name in names]


SQUASH = ("Softmax", "LogSoftmax", "Sigmoid")


def before_squash(original, result):
    """Both models with one more output each, or None: what goes into the last Softmax or Sigmoid.

    Behind it, random inputs often give 0 and 1 alone, which compare nothing.
    """
    import onnx

    def extended(model, output):
        made = {name: n for n in model.graph.node for name in n.output}
        node = made.get(output)
        while node is not None and node.op_type in ("Identity", "Reshape", "Flatten", "Squeeze"):
            node = made.get(node.input[0])
        if node is None or node.op_type not in SQUASH or node.input[0] in {o.name for o in model.graph.output}:
            return None
        longer = onnx.ModelProto()
        longer.CopyFrom(model)
        longer.graph.output.append(onnx.ValueInfoProto(name=node.input[0]))
        return node.op_type, node.input[0], longer

    if sum(i.ByteSize() for i in original.graph.initializer) > 1e9 or side_files(original) or side_files(result):
        return None
    pair = [extended(m, original.graph.output[0].name) for m in (original, result)]
    if None in pair or pair[0][0] != pair[1][0]:
        return None
    return [(m.SerializeToString(), name) for _, name, m in pair]


def run_runtime(path, feeds, names):
    import onnxruntime as ort
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    takes = {i.name for i in session.get_inputs()} | {i.name for i in session.get_overridable_initializers()}
    return session.run(names, {k: v for k, v in feeds.items() if k in takes})


def run_reference(path, feeds, names):
    import onnx
    from onnx.reference import ReferenceEvaluator
    opset = next(o.version for o in onnx.load(path, load_external_data=False).opset_import if o.domain in ("", "ai.onnx"))
    if opset < 14:  # onnx.reference takes older BatchNormalization for training
        raise NotImplementedError
    return ReferenceEvaluator(path).run(names, feeds)


def difference(expected, actual):
    """The largest difference of two lists of outputs, relative to each output's scale."""
    import numpy as np
    worst = 0.0
    for e, a in zip(expected, actual):
        e, a = np.asarray(e, np.float64), np.asarray(a, np.float64)
        if e.shape != a.shape or (np.isnan(e) != np.isnan(a)).any():
            return float("inf")
        same = np.isnan(e) | (e == a)
        finite = np.abs(e[np.isfinite(e)])
        scale = max(finite.max(initial=0.0), 1e-30)
        gap = np.where(same, 0.0, np.abs(np.where(same, 0.0, e) - np.where(same, 0.0, a)))
        worst = max(worst, float(gap.max(initial=0.0)) / scale)
    return worst


def side_files(model):
    """Names of the files beside a model that hold its tensors."""
    tensors = list(model.graph.initializer)
    tensors += [a.t for n in model.graph.node for a in n.attribute if a.HasField("t")]
    return {e.value for t in tensors for e in t.external_data if e.key == "location"}


def judge(job):
    import numpy as np
    import onnx
    source, target = job["source"], job["target"]
    if job["complete"]:  # a result may go on using the original's files: a user has them in one folder
        for name in side_files(onnx.load(target, load_external_data=False)):
            original, beside = (os.path.join(os.path.dirname(p), name) for p in (source, target))
            if os.path.exists(original) and not os.path.exists(beside):
                shutil.copyfile(original, beside)
    # tensors in side files are read where they are needed: for the counts of norms they are not
    original = onnx.load(source, load_external_data=False)
    result = onnx.load(target, load_external_data=False)
    verdict = {"before": count(original), "after": count(result), "valid": True, "difference": None, "note": ""}

    def check(path):
        try:
            onnx.checker.check_model(path, full_check=True)
            return None
        except Exception as error:
            return " ".join(str(error).split())[:200]

    problem = check(target)
    if problem and not check(source):
        verdict.update(valid=False, note=problem)
        return verdict

    feeds = feeds_of(original, job)
    names = [o.name for o in original.graph.output]
    reference, runs = None, False
    try:
        reference = run_runtime(source, feeds, names)
        runs = True
        again = run_runtime(source, feeds, names)
        if difference(reference, again) != 0.0:
            verdict["note"] = "not compared: two runs of the original differ"
            return verdict
    except Exception:
        if job.get("outputs"):
            stored = job["outputs"]
            reference = [np.array(stored[n]["values"]).reshape(stored[n]["shape"]) for n in names]
    if reference is None:
        verdict["note"] = "not compared: the original does not run"
        return verdict
    try:
        actual = run_runtime(target, feeds, names)
    except Exception as error:
        if runs:
            verdict.update(valid=False, note=" ".join(str(error).split())[:200])
            return verdict
        try:
            actual = run_reference(target, feeds, names)
        except Exception:
            verdict["note"] = "not compared: the result does not run here, nor did the original"
            return verdict
    verdict["difference"] = difference(reference, actual)
    pair = before_squash(original, result) if runs else None
    if pair:
        verdict["note"] = "compared before the last Softmax or Sigmoid, too"
        gap = difference(*(run_runtime(model, feeds, [name]) for model, name in pair))
        scales = [float(np.abs(np.asarray(r, np.float64)).max(initial=0.0)) for r in reference]
        if min(scales) < 1e-5:  # saturated: only the values before say anything
            verdict.update(difference=gap, note="compared before the last Softmax or Sigmoid, saturated behind")
        verdict["difference"] = max(verdict["difference"], gap)
    elem = onnx.TensorProto.DataType.Name(original.graph.output[0].type.tensor_type.elem_type)
    verdict["type"] = {"FLOAT": "float32", "FLOAT16": "float16", "BFLOAT16": "bfloat16", "DOUBLE": "float64"}.get(elem, "float32")

    replaced = overridable(original)
    if replaced and runs:
        initializers = {i.name: onnx.numpy_helper.to_array(i) for i in original.graph.initializer}
        feeds.update({n: (initializers[n] * 1.5 + 0.1).astype(initializers[n].dtype) for n in replaced})
        expected = run_runtime(source, feeds, names)
        verdict["override"] = difference(expected, run_runtime(target, feeds, names))
    return verdict


def serve(work):
    """A worker: reads a job per line, writes an answer per line."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what tools print must not mix with the answers
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        try:
            answer = {"ok": True, "value": work(json.loads(line))}
        except Exception as error:
            answer = {"ok": False, "error": f"{type(error).__name__}: " + " ".join(str(error).split())[:300]}
        print(json.dumps(answer), file=answers, flush=True)


class Worker:
    """One process that does jobs; a new one after a crash or a timeout."""

    def __init__(self, kind):
        self.kind, self.process = kind, None

    def start(self):
        command = [sys.executable, os.path.abspath(__file__), "--worker", self.kind]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, text=True)
        self.lines = queue.Queue()
        threading.Thread(target=self.read, args=(self.process, self.lines), daemon=True).start()
        self.lines.get(timeout=120)

    @staticmethod
    def read(process, lines):
        for line in process.stdout:
            lines.put(line)
        lines.put(None)

    def stop(self):
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    def ask(self, job, timeout):
        """The worker's answer; {"ok": False, "crash": True} when it died or took too long."""
        if self.process is None:
            self.start()
        try:
            self.process.stdin.write(json.dumps(job) + "\n")
            self.process.stdin.flush()
            line = self.lines.get(timeout=timeout)
        except (queue.Empty, BrokenPipeError):
            self.stop()
            return {"ok": False, "crash": True, "error": f"no answer in {timeout} s"}
        if line is None:
            code = self.process.wait()
            self.stop()
            return {"ok": False, "crash": True, "error": f"the process ended with {code}"}
        return json.loads(line)


# ---------------------------------------------------------------------------
def run_cellnorm(binary, source, target, timeout):
    try:
        done = subprocess.run([binary, "fold", source, "-o", target, "--json"], capture_output=True,
                              text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        return {"ok": False, "crash": True, "error": f"no answer in {timeout} s"}
    if done.returncode == 0:
        return {"ok": True}
    message = " ".join((done.stderr or done.stdout).split())[-300:]
    crash = done.returncode < 0 or done.returncode == 101
    return {"ok": False, "crash": crash, "error": f"exit code {done.returncode}: {message}"}


def judged(job, tool, answer, worker, timeout):
    """A row of the CSV."""
    row = {"model": job["name"], "tool": tool, "state": "", "left": "", "batch_norms_left": "",
           "affine_left": "", "norms_left": "", "difference": "", "note": ""}
    if not answer["ok"]:
        # ONNX Runtime and cellnorm say what they do not take; the others promise to take all
        refuses = tool in ("onnxruntime", "cellnorm") and not answer.get("crash")
        row.update(state="refuses" if refuses else "crash", note=answer.get("error", ""))
        return row
    if not os.path.exists(job["target"]):
        row.update(state="crash", note="wrote no file")
        return row
    answer = worker.ask(dict(job, complete=tool != "cellnorm"), timeout)
    if not answer["ok"]:
        row.update(state="invalid", note=answer["error"])
        return row
    v = answer["value"]
    before, after = v["before"], v["after"]
    counted = job.get("counted")
    if counted is None:  # a real model: its Mul and Add are counted as they are
        affine = after["affine"]
        left = after["batch_norms"]
    else:
        other = before["batch_norms"] + before["affine"] - len(counted)
        left = max(0, after["batch_norms"] + after["affine"] - other) + after["norms"]
        affine = max(0, left - after["batch_norms"] - after["norms"])
    row.update(left=left, batch_norms_left=after["batch_norms"], affine_left=affine, norms_left=after["norms"],
               note=v["note"])
    if v["difference"] is not None:
        row["difference"] = f"{v['difference']:.2e}"
    limit = TOLERANCES[v.get("type", "float32")]
    if not v["valid"]:
        row["state"] = "invalid"
    elif v["difference"] is not None and not v["difference"] <= limit:
        row["state"] = "wrong"
    elif v.get("override") is not None and not v["override"] <= limit:
        row.update(state="override", note="a value given for the overridable input has no effect")
    elif counted is not None and left < job["least"] and v["difference"] is None:
        row["state"] = "unsafe"
    else:
        row["state"] = "ok"
    return row


def cell(row):
    state = row["state"]
    if state in ("crash", "refuses"):
        return state
    if state == "invalid":
        return f"invalid ({row['left']} left)" if row["left"] != "" else "invalid"
    if state == "wrong":
        return f"wrong {float(row['difference']):.2g}"
    if state == "override":
        return "override lost"
    if state == "unsafe":
        return f"{row['left']} unsafe"
    return "0" if row["left"] == 0 else f"{row['left']} left"


def table(header, rows):
    widths = [max(len(str(r[i])) for r in [header] + rows) for i in range(len(header))]
    line = lambda r: "| " + " | ".join(str(c).ljust(w) for c, w in zip(r, widths)) + " |"
    return "\n".join([line(header), "|" + "|".join("-" * (w + 2) for w in widths) + "|"] + [line(r) for r in rows])


def version(tool):
    if tool == "cellnorm":
        return "cellnorm"
    return f"{tool} {importlib.metadata.version(tool)}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cellnorm", help="path of the cellnorm binary")
    parser.add_argument("--models", nargs="*", default=[], help="ONNX files beside the patterns")
    parser.add_argument("--csv", help="where to write the rows")
    parser.add_argument("--tools", nargs="*", default=PEERS, choices=PEERS)
    parser.add_argument("--only", nargs="*", help="names of patterns")
    parser.add_argument("--no-patterns", action="store_true")
    parser.add_argument("--dim", nargs="*", default=[], metavar="NAME=SIZE",
                        help="sizes of symbolic axes (otherwise 1 for the first axis, 64 for others)")
    parser.add_argument("--keep", help="folder that keeps what the tools wrote")
    parser.add_argument("--timeout", type=float, default=300, help="seconds per tool and model")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker == "judge":
        return serve(judge)
    if args.worker:
        tool = TOOLS[args.worker]
        return serve(lambda job: tool(job["source"], job["target"]))

    dims = {k: int(v) for k, v in (d.rsplit("=", 1) for d in args.dim)}
    jobs = []
    if not args.no_patterns:
        with open(os.path.join(FIXTURES, "patterns.json"), encoding="utf-8") as f:
            for p in json.load(f):
                if args.only and p["name"] not in args.only:
                    continue
                e = p["expected"]
                jobs.append({"name": p["name"], "source": os.path.join(FIXTURES, p["file"]), "counted": e["counted"],
                             "least": e["left"] + e["norms_left"], "inputs": p["inputs"], "outputs": p["outputs"],
                             "dims": dims})
    for path in args.models:
        jobs.append({"name": os.path.splitext(os.path.basename(path))[0], "source": path, "dims": dims})

    tools = list(args.tools) + (["cellnorm"] if args.cellnorm else [])
    rows = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.keep or scratch

        def column(tool):
            worker, referee = Worker(tool), Worker("judge")
            shutil.rmtree(os.path.join(folder, tool), ignore_errors=True)
            os.makedirs(os.path.join(folder, tool))
            for job in jobs:
                job = dict(job, target=os.path.join(folder, tool, job["name"] + ".onnx"), source=os.path.abspath(job["source"]))
                start = time.perf_counter()
                if tool == "cellnorm":
                    answer = run_cellnorm(args.cellnorm, job["source"], job["target"], args.timeout)
                else:
                    answer = worker.ask(job, args.timeout)
                seconds = time.perf_counter() - start
                row = judged(job, tool, answer, referee, args.timeout)
                row["seconds"] = f"{seconds:.3f}"
                rows[job["name"], tool] = row
            worker.stop()
            referee.stop()

        waiting = queue.Queue()
        for tool in tools:
            waiting.put(tool)

        def columns():
            while True:
                try:
                    tool = waiting.get_nowait()
                except queue.Empty:
                    return
                column(tool)

        threads = [threading.Thread(target=columns) for _ in range(2)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()

    if args.csv:
        fields = ["model", "tool", "state", "left", "batch_norms_left", "affine_left", "norms_left",
                  "difference", "seconds", "note"]
        with open(args.csv, "w", newline="", encoding="utf-8") as f:
            writer = csv.DictWriter(f, fields)
            writer.writeheader()
            for job in jobs:
                for tool in tools:
                    writer.writerow(rows[job["name"], tool])

    names = [version(t) for t in tools]
    patterns = [j for j in jobs if "counted" in j]
    models = [j for j in jobs if "counted" not in j]
    if patterns:
        body = [[j["name"], j["least"]] + [cell(rows[j["name"], t]) for t in tools] for j in patterns]

        def total(label, of):
            return [label, ""] + [sum(map(of, (rows[j["name"], t] for j in patterns))) for t in tools]

        least = {j["name"]: j["least"] for j in patterns}
        body.append(total("patterns at their least, right and valid", lambda r: r["state"] == "ok" and r["left"] <= least[r["model"]]))
        body.append(total("more left than the least", lambda r: r["state"] == "ok" and r["left"] > least[r["model"]]))
        for state in ("wrong", "override", "unsafe", "invalid", "crash", "refuses"):
            body.append(total(state, lambda r: r["state"] == state))
        print(table(["pattern", "least"] + names, body))
    if models:
        if patterns:
            print()
        print(table(["model, BatchNormalization left"] + names,
                    [[j["name"]] + [cell(rows[j["name"], t]) for t in tools] for j in models]))


if __name__ == "__main__":
    main()
