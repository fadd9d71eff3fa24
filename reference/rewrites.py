"""Programs from programs: the same numbers with less memory traffic, or less memory.

Each rewrite takes a plain program and returns another; none knows a model. `recompute` comes before
`fuse`, so that what is computed anew is fused as well.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from reference.program import Program, ProgramError, Step, View
from reference.signature import signature


@dataclass(frozen=True)
class Fusion:
    """Two neighbouring steps that one fused operation replaces.

    `link`: the argument of the first and that of the second which must be one buffer. `args`: for
    each argument of the fused operation the step (1 or 2) and argument that it stands for.
    """

    first: str
    second: str
    link: tuple[str, str]
    args: str


FUSIONS = {
    "residual_layernorm_forward": Fusion(
        "residual_forward", "layernorm_forward", ("out", "inp"),
        "inp1=1.inp1 inp2=1.inp2 weight=2.weight bias=2.bias "
        "res=1.out out=2.out mean=2.mean rstd=2.rstd"),
    "residual_layernorm_backward": Fusion(
        "layernorm_backward", "residual_backward", ("dinp", "dout"),
        "dout=1.dout dres=1.dinp res=1.inp weight=1.weight mean=1.mean rstd=1.rstd "
        "dinp1=2.dinp1 dinp2=2.dinp2 dweight=1.dweight dbias=1.dbias"),
    "linear_gelu_forward": Fusion(
        "linear_forward", "gelu_forward", ("out", "inp"),
        "inp=1.inp weight=1.weight bias=1.bias pre=1.out out=2.out"),
    "linear_gelu_backward": Fusion(
        "gelu_backward", "linear_backward", ("dinp", "dout"),
        "dout=1.dout pre=1.inp inp=2.inp weight=2.weight "
        "dinp=2.dinp dweight=2.dweight dbias=2.dbias"),
    "gelu_linear_forward": Fusion(
        "gelu_forward", "linear_forward", ("out", "inp"),
        "pre=1.inp weight=2.weight bias=2.bias act=1.out out=2.out"),
    "gelu_linear_backward": Fusion(
        "linear_backward", "gelu_backward", ("dinp", "dout"),
        "dout=1.dout pre=2.inp act=1.inp weight=1.weight "
        "dpre=2.dinp dweight=1.dweight dbias=1.dbias"),
}
SHARED = "shared_residual_gradient"
ALL = ("residual_layernorm_forward", "linear_gelu_forward", "gelu_linear_backward", SHARED)


def fuse(program: Program, names: Iterable[str] | str) -> Program:
    """Apply fusions by name, in the order given; "all" is `ALL`.

    Raises ProgramError for an unknown name, and for one that finds nothing left to fuse.
    """
    names = ALL if names == "all" else (names,) if isinstance(names, str) else tuple(names)
    for name in names:
        if name == SHARED:
            after = share_residual_gradient(program)
        elif name in FUSIONS:
            passes = {key: _fuse(steps, name) for key, steps in program.passes.items()}
            after = replace(program, passes=passes)
        else:
            known = ", ".join([*FUSIONS, SHARED])
            raise ProgramError(f"fuse: found {name}, expected some of {known}, or all")
        if after.passes == program.passes:
            raise ProgramError(
                f"fuse: found nothing for {name}, expected neighbours that it replaces; "
                f"another of {', '.join(names)} took them, or the program has none"
            )
        program = after
    return program


def _fuse(steps: list[Step], name: str) -> list[Step]:
    """One pass with every pair that the fusion matches replaced, from the front."""
    readers = Counter(view for step in steps for view in step.reads())
    out: list[Step] = []
    for step in steps:
        fused = _pair(out[-1], step, name, readers) if out else None
        if fused is None:
            out.append(step)
        else:
            out[-1] = fused
    return out


def _pair(first: Step, second: Step, name: str, readers: Counter[View]) -> Step | None:
    """The fused step for two neighbours; None where they do not match."""
    fusion = FUSIONS[name]
    if (first.op, second.op) != (fusion.first, fusion.second):
        return None
    link, args = first.args[fusion.link[0]], {}
    for item in fusion.args.split():
        argument, source = item.split("=")
        which, source = source.split(".")
        args[argument] = (first if which == "1" else second).args[source]
    needed_elsewhere = link not in args.values() and readers[link] > 1
    if link != second.args[fusion.link[1]] or needed_elsewhere:
        return None
    named = first if "weight" in first.args else second
    return Step(name, named.name, args, {**first.axes, **second.axes},
                {**first.consts, **second.consts})


def _renamed(step: Step, names: dict[str, str]) -> Step:
    args = {a: replace(v, buffer=names.get(v.buffer, v.buffer)) for a, v in step.args.items()}
    return replace(step, args=args)


def share_residual_gradient(program: Program) -> Program:
    """One buffer `dres` for the gradient of the whole residual stream; `residual_backward` goes.

    That step only copies: dinp1 = dinp2 = dout. Where the stream is one chain, the copies need not
    exist: the branch reads `dres` before the LayerNorm at its beginning adds to it. `dres` then
    stands for R and F at once, so both must be of one dtype when the program is run.
    """
    steps = program.passes["backward"]
    names = {view.buffer: "dres" for step in steps if step.op == "residual_backward"
             for view in step.args.values()}
    if not names:
        return program
    kept = [_renamed(step, names) for step in steps if step.op != "residual_backward"]
    buffers = {**program.buffers, "dres": replace(program.buffers[next(iter(names))], name="dres")}
    return replace(program, buffers=buffers, passes={**program.passes, "backward": kept})


RECOMPUTE = {"gelu": "h.*.mlp.gelu.out", "ln": "h.*.ln_?.*", "layer": "h.*"}


def recompute(program: Program, patterns: Iterable[str]) -> Program:
    """Backward computes the activations that match anew, just before it first reads them.

    The clones' outputs are buffers of their own, `again.<name>`, so that the originals end with the
    forward pass. A pattern is a word of RECOMPUTE or a glob over buffer names. A pattern with a
    wildcard never takes the stream between blocks (`h.*.res_out`): recomputation begins there.
    Raises ProgramError for a pattern that matches nothing.
    """
    patterns = (patterns,) if isinstance(patterns, str) else tuple(patterns)
    chosen = {name for pattern in patterns for name in _activations(program, pattern)}
    producers = {v.buffer: step for step in program.passes["forward"] for v in step.writes()}
    names: dict[str, str] = {}
    backward: list[Step] = []

    def renew(views: list[View]) -> None:
        for view in views:
            if view.buffer in chosen and view.buffer not in names:
                producer = producers[view.buffer]
                renew(producer.reads())
                names.update({v.buffer: f"again.{v.buffer}" for v in producer.writes()})
                backward.append(replace(_renamed(producer, names), name=f"again.{producer.name}"))

    for step in program.passes["backward"]:
        renew(step.reads())
        backward.append(_renamed(step, names))
    clones = {new: replace(program.buffers[old], name=new) for old, new in names.items()}
    return replace(program, buffers={**program.buffers, **clones},
                   passes={**program.passes, "backward": backward})


def _activations(program: Program, pattern: str) -> set[str]:
    """Names that a pattern of `recompute` takes, of activations that forward writes once."""
    glob = RECOMPUTE.get(pattern, pattern)
    writers = Counter(v.buffer for step in program.passes["forward"] for v in step.writes())
    found = {name for name, count in writers.items() if count == 1 and fnmatchcase(name, glob)}
    if glob not in found:
        found = {name for name in found if not name.endswith(".res_out")}
    if not found:
        raise ProgramError(f"recompute: found no activation for {pattern}, expected one of "
                           f"{', '.join(RECOMPUTE)} or a glob over {', '.join(writers)}")
    return found


def chunk_head(program: Program, chunks: int) -> Program:
    """Head and loss in chunks of rows, so that the logits never stand whole.

    In training a chunk's scores become its gradient at once: head, classifier and head's backward
    run chunk by chunk at the beginning of pass "backward", where `losses` is then complete.
    `logits` keeps at least the rows of one sequence, which sampling needs.
    """
    N, T = program.sizes["N"], program.sizes["T"]
    if chunks < 1 or N % chunks:
        raise ProgramError(f"head_chunks: found {chunks}, expected a divisor of B*T = {N}")
    if chunks == 1:
        return program
    passes, rows = dict(program.passes), N // chunks
    *forward, head, classifier = passes["forward"]
    *evaluate, evaluate_head, loss = passes["evaluate"]
    (head_backward,) = [step for step in passes["backward"] if step.op == "head_backward"]
    rest = [step for step in passes["backward"] if step is not head_backward]
    training = _chunked([head, classifier, head_backward], chunks, rows)
    passes |= {"forward": forward, "backward": training + rest,
               "evaluate": evaluate + _chunked([evaluate_head, loss], chunks, rows)}
    logits = replace(program.buffers["logits"], shape=(max(rows, T), program.sizes["Vp"]))
    results = {**program.results, "forward": (), "backward": ("losses",)}
    return replace(program, buffers={**program.buffers, "logits": logits}, passes=passes,
                   results=results)


def _chunked(steps: list[Step], chunks: int, rows: int) -> list[Step]:
    """All steps on the first chunk of rows, then all on the second, and so on."""
    out = []
    for chunk in range(chunks):
        part = slice(chunk * rows, (chunk + 1) * rows)
        for step in steps:
            args = dict(step.args)
            for name, note in signature(step.op).tensors.items():
                if note.dims[0] == "N":
                    buffer = args[name].buffer
                    here = slice(0, rows) if buffer == "logits" else part
                    args[name] = View(buffer, here.start, here.stop)
            out.append(replace(step, name=f"{step.name}.{chunk}", args=args))
    return out


def prune(program: Program) -> Program:
    """Without the activations that no step names any more."""
    used = {view.buffer for steps in program.passes.values() for step in steps
            for view in step.args.values()}
    buffers = {name: buffer for name, buffer in program.buffers.items()
               if buffer.kind != "activation" or name in used}
    return replace(program, buffers=buffers)
