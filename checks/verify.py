"""`make verify`: proves one version of the tree, or a file of your own from anywhere.

    make verify KERNEL=layernorm_forward_02              a version of the tree (command.py)
    make verify FILE=my.cu OP=layernorm_forward          a file: text on the terminal
    make verify FILE=my.cu ARGS="--json - "              the verdict by machine (verify_verdict.py)
    make verify FILE=my.cu ARGS="--html report.html"     the same as a page
    make verify OP=layernorm_forward                     what such a file must look like

Exit code 0: proved. 1: refused; a crash and a hang are refusals. 2: not judged, since the file or
the command line is wrong or a compiler is missing. 130: interrupted. The evidence of the tree is
never written.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from checks import cases, command, verify_file, verify_page, verify_text, verify_verdict
from checks.verify_file import FileError, Given
from checks.verify_verdict import Place
from checks.worker import Worker
from ported import device as devices
from ported.contract import ROOT
from ported.precision import PRECISIONS

DEVICES = {".c": ["cpu"], ".cu": ["emulated", "cuda"], ".py": ["cuda"]}
SHORTHANDS = ("block", "grid", "shared")  # directives with flags of their own
TIMING = 600.0  # seconds that all timed shapes together may take
PROVED, REFUSED, NOT_JUDGED, INTERRUPTED = 0, 1, 2, 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m checks.verify", usage=__doc__.partition(
        "\n\n")[2].partition("\nExit")[0], description="Judges a kernel file of your own.")
    add = parser.add_argument
    add("--device", choices=devices.NAMES, help="otherwise cpu for .c; emulated, and cuda where "
        "there is a GPU, for .cu")
    add("--dtype", choices=list(PRECISIONS), help="otherwise every one that the file allows")
    add("--tier", default="fast", choices=("fast", "deep"), help="deep: many times as much")
    add("--seed", type=int, default=0, help="of every random number")
    add("--case", help="one case, as the report prints it: 'N=1,C=3:seed=5:family=randn'")
    add("--timeout", type=float, help="seconds that a proof may take (300; with --tier deep 7200)")
    for word in SHORTHANDS:
        add(f"--{word}", help=f"as if the file had a line `//@ {word} ...`")
    add("--directive", action="append", default=[], metavar="'WORD ...'",
        help="as if the file had this line `//@ WORD ...`; may be repeated")
    add("--shape", help="what to time at, as 'N=256,C=768' (otherwise GPT-2's shapes)")
    add("--no-bench", dest="bench", action="store_false", help="take no times")
    add("--json", metavar="PATH", help="the verdict as JSON; - is the terminal, and nothing else")
    add("--html", metavar="PATH", help="the report as one page that needs no network")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """The exit code; see the head of this file."""
    front = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for word in ("--kernel", "--file", "--op"):
        front.add_argument(word, default="")
    asked, rest = front.parse_known_args(arguments)
    if asked.kernel and asked.file:
        print(f"found both KERNEL={asked.kernel} and FILE={asked.file}; expected one of them",
              file=sys.stderr)
        return NOT_JUDGED
    if asked.kernel:
        return command.main(["--kernel", asked.kernel, *rest])
    options = _parser().parse_args(rest)
    try:
        return _about(asked.op) if not asked.file else _judged(asked.file, asked.op, options)
    except KeyboardInterrupt:
        print("interrupted: nothing was judged", file=sys.stderr)
        return INTERRUPTED


def _about(op: str) -> int:
    """Without a file: what a file of an operation must look like."""
    try:
        print(verify_file.described(verify_file.contract_named(op)) if op else
              f"{_parser().usage}\nknown operations:\n{verify_file.listed(verify_file.known())}")
        return PROVED if op else NOT_JUDGED
    except FileError as error:
        print(f"error: {error}", file=sys.stderr)
        return NOT_JUDGED


def _judged(file: str, op: str, options) -> int:
    try:
        for path in filter(None, (options.json, options.html)):
            if path != "-" and not Path(path).resolve().parent.is_dir():
                raise FileError(f"{path}: no such folder to write into")
        given = verify_file.read(Path(file), op, _directives(options))
        places, absent = _places(given, options)
        axes = _axes(given, options.shape)
        if options.case:
            cases.parse(options.case, given.contract)
    except (FileError, devices.DeviceError, cases.CaseError) as error:
        print(f"error: {error}", file=sys.stderr)
        _write(options.json, json.dumps(verify_verdict.error(file, op, str(error)), indent=1))
        return NOT_JUDGED
    options.timeout = options.timeout or (7200.0 if options.tier == "deep" else 300.0)
    verdict = verify_verdict.of(given, places, absent, options)
    with Worker() as worker:
        for place in places:
            _say(f"judging on {place} ...")
            verdict.add(place, *_proof(worker, given, place, options))
    for place in places:
        if options.bench and verdict.wants_times(place):
            _say(f"timing on {place} ...")
            verdict.timed(place, _times(given, place, axes))
    found = verdict.as_dict()
    _write(options.json, json.dumps(found, indent=1, allow_nan=False))
    _write(options.html, verify_page.page(found) if options.html else "")
    if options.json != "-":
        _print(verify_text.text(found))
    return {"proved": PROVED, "refused": REFUSED}.get(found["verdict"], NOT_JUDGED)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _print(text: str) -> None:
    """To the terminal, or to a reader (`head`) who may have gone."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _write(path: str | None, text: str) -> None:
    if path == "-":
        _print(text)
    elif path:
        Path(path).write_text(text + "\n")
        _say(f"wrote {path}")


def _directives(options) -> list[str]:
    given = [f"{word} {value}" for word in SHORTHANDS if (value := getattr(options, word))]
    return given + options.directive


def _axes(given: Given, shape: str | None) -> dict[str, int] | None:
    """The shape to time at, if one was asked for."""
    if not shape:
        return None
    pairs = dict(part.partition("=")[::2] for part in shape.split(","))
    wanted = given.contract.axes
    if set(pairs) != set(wanted) or not all(n.isdecimal() and int(n) for n in pairs.values()):
        raise FileError(f"--shape: found '{shape}'; expected " + ",".join(
            f"{axis}=64" for axis in wanted))
    return {axis: int(pairs[axis]) for axis in wanted}


def _places(given: Given, options) -> tuple[list[Place], dict[str, str]]:
    """Where the file is judged, and why not on the other devices that it is for."""
    fit = DEVICES[given.path.suffix]
    if options.device and options.device not in fit:
        raise FileError(f"--device: found {options.device}; a {given.path.suffix} file is judged "
                        f"on {' or '.join(fit)}")
    wanted = [p for p in given.precisions if p == (options.dtype or p)]
    if not wanted:
        raise FileError(f"--dtype: found {options.dtype}; the file's dtype lines allow "
                        f"{', '.join(given.precisions)}")
    places, absent = [], {}
    for name in [options.device] if options.device else fit:
        try:
            places += [Place(name, p, devices.open(name, precision=p)) for p in wanted]
        except devices.DeviceError as error:
            absent[name] = str(error)
    if not places:
        raise devices.DeviceError("; ".join(absent.values()))
    return places, absent


def _job(given: Given, place: Place) -> dict:
    return {"path": str(given.path), "operation": given.contract.operation,
            "direction": given.contract.direction, "directives": given.directives,
            "device": place.device, "dtype": place.precision}


def _proof(worker: Worker, given: Given, place: Place, options) -> tuple[dict, dict | None]:
    """The proof, and the picture of its first refusal that has one."""
    job = _job(given, place)
    more = {"case": options.case} if options.case else {}
    proof = worker.prove({**job, "tier": options.tier, "seed": options.seed, "errors": True,
                          **more}, options.timeout)
    for fault in [f for f in proof["faults"] if f["case"] and f["output"]][:3]:
        wanted = {key: fault[key] for key in ("check", "output", "case", "parameters")}
        picture = worker.prove({**job, "picture": wanted}, 60.0).get("picture")
        if picture:
            return proof, {**picture, "case": fault["case"], "check": fault["check"]}
    return proof, None


def _times(given: Given, place: Place, axes: dict | None) -> dict:
    """What verify_timing answers; a crash or a hang there is its `lost`."""
    with tempfile.TemporaryDirectory() as folder:
        asked, answer = Path(folder) / "job.json", Path(folder) / "answer.json"
        asked.write_text(json.dumps({**_job(given, place), "axes": axes}))
        words = [sys.executable, "-m", "checks.verify_timing", str(asked), str(answer)]
        try:
            result = subprocess.run(words, cwd=ROOT, stdout=subprocess.DEVNULL, text=True,
                                    stderr=subprocess.PIPE, timeout=TIMING)
        except subprocess.TimeoutExpired:
            return {"lost": f"no answer after {TIMING:.0f} s"}
        if result.returncode or not answer.is_file():
            said = result.stderr.strip().splitlines()[-1:] or [""]
            return {"lost": f"the timing process ended with {result.returncode}: {said[0][:300]}"}
        return json.loads(answer.read_text())


if __name__ == "__main__":
    sys.exit(main())
