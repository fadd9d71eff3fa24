"""The verdict on a file, as JSON: everything that the text and the page say.

    schema      1; a key is never renamed or given another meaning under the same number
    verdict     proved, refused, or error (not judged: see message)
    message     the verdict in a sentence
    command     what was asked, as a command that asks it again
    file        path, name, sha256, lines, directives (those from the command line)
    operation   name, says, arguments [{name, role, axes, access}], constants
    asked       tier, seed, case
    machine     processor, gpu, cores, system, python, torch, numpy, compilers, revision (of the
                prover)
    proofs      one a device and precision: device, precision, verdict (proved, refused, crashed,
                timed-out, error, not applicable), reason (where not applicable), during (which
                check it crashed), seconds, configurations, identity,
                checks [{name, version, says, examples, refused, worst}],
                errors [{check, output, family, worst, case, parameters, replay}], worst first,
                refusals [{checks, output, found, ratio, case, parameters, replay, follows}],
                simplest first (follows: the plain result is wrong already, so this says no more),
                refused {check: times}, picture (verify_picture.of, with case and check; or null)
    timings     one a shape and configuration of what is proved: device, precision, processor,
                threads, date, axes, parameters, seconds, samples, peers {name: seconds},
                peer_samples, ratio (ours over the peer's), verdict (FASTER, SAME, SLOWER, UNSURE),
                share (of the roofline), roof, bytes, operations, ceilings, digest (equal: the
                timed calls leave the output that was judged), fault
    not_checked [{what, why, where}]

`worst` and `ratio` of proofs are errors over their bound: at most 1 is accepted. Numbers that JSON
does not have are the strings "inf", "-inf" and "nan". Every `replay` is a command line.
"""

import hashlib
import math
import platform
import re
import shlex
import subprocess
from dataclasses import dataclass, field

import numpy as np
import torch

from checks import explained, verify_file
from checks.cases import ELEMENTS
from checks.launch import GUARD
from checks.verify_file import Given
from ported.contract import ROOT
from ported.device import Device
from ported.device.cpu import compiler
from ported.precision import PRECISIONS

SCHEMA = 1
SHOWN = 12  # refusals written out
RULES = ("class", "element", "stock", "bias")  # of the gate; messages name them
BAD = ("refused", "crashed", "timed-out")
PLAIN = re.compile(r"[\w./@+,=~: -]+")  # what make and a shell leave as it is between quotes


@dataclass(frozen=True)
class Place:
    """A device in a precision."""

    device: str
    precision: str
    opened: Device = field(compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.device} {self.precision}"


def strict(value):
    """The same with numbers that JSON does not have as strings."""
    if isinstance(value, dict):
        return {key: strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [strict(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    return value


def error(file: str, op: str, message: str) -> dict:
    """The verdict on what could not be judged."""
    return {"schema": SCHEMA, "verdict": "error", "message": message,
            "file": {"path": file}, "operation": {"name": op}}


def command(given: Given, more: list[str] = ()) -> str:
    """A command that judges the file again. Directives from the command line stay."""
    words = [w for line in given.directives.splitlines() for w in ("--directive", line[3:].strip())]
    behind = shlex.join([*words, *more])
    inside = given.path.is_relative_to(ROOT)
    path, op = str(given.path.relative_to(ROOT) if inside else given.path), given.contract.name
    if not PLAIN.fullmatch(path):
        return f"python -m checks.verify --file {shlex.quote(path)} --op {op} {behind}".strip()
    quoted = shlex.quote(behind) if re.search(r'["$`\\]', behind) else f'"{behind}"'
    arguments = f" ARGS={quoted}" if behind else ""
    return f"make verify FILE={shlex.quote(path)} OP={op}{arguments}"


def machine(places: list[Place]) -> dict:
    """What the verdict was found on."""
    tools = {"c": compiler()[0]} if places[0].device == "cpu" else {"c++": "g++"}
    said = {name: _first_line([path, "--version"]) for name, path in tools.items()}
    cuda = next((p.opened for p in places if p.device == "cuda"), None)
    here = places[0].opened.processor.rpartition(" ")[0] if cuda is not places[0].opened else ""
    return {"processor": here or platform.machine(), "gpu": cuda.processor if cuda else None,
            "cores": places[0].opened.threads if places[0].device == "cpu" else None,
            "system": f"{platform.system()} {platform.machine()}",
            "python": platform.python_version(), "torch": torch.__version__,
            "numpy": np.__version__, "compilers": said,
            "revision": _first_line(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"])}


def _first_line(words: list[str]) -> str:
    try:
        said = subprocess.run(words, capture_output=True, text=True).stdout
    except OSError:
        said = ""
    return said.partition("\n")[0] or "not known"


def of(given: Given, places: list[Place], absent: dict[str, str], options) -> "Verdict":
    return Verdict(given, places, absent, options)


class Verdict:
    """Collects proofs and timings of one file."""

    def __init__(self, given: Given, places: list[Place], absent: dict[str, str], options):
        self.given, self.places, self.absent, self.options = given, places, absent, options
        self.proofs: dict[Place, dict] = {}
        self.timings: list[dict] = []
        self.untimed: list[dict] = []
        self.text = given.path.read_text()

    def add(self, place: Place, proof: dict, picture: dict | None) -> None:
        """The proof at one place."""
        errors = sorted(proof.get("errors", []), key=lambda e: -_size(e["worst"]))
        judged = {e["check"] for e in errors}
        checks = [{"name": name, "version": check["version"], "says": explained.CHECKS[name],
                   "examples": check["examples"], "refused": proof["refused"].get(name, 0),
                   "worst": check["worst"] if name in judged or check["worst"] else None}
                  for name in explained.CHECKS if (check := proof["checks"].get(name))]
        self.proofs[place] = {
            "device": place.device, "precision": place.precision, "verdict": proof["verdict"],
            "reason": proof.get("reason", ""), "seconds": proof["seconds"],
            "configurations": proof["configurations"], "during": proof.get("during"),
            "identity": dict(place.opened.identity), "checks": checks,
            "errors": [{**e, "replay": self.replay(place, e["case"])} for e in errors],
            "refusals": self._refusals(place, proof["faults"])[:SHOWN],
            "refused": dict(proof["refused"]), "picture": picture,
            "not_run": proof["not_run"]}

    def _refusals(self, place: Place, faults: list[dict]) -> list[dict]:
        """Faults, those with one message at one case together. What another check found by the
        same comparison comes last where the plain result is wrong already: it follows."""
        found: dict[tuple, dict] = {}
        plain = any(fault["check"] == "gate" for fault in faults)
        for fault in faults:
            judged = any(f": {rule}: " in fault["message"] for rule in RULES)
            kept = found.setdefault((fault["message"], fault["case"]), {
                "checks": [], "output": fault["output"],
                "found": re.sub(r":\n +at: ", " at: ", fault["message"]),
                "ratio": fault["ratio"], "case": fault["case"], "parameters": fault["parameters"],
                "follows": plain and judged, "replay": self.replay(place, fault["case"])})
            kept["checks"] += [fault["check"]] * (fault["check"] not in kept["checks"])
        return sorted(found.values(), key=lambda refusal: refusal["follows"])

    def replay(self, place: Place, case: str) -> str:
        """The command that judges one case alone; without a case, all of the place."""
        where = ["--device", place.device, "--dtype", place.precision]
        one = case.removeprefix(f"{self.given.contract.name}:")
        named = ["--case", one] if "=" in one else ["--no-bench"]
        seed = ["--seed", str(self.options.seed)] if "=" not in one and self.options.seed else []
        return command(self.given, [*where, *named, *seed])

    def wants_times(self, place: Place) -> bool:
        """Whether a time would say anything: of what is proved, on a device that has a clock."""
        return (place.device != "emulated" and not self.options.case
                and self.proofs[place]["verdict"] == "proved")

    def timed(self, place: Place, found: dict) -> None:
        """What verify_timing answered. A refusal at the timed shape, or another output than the
        one judged there, refuses the file; a time that cannot be is the measuring's fault."""
        proof, where = self.proofs[place], str(place)
        self.timings += [{"device": place.device, "precision": place.precision, **timing}
                         for timing in found.get("timings", [])]
        if "lost" in found:
            self.untimed.append({"what": "time", "why": found["lost"], "where": where})
        elif not found["timings"] and not found["faults"]:
            self.untimed.append({"what": "time", "where": where,
                                 "why": "no shape of GPT-2 that the file takes; --shape names one"})
        self.untimed += [{"what": "time", "why": why, "where": where}
                         for why in found.get("not_run", {}) if "timed" in why]
        faults = [{**f, "message": f"at the timed shape: {f['message']}"}
                  for f in found.get("faults", [])]
        faults += [{"check": "digest", "output": "", "ratio": math.inf, "case": "",
                    "parameters": t["parameters"], "message": t["fault"]}
                   for t in found.get("timings", []) if t["digest"] != "equal"]
        self.untimed += [{"what": "time that counts", "why": t["fault"], "where": where}
                         for t in found.get("timings", []) if t["fault"]]
        if faults:
            proof["verdict"] = "refused"
            proof["refusals"] += self._refusals(place, faults)
            for fault in faults:
                count = proof["refused"].get(fault["check"], 0)
                proof["refused"][fault["check"]] = count + 1

    @property
    def word(self) -> str:
        """proved, refused or error, of all places together."""
        every = [proof["verdict"] for proof in self.proofs.values()]
        if any(verdict in BAD for verdict in every):
            return "refused"
        return "error" if "error" in every or "proved" not in every else "proved"

    def message(self) -> str:
        """The verdict in a sentence."""
        name, op = self.given.path.name, self.given.contract.name
        said: dict[str, list[str]] = {}
        for place, proof in self.proofs.items():
            said.setdefault(proof["verdict"], []).append(str(place))
        where = "; ".join(f"{verdict} on {' and '.join(at)}" for verdict, at in said.items())
        if self.word == "proved":
            return f"{name} computes {op} ({where})"
        if self.word == "refused":
            wrong = list(dict.fromkeys(check for proof in self.proofs.values()
                                       for r in proof["refusals"] if not r["follows"]
                                       for check in r["checks"]))
            by = f", by {', '.join(wrong)}" if (wrong := [w for w in wrong if w not in BAD]) else ""
            return f"{name} does not compute {op}: {where}{by}"
        why = next((p["reason"] or p["refusals"][0]["found"] for p in self.proofs.values()
                    if p["verdict"] != "proved"), "")
        return f"{name} could not be judged as {op}: {why.partition(chr(10))[0].rstrip(':')}"

    def not_checked(self) -> list[dict]:
        """What the verdict does not rest on, and why."""
        found: dict[tuple, list[str]] = {}
        for place, proof in self.proofs.items():
            for reason in proof["not_run"]:
                what, _, why = reason.rpartition(": ") if reason.partition(": ")[
                    0] in explained.CHECKS else ("some cases", "", reason)
                found.setdefault((what, why), []).append(str(place))
        listed = [{"what": what, "why": why, "where": "; ".join(at)}
                  for (what, why), at in found.items()]
        return [*listed, *self.untimed, *({"what": w, "why": y, "where": ""}
                                          for w, y in self._beyond())]

    def _beyond(self) -> list[tuple[str, str]]:
        """What no check of this run looks at."""
        given, names = self.given, [place.device for place in self.places]
        found = [(f"the device {name}", why.partition("\n")[0].removeprefix(f"{name}: "))
                 for name, why in self.absent.items()]
        for precision in sorted(set(PRECISIONS) - {place.precision for place in self.places}):
            why = ("--dtype left it out" if precision in given.precisions else
                   "C files compute in float32" if given.version.language == "c" else
                   "the file does not say `//@ products tf32`" if precision == "tf32" else
                   "no dtype line of the file allows it")
            found.append((f"the precision {precision}", why))
        if "emulated" in names and "cuda" not in names:
            found += [("real hardware", "the emulated device runs the source on the processor: it "
                       "sees results, races and addresses, not the GPU's own rounding"),
                      ("time", "the emulated device has no clock of a GPU")]
        if given.version.language == "cu":
            found.append(("NVIDIA's compute-sanitizer", "`make sanitize` runs it, over the tree's "
                          "own versions; the emulated device's checks look for the same faults"))
        if not self.options.bench or self.options.case:
            found.append(("time", "not asked for"))
        elif self.word != "proved":
            found.append(("time", "only what is proved is timed"))
        if self.options.case:
            found.append(("every other case", "one case was asked for"))
        elif self.options.tier == "fast":
            found.append(("more shapes, numbers and orders of threads",
                          "this was the fast tier; --tier deep runs more of all, and more checks"))
            found.append((f"tensors of more than {ELEMENTS:,} elements", "but for the timed "
                          "shapes, if any: an index that overflows 2^31 is not met"))
        return [*found,
                (f"accesses farther than {GUARD} elements from every buffer", "unless they crash, "
                 "or the emulated device looks at every access"),
                ("other processors, compilers and drivers", "the verdict holds for this machine")]

    def as_dict(self) -> dict:
        """As JSON; see the head of this file."""
        given, options, contract = self.given, self.options, self.given.contract
        asked = [w for w, v in (("device", options.device), ("dtype", options.dtype),
                                ("case", options.case)) if v]
        more = [word for w in asked for word in (f"--{w}", getattr(options, w))]
        more += ["--tier", options.tier] if options.tier != "fast" else []
        more += ["--seed", str(options.seed)] if options.seed else []
        proofs = [{k: v for k, v in proof.items() if k != "not_run"}
                  for proof in self.proofs.values()]
        return strict({
            "schema": SCHEMA, "verdict": self.word, "message": self.message(),
            "command": command(given, more),
            "file": {"path": str(given.path), "name": given.path.name,
                     "sha256": hashlib.sha256(given.path.read_bytes()).hexdigest(),
                     "lines": len(self.text.splitlines()),
                     "directives": given.directives.splitlines()},
            "operation": {"name": contract.name, "says": verify_file.says(contract),
                          "arguments": [{"name": t.name, "role": t.role, "axes": list(t.axes),
                                         "access": t.access} for t in contract.tensors],
                          "constants": dict(contract.consts)},
            "asked": {"tier": options.tier, "seed": options.seed, "case": options.case},
            "machine": machine(self.places), "proofs": proofs, "timings": self.timings,
            "not_checked": self.not_checked()})


def _size(worst) -> float:
    return math.inf if math.isnan(worst) else worst
