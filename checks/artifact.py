"""Check 17: what the compiled kernel says, against what the file claims."""

from checks.trial import Subject


def examine(subject: Subject) -> None:
    subject.ledger.not_run["artifact: to come"] += 1
