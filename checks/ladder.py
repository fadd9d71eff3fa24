"""README's tables: every version of every operation, from the committed evidence and nothing else.

A version without evidence keeps its row, and the row says so. Times of one operation are all of
one shape: the one at which most of its versions were timed, the largest of these.
"""

import json
import re
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from checks import select
from ported import contract, evidence, source
from ported.precision import PRECISIONS
from ported.source import Version

CPU = "cpu-x86_64"
LABEL = "gpt2"  # of the timings that are shown
WIDE = 84  # characters of an idea
CPU_HEAD = ["| version | idea | proof | error / bound | time | roofline | PyTorch / ours |",
            "|---|---|---|---|---|---|---|"]
CUDA_HEAD = ["| version | idea | GPU | emulated | error / bound | time | roofline | "
             "PyTorch eager | compiled |", "|---|---|---|---|---|---|---|---|---|"]
STEP_HEAD = ["| model | B x T | dtype | against | tokens/s | of its tokens/s | of its memory | "
             "bench's first step after (with proofs that were not at hand) | device, date |",
             "|---|---|---|---|---|---|---|---|---|"]
WRITE = "`make evidence ARGS=\"--device cuda\"` on a machine with a GPU writes it"


@dataclass
class Found:
    """What the evidence of one device holds of one version."""

    state: str
    worst: float | None = None
    timings: list[dict] = field(default_factory=list)

    @property
    def error(self) -> str:
        return "" if self.worst is None or self.state in ("void", "none") else f"{self.worst:.2f}"


def first_sentence(text: str) -> str:
    """The first sentence of a docstring or an idea, on one line, without table marks."""
    line = " ".join(text.split()).replace("|", "/")
    return re.split(r"(?<=[.:;])\s", line, maxsplit=1)[0].rstrip(".:;")


def idea_of(version: Version) -> str:
    idea = first_sentence(version.idea)
    return idea if len(idea) <= WIDE else idea[:WIDE - 3].rstrip() + "..."


def found(version: Version, of, folder: str) -> Found:
    """The state of a proof, its worst error over its bound, and timings of today's source."""
    record, key = evidence.committed(version.name, folder), evidence.meaning(version, of)
    if record is None:
        return Found("none")
    worst = max((check["worst"] for check in record.get("checks", {}).values()
                 if check.get("worst") is not None), default=None)
    timings = record.get("timings", []) if record.get("meaning") == key else []
    return Found(evidence.judge(record, key, version.language), worst,
                 [t for t in timings if t.get("label") == LABEL])


def by_contract(everything: Mapping[str, Found], versions: Mapping[str, Version]) -> dict:
    """For each version the one timing to show: that at its operation's common shape."""
    counts: dict[str, dict[str, list]] = {}
    for name, one in everything.items():
        for timing in one.timings:
            place = evidence.shape_key("", timing["axes"])
            counts.setdefault(versions[name].contract_name, {}).setdefault(place, []).append(timing)
    common = {of: max(places, key=lambda p: (len({t["version"] for t in places[p]}),
                                             places[p][0]["operations"] or 0,
                                             places[p][0]["bytes"], p))
              for of, places in counts.items()}
    return {name: max((t for t in one.timings if evidence.shape_key("", t["axes"])
                       == common.get(versions[name].contract_name)),
                      key=lambda t: t["date"], default=None) for name, one in everything.items()}


def shown(seconds: float) -> str:
    return f"{seconds * 1e3:.2f} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.1f} us"


def cpu_cells(timing: dict | None) -> list[str]:
    """Time, share of the roofline, and PyTorch's time over ours."""
    if timing is None:
        return ["", "", ""]
    peer = timing.get("peer_seconds")
    share = "in cache" if timing["roof"] == "cache" else f"{timing['share']:.0%} {timing['roof']}"
    return [shown(timing["seconds"]), share,
            f"{peer / timing['seconds']:.2f}x" if peer else ""]


def cuda_cells(timing: dict | None) -> list[str]:
    """Time, share of the roofline with the rate it is a share of, PyTorch's times and over ours."""
    if timing is None:
        return ["not timed", "", "", ""]
    seconds = timing["seconds"]
    rate = (f"copy, {timing['bytes'] / seconds / 1e9:.0f} GB/s" if timing["roof"] == "memory" else
            f"product, {timing['operations'] / seconds / 1e12:.1f} TFLOP/s")
    peers = [f"{shown(peer)}, {peer / seconds:.2f}x" if peer else "" for peer in
             (timing.get("eager_seconds"), timing.get("compiled_seconds"))]
    return [shown(seconds), f"{timing['share']:.0%} of {rate}", *peers]


def line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def cpu_table() -> str:
    """Every version in C; its slowest shape, as its ladder was climbed there."""
    contracts, versions = contract.read_all(), source.read_all()
    rows = []
    for name in sorted(versions):
        one = found(versions[name], contracts[versions[name].contract_name], CPU)
        timing = max(one.timings, key=lambda t: t["seconds"], default=None)
        rows.append(line([f"`{name}`", idea_of(versions[name]), one.state, one.error,
                          *cpu_cells(timing)]))
    return "\n".join([*CPU_HEAD, *rows])


def architectures() -> list[str]:
    """GPUs of which evidence is committed, sm_90 among them whatever there is."""
    folder = evidence.ROOT / "golden" / "evidence"
    return sorted({path.name for path in folder.glob("sm_*")} | {"sm_90"})


def cuda_tables() -> str:
    """A table a GPU and precision."""
    contracts, versions = contract.read_all(), source.read_all(language="cu")
    return "\n\n".join(cuda_table(architecture, precision, contracts, versions)
                       for precision in PRECISIONS for architecture in architectures())


def cuda_table(architecture: str, precision: str, contracts, versions) -> str:
    """Every version that is proved in this precision, on a GPU and on the emulated device."""
    mine = {name: v for name, v in sorted(versions.items()) if precision in select.precisions_of(
        v, contracts[v.contract_name], "cu")}
    there = {name: found(v, contracts[v.contract_name], f"{architecture}/{precision}")
             for name, v in mine.items()}
    here = {name: found(v, contracts[v.contract_name], f"emulated/{precision}")
            for name, v in mine.items()}
    if all(one.state == "none" and not one.timings for one in (*there.values(), *here.values())):
        return f"**{precision}, {architecture}**: no evidence is in the tree; {WRITE}."
    timings = by_contract(there, versions)
    rows = []
    for name, version in mine.items():
        emulated = "vendor's" if version.language == "py" else here[name].state
        error = there[name].error or here[name].error
        rows.append(line([f"`{name}`", idea_of(version), there[name].state, emulated, error,
                          *cuda_cells(timings[name])]))
    said = circumstances([t for t in timings.values() if t], there)
    return "\n".join([f"**{precision}, {architecture}**: {said}\n", "<details><summary>the table"
                      "</summary>\n", *CUDA_HEAD, *rows, "\n</details>"])


def circumstances(timings: list[dict], there: Mapping[str, Found]) -> str:
    """On what, when and under which ceilings the shown times were taken."""
    proved = f"{sum(one.state == 'proved' for one in there.values())} of {len(there)} versions " \
             "proved on the GPU"
    if not timings:
        return f"{proved}; no times are in the tree ({WRITE})."
    dates = sorted({t["date"] for t in timings})
    copy = statistics.median(t["ceilings"]["bandwidth"] for t in timings) / 1e9
    product = statistics.median(t["ceilings"]["arithmetic"] for t in timings) / 1e12
    peers = ", ".join(sorted({t["peer"] for t in timings
                              if t.get("eager_seconds") or t.get("compiled_seconds")}))
    return (f"{proved}; times on {', '.join(sorted({t['device'] for t in timings}))}, "
            f"{' to '.join(dict.fromkeys((dates[0], dates[-1])))}, "
            f"{f'against {peers}' if peers else 'ours alone'}; ceilings: copy {copy:.0f} GB/s, "
            f"product {product:.0f} TFLOP/s.")


def step_table() -> str:
    """Whole training steps against PyTorch's, from the raw figures in golden/steps."""
    paths = sorted((evidence.ROOT / "golden" / "steps").glob("*.json"))
    rows = [row for path in paths for row in step_rows(json.loads(path.read_text()))]
    if not rows:
        return ("No measured step is in the tree; `python -m checks.bench --device cuda --step "
                "--out golden/steps/NAME.json` writes one.")
    return "\n".join([*STEP_HEAD, *rows])


def step_rows(raw: dict) -> list[str]:
    """A line a side of PyTorch's; one for ours alone where there was none."""
    from ported import bench

    ours = raw["sides"]["ported"]
    rate = raw["B"] * raw["T"] / statistics.median(ours["seconds"])
    rows = []
    for name, side in raw["sides"].items():
        if name == "ported" and len(raw["sides"]) > 1:
            continue
        against, speed, memory = "alone", "", f"{ours['memory']['planned'] / 1e9:.2f} GB"
        if name != "ported":
            against = f"{name.replace('_', ', ')} compiled"
            ratio = bench.ratio(side["seconds"], ours["seconds"])
            speed = f"{ratio.median:.3f} ({ratio.low:.3f} to {ratio.high:.3f})"
            memory = f"{ours['memory']['planned'] / side['memory']['allocated']:.3f}"
        rows.append(line([raw["size"], f"{raw['B']} x {raw['T']}", raw["dtype"], against,
                          f"{rate:.0f}", speed, memory, f"{ours['first_step_after']:.1f} s",
                          f"{raw.get('device', 'a GPU')}, {raw['date']}"]))
    return rows
