"""What is measured: normalizations of tensors, and the passes over them."""

from dataclasses import dataclass
from functools import cached_property

IMAGES = [(64, 16, 112, 112), (32, 64, 56, 56), (32, 256, 14, 14), (8, 512, 7, 7)]
ROWS = [(8, 512, 768), (1, 2048, 4096), (64, 128, 1024), (16, 256), (1, 768)]
BF16_IMAGES = [(32, 64, 56, 56)]
BF16_ROWS = [(8, 512, 768), (1, 2048, 4096), (64, 128, 1024)]

PASSES = ["forward", "training", "inference"]
BYTES = {"f32": 4, "bf16": 2, "f16": 2}
EPSILON = 1e-5


@dataclass(frozen=True)
class Case:
    """One row of the table. `layout` is "first" or "last" (where the channels are in memory), or "rows"."""

    norm: str
    layout: str
    shape: tuple
    dtype: str
    step: str  # one of PASSES; "training" is forward and backward

    @cached_property
    def key(self):
        return "-".join([self.norm, self.layout, "x".join(map(str, self.shape)), self.dtype, self.step])

    @classmethod
    def parse(cls, key):
        norm, layout, shape, dtype, step = key.split("-")
        return cls(norm, layout, tuple(map(int, shape.split("x"))), dtype, step)

    @property
    def is_rows(self):
        return self.layout == "rows"

    @property
    def channels(self):
        """The length of gamma and of beta."""
        return self.shape[-1] if self.is_rows else self.shape[1]

    @property
    def groups(self):
        return 32 if self.channels % 32 == 0 else 4

    @property
    def has_beta(self):
        return self.norm != "rms"

    @property
    def elements(self):
        elements = 1
        for length in self.shape:
            elements *= length
        return elements

    @property
    def tensor_bytes(self):
        return self.elements * BYTES[self.dtype]

    @property
    def family(self):
        """The class that the summary puts the case in: the norm, and its layout where it has one."""
        if self.step == "inference":
            return "batch inference"
        return {"first": f"{self.norm} cf", "last": f"{self.norm} cl", "rows": self.norm}[self.layout]


def all_cases():
    """In an order that keeps equal references next to each other: they are computed once."""
    cases = []
    for dtype, images, rows in [("f32", IMAGES, ROWS), ("bf16", BF16_IMAGES, BF16_ROWS)]:
        for shape in images:
            for norm in ["batch", "group", "instance"]:
                if dtype == "bf16" and norm == "instance":
                    continue
                passes = PASSES if norm == "batch" else PASSES[:2]
                cases += [Case(norm, layout, shape, dtype, p) for layout in ["first", "last"] for p in passes]
        for shape in rows:
            cases += [Case(norm, "rows", shape, dtype, p) for norm in ["layer", "rms"] for p in PASSES[:2]]
    return cases
