"""`scripts/bench` runs, verifies and prints its tables. How fast anything is, is not tested."""

from __future__ import annotations

import importlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

import pytest

from receiptd.store.database.engine import open_engine
from receiptd.store.messages import MessageFilter, each_message
from receiptd.store.queries import ReceiptFilter, each_receipt

ROOT = Path(__file__).parents[2]

needs_wrk = pytest.mark.skipif(
    shutil.which("wrk") is None, reason="wrk is not on PATH: it makes the benchmark's load"
)


@pytest.fixture
def bench(tmp_path):
    """Runs `scripts/bench` in a folder of its own, which is empty again afterwards.

    Where it could not measure, it runs again: with a second for a measurement, a machine that does
    much else may be too busy. That something is not kept is another matter, and said so.
    """
    folder = tmp_path / "bench"
    # scripts/test has made one environment for all. To make another takes half a minute.
    has_all = all(map(find_spec, ("fastapi", "flask", "gunicorn", "uvicorn")))
    given = {"BENCH_VENV": sys.prefix} if has_all else {}

    def once(*arguments, **environment):
        process = subprocess.Popen(
            ["/bin/bash", str(ROOT / "scripts" / "bench"), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"BENCH_DIR": str(folder)} | given | environment,
        )
        try:
            output, errors = process.communicate(timeout=250)
        finally:
            process.terminate()  # and not kill: it ends what it started
            process.wait(60)
        assert not folder.exists() or not list(folder.iterdir())
        return process.returncode, output, errors

    def run(*arguments, **environment):
        for seconds in (None, 3, 9):
            longer = ("--seconds", str(seconds)) if seconds else ()
            code, output, errors = once(*arguments, *longer, **environment)
            if code != 1 or "NOT KEPT" in output + errors:
                break
        return code, output, errors

    return run


@pytest.fixture
def benchmark(monkeypatch):
    """The modules of the benchmark, as `scripts/bench` finds them."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "scripts"))
    return lambda name: importlib.import_module(f"benchmark.{name}")


@needs_wrk
def test_every_server_is_measured_and_every_number_to_reach_is_in_the_table(bench, tmp_path):
    code, output, errors = bench("--short", "--json", str(tmp_path / "figures.json"))
    assert code == 0, output + errors
    for line in (
        "stock Twisted, fixed POST",
        "tuned Twisted, fixed POST",
        "receiptd, SOAP",
        "Flask + SQLAlchemy",
        "FastAPI + SQLAlchemy",
        "stock Twisted, fixed GET",
        "tuned Twisted, fixed GET",
        "receiptd, query",
        "SOAP receipts/s over the stock fixed POST reply",
        "SOAP receipts/s over the tuned fixed POST reply",
        "query receipts/s over the stock fixed GET reply",
        "query receipts/s over the tuned fixed GET reply",
        "SOAP receipts/s over Flask + SQLAlchemy",
        "SOAP receipts/s over FastAPI + SQLAlchemy",
        "p99 latency over that of FastAPI + SQLAlchemy",
        "start-up to the first acknowledged receipt",
    ):
        assert f"\n{line} " in output
    ratios = output.partition("\nreceiptd, SOAP, over\n")[2].partition("\n\n")[0]
    assert re.findall(r"^  (.*?)(?:  +[0-9.,]+){6}$", ratios, re.M) == [
        "stock Twisted, fixed POST",
        "tuned Twisted, fixed POST",
        "Flask + SQLAlchemy",
        "FastAPI + SQLAlchemy",
        "stock Twisted, fixed GET",
        "tuned Twisted, fixed GET",
    ]
    assert "every one is stored, once" in output
    runs = json.loads((tmp_path / "figures.json").read_text())["runs"]
    kept = {run["subject"]: run for run in runs if run["stored"] is not None}
    assert sorted(kept) == ["fastapi", "flask", "query", "soap"]
    for run in kept.values():
        assert 0 < run["answered"] <= run["stored"]
        assert not run["broken"]
    assert 0.4 < kept["soap"]["matched"] < 0.6
    assert 0.4 < kept["query"]["matched"] < 0.6


@needs_wrk
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_growth_is_measured(bench, database):
    code, output, errors = bench("--growth", "--short", "--database", database)
    assert code == 0, output + errors
    assert "verified by their identifiers: every receipt that was answered is stored" in output
    assert "insert rate with 5,000 stored over that with 500: sequential ids" in output
    assert "insert rate with 5,000 stored over that with 500: random ids" in output
    assert "memory after 2,000 receipts over that after 500" in output


@needs_wrk
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_a_large_store_is_measured(bench, tmp_path, database):
    file = tmp_path / "figures.json"
    code, output, errors = bench(
        "--large", "2000", "--short", "--database", database, "--json", str(file)
    )
    assert code == 0, output + errors
    figures = {each["name"]: each["found"] for each in json.loads(file.read_text())["large"]}
    assert "building receipts_by_recipient" in figures
    assert "look-up, receipts of a number" in figures
    assert "start-up of a server" in figures
    assert "insert rate over that with 500" in figures
    assert "200 receipts and 20 messages" in figures["keep: deleted while receipts came"]
    assert any(name.startswith("backup, ") for name in figures)


def test_what_is_filled_in_is_what_is_looked_up(benchmark, tmp_path):
    bulk, store = benchmark("bulk"), benchmark("store")
    file = tmp_path / "receipts.db"
    store.make(file)
    bulk.fill(f"sqlite:///{file}", 1000, lambda _text: None)
    engine = open_engine(f"sqlite:///{file}", writes=False)

    def numbers(**wanted):
        return [row["id"] for row in each_receipt(engine, ReceiptFilter(**wanted))]

    assert numbers(message_id=bulk.key_of(77)) == [77]
    assert numbers(recipient=bulk.phone_of(77, 1000)) == [827, 577, 327, 77]
    assert numbers(recipient=bulk.BUSY) == list(range(1000, 0, -100))
    found = list(each_message(engine, MessageFilter(recipient=bulk.BUSY)))
    engine.dispose()
    assert [row["message_id"] for row in found] == [bulk.key_of(n) for n in range(1000, 0, -100)]


@needs_wrk
def test_a_soak_says_how_it_goes(bench):
    code, output, errors = bench("--soak", "2")
    assert code == 0, output + errors
    assert "receipts/s" in output
    assert "every one is stored, once" in output


@needs_wrk
def test_a_server_that_answers_without_storing_is_found_out(benchmark, tmp_path):
    speed, store, subjects = benchmark("speed"), benchmark("store"), benchmark("subjects")
    pace = speed.Pace(rounds=1, warm_up=1, seconds=1, starts=0)
    place = speed.Place(tmp_path, benchmark("machine").choose_cores())
    store.make(tmp_path / "empty.db")
    liar = replace(subjects.SUBJECTS[0], template="empty")
    run = speed.measure(liar, 0, pace, place)
    assert run.faults == (f"{run.answered} receipts were answered and 0 are stored",)
    kept, lines = benchmark("table").verification([run])
    assert not kept
    assert lines[0].startswith("NOT KEPT: stock-post")


def test_the_interpreter_is_named_and_one_without_optimizations_warned_of(
    benchmark, monkeypatch, tmp_path
):
    machine, interpreter = benchmark("machine"), importlib.import_module("interpreter")
    arguments = sysconfig.get_config_vars()
    monkeypatch.setattr(interpreter.sys, "base_prefix", "/opt/python")
    for built, said, warned in (
        ("'--enable-optimizations' '--with-lto'", "with optimizations", False),
        ("'--enable-shared'", "WITHOUT optimizations", True),
        (None, "WITHOUT optimizations", True),
    ):
        monkeypatch.setitem(arguments, "CONFIG_ARGS", built)
        lines = machine.description(tmp_path, machine.choose_cores())
        assert lines[1].startswith(
            f"Python {platform.python_version()} in /opt/python, built with"
        )
        assert lines[1].endswith(said)
        assert platform.python_compiler() in lines[1]
        warnings = [line for line in lines if "without profile-guided optimization" in line]
        assert len(warnings) == warned
    # A distribution's own records nothing of it.
    monkeypatch.setattr(interpreter.sys, "base_prefix", "/usr")
    assert machine.description(tmp_path, machine.choose_cores())[1].endswith("with optimizations")


def untroubled(load, **counts):
    """What a run of wrk says in which nothing was refused and nothing broke."""
    return load.Answers(
        refused=0,
        last_refusal="",
        broken=0,
        seconds=1.0,
        p50=1.0,
        p99=1.0,
        p999=1.0,
        load_seconds=0.1,
        **counts,
    )


def test_what_is_stored_twice_or_was_never_sent_is_found_out(benchmark):
    store, load = benchmark("store"), benchmark("load")
    answers = untroubled(load, sent=105, acknowledged=60, unmatched=40)
    kept = store.Stored(receipts=103, identifiers=103, accepted=62, repeats=0)
    assert store.lost([answers], kept) == []
    for change in (
        {"receipts": 99, "identifiers": 99},
        {"receipts": 106, "identifiers": 106},
        {"identifiers": 102},
        {"repeats": 1},
        {"accepted": 59},
    ):
        assert len(store.lost([answers], replace(kept, **change))) == 1, change


def test_each_receipt_that_was_answered_is_looked_for_by_its_identifier(benchmark):
    store, load, identifiers = benchmark("store"), benchmark("load"), benchmark("identifiers")
    # Two threads, the first of which has sent 0, 2 and 4, the second 1 and 3.
    answers = untroubled(
        load, sent=5, acknowledged=4, unmatched=0, of_threads=(3, 2), unanswered=(3,)
    )

    def faults(*numbers, repeats=0):
        return store.lost_by_number(answers, map(identifiers.hexadecimal, numbers), repeats)

    assert faults(0, 1, 2, 4) == []
    assert faults(4, 3, 2, 1, 0) == [], "stored, and its answer was cut off"
    assert faults(0, 1, 3, 4) == [
        f"1 receipts were answered and are not stored, such as {identifiers.hexadecimal(2)}"
    ], "as many are stored as were answered, and yet"
    assert "1 receipts are stored twice" in faults(0, 1, 2, 4, 4)[0]
    assert "1 receipts are stored and were never sent" in faults(0, 1, 2, 4, 5)[0]
    assert "1 receipts were taken for repetitions" in faults(0, 1, 2, 4, repeats=1)[0]


def test_a_receipt_that_is_not_in_its_place_is_found_out(benchmark, tmp_path):
    growth, databases = benchmark("growth"), benchmark("databases")
    sequential = benchmark("identifiers").sequential
    with databases.databases("sqlite", tmp_path) as made:
        database = made.make("receipts")
        filling = benchmark("store").Filling(database.url, database.spool)
        begun = datetime.now(UTC)
        for number in (0, 1, 3):
            filling.store_at_once([growth._receipt(number, sequential(number), begun)])
        filling.close()
        growth._check(database, lambda number: sequential([0, 1, 3][number]), 3)
        for count in (2, 3, 4):
            with pytest.raises(benchmark("servers").Failed, match="NOT KEPT"):
                growth._check(database, sequential, count)


def test_without_wrk_it_says_what_to_install(bench, tmp_path):
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "dirname").symlink_to(shutil.which("dirname"))
    code, output, errors = bench("--short", PATH=str(programs))
    assert code == 2
    assert output == ""
    assert "apt-get install wrk" in errors
