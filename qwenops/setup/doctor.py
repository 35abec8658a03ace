"""The doctor: what stands in the way, as expected / observed / evidence / what to type."""

from __future__ import annotations

from dataclasses import asdict

from qwenops.errors import QwenopsError
from qwenops.result import Result
from qwenops.setup import doctor_calibration, doctor_checks, doctor_models
from qwenops.setup.findings import Check, Finding, Patient


def doctor_result() -> Result:
    """Run every check ("qwenops.doctor/1"); exit code 1 when there is a problem."""
    from qwenops.machine.detect import detect
    from qwenops.runtime.discover import discover

    patient = Patient(machine=detect(), runtime=discover(probe_devices=True))
    checks = (*doctor_checks.CHECKS, *doctor_calibration.CHECKS, *doctor_models.CHECKS)
    findings = [f for check in checks for f in _looked(check, patient)]
    problems = sum(f.level == "problem" for f in findings)
    data = {
        "findings": [{**asdict(f), "do": list(f.do)} for f in findings],
        "problems": problems,
        "advice": sum(f.level == "advice" for f in findings),
    }
    return Result("qwenops.doctor/1", data, exit_code=1 if problems else 0)


def _looked(check: Check, patient: Patient) -> list[Finding]:
    """A check's findings; a check that cannot look says so instead of ending the visit."""
    try:
        return list(check(patient))
    except (QwenopsError, OSError) as error:
        name = check.__name__.removeprefix("_").replace("_", " ")
        why = error.message if isinstance(error, QwenopsError) else str(error)
        return [Finding("unknown", check.__name__, f"{name}: could not look: {why}")]
