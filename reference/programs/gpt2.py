"""GPT-2 as a program: its sizes, its ten operations a block, and the passes that follow.

`block` is the model. Forward takes the list in order, backward the same list reversed; the buffers'
names follow from the steps' (see `reference.builder`). The names of parameters are Hugging Face's.
Rewrites, chosen in `gpt2`'s arguments, turn the plain program into a fast or a small one.

Source: Radford et al., "Language Models are Unsupervised Multitask Learners", 2019.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import prod

from reference import rewrites
from reference.builder import Builder, gradient
from reference.program import Program, ProgramError, Step, View
from reference.signature import signature

SEGMENT = 256  # elements; every tensor in a region begins on a segment of its own


@dataclass(frozen=True)
class Config:
    """Sizes of a model: L layers, H heads, C channels, V words, Tmax positions."""

    L: int
    H: int
    C: int
    V: int = 50257
    Tmax: int = 1024

    def __post_init__(self):
        if min(self.L, self.H, self.C, self.V, self.Tmax) < 1 or self.C % self.H:
            raise ProgramError(f"found {self}, expected sizes of at least 1 and C a multiple of H")

    @property
    def Vp(self) -> int:
        """The vocabulary padded to a multiple of 128."""
        return -(-self.V // 128) * 128


CONFIGS = {
    "test": Config(L=2, H=2, C=32, V=301, Tmax=32),
    "tiny": Config(L=4, H=4, C=128),
    "d6": Config(L=6, H=6, C=384),
    "gpt2": Config(L=12, H=12, C=768),
    "gpt2-medium": Config(L=24, H=16, C=1024),
    "gpt2-large": Config(L=36, H=20, C=1280),
    "gpt2-xl": Config(L=48, H=25, C=1600),
}


def config(size: Config | str | int) -> Config:
    """Sizes by name ("gpt2"), by depth (12, "12", "d12"), or as they are.

    gpt2 has 124 million parameters, gpt2-medium 355, gpt2-large 774, gpt2-xl 1558.
    """
    if isinstance(size, Config):
        return size
    depth = str(size).removeprefix("d")
    by_depth = {str(c.L): c for name, c in CONFIGS.items() if name not in ("test", "tiny")}
    found = CONFIGS.get(str(size)) or by_depth.get(depth)
    if found is None:
        names, depths = ", ".join(CONFIGS), ", ".join(f"d{depth}" for depth in by_depth)
        raise ProgramError(f"model size: found {size}, expected one of {names} or {depths}")
    return found


def parameters(c: Config) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all parameters, in the order in which backward completes gradients.

    The embeddings come last: `wte` is the output head too, but its gradient is complete only when
    the embedding, the very first step, has added its part.
    """
    shapes = {"ln_f.weight": (c.C,), "ln_f.bias": (c.C,)}
    for layer in reversed(range(c.L)):
        for name, *shape in (
            ("mlp.c_proj", c.C, 4 * c.C), ("mlp.c_fc", 4 * c.C, c.C), ("ln_2", c.C),
            ("attn.c_proj", c.C, c.C), ("attn.c_attn", 3 * c.C, c.C), ("ln_1", c.C),
        ):
            shapes[f"h.{layer}.{name}.weight"] = tuple(shape)
            shapes[f"h.{layer}.{name}.bias"] = tuple(shape[:1])
    return {**shapes, "wte.weight": (c.Vp, c.C), "wpe.weight": (c.Tmax, c.C)}


# Of each step its operation, its name, and the buffers that do not follow from the name.
Wiring = list[tuple[str, str, dict[str, str]]]


def block(h: str, x: str) -> Wiring:
    """The ten operations of block `h`; `x` names the residual stream that comes in."""
    mid, out = f"{h}.res_mid", f"{h}.res_out"
    return [
        ("layernorm", f"{h}.ln_1", {"inp": x}),
        ("linear", f"{h}.attn.c_attn", {"inp": f"{h}.ln_1.out"}),
        ("attention", f"{h}.attn", {"qkv": f"{h}.attn.c_attn.out"}),
        ("linear", f"{h}.attn.c_proj", {"inp": f"{h}.attn.out"}),
        ("residual", mid, {"inp1": x, "inp2": f"{h}.attn.c_proj.out", "out": mid}),
        ("layernorm", f"{h}.ln_2", {"inp": mid}),
        ("linear", f"{h}.mlp.c_fc", {"inp": f"{h}.ln_2.out"}),
        ("gelu", f"{h}.mlp.gelu", {"inp": f"{h}.mlp.c_fc.out"}),
        ("linear", f"{h}.mlp.c_proj", {"inp": f"{h}.mlp.gelu.out"}),
        ("residual", out, {"inp1": mid, "inp2": f"{h}.mlp.c_proj.out", "out": out}),
    ]


def model(L: int) -> Wiring:
    """Embedding, L blocks, last LayerNorm and head. The head's gradient stands in `logits` itself,
    where the classifier leaves it."""
    tables = {"tokens": "tokens", "wte": "wte.weight", "wpe": "wpe.weight"}
    wiring, x = [("embedding", "embedding", tables)], "embedding.out"
    for layer in range(L):
        wiring += block(f"h.{layer}", x)
        x = f"h.{layer}.res_out"
    head = {"inp": "ln_f.out", "weight": "wte.weight", "logits": "logits", "dlogits": "logits"}
    return [*wiring, ("layernorm", "ln_f", {"inp": x}), ("head", "head", head)]


LOSS = {"logits": "logits", "targets": "targets", "losses": "losses"}
SCALED = {**LOSS, "dscale": "dscale"}


def gpt2(
    size: Config | str | int,
    B: int,
    T: int,
    *,
    fuse: Iterable[str] | str = (),
    head_chunks: int = 1,
    recompute: Iterable[str] = (),
    master: bool = False,
    stochastic: bool = False,
    consts: Mapping[str, Mapping[str, float]] | None = None,
) -> Program:
    """GPT-2's training, evaluation and sampling on batches of B sequences of T tokens.

    fuse         names of `rewrites.FUSIONS`, "shared_residual_gradient", or "all" for
                 `rewrites.ALL`. Sharing needs the roles F and R to be one dtype.
    head_chunks  the head and the classifier run in so many chunks of rows, in pass "backward", so
                 that `logits` holds one chunk (but never less than one sequence, for sampling).
    recompute    patterns of activations that backward computes anew instead of keeping them:
                 "gelu", "ln", "layer", or as "h.3.mlp.gelu.out", "h.[0-5].*".
    master       AdamW updates a float32 copy of the parameters, region "master" with members
                 `<parameter>.master`, of which the parameters are the rounded image.
    stochastic   without masters: AdamW rounds narrow parameters up or down at random.
    consts       constants where not the contract's defaults: {"adamw_update": {"beta2": 0.99}}.

    Raises ProgramError for sizes that do not fit and names that do not exist.
    """
    c = config(size)
    if not (B >= 1 and 1 <= T <= c.Tmax):
        raise ProgramError(f"found B={B}, T={T}, expected B >= 1 and T from 1 to Tmax={c.Tmax}")
    consts = {op: dict(given) for op, given in (consts or {}).items()}
    builder = _declare(c, B, T, consts, master)
    program = builder.program
    program.passes = _passes(builder, c, _optimizer(master, stochastic))
    program.results = {"forward": ("losses",), "evaluate": ("losses",), "sample": ("logits",),
                       "update": ("norm", "scale")}
    program = rewrites.recompute(program, recompute)
    program = rewrites.fuse(program, fuse)
    program = rewrites.chunk_head(program, head_chunks)
    return rewrites.prune(program).validate()


def _optimizer(master: bool, stochastic: bool) -> str:
    if master and stochastic:
        raise ProgramError("found master and stochastic, expected one: masters are not rounded")
    return "adamw_master" if master else "adamw_stochastic" if stochastic else "adamw"


def _declare(c: Config, B: int, T: int, consts: dict, master: bool) -> Builder:
    """Everything that exists before a step has run: regions, inputs, numbers, tables."""
    shapes = parameters(c)
    segments = {name: -(-prod(shape) // SEGMENT) for name, shape in shapes.items()}
    S, N = sum(segments.values()), B * T
    b = Builder({"B": B, "T": T, "N": N, "C": c.C, "H": c.H, "D": c.C // c.H, "V": c.V, "Vp": c.Vp,
                 "L": c.L, "Tmax": c.Tmax, "S": S, "E": SEGMENT}, consts)
    b.buffer("parameters", "P", (S, SEGMENT), "parameter")
    b.buffer("gradients", "G", (S, SEGMENT), "gradient")
    for state in ("m", "v", "master") if master else ("m", "v"):
        b.buffer(state, "F32", (S, SEGMENT), "state")
    offset = 0
    for name, shape in shapes.items():
        b.buffer(name, "P", shape, "parameter", "parameters", offset)
        b.buffer(gradient(name), "G", shape, "gradient", "gradients", offset)
        if master:
            b.buffer(f"{name}.master", "F32", shape, "state", "master", offset)
        offset += segments[name] * SEGMENT
    b.buffer("tokens", "I32", (B, T), "input")
    b.buffer("targets", "I32", (N,), "input")
    b.buffer("logits", "F", (N, c.Vp))
    for name, role in (("lr", "F32"), ("t", "I32"), ("dscale", "F32"), ("norm", "F32"),
                       ("scale", "F32")):
        b.buffer(name, role, (1,), "dyn")
    b.buffer("decay", "F32", (S,), "table")
    b.program.tables["decay"] = [
        (segments[name], float(len(shape) == 2)) for name, shape in shapes.items()
    ]
    return b


def _passes(b: Builder, c: Config, optimizer: str) -> dict[str, list[Step]]:
    wiring = model(c.L)
    forward = [b.step(f"{op}_forward", name, **wires) for op, name, wires in wiring]
    # The last residual gradient has no residual behind it to write it first: ln_f adds to zeros.
    last = b.program.buffers[f"h.{c.L - 1}.res_out"]
    b.buffer(gradient(last.name), last.role, last.shape)
    backward = [b.step(f"{op}_backward", name, **wires) for op, name, wires in reversed(wiring)]
    region = {"weight": "parameters", "dweight": "gradients", "m": "m", "v": "v"}
    region |= {"master": "master"} if optimizer == "adamw_master" else {}
    numbers = {name: name for name in ("decay", "scale", "lr", "t")}
    return {
        "zero": [b.zero("gradients")],
        "forward": [*forward, b.step("classifier_forward", "classifier", **SCALED)],
        "backward": [b.zero(gradient(last.name)), *backward],
        "update": [
            b.step("global_norm_update", "global_norm", dweight="gradients",
                   norm="norm", scale="scale"),
            b.step(f"{optimizer}_update", optimizer, **region, **numbers),
        ],
        "evaluate": [*forward, b.step("cross_entropy_forward", "cross_entropy", **LOSS)],
        "sample": [_one_sequence(b.program, step) for step in forward],
    }


def _one_sequence(program: Program, step: Step) -> Step:
    """The step on the first sequence of the batch, in the first rows of the same buffers."""
    axes = program.axes(step) | {"B": 1, "N": program.sizes["T"]}
    args = dict(step.args)
    for name, note in signature(step.op).tensors.items():
        buffer = program.buffers[args[name].buffer]
        if buffer.kind in ("input", "activation"):
            args[name] = View(buffer.name, 0, prod(note.shape(axes)) // prod(buffer.rows[1:]))
    return replace(step, args=args, axes={"B": 1})
