"""Times two libraries and the memory in turns, so that all meet the same weather on the machine."""

import time
from statistics import median

BLOCKS, LEAST_BLOCKS = 9, 5
BLOCK_SECONDS = 0.02
#: a peer that takes this many times as long is known well enough from few runs
FAR = 5
#: untimed runs before each block: processors and threads that rested wake slowly in a virtual machine
WARM = 0.04
#: how long, at most, the pools of threads may spin after their work
SPIN = 0.2


def alternate(ours, peer, stream, budget):
    """`ours`, `peer` and `stream` run so many times and return the seconds of all runs together. Takes about `budget` seconds,
    and as long as the pools of threads spin."""
    runners = [ours, peer, stream]
    single = [_estimate(run) for run in runners]
    block, blocks = BLOCK_SECONDS, BLOCKS
    far = single[1] > FAR * single[0]
    if far:
        block, blocks = 0.0, 3
    need = lambda: blocks * sum(max(t, block) + (WARM if t < WARM else 0) for t in single)
    while need() > budget and blocks > LEAST_BLOCKS:
        blocks -= 1
    while need() > budget and block > 0.002:
        block /= 1.5
    while need() > budget and blocks > 3:
        blocks -= 1
    least = 3 if not far and blocks * sum(4 * t for t in single) < 1.5 * budget else 1
    counts = [max(least, round(block / t)) for t in single]
    times, cpu, wall = [[], [], []], [0.0] * 3, [0.0] * 3
    for turn in range(blocks):
        for i in [0, 1, 2] if turn % 2 == 0 else [2, 1, 0]:
            settle()
            _warm(runners[i], single[i])
            cpu_start, start = time.process_time(), time.perf_counter()
            times[i].append(runners[i](counts[i]) / counts[i])
            wall[i] += time.perf_counter() - start
            cpu[i] += time.process_time() - cpu_start
    own, other, memory = times
    return {
        "ours_ms": median(own) * 1e3,
        "peer_ms": median(other) * 1e3,
        "ratio": median(b / a for a, b in zip(own, other)),
        "stream_ms": median(memory) * 1e3,
        "share": median(m / a for a, m in zip(own, memory)),
        # processors kept busy: near 1 where 2 threads should run means that they shared one
        "ours_cpus": cpu[0] / wall[0],
        "peer_cpus": cpu[1] / wall[1],
        "blocks": blocks,
    }


def settle():
    """Waits until no thread of the process is busy: PyTorch's spin for milliseconds, ONNX Runtime's for 30, and whoever comes next
    would share a processor with them."""
    start = time.perf_counter()
    while time.perf_counter() - start < SPIN:
        cpu, wall = time.process_time(), time.perf_counter()
        time.sleep(0.002)
        if time.process_time() - cpu < 0.1 * (time.perf_counter() - wall):
            return


def faster(calls):
    """The one of the functions that takes less time."""
    best = []
    for call in calls:
        run = timed(call)
        settle()
        single = _estimate(run)
        _warm(run, single)
        count = max(1, round(BLOCK_SECONDS / single))
        best.append(min(run(count) for _ in range(3)) / count)
    return calls[best.index(min(best))]


def _warm(run, single):
    if single < WARM:
        run(max(1, round(WARM / single)))


def _estimate(run):
    """Seconds of a warm run, roughly."""
    run(1)
    first = run(1)
    if first > 0.01:
        return first
    times = max(2, min(1000, int(0.002 / max(first, 1e-7))))
    return max(min(run(times), run(times)) / times, 1e-9)


def timed(call):
    """A function that runs `call` so many times and returns the seconds."""

    def run(times):
        start = time.perf_counter()
        for _ in range(times):
            call()
        return time.perf_counter() - start

    return run
