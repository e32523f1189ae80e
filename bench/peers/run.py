"""Times Cellnorm beside other libraries, each pair in alternation over the same arrays.

    python run.py --python torch=/path/python,jax=/path/python,tf=/path/python --csv results/MACHINE.csv

README.md says what is measured and how.
"""

import argparse
import re
import sys
import time
from pathlib import Path

from measure import launch, records, report
from measure.cases import all_cases


def main():
    options = _options()
    peers = options.peers
    if options.show:
        rows, about = records.read(options.show)
        rows = [row for row in rows if row["peer"] in peers]
        return _print(rows, about, options.json)
    pattern = re.compile(options.cases)
    keys = [case.key for case in all_cases() if pattern.search(case.key)]
    print(f"{len(keys)} cases, {', '.join(peers)}", file=sys.stderr)
    launch.build(peers)
    rows, versions = [], {}
    for peer in peers:
        start = time.time()
        for result in launch.measure(peer, keys, options.python, options.threads, options.budget):
            if "key" not in result:
                versions[peer] = result.get("version")
                if "skipped" in result:
                    print(f"{peer} {result['skipped']}", file=sys.stderr)
                continue
            rows.append(records.flat(result, versions))
            _progress(result)
        print(f"{peer}: {time.time() - start:.0f} s", file=sys.stderr)
    order = {key: i for i, key in enumerate(keys)}
    rows.sort(key=lambda row: (order[report.key_of(row)], peers.index(row["peer"])))
    about = records.machine(options.threads)
    about["versions"] = ", ".join(f"{peer} {version}" for peer, version in versions.items() if version)
    if options.csv:
        records.write(options.csv, rows, about)
    _print(rows, about, options.json)


def _options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    pythons = lambda text: dict(pair.split("=", 1) for pair in text.split(",") if pair)
    parser.add_argument("--threads", type=int, default=2)
    peers = f"of {','.join(launch.PEERS)},rust; with --show, those to compare with"
    parser.add_argument("--peers", type=peers_named, default=launch.PEERS, help=peers)
    parser.add_argument("--cases", default="", help="a regular expression for norm-layout-shape-type-pass")
    parser.add_argument("--budget", type=float, default=0.9, help="seconds for a case and a peer")
    places = ",".join(f"{name}=PATH" for name in dict.fromkeys(launch.PYTHON.values()))
    parser.add_argument("--python", type=pythons, default={}, help=f"{places}; default: this one")
    parser.add_argument("--csv", type=Path, help="where to write the results")
    parser.add_argument("--show", type=Path, help="print the tables of such a file instead of measuring")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    return parser.parse_args()


def peers_named(text):
    asked = [name for part in text.split(",") for name in (launch.RUST if part == "rust" else [part])]
    unknown = [name for name in asked if name not in launch.PEERS]
    if unknown:
        raise argparse.ArgumentTypeError(f"no peer {unknown[0]}: there are {', '.join(launch.PEERS)}")
    return asked


def _progress(result):
    what = result.get("skipped") or f"{result['peer_ms']:.4g} ms, ours {result['ours_ms']:.4g}, {result['ratio']:.2f}×"
    print(f"  {result['peer']:<10} {result['key']:<44} {what}", file=sys.stderr)


def _print(rows, about, as_json):
    if as_json:
        return print(records.dump(rows, about))
    merged = report.merge(rows)
    measured = [peer for peer in launch.PEERS if any(peer in entry["peers"] for entry in merged)]
    print("\n".join(f"{name}: {value}" for name, value in about.items()) + "\n")
    print(report.table(merged, measured) + "\n\n" + report.summary(merged))


if __name__ == "__main__":
    main()
