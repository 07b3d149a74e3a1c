"""Tables from results: medians, ranges, ratios, and runs that failed."""

from __future__ import annotations

from bench.report import AIMS, TABLES, markdown


def run(server: str, repeat: int, **figures: float) -> dict[str, object]:
    columns = next(columns for name, _, columns in TABLES if name == "accept")
    return {
        "workload": "accept",
        "server": server,
        "repeat": repeat,
        "figures": {column.figure: 0 for column in columns} | figures,
    }


def rows(text: str) -> dict[str, list[str]]:
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return {cells[0].strip(): [cell.strip() for cell in cells] for cells in lines}


def test_median_range_and_ratio() -> None:
    ours = [run("qmtls", n, accepted_per_s=rate, cpu_ms=0.25) for n, rate in enumerate((3000, 2000, 2500))]
    theirs = [run("postfix", n, accepted_per_s=1000, cpu_ms=1.0) for n in range(3)]
    table = rows(markdown(theirs + ours))
    place = table[""].index("accepted/s")
    assert table["qmtls"][place] == "2,500 (2,000-3,000)"
    assert table["postfix"][place] == "1,000"
    assert table["qmtls : postfix"][place : place + 2] == ["2.50", "0.25"]


def test_counts_have_no_ratio() -> None:
    table = rows(markdown([run("qmtls", 0, lost=0), run("postfix", 0, lost=4)]))
    place = table[""].index("lost")
    assert [table[name][place] for name in ("qmtls", "postfix", "qmtls : postfix")] == ["0", "4", ""]


def test_without_postfix_there_is_no_ratio() -> None:
    assert "qmtls : postfix" not in markdown([run("qmtls", 0)])


def test_a_failed_run_is_told_and_not_counted() -> None:
    failed = {"workload": "accept", "server": "qmtls", "repeat": 1, "error": "port 4650 is in use"}
    text = markdown([{"machine": {"kernel": "6"}}, run("qmtls", 0), failed])
    assert "qmtls, run 2, failed: port 4650 is in use" in text
    assert rows(text)["qmtls"][1] == "1"
    assert "| kernel | 6 |" in text


def test_a_figure_that_no_run_has_is_a_dash() -> None:
    nothing = run("qmtls", 0)
    nothing["figures"] = {}
    assert rows(markdown([nothing]))["qmtls"][2] == "-"


def drained(server: str, rate: float, lost: int = 0) -> dict[str, object]:
    figures = {"relayed_per_s": rate, "lost": lost, "duplicates": 0}
    return {"workload": "drain", "server": server, "repeat": 0, "figures": figures}


def test_aims_are_told_as_reached_or_not() -> None:
    good = markdown([drained("qmtls", 500), drained("postfix", 200)])
    assert "at least 2; 2.5: reached" in good and "lost: at most 0; 0: reached" in good
    bad = markdown([drained("qmtls", 300, lost=1), drained("postfix", 200)])
    assert "at least 2; 1.5: **not reached**" in bad and "lost: at most 0; 1: **not reached**" in bad


def test_an_aim_without_the_other_server_is_not_measured() -> None:
    text = markdown([drained("qmtls", 500)])
    assert "at least 2; not measured" in text
    assert "reached" not in markdown([drained("postfix", 500)])


def test_each_aim_is_a_column_of_its_table_or_known() -> None:
    columns = {name: {column.figure for column in columns} for name, _, columns in TABLES}
    hidden = {"bodies", "dane_more_rounds"}
    assert all(aim.figure in columns[name] | hidden for name, aims in AIMS.items() for aim in aims)
