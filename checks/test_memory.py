"""The memory plan against an adversary: a simulated kernel that ruins whatever it may ruin."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ported import memory
from ported.memory_report import savings
from reference.program import TRAINING, Buffer, Program, Step, View
from reference.programs.gpt2 import gpt2

REWRITES = {
    "plain": {}, "fused": {"fuse": "all"}, "chunks": {"fuse": "all", "head_chunks": 4},
    "gelu again": {"fuse": "all", "recompute": ("gelu",)},
    "all again": {"fuse": "all", "recompute": ("layer",), "head_chunks": 2},
}


class Adversary:
    """Runs a plan on tags, one an element of 4 bytes: each write leaves a tag of its own and each
    read must find the tags that the rows it asks for were given. A step ruins its scratch before
    and after, writes before it reads wherever no `inplace` forbids that, and memory starts ruined.
    """

    def __init__(self, plan: memory.Plan, inplace: dict):
        self.plan, self.inplace = plan, inplace
        self.found = np.full(plan.nbytes // 4, -1)
        self.expected = {b.name: np.zeros(b.size, np.int64) for b in plan.program.buffers.values()}
        self.tag = 0  # 0: not written in this sequence
        for name, values in self.expected.items():
            if plan.program.buffers[name].kind != "activation":
                self.memory(View(name))[:] = values

    def span(self, view: View) -> slice:
        buffer = self.plan.program.buffers[view.buffer]
        row = buffer.size // buffer.rows[0]
        if view.start is None:
            return slice(0, buffer.size)
        return slice(view.start * row, view.stop * row)

    def memory(self, view: View) -> np.ndarray:
        start, span = self.plan.offsets[view.buffer] // 4, self.span(view)
        assert start + span.stop <= len(self.found), f"{view} lies outside the allocation"
        return self.found[start + span.start : start + span.stop]

    def check(self, place, views, when: str) -> None:
        for view in views:
            expected = self.expected[view.buffer][self.span(view)]
            assert (self.memory(view) == expected).all(), f"{place}: {view} is ruined {when}"

    def ruin(self, place) -> None:
        for item in self.plan.items:
            if item.name.startswith(f"{place[0]} {place[1]} scratch "):
                offset = self.plan.scratch[place][item.name.split()[-1]] // 4
                self.found[offset : offset + -(-item.nbytes // 4)] = -1

    def step(self, place, step: Step) -> None:
        self.ruin(place)
        self.check(place, step.reads(), "before")
        for view in step.writes():
            self.tag += 1
            root = self.plan.program.buffers[view.buffer].region
            self.memory(view)[:] = self.tag
            self.expected[view.buffer][self.span(view)] = self.tag
            if root:
                self.expected[root] = self.memory(View(root)).copy()
            for name in self.plan.program.members(view.buffer):
                self.expected[name] = self.memory(View(name)).copy()
        pairs = [(step.args[output].buffer, step.args[source].buffer)
                 for output, source in self.inplace.get(place, {}).items()]
        at = self.plan.offsets
        covered = {source for output, source in pairs if at[output] == at[source]}
        self.check(place, [v for v in step.reads() if v.buffer not in covered], "by its step")
        self.ruin(place)
        self.check(place, step.writes(), "by its scratch")

    def run(self, name: str) -> None:
        if not self.plan.live_into(name):
            self.found[self.plan.permanent // 4 :] = -1
            for buffer in self.plan.program.buffers.values():
                if buffer.kind == "activation":
                    self.expected[buffer.name][:] = 0
        for k, step in enumerate(self.plan.program.passes[name]):
            self.step((name, k), step)
        for result in self.plan.program.results.get(name, ()):
            expected = self.expected[result]
            same = self.memory(View(result)) == expected
            assert same[expected > 0].all(), f"{name}: its result {result} is ruined at the end"

    def train_and_more(self) -> None:
        passes = self.plan.program.passes
        others = [name for name in passes if name not in TRAINING]
        for name in ["zero", *["forward", "backward"] * 3, "update", *others, "zero", "forward"]:
            if name in passes:
                self.run(name)


def sound(plan: memory.Plan, inplace: dict) -> None:
    Adversary(plan, inplace).train_and_more()
    assert all(offset % memory.ALIGNMENT == 0 for name, offset in plan.offsets.items()
               if plan.program.buffers[name].region is None)
    total = sum(memory.aligned(item.nbytes) for item in plan.items)
    assert plan.bound <= plan.transient <= total
    assert plan.table().startswith("memory plan: ")


@st.composite
def programs(draw):
    """A small program of any wiring, its scratch and what may work in place."""
    buffers, passes, scratch, inplace = {}, {}, {}, {}
    sizes = st.sampled_from([1, 63, 64, 65, 200, 1000])

    def declare(name, kind):
        buffers[name] = Buffer(name, "F", (draw(sizes),), kind)
        return name

    given_ = [declare("tokens", "input"), declare("weight", "parameter")]
    written: list[str] = []
    for name in draw(st.sampled_from([("forward",), ("zero", "forward", "backward", "update"),
                                      ("forward", "backward", "evaluate", "sample")])):
        if name in ("evaluate", "sample"):
            written = []
        passes[name] = []
        for k in range(draw(st.integers(1, 6))):
            source = st.sampled_from(given_ + written)
            fresh = len(buffers) < 14 and draw(st.booleans())
            out = declare(f"b{len(buffers)}", "activation") if fresh or not written else draw(
                st.sampled_from(written + [b for b in buffers if b not in given_]))
            op = draw(st.sampled_from(["zero", "residual_forward", "gelu_forward"]))
            names = {"zero": [], "residual_forward": ["inp1", "inp2"], "gelu_forward": ["inp"]}[op]
            args = {argument: View(draw(source)) for argument in names} | {"out": View(out)}
            passes[name].append(Step(op, f"{name}{k}", args))
            written = [*written, out]
            if draw(st.booleans()):
                scratch[name, k] = {"part": 4 * draw(sizes)}
            if op == "gelu_forward" and draw(st.booleans()):
                inplace[name, k] = {"out": "inp"}
    results = {name: (steps[-1].args["out"].buffer,) for name, steps in passes.items()}
    return Program({}, buffers, passes, results=results), scratch, inplace


@settings(max_examples=300, deadline=None)
@given(programs())
def test_no_two_live_buffers_overlap(drawn):
    program, scratch, inplace = drawn
    sound(memory.plan(program, scratch=scratch, inplace=inplace), inplace)


@pytest.mark.parametrize("rewrites", REWRITES.values(), ids=REWRITES)
def test_gpt2_in_any_shape(rewrites):
    program = gpt2("test", B=2, T=8, **rewrites)
    scratch = {(name, k): {"part": 1000 * (1 + k % 3)} for name in program.passes
               for k in range(0, len(program.passes[name]), 2)}
    inplace = {(name, k): {"dinp": "dout"} for name, steps in program.passes.items()
               for k, step in enumerate(steps) if step.op == "gelu_backward"}
    plan = memory.plan(program, scratch=scratch, inplace=inplace)
    sound(plan, inplace)
    assert plan.efficiency > 0.9
    assert bool(plan.shared) == bool(inplace)


def test_the_adversary_finds_an_overlap():
    program = gpt2("test", B=1, T=4)
    plan = memory.plan(program)
    plan.offsets["h.0.res_mid"] = plan.offsets["h.1.res_mid"]
    with pytest.raises(AssertionError, match="is ruined"):
        sound(plan, {})


def test_124m_is_planned_tightly():
    plan = memory.plan(gpt2("gpt2", B=4, T=64, fuse="all"))
    assert plan.efficiency > 0.98


def test_recomputation_saves_what_the_table_says():
    said = savings(memory.plan(gpt2("tiny", B=8, T=64)))
    before = memory.plan(gpt2("tiny", B=8, T=64)).transient
    for word in ("gelu", "ln", "layer"):
        saved = before - memory.plan(gpt2("tiny", B=8, T=64, recompute=(word,))).transient
        assert said[f"recompute {word}"] == pytest.approx(saved, rel=0.1)
    saved = before - memory.plan(gpt2("tiny", B=8, T=64, head_chunks=8)).transient
    assert said["head_chunks 8"] == pytest.approx(saved, rel=0.1)


def test_read_before_write_names_step_and_buffer():
    program = gpt2("test", B=1, T=4)
    program.passes["forward"].pop(3)
    with pytest.raises(memory.PlanError, match=r"step 3 .*attn.c_proj.*reads h.0.attn.out"):
        memory.plan(program)


def test_rows_that_nothing_wrote_are_found():
    program = gpt2("test", B=2, T=8, head_chunks=2)
    steps = program.passes["evaluate"]
    steps.pop(next(k for k, step in enumerate(steps) if step.name == "head.0"))
    with pytest.raises(memory.PlanError, match=r"reads logits\[0:8\], of which rows 0:8"):
        memory.plan(program)


def test_too_big_is_refused_with_advice():
    program = gpt2("tiny", B=8, T=64)
    plan = memory.plan(program)
    with pytest.raises(memory.PlanError, match="--micro-batch 4") as refused:
        memory.plan(program, available=plan.permanent + plan.transient // 2 + 1)
    assert "head_chunks 8" in str(refused.value)
    with pytest.raises(memory.PlanError, match="smaller model"):
        memory.plan(program, available=plan.permanent // 2)
