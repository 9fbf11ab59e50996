"""`tandem bench engine` and `steps` measure what they are asked to, whatever the figures are."""
import json
import os
import subprocess

import pytest

from cluster import BIN


def bench(*words):
    return subprocess.run([BIN / "tandem", "bench", "engine", *map(str, words)], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=120, env=os.environ)


SMALL = ["--prompt", 24, "--gen", 2, "--repeats", 2, "--threads", 1]


def test_every_batch_is_measured_behind_the_depth(tiny):
    result = bench(tiny.path, *SMALL, "--batch", "1,3", "--depth", 21, "--json")
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert (report["threads"], report["repeats"], report["depth_tokens"]) == (1, 2, 21)
    assert [cell["batch"] for cell in report["decode"]] == [1, 3]
    for cell in [report["prompt"], *report["decode"]]:
        assert 0 < cell["tokens_per_s"]["min"] <= cell["tokens_per_s"]["median"] <= cell["tokens_per_s"]["max"]
        assert cell["phases_ms"]["gate_and_up"] > 0
    one, three = (cell["step_bytes"] for cell in report["decode"])
    # in the mean over two tokens a sequence has 22.5 others in front of it or is one
    assert one == report["weights_bytes"] + 22.5 * report["kv_bytes_per_token"]
    assert three - one == 2 * 22.5 * report["kv_bytes_per_token"]


def test_the_table_says_where_the_time_went(tiny):
    result = bench("--model", tiny.path, *SMALL, "--batch", 2)
    assert result.returncode == 0, result.stderr
    for line in ("prompt of 24", "decode, batch of 2", "reading packed weights", "attention", "all"):
        assert f"\n{line} " in result.stdout


@pytest.mark.parametrize("words, reason", [
    ([], "one model is wanted"),
    (["{tiny}", "--model", "{tiny}"], "one model is wanted"),
    (["{tiny}", "--batch", "0"], "--batch is 1 to 16 numbers from 1 to 256"),
    (["{tiny}", "--batch", "1,two"], "--batch is 1 to 16 numbers from 1 to 256"),
    (["{tiny}", "--batch", "257"], "--batch is 1 to 16 numbers from 1 to 256"),
    (["{tiny}", "--depth", "1000000"], "do not fit the model's context")])
def test_what_cannot_be_measured_is_said(tiny, words, reason):
    result = bench(*[word.format(tiny=tiny.path) for word in words])
    assert result.returncode in (1, 2) and result.stdout == ""
    assert reason in result.stderr


def test_gaps_between_steps_are_measured_at_every_batch():
    words = ["bench", "steps", "--steps", "16", "--step-us", "0", "--context", "40", "--json"]
    result = subprocess.run([BIN / "tandem", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert list(report) == ["batch_1_gap_us", "batch_32_gap_us", "batch_256_gap_us"]
    for gap in report.values():
        assert 0 < gap["median"] <= gap["p90"] <= gap["p99"]
