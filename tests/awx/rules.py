"""What AWX 24.6.1 refuses of surveys, answers and schedules, as its API says it: each function returns the errors."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from dateutil import rrule, tz

Question = Mapping[str, Any]
TEXTS = ("text", "textarea", "password")
CHOICES = ("multiplechoice", "multiselect")
TYPES: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys((*TEXTS, *CHOICES), str),
    "integer": int,
    "float": (float, int),
}


def survey_error(spec: Mapping[str, Any]) -> str:
    """Why AWX refuses to store a survey; empty if it takes it."""
    for field, kind in (("name", str), ("description", str), ("spec", list)):
        if field not in spec:
            return f"Field '{field}' is missing from survey spec."
        if not isinstance(spec[field], kind):
            return f"Expected {kind.__name__} for field '{field}', received {type(spec[field]).__name__} type."
    if not spec["spec"]:
        return "'spec' doesn't contain any items."
    variables = [question.get("variable") for question in spec["spec"]]
    repeated = [name for name in variables if variables.count(name) > 1]
    if repeated:
        return f"'variable' '{repeated[0]}' duplicated in survey question."
    errors = [_question_error(index, question) for index, question in enumerate(spec["spec"])]
    return next(filter(None, errors), "")


def _question_error(index: int, question: Question) -> str:
    for field in ("type", "question_name", "variable", "required"):
        if field not in question:
            return f"'{field}' missing from survey question {index}"
        if not isinstance(question[field], bool if field == "required" else str):
            return f"'{field}' in survey question {index} has another type."
    return _default_error(index, question) or (_choices_error(index, question) if question["type"] in CHOICES else "")


def _default_error(index: int, question: Question) -> str:
    kind, default = question["type"], question.get("default", "")
    if kind not in TYPES:
        return f"'{kind}' in survey question {index} is not one of the allowed question types."
    if default != "" and not isinstance(default, TYPES[kind]):
        return f"Default value {default} in survey question {index} expected to be {kind}."
    for field in ("min", "max"):
        if question.get(field) is not None and not isinstance(question[field], int):
            return f"The {field} limit in survey question {index} expected to be integer."
    return ""


def _choices_error(index: int, question: Question) -> str:
    if "choices" not in question:
        return f"Survey question {index} of type {question['type']} must specify choices."
    chosen = str(question.get("default", "")).splitlines()
    if question["type"] == "multiplechoice" and len(chosen) > 1:
        return "Multiple Choice (Single Select) can only have one default value."
    if any(choice not in question["choices"] for choice in chosen):
        return "Default choice must be answered from the choices listed."
    return ""


def answer_errors(survey: Collection[Question], answers: Mapping[str, Any], required: bool = True) -> list[str]:
    """What AWX says of the answers of a launch, a schedule or a node; a node may leave required ones out."""
    errors: list[str] = []
    for question in survey:
        name = question["variable"]
        if name in answers:
            errors += _answer_errors(question, answers[name])
        elif question["required"] and required:
            errors.append(f"'{name}' value missing")
    return errors


def _answer_errors(question: Question, answer: Any) -> list[str]:
    name, kind, least, most = question["variable"], question["type"], question.get("min"), question.get("max")
    if kind in TEXTS:
        if not isinstance(answer, str):
            return [f"Value {answer} for '{name}' expected to be a string."]
        if least is not None and len(answer) < least:
            return [f"'{name}' value {answer} is too small (length is {len(answer)} must be at least {least})."]
    elif kind in ("integer", "float"):
        if type(answer) not in ((int,) if kind == "integer" else (int, float)):
            return [
                f"Value {answer} for '{name}' expected to be {'an integer' if kind == 'integer' else 'a numeric type'}."
            ]
        if least is not None and answer < least:
            return [f"'{name}' value {answer} is too small (must be at least {least})."]
    else:
        if kind == "multiselect" and not isinstance(answer, list):
            return [f"'{name}' value is expected to be a list."]
        chosen = answer if kind == "multiselect" else [answer]
        choices = question["choices"]
        return [
            f"Value {value} for '{name}' expected to be one of {choices}." for value in chosen if value not in choices
        ]
    if most is not None and (len(answer) if isinstance(answer, str) else answer) > most:
        return [f"'{name}' value {answer} is too large (must be no more than {most})."]
    return []


def rrule_errors(rule: str) -> list[str]:
    """What AWX says of a schedule's rule."""
    starts = re.findall(r"DTSTART(?:;[^:]+)?:[0-9]+T[0-9]+Z?", rule)
    errors = []
    if not starts:
        errors.append("Valid DTSTART required in rrule. Value should start with: DTSTART:YYYYMMDDTHHMMSSZ")
    if re.search(r"DTSTART:[0-9]+T[0-9]+ ", rule):
        errors.append("DTSTART cannot be a naive datetime.  Specify ;TZINFO= or YYYYMMDDTHHMMSSZZ.")
    if len(starts) > 1:
        errors.append("Multiple DTSTART is not supported.")
    if "rrule:" not in rule.lower():
        errors.append("One or more rule required in rrule.")
    errors += [f"{word} not allowed in rrule." for word in ("EXDATE", "RDATE") if f"{word.lower()}:" in rule.lower()]
    for part in re.findall(r"RULE:\S*", rule):
        errors += [f"{reason}: {part}" for reason in _part_errors(part)]
    try:
        runs: Any = rrule.rrulestr(rule, forceset=True, tzinfos={"UTC": tz.UTC, "Z": tz.UTC})
        if any(each._dtstart.tzinfo is None for each in runs._rrule):
            raise ValueError("A valid TZID must be provided (e.g., America/New_York)")
    except Exception as error:  # as AWX: whatever the parser raises
        errors.append(f"rrule parsing failed validation: {error}")
    return errors


def _part_errors(part: str) -> list[str]:
    errors = []
    if "interval" not in part.lower():
        errors.append("INTERVAL required in rrule")
    elif "secondly" in part.lower():
        errors.append("SECONDLY is not supported")
    if re.search(r"BYDAY[:=][0-9]+[a-zA-Z]{2}", part):
        errors.append("BYDAY with numeric prefix not supported")
    if "COUNT" in part and "UNTIL" in part:
        errors.append("RRULE may not contain both COUNT and UNTIL")
    counted = re.search(r"COUNT=([0-9]+)", part)
    if counted and int(counted[1]) > 999:
        errors.append("COUNT > 999 is unsupported")
    return errors
