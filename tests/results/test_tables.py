"""The bytes of the tables, and reading them back."""

from __future__ import annotations

import csv
import io
import json
import random
from pathlib import Path
from typing import Any

import fake_job
import pytest

from qsweep.cli.table import summary_table, trials_table
from qsweep.errors import UserError
from qsweep.results import aggregate, tables
from qsweep.results.records import Record
from qsweep.spec.file import read
from qsweep.spec.plan import Plan, expand
from qsweep.trial.key import Trial, canonical
from qsweep.trial.measures import METRICS

SPEC = """
title: Tiny
trial: {data: digits, model: softmax, batch_size: 64, rounding: stochastic, scale: 2, quantize: {weight: range}}
variants: {"-x": {}, "=b": {zero: false}}
grid: {lr: [0.1, 1.0e-7], bitwidth: [4]}
also: [{trial: {quantize: {}, model: {name: mlp, hidden: [8, 8]}}, grid: {lr: [0.5]}}]
"""


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    (tmp_path / "tiny.yaml").write_text(SPEC)
    return expand(read(tmp_path / "tiny.yaml"))


def record(trial: Trial, **changed: Any) -> Record:
    given: dict[str, Any] = {
        "status": "done",
        "reason": "",
        "result": dict.fromkeys(METRICS),
        "epochs": "{}",
        "run": {"stack": 4},
        "run_id": 1,
        "seconds": 1 / 3,
        "checksum": "",
    }
    if "history" in changed:
        changed["epochs"] = json.dumps(changed.pop("history"))
    return Record(key=trial.key, environment="a machine", settings=canonical(trial.settings), **{**given, **changed})


METRIC = {"test_accuracy": 0.1 + 0.2, "test_loss": 5e-324, "train_accuracy": 1.0, "train_loss": None}
PARAMETERS = "data,preprocess,split,drop_last,model,init,optimizer,momentum,weight_decay,loss,epochs,batch_size,"
QUANTIZED = (
    "digits,unit,standard,false,softmax,torch,sgd,0.0,0.0,cross_entropy,1,64,range,2.0,{},stochastic,range,true,,"
)
FLOAT = 'digits,unit,standard,false,mlp,torch,sgd,0.0,0.0,cross_entropy,1,64,float32,,,,float32,,"[8,8]",0.0'


WHY = (
    "weight_clipped,weight_zero,weight_levels,weight_stalled,bias_clipped,bias_zero,bias_levels,bias_stalled,"
    "predicted_classes"
)


def test_trials_has_these_bytes(plan: Plan) -> None:
    a, b, c, d, e = plan.trials
    records = {
        a.key: record(a, result={**METRIC, "weight_clipped": 0.25, "weight_levels": 16, "predicted_classes": 10}),
        b.key: record(b, status="diverged", reason="NaN in epoch 1", result={}),
        c.key: record(c, status="failed", reason='=1+1, "quoted"', result={}),
        e.key: record(e, status="timeout", reason="took longer than 1 s", result={}),
    }
    header = f"key,status,variant,lr,bitwidth,seed,{','.join(METRICS)},{WHY},reason,{PARAMETERS}"
    assert tables.trials_csv(plan, records) == "\n".join(
        [
            f"{header}quantize.weight,scale,zero,rounding,quantize.bias,quantize_init,model.hidden,model.dropout",
            f"{a.key},done,'-x,0.1,4,0,0.30000000000000004,5e-324,1.0,,0.25,,16,,,,,,10,,{QUANTIZED.format('true')}",
            f"{b.key},diverged,'-x,1e-07,4,0,,,,,,,,,,,,,,NaN in epoch 1,{QUANTIZED.format('true')}",
            f'{c.key},failed,\'=b,0.1,4,0,,,,,,,,,,,,,,"\'=1+1, ""quoted""",{QUANTIZED.format("false")}',
            f"{d.key},missing,'=b,1e-07,4,0,,,,,,,,,,,,,,,{QUANTIZED.format('false')}",
            f"{e.key},timeout,,0.5,,0,,,,,,,,,,,,,,took longer than 1 s,{FLOAT}",
            "",
        ]
    )


def test_model_bits_follow_the_metrics_if_a_record_has_them(plan: Plan, tmp_path: Path) -> None:
    """A compression overrides the number; an older record has an empty cell."""
    a, b, c, _, e = plan.trials
    counted = {"stack": 4, "model_bits": 2**40}
    records = {
        a.key: record(a, result=METRIC, run=counted),
        b.key: record(b, result={**METRIC, "model_bits": 5}, run=counted),
        c.key: record(c, status="diverged", reason="NaN", result={}, run=counted),
        e.key: record(e, result=METRIC),
    }
    found = list(csv.DictReader(io.StringIO(tables.trials_csv(plan, records))))
    assert [row["model_bits"] for row in found] == [str(2**40), "5", str(2**40), "", ""]
    assert list(found[0])[list(found[0]).index("reason") - 1] == "model_bits"
    (tmp_path / "trials.csv").write_text(tables.trials_csv(plan, records), encoding="utf-8")
    shown = [line.split() for line in trials_table(tmp_path).splitlines()]
    assert (shown[0][-1], shown[1][-1], shown[2][-1]) == ("model_bits", "1099511627776", "5")
    means = summary_table(aggregate.over_seeds(tmp_path)).splitlines()
    assert (means[0].split()[-1], means[1].split()[-1]) == ("model_bits", "1099511627776")
    alike = {t.key: record(t, result=METRIC, run=counted) for t in plan.trials}
    (tmp_path / "trials.csv").write_text(tables.trials_csv(plan, alike), encoding="utf-8")
    assert "model_bits" not in trials_table(tmp_path) + summary_table(aggregate.over_seeds(tmp_path))


def test_tensors_have_their_formats_as_in_a_spec_with_clipping(tmp_path: Path) -> None:
    """Also for records that have only the family's name."""
    text = """
trial:
  {data: digits, model: softmax, bitwidth: 8,
   stages: [{compress: {weight: block per=16, bias: e4m3}}, {retrain: {codebook: free}},
            {compress: {weight: kmeans5, bias: uniform clip=99.9}}]}
"""
    (tmp_path / "tiny.yaml").write_text(text)
    plan = expand(read(tmp_path / "tiny.yaml"))
    (trial,) = plan.trials
    row: dict[str, Any] = dict.fromkeys(tables.TENSOR_COLUMNS[2:])
    parts = {
        trial.bases[1].key: (("weight", "block"), ("bias", "float")),
        trial.key: (("weight", "kmeans"), ("bias", "uniform")),
    }
    records = {
        one.key: record(one, result={"tensors": [{**row, "part": p, "format": f} for p, f in parts[one.key]]})
        for one in (trial.bases[1], trial)
    }
    found = csv.DictReader(io.StringIO(tables.tensors_csv(plan, records)))
    assert [(row["stage"], row["part"], row["format"]) for row in found] == [
        ("1", "weight", "block8 per=16"), ("1", "bias", "e4m3"), ("3", "weight", "kmeans5"),
        ("3", "bias", "uniform8 clip=99.9"),
    ]  # fmt: skip


def test_history_has_these_bytes(plan: Plan) -> None:
    a, b, *_ = plan.trials
    history = {"stage": [0, 0], "epoch": [1, 2], "test_accuracy": [0.5, 0.25], "train_loss": [None, 1e-05]}
    records = {b.key: record(b, history=history), a.key: record(a, status="failed")}
    assert tables.history_csv(plan, records) == (
        f"key,stage,epoch,{','.join(METRICS)},{WHY}\n{b.key},0,1,0.5,,,,,,,,,,,,\n{b.key},0,2,0.25,,,1e-05,,,,,,,,,\n"
    )


def test_timings_has_these_bytes(plan: Plan) -> None:
    a, *_ = plan.trials
    assert tables.timings_csv(plan, {a.key: record(a)}) == (
        f"key,environment,stack,seconds\n{a.key},a machine,4,0.333333\n"
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (True, "true"),
        (False, "false"),
        (3, "3"),
        (-3, "-3"),
        (-0.5, "-0.5"),
        (0.1 + 0.2, "0.30000000000000004"),
        (1e22, "1e+22"),
        (2.0, "2.0"),
        (2**63, "9223372036854775808"),
        ([512, 512], "[512,512]"),
        ([0.9, 0.999], "[0.9,0.999]"),
        ({"a": [True, None]}, '{"a":[true,null]}'),
        ("range4", "range4"),
        ("=1+1", "'=1+1"),
        ("+1", "'+1"),
        ("-x", "'-x"),
        ("@sum", "'@sum"),
        ("a=b", "a=b"),
        ("größer 🙂", "größer 🙂"),
        ("two\nlines", "two\nlines"),
        ("a\rb\0c\ud800d", "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}c\N{REPLACEMENT CHARACTER}d"),
    ],
)
def test_cell(value: object, text: str) -> None:
    assert tables.cell(value) == text


HISTOGRAMS = {
    "linear1.weight": {"role": "weight", "low": -0.1, "high": 5e-324, "counts": [3, 0, 12]},
    "linear1.bias": {"role": "bias", "low": 0.0, "high": 0.0, "counts": [7]},
}


def test_histograms_have_these_bytes_and_are_read_back(plan: Plan, tmp_path: Path) -> None:
    a, b, *_ = plan.trials
    records = {a.key: record(a, result={**METRIC, "histograms": HISTOGRAMS}), b.key: record(b, result=METRIC)}
    text = tables.histograms_csv(plan, records)
    assert text == (
        "key,stage,place,role,low,high,counts\n"
        f"{a.key},0,linear1.weight,weight,-0.1,5e-324,3 0 12\n"
        f"{a.key},0,linear1.bias,bias,0.0,0.0,7\n"
    )
    (tmp_path / "histograms.csv").write_text(text)
    back = tables.read_histograms(tmp_path)
    assert back[["place", "counts"]].values.tolist() == [["linear1.weight", "3 0 12"], ["linear1.bias", "7"]]
    assert back[["low", "high"]].values.tolist() == [[-0.1, 5e-324], [0.0, 0.0]]


def test_histograms_beside_the_metrics_change_no_other_table(plan: Plan) -> None:
    a, *_ = plan.trials
    plain, counted = ({a.key: record(a, result={**METRIC, **more})} for more in ({}, {"histograms": HISTOGRAMS}))
    for table in (tables.trials_csv, tables.history_csv, tables.timings_csv):
        assert table(plan, counted) == table(plan, plain)


def test_no_histograms_are_written_if_no_trial_has_any(plan: Plan, tmp_path: Path) -> None:
    a, *_ = plan.trials
    assert tables.histograms_csv(plan, {a.key: record(a, result=METRIC)}) == ""
    assert tables.read_histograms(tmp_path).empty


@pytest.mark.parametrize("counts", ["", "1 x", "1  2", "-1", "1.5"])
def test_invalid_counts_are_reported(tmp_path: Path, counts: str) -> None:
    (tmp_path / "histograms.csv").write_text(
        f"{','.join(tables.HISTOGRAM_COLUMNS)}\na,0,linear1.weight,weight,0,1,{counts}\n"
    )
    with pytest.raises(UserError, match=r"histograms.csv:2: counts: found .* expected integers"):
        tables.read_histograms(tmp_path)


# --- reading ----------------------------------------------------------------------------------------------------------


def test_tables_are_read_back_with_their_types(plan: Plan, tmp_path: Path) -> None:
    a, b, c, d, e = plan.trials
    records = {t.key: record(t, result=METRIC, reason="1e-3" if t is a else "") for t in (a, b, c, d)}
    (tmp_path / "trials.csv").write_text(tables.trials_csv(plan, records), encoding="utf-8")
    back = tables.read_trials(tmp_path)
    assert list(back["key"]) == [t.key for t in (a, b, c, d, e)]
    assert list(back["lr"]) == [0.1, 1e-7, 0.1, 1e-7, 0.5]
    assert list(back["test_accuracy"][:4]) == [0.1 + 0.2] * 4
    assert list(back["test_loss"][:4]) == [5e-324] * 4
    assert back["bitwidth"].isna().tolist() == [False] * 4 + [True]
    assert back["drop_last"].dtype == bool
    assert list(back["zero"][:4]) == [True, True, False, False]
    assert back["zero"].isna().tolist() == [False] * 4 + [True]
    assert back["seed"].dtype == back["epochs"].dtype == "int64"
    assert {str(back[name].dtype) for name in ("test_accuracy", "train_loss", "scale", "bitwidth")} == {"float64"}
    assert back["reason"][0] == "1e-3"
    assert list(back["variant"][:4]) == ["'-x", "'-x", "'=b", "'=b"]
    assert back["model.hidden"][4] == "[8,8]"


def test_text_that_looks_like_a_number_stays_text(tmp_path: Path) -> None:
    header = ["key", "status", "variant", "seed", *METRICS, "reason"]
    rows = [["0" * 64, "done", "010", 0, *[0.5] * 4, "nan"], ["1" * 64, "done", "1e3", 0, *[0.5] * 4, ""]]
    stream = io.StringIO()
    csv.writer(stream).writerows([header, *rows])
    (tmp_path / "trials.csv").write_text(stream.getvalue())
    back = tables.read_trials(tmp_path)
    assert back[["key", "variant"]].values.tolist() == [["0" * 64, "010"], ["1" * 64, "1e3"]]
    assert back["reason"][0] == "nan"
    assert back["reason"].isna().tolist() == [False, True]


def test_floats_are_read_back_bit_for_bit(tmp_path: Path) -> None:
    drawn = random.Random(0)
    numbers = [drawn.uniform(0, 1) * 10.0 ** drawn.randint(-320, 300) for _ in range(5000)]
    lines = [f"{n:064x},1,{n},{','.join([repr(number)] * 6)}" for n, number in enumerate(numbers)]
    (tmp_path / "history.csv").write_text("\n".join([",".join((*tables.HISTORY_COLUMNS, "a", "b")), *lines]))
    assert tables.read_history(tmp_path)["test_loss"].tolist() == numbers


@pytest.mark.parametrize(("version", "asked"), [("2.2.3", True), ("3.0.0", True), ("3.1.1", False), ("10.0", False)])
def test_exact_floats_are_requested_only_from_versions_that_need_it(version: str, asked: bool) -> None:
    assert bool(tables._exact_floats(version)) == asked


def test_table_with_only_missing_trials_is_read(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "trials.csv").write_text(tables.trials_csv(plan, {}))
    (tmp_path / "history.csv").write_text(tables.history_csv(plan, {}))
    back = tables.read_trials(tmp_path)
    assert set(back["status"]) == {"missing"}
    assert back["test_accuracy"].isna().all()
    assert len(tables.read_history(tmp_path)) == 0


def test_history_is_read_back(plan: Plan, tmp_path: Path) -> None:
    a, *_ = plan.trials
    given = fake_job.record(a.settings)["history"]
    history = {name: [row[name] for row in given] for name in given[0]}
    (tmp_path / "history.csv").write_text(tables.history_csv(plan, {a.key: record(a, history=history)}))
    back = tables.read_history(tmp_path)
    assert list(back["epoch"]) == [1, 2]
    assert list(back["test_loss"]) == history["test_loss"]


BAD = {
    "missing": (None, "no table at"),
    "empty": (b"", "is not a table"),
    "binary": (b"\xff\xfe\x00\x01", "is not a table"),
    "another table": (b"a,b\n1,2\n", "has no column key, status"),
    "ragged": (b"key,status\n1,2,3\n4,5,6,7\n", "is not a table"),
}


@pytest.mark.parametrize(("content", "message"), BAD.values(), ids=BAD.keys())
def test_file_that_is_not_a_table_is_reported(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "trials.csv").write_bytes(content)
    with pytest.raises(UserError, match=message):
        tables.read_trials(tmp_path)


def test_invalid_cells_are_reported_with_their_lines(tmp_path: Path) -> None:
    head = "key,status,seed,test_accuracy,test_loss,train_accuracy,train_loss\n"
    rows = ["a,done,0,0.5,1,0.5,1", "b,don,0,abc,1,0.5,1", "c", *["d,done,0,x,1,1,1"] * 5]
    (tmp_path / "trials.csv").write_text(head + "\n".join(rows) + "\n")
    with pytest.raises(UserError) as caught:
        tables.read_trials(tmp_path)
    lines = str(caught.value).splitlines()
    assert lines[0].endswith("trials.csv:3: test_accuracy: found 'abc', expected a number or an empty cell")
    assert lines[-2:] == ["and 3 more", "`qsweep run` writes the table again"]
    (tmp_path / "trials.csv").write_text(head + "\n".join(rows[:3]) + "\n")
    with pytest.raises(
        UserError, match=r"trials.csv:3: status: found 'don', expected one of done, (.|\n)*trials.csv:4"
    ):
        tables.read_trials(tmp_path)
