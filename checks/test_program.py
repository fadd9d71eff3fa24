"""The program of GPT-2: run by the interpreter it is stock GPT-2, plain and under every rewrite."""

from dataclasses import replace

import pytest
import torch

from checks.agreement import assert_agree
from reference import rewrites
from reference.interpreter import allocate, compute, export, load, run
from reference.program import Buffer, ProgramError, View
from reference.programs.gpt2 import CONFIGS, config, gpt2, parameters
from reference.signature import signature
from reference.stock.gpt2 import GPT2, from_hugging_face

B, T, UPDATES = 3, 8, 3
# The bias of the keys has gradient zero in the mathematics (it adds one number to a whole row of
# scores); AdamW divides what rounding leaves of it by eps, which is therefore not tiny here.
ADAMW = {"beta1": 0.8, "beta2": 0.97, "eps": 1e-5, "weight_decay": 0.2}
CONSTS = {"global_norm_update": {"max_norm": 0.5}, "adamw_update": ADAMW}
REWRITES = {
    "plain": {},
    **{name: {"fuse": name} for name in [*rewrites.FUSIONS, rewrites.SHARED]},
    "all fused": {"fuse": "all"},
    "other halves fused": {"fuse": ["residual_layernorm_backward", "linear_gelu_backward",
                                    "gelu_linear_forward"]},
    "chunks": {"head_chunks": 4},
    "row by row": {"head_chunks": B * T},
    "recompute gelu": {"recompute": ["gelu"]},
    "recompute ln": {"recompute": ["ln"]},
    "recompute layers": {"recompute": ["layer"]},
    "recompute one layer and one buffer": {"recompute": ["h.1.*", "h.0.attn.c_attn.out"]},
    "recompute between blocks": {"recompute": ["h.0.res_out"]},
    "everything": {"fuse": "all", "head_chunks": 4, "recompute": ["layer"]},
}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Tensors this small wait longer for threads than they compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def stock_model(seed=0) -> GPT2:
    """In float64, with every bias and LayerNorm away from where it starts; padding stays zero."""
    torch.manual_seed(seed)
    model = GPT2("test").double()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            rows = model.config.V if name == "wte.weight" else len(parameter)
            parameter[:rows] += 0.1 * torch.randn_like(parameter[:rows])
    return model


def batches(count: int, rows: int = B):
    """Tokens and targets [count, rows, T]."""
    random = torch.Generator().manual_seed(1)
    return torch.randint(0, CONFIGS["test"].V, (2, count, rows, T), generator=random)


def prepared(model: GPT2, **options):
    """A program with stock's parameters in its tensors."""
    program = gpt2("test", B, T, consts=CONSTS, **options)
    tensors = allocate(program)
    load(program, model.state_dict(), tensors)
    return program, tensors


def feed(tensors, tokens, targets, micro_batches=1):
    tensors["tokens"].copy_(tokens)
    tensors["targets"].copy_(targets.flatten())
    tensors["dscale"].fill_(1 / (micro_batches * tokens.numel()))


@pytest.fixture(scope="module")
def stock_run():
    """Loss and gradients of each of three updates, and the parameters and moments after them."""
    model = stock_model()
    names = dict(model.named_parameters())
    groups = model.parameter_groups(ADAMW["weight_decay"])
    betas = ADAMW["beta1"], ADAMW["beta2"]
    optimizer = torch.optim.AdamW(groups, lr=1.0, betas=betas, eps=ADAMW["eps"])
    records = []
    for step, (tokens, targets) in enumerate(zip(*batches(UPDATES), strict=True)):
        optimizer.zero_grad()
        loss = model(tokens, targets).loss
        loss.backward()
        record = {f"gradient of {name}": p.grad.clone() for name, p in names.items()}
        record |= {"loss": loss.detach()}
        for group in optimizer.param_groups:
            group["lr"] = 0.01 / (step + 1)
        record["norm"] = torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5).reshape(1)
        optimizer.step()
        records.append(record)
    final = {f"m of {name}": optimizer.state[p]["exp_avg"] for name, p in names.items()}
    final |= {f"v of {name}": optimizer.state[p]["exp_avg_sq"] for name, p in names.items()}
    return records, {**final, **{name: p.detach() for name, p in names.items()}}


@pytest.mark.parametrize("options", REWRITES.values(), ids=REWRITES.keys())
def test_training_is_stocks(stock_run, options):
    records, final = stock_run
    program, tensors = prepared(stock_model(), **options)
    for step, (tokens, targets) in enumerate(zip(*batches(UPDATES), strict=True)):
        feed(tensors, tokens, targets)
        tensors["lr"].fill_(0.01 / (step + 1))
        tensors["t"].fill_(step + 1)
        for name in ("zero", "forward", "backward"):
            run(program, name, tensors)
        gradients = export(program, tensors, "gradients")
        found = {f"gradient of {name}": value for name, value in gradients.items()}
        run(program, "update", tensors)
        found |= {"loss": tensors["losses"].mean(), "norm": tensors["norm"].clone()}
        assert_agree(found, records[step])
    found = export(program, tensors)
    for region in ("m", "v"):
        moments = export(program, tensors, region)
        found |= {f"{region} of {name}": value for name, value in moments.items()}
    assert_agree(found, final)
    padding = [found[name][config("test").V :] for name in found if name.endswith("wte.weight")]
    assert len(padding) == 3 and all((rows == 0).all() for rows in padding)


def test_micro_batches_add_up():
    model, parts = stock_model(), 4
    program, tensors = prepared(model, fuse="all")
    tokens, targets = batches(parts)
    model(tokens.flatten(0, 1), targets.flatten(0, 1)).loss.backward()
    run(program, "zero", tensors)
    for part in range(parts):
        feed(tensors, tokens[part], targets[part], parts)
        run(program, "forward", tensors)
        run(program, "backward", tensors)
    truth = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert_agree(export(program, tensors, "gradients"), truth)


@pytest.mark.parametrize("options", [{}, {"fuse": "all"}, {"head_chunks": 4}], ids=str)
def test_evaluate_and_sample_are_stocks(options):
    model = stock_model()
    program, tensors = prepared(model, **options)
    (tokens,), (targets,) = batches(1)
    feed(tensors, tokens, targets)
    before = {name: value.clone() for name, value in tensors.items()}
    run(program, "evaluate", tensors)
    truth = model(tokens, targets)
    assert_agree({"loss": tensors["losses"].mean()}, {"loss": truth.loss})
    tensors["tokens"][1:] = 0
    run(program, "sample", tensors)
    assert_agree({"logits": tensors["logits"][:T]}, {"logits": truth.logits[0]})
    for name in ("parameters", "gradients", "m", "v"):
        assert torch.equal(tensors[name], before[name]), f"a forward-only pass wrote {name}"


def test_hugging_faces_model_is_ours():
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    c = config("test")
    sizes = {"n_layer": c.L, "n_head": c.H, "n_embd": c.C, "vocab_size": c.V}
    no_dropout = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    torch.manual_seed(2)
    theirs = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(n_positions=c.Tmax, **sizes, **no_dropout,
                                bos_token_id=0, eos_token_id=0)).double()
    (tokens,), (targets,) = batches(1)
    logits = theirs(tokens).logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
    loss.backward()
    truth = {name: p.grad for name, p in theirs.named_parameters()}
    truth = from_hugging_face(truth, c) | {"loss": loss, "logits": logits.flatten(0, 1)}

    program = gpt2(c, B, T)
    tensors = allocate(program)
    load(program, from_hugging_face(theirs.state_dict(), c), tensors)
    feed(tensors, tokens, targets)
    run(program, "evaluate", tensors)
    found = {"logits": tensors["logits"][:, : c.V].clone()}
    for name in ("zero", "forward", "backward"):
        run(program, name, tensors)
    found |= {"loss": tensors["losses"].mean(), **export(program, tensors, "gradients")}
    assert_agree(found, {name: value.detach() for name, value in truth.items()})


def test_hook_sees_every_step_and_steps_can_be_run_alone():
    program, tensors = prepared(stock_model(), fuse="all")
    feed(tensors, *(part[0] for part in batches(1)))
    seen = []
    run(program, "forward", tensors, lambda k, step, results: seen.append((k, step, results)))
    assert [(k, step) for k, step, _ in seen] == list(enumerate(program.passes["forward"]))
    _, step, results = seen[5]
    assert_agree(compute(program, step, tensors), results, bound=1e-15)


def test_sizes_and_parameter_counts():
    published = {"gpt2": 124439808, "gpt2-medium": 354823168, "gpt2-large": 774030080,
                 "gpt2-xl": 1557611200}
    for name, count in published.items():
        c = config(name)
        unpadded = replace(c, V=c.Vp)
        shapes = parameters(unpadded).values()
        assert sum(torch.Size(s).numel() for s in shapes) - (c.Vp - c.V) * c.C == count
    assert config(12) == config("12") == config("d12") == config("gpt2")
    assert config("test").Vp == 384 and config("gpt2").Vp == 50304


def test_block_is_ten_steps_and_backward_the_same_reversed():
    passes = gpt2("test", B, T).passes
    forward = [step.name for step in passes["forward"] if step.name.startswith("h.1.")]
    backward = [step.name for step in passes["backward"] if step.name.startswith("h.1.")]
    assert len(forward) == 10 and [n for n in backward if n != "h.1.dres_out"] == forward[::-1]


def test_fusing_all_leaves_no_plain_pair():
    passes = gpt2("test", B, T, fuse="all").passes
    assert not {"residual_forward", "gelu_forward"} & {s.op for s in passes["forward"]}
    assert not {"residual_backward", "gelu_backward"} & {s.op for s in passes["backward"]}
    names = [step.name for step in passes["forward"]]
    assert names[names.index("h.0.mlp.c_proj") + 1] == "h.1.ln_1"  # across blocks
    assert names[-3:] == ["ln_f", "head", "classifier"]


def test_a_buffer_with_a_second_reader_is_not_fused_away():
    program = gpt2("test", B, T)
    steps = program.passes["backward"]
    k = next(k for k, step in enumerate(steps) if step.op == "gelu_backward")
    steps.insert(k + 1, steps[k])  # h.1's gradient of the GELU's output is now read twice
    fused = rewrites.fuse(program, "gelu_linear_backward").validate()
    ops = {step.name: step.op for step in fused.passes["backward"]}
    assert ops["h.1.mlp.c_proj"] == "linear_backward"
    assert ops["h.0.mlp.c_proj"] == "gelu_linear_backward"


def test_chunked_logits_hold_one_chunk_and_recomputed_buffers_are_not_kept():
    assert gpt2("test", 8, T, head_chunks=4).buffers["logits"].shape == (2 * T, 384)
    assert gpt2("test", 8, T, head_chunks=64).buffers["logits"].shape == (T, 384)
    program = gpt2("test", B, T, recompute=["layer"])
    kept = {view.buffer for step in program.passes["backward"] for view in step.reads()}
    kept &= {view.buffer for step in program.passes["forward"] for view in step.writes()}
    kept = {name for name in kept if not name.startswith("ln_f")}
    assert kept == {"embedding.out", "h.0.res_out", "h.1.res_out", "logits"}


def test_gradients_lie_in_backward_order():
    program = gpt2("test", B, T)
    steps = enumerate(program.passes["backward"])
    completed = {view.buffer: k for k, step in steps for view in step.writes()}
    members = list(program.members("gradients"))
    assert members == sorted(members, key=completed.get)
    assert members[-2:] == ["wte.dweight", "wpe.dweight"]


def test_decay_is_for_matrices_segment_by_segment():
    program = gpt2("test", B, T)
    decay = allocate(program)["decay"]
    for name, buffer in program.members("parameters").items():
        first, last = buffer.offset // 256, (buffer.offset + buffer.size - 1) // 256
        assert buffer.offset % 256 == 0
        expected = float(name.endswith("weight") and "ln_" not in name)
        assert set(decay[first : last + 1].tolist()) == {expected}, name


BAD_CALLS = {
    "size": (lambda: gpt2("gpt5", B, T), "found gpt5, expected one of test, tiny.*d6, d12"),
    "positions": (lambda: gpt2("test", B, 33), "T=33.*Tmax=32"),
    "chunks": (lambda: gpt2("test", B, T, head_chunks=7), "found 7, expected a divisor.* 24"),
    "fusion": (lambda: gpt2("test", B, T, fuse=["x"]), "found x, expected some of residual_lay"),
    "exclusive": (lambda: gpt2("test", B, T, fuse=["linear_gelu_forward", "gelu_linear_forward"]),
                  "nothing for gelu_linear_forward"),
    "recompute": (lambda: gpt2("test", B, T, recompute=["h.9.*"]), "found no activation for h.9"),
    "constant": (lambda: gpt2("test", B, T, consts={"adamw_update": {"beta3": 1}}), "found beta3"),
    "operation": (lambda: signature("rmsnorm_forward"), "found no forward.*expected one of adamw"),
}


@pytest.mark.parametrize("call,message", BAD_CALLS.values(), ids=BAD_CALLS.keys())
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def damaged(where, k=None, step=None, buffer=None):
    """A valid program with one step or one buffer replaced (or a step left out)."""
    program = gpt2("test", B, T)
    if buffer:
        program.buffers[buffer.name] = buffer
    elif step:
        program.passes[where][k] = step(program.passes[where][k])
    else:
        del program.passes[where][k]
    return program


def rewired(**views):
    return lambda step: replace(step, args={**step.args, **views})


FAULTS = {
    "step missing": (lambda: damaged("forward", 0),
                     "pass forward, step layernorm_forward h.0.ln_1: reads embedding.out, not yet"),
    "axes disagree": (lambda: damaged("forward", 1, rewired(weight=View("h.0.mlp.c_fc.bias"))),
                      r"axis C is 128 in weight .* but 32 in inp \(embedding.out"),
    "unknown buffer": (lambda: damaged("forward", 1, rewired(inp=View("x"))), "found buffer x"),
    "rows beyond": (lambda: damaged("forward", 1, rewired(inp=View("embedding.out", 0, 99))),
                    r"embedding.out\[0:99\], expected rows within 0:24"),
    "wrong role": (lambda: damaged("forward", 1, rewired(bias=View("h.0.ln_1.dbias"))),
                   "role G, expected role P"),
    "argument missing": (lambda: damaged("update", 0, lambda s: replace(s, args={})),
                         r"found arguments \[\], expected \['dweight'"),
    "region overlap": (lambda: damaged(None, buffer=Buffer(
        "ln_f.bias", "P", (32,), "parameter", "parameters", 16)), "found elements 16 to 48"),
}


@pytest.mark.parametrize("program,message", FAULTS.values(), ids=FAULTS.keys())
def test_validation_names_the_fault(program, message):
    with pytest.raises(ProgramError, match=message):
        program().validate()


def test_loading_lists_everything_that_does_not_fit():
    program, tensors = prepared(stock_model())
    state = export(program, tensors)
    state["x"] = state.pop("ln_f.bias")
    state["wpe.weight"] = state["wpe.weight"][:5]
    message = r"ln_f.bias: missing\nwpe.weight: found shape \(5, 32\).*\nx: not a parameter"
    with pytest.raises(ValueError, match=message):
        load(program, state, tensors)
