"""The schema, as small steps in the order in which they were added.

A step is never changed once released: a new need is a new function at the end. The names of the steps that were
taken stand in the table `migrations`, so that a file knows its own age.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlite3 import Connection

Step = Callable[["Connection"], None]
STEPS: list[Step] = []


def step(function: Step) -> Step:
    """Append a step to the schema."""
    STEPS.append(function)
    return function


def names() -> list[str]:
    """The names of all steps that this version knows, in order."""
    return [function.__name__ for function in STEPS]


@step
def m001_plans(db: Connection) -> None:
    db.execute(
        "create table plans (id integer primary key, created text not null, model_key text not null, "
        "plan text not null)"
    )
    db.execute("create index plans_by_model on plans (model_key)")


@step
def m002_loads(db: Connection) -> None:
    db.execute(
        "create table loads (id integer primary key, created text not null, model_key text not null, "
        "settings_key text not null, runtime_build text not null, device text not null, "
        "predicted text not null, measured text, ok integer)"
    )
    db.execute("create index loads_by_key on loads (model_key, settings_key, runtime_build, device)")


@step
def m003_results(db: Connection) -> None:
    db.execute(
        "create table results (id integer primary key, created text not null, model text not null, "
        "test text not null, settings text not null, machine text not null, samples text not null)"
    )
    db.execute("create index results_by_model on results (model, test)")


@step
def m004_made(db: Connection) -> None:
    db.execute(
        "create table made (id integer primary key, created text not null, kind text not null, name text not null, "
        "location text not null, details text not null, removed text)"
    )
    # One standing entry for one thing; once removed, the same thing may be made again.
    db.execute("create unique index made_once on made (kind, name, location) where removed is null")


@step
def m005_recipes(db: Connection) -> None:
    db.execute(
        "create table recipes (id integer primary key, created text not null, name text not null, "
        "place text not null, recipe text not null)"
    )
    # One recipe for one model: made again, it is another one.
    db.execute("create unique index recipes_once on recipes (name, place)")


@step
def m006_outcomes(db: Connection) -> None:
    for column in ("kind", "quant", "model_key", "unit", "run", "engine", "device"):
        db.execute(f"alter table results add column {column} text not null default ''")
    db.execute("alter table results add column evidence text not null default '{}'")
    db.execute("update results set kind = 'sight', model_key = model where test = 'sight'")
    db.execute(
        "update results set kind = 'quality' "
        "where kind = '' and (test like 'ppl c%' or test like 'kld c%' or test like 'same-top c%')"
    )
    db.execute("update results set unit = 'perplexity' where test like 'ppl c%'")
    db.execute("update results set unit = 'nats' where test like 'kld c%'")
    db.execute("update results set unit = 'share' where test like 'same-top c%'")
    db.execute("update results set kind = 'speed', unit = 't/s' where kind = ''")
    db.execute("create index results_by_key on results (model_key, kind, test)")
    db.execute("create index results_by_run on results (run)")


@step
def m007_times(db: Connection) -> None:
    # A row that comes from elsewhere is looked for by its time before it is taken in.
    for table in ("plans", "loads", "results"):
        db.execute(f"create index {table}_by_time on {table} (created)")
