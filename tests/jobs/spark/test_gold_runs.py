"""Gold: only what silver's changes concern is computed, all of it from one state, and a set of tables is released."""

from typing import Any

import pytest

from jobs.spark.lakehouse_world import DAY, HOUR, MODELS, NOW, PEOPLE, PURCHASES, START, TABLE, World, event
from lakehouse_contract import commits
from lakehouse_contract.decoding import SettingsRefused
from lakehouse_jobs import gold, releases
from lakehouse_jobs.iceberg_commits import Lakehouse, Missing

TABLES = [model["name"] for model in MODELS]
ROWS = [
    event(1, START, who="ann"),
    event(2, START + DAY, who="ann", plan="pro", amount=5),
    event(3, START + 2 * DAY, who="ann", plan="pro", amount=7),
    event(4, START + HOUR, who="bob", amount=9),
    event(5, START + 2 * DAY, who="bob"),
]


def report(result: dict[str, Any]) -> dict[str, Any]:
    return {model["table"]: model.get("days", "skipped") for model in result["models"]}


def other_models(*changed: dict[str, Any]) -> list[dict[str, Any]]:
    by_name = {model["name"]: model for model in changed}
    return [by_name.pop(model["name"], model) for model in MODELS] + list(by_name.values())


def test_the_first_run_computes_everything_and_the_next_one_nothing(world: World) -> None:
    world.begin(*ROWS)
    first = world.gold("one")
    assert report(first) == dict.fromkeys(TABLES, "all")
    world.check_gold(world.check_silver(ROWS))
    heads = {table: world.head(table) for table in TABLES}
    again = world.gold("two")
    assert report(again) == dict.fromkeys(TABLES, "skipped")
    assert {table: world.head(table) for table in TABLES} == heads
    assert again["release"] is None
    audit = ("_audit_run_id", "_audit_revision", "_audit_loaded_at")
    assert set(world.rows("gold.daily", *audit)) == {("one", "unversioned", NOW)}


def test_only_the_days_that_changed_are_written(world: World) -> None:
    world.begin(*ROWS, gold=True)
    before = {table: world.files(table) for table in ("gold.fact", "gold.daily")}
    late = event(6, START + DAY + HOUR, who="bob", amount=11)
    world.arrive(late)
    world.silver()
    result = world.gold()
    assert report(result) == {
        "gold.person": "skipped",
        "gold.fact": ["2026-01-31"],
        "gold.daily": ["2026-01-31"],
        "gold.totals": "all",
    }
    world.check_gold(world.check_silver([*ROWS, late]))
    for table, files in before.items():
        now = world.files(table)
        assert {day for day in now if now[day] != files[day]} == {"2026-01-31"}
        assert world.history(table).snapshots[world.head(table)].touched_days == {"2026-01-31"}


def test_every_commit_names_what_it_read_and_which_days_it_touched(world: World) -> None:
    world.begin(*ROWS)
    world.gold("daily-1")
    summary = world.history("gold.fact").snapshots[world.head("gold.fact")].summary
    assert (summary[commits.RUN], summary[commits.STAGE]) == ("daily-1", "gold")
    assert summary[commits.source(PURCHASES)] == str(world.head(PURCHASES))
    assert summary[commits.source(PEOPLE)] == str(world.head(PEOPLE))
    assert summary[commits.TOUCHED_DAYS] == commits.ALL_DAYS


def test_a_change_of_a_person_concerns_the_days_from_it_to_the_next_one(world: World) -> None:
    """Ann was pro from the second day on. Now there is an hour on the second day when she was not, and no more."""
    world.begin(*ROWS, gold=True)
    back = [
        event(6, START + DAY + HOUR, who="ann", plan="free"),
        event(7, START + DAY + 2 * HOUR, who="ann", plan="pro"),
    ]
    world.arrive(*back)
    world.silver()
    result = world.gold()
    # The version that was in force on the third day began anew on the second: the third day's fact has another key.
    assert report(result)["gold.fact"] == ["2026-01-31", "2026-02-01"]
    world.check_gold(world.check_silver([*ROWS, *back]))


def test_a_version_that_ends_earlier_leaves_the_days_before_alone(world: World) -> None:
    world.begin(*ROWS, gold=True)
    moved = event(6, START + 2 * DAY + HOUR, who="bob", city="Riga")  # bob's version of the first day ends here
    world.arrive(moved)
    world.silver()
    assert report(world.gold())["gold.fact"] == ["2026-02-01"]
    world.check_gold(world.check_silver([*ROWS, moved]))


def test_a_day_that_became_empty_in_silver_is_empty_in_gold(world: World) -> None:
    world.begin(*ROWS, gold=True)
    run = {"days": {"first": "2026-01-31", "last": "2026-01-31"}}
    strict = {**TABLE, "rules": [{"name": "none", "expression": "event_id <> 'e00002'"}]}
    world.silver(tables=[strict], run_more=run)
    world.gold()
    assert {row[0] for row in world.rows("gold.fact", "day")} == {"2026-01-30", "2026-02-01"}
    assert {row[0] for row in world.rows("gold.daily", "day")} == {"2026-01-30", "2026-02-01"}
    assert sorted(world.rows("gold.totals", "who", "amount")) == [("ann", 8), ("bob", 10)]


def test_a_changed_model_is_computed_anew_with_all_that_read_it(world: World) -> None:
    world.begin(*ROWS, gold=True)
    fact = next(model for model in MODELS if model["name"] == "gold.fact")
    doubled = {**fact, "sql": fact["sql"].replace("p.amount", "2 * p.amount AS amount, p.plan")}
    result = world.gold(models=other_models(doubled))
    assert report(result) == {
        "gold.person": "skipped",
        "gold.fact": "all",
        "gold.daily": "all",
        "gold.totals": "all",
    }
    assert sorted(world.rows("gold.totals", "who", "amount")) == [("ann", 26), ("bob", 20)]
    assert world.rows("gold.fact", "plan").count(("pro",)) == 2
    assert report(world.gold(models=other_models(doubled))) == dict.fromkeys(TABLES, "skipped")


def test_days_that_are_asked_for_are_computed_once_more(world: World) -> None:
    world.begin(*ROWS, gold=True)
    marks = {table: world.history(table).mark(PURCHASES) for table in ("gold.fact",)}
    world.sql("DELETE FROM lakehouse.gold.fact WHERE day = DATE '2026-01-30'")
    asked = {"days": {"first": "2026-01-30", "last": "2026-01-30"}}
    world.arrive(event(6, START + 2 * DAY))
    world.silver()
    assert report(world.gold("again", run_more=asked))["gold.fact"] == ["2026-01-30"]
    assert {table: world.history(table).mark(PURCHASES) for table in marks} == marks
    assert report(world.gold("again", run_more=asked))["gold.fact"] == "skipped"
    world.gold()
    world.check_gold(world.check_silver([*ROWS, event(6, START + 2 * DAY)]))


def test_every_model_reads_silver_as_it_was_when_the_run_started(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.begin(*ROWS)
    create = Lakehouse.create
    new = event(6, START + HOUR, who="cy", amount=100)

    def with_silver_meanwhile(self: Lakehouse, rows: Any, table: str, *arguments: Any, **named: Any) -> None:
        create(self, rows, table, *arguments, **named)
        if table == "gold.person":
            world.arrive(new)
            world.silver("meanwhile")

    monkeypatch.setattr(Lakehouse, "create", with_silver_meanwhile)
    pinned = {}
    world_head = world.head(PURCHASES), world.head(PEOPLE)
    world.gold("one")
    monkeypatch.undo()
    for table in ("gold.person", "gold.fact"):
        history = world.history(table)
        pinned[table] = history.mark(PURCHASES), history.mark(PEOPLE)
    assert pinned == {"gold.person": (None, world_head[1]), "gold.fact": world_head}
    assert ("cy",) not in world.rows("gold.fact", "who")
    assert not any(row[1] for row in world.rows("gold.model_freshness", "model", "is_fresh"))
    world.gold("two")
    world.check_gold(world.check_silver([*ROWS, new]))


def test_a_release_names_one_state_of_every_table(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.begin(*ROWS)
    assert world.gold("one")["release"] == "rel_one"
    heads = {table: world.head(table) for table in TABLES}
    assert {table: world.history(table).tags["rel_one"] for table in TABLES} == heads
    world.arrive(event(6, START, who="cy"))
    world.silver()
    left = [2]
    tag = Lakehouse.tag

    def crashing(self: Lakehouse, *arguments: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        tag(self, *arguments)

    monkeypatch.setattr(Lakehouse, "tag", crashing)
    with pytest.raises(KeyboardInterrupt):
        world.gold("two")
    monkeypatch.undo()
    # Nothing is left to compute, but the state that is there has no name yet.
    assert world.gold("three")["release"] == "rel_three"
    assert {world.history(table).tags["rel_three"] == world.head(table) for table in TABLES} == {True}
    assert {table: world.history(table).tags["rel_one"] for table in TABLES} == heads
    assert releases.release(world.lakehouse, TABLES, "four") is None


def test_a_run_that_crashed_between_two_models_is_finished_by_the_next(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.begin(*ROWS, gold=True)
    world.arrive(event(6, START + DAY, who="cy"))
    world.silver()
    settings = world.gold_settings("crashing")
    replace = Lakehouse.replace

    def crashing(self: Lakehouse, rows: Any, table: str, *arguments: Any) -> None:
        if table == "gold.daily":
            raise KeyboardInterrupt
        replace(self, rows, table, *arguments)

    monkeypatch.setattr(Lakehouse, "replace", crashing)
    with pytest.raises(KeyboardInterrupt):
        gold.run(world.spark, settings, NOW)
    monkeypatch.undo()
    result = gold.run(world.spark, settings, NOW)
    assert report(result) == {
        "gold.person": "skipped",
        "gold.fact": "skipped",
        "gold.daily": ["2026-01-31", "2026-02-01"],  # cy's version has not ended
        "gold.totals": "all",
    }
    assert result["release"] == "rel_crashing"
    world.check_gold(world.check_silver([*ROWS, event(6, START + DAY, who="cy")]))


def test_freshness_is_live_and_true(world: World) -> None:
    world.begin(*ROWS, gold=True)
    world.gold()  # finds nothing, and makes the view, which a beginning has not: it names its catalog

    def fresh() -> dict[tuple[str, str], bool]:
        return {row[:2]: row[2] for row in world.rows("gold.model_freshness", "model", "source_table", "is_fresh")}

    rests_on = {"gold.person": [PEOPLE], "gold.fact": [PEOPLE, PURCHASES], "gold.daily": [PEOPLE, PURCHASES]}
    rests_on["gold.totals"] = [PEOPLE, PURCHASES]
    pairs = {(model, source) for model, sources in rests_on.items() for source in sources}
    assert fresh() == dict.fromkeys(pairs, True)
    options = "map('min-input-files', '1', 'rewrite-all', 'true')"
    world.sql(f"CALL lakehouse.system.rewrite_data_files(table => '{PURCHASES}', options => {options})")
    world.silver()  # finds nothing
    assert fresh() == dict.fromkeys(pairs, True)
    assert report(world.gold()) == dict.fromkeys(TABLES, "skipped")
    world.arrive(event(6, START + DAY, who="ann", plan="pro"))  # no new version
    world.silver()
    assert fresh() == {pair: pair[1] == PEOPLE for pair in pairs}
    world.gold()
    assert fresh() == dict.fromkeys(pairs, True)
    row = world.sql("SELECT * FROM lakehouse.gold.model_freshness WHERE model = 'gold.fact'").collect()[0]
    assert row["source_snapshot"] in {world.head(PURCHASES), world.head(PEOPLE)}


def test_a_change_whose_days_nobody_stamped_is_found_by_its_files(world: World) -> None:
    world.begin(*ROWS, gold=True)
    world.sql(f"DELETE FROM lakehouse.{PURCHASES} WHERE event_id = 'e00002'")  # somebody's hand
    assert commits.TOUCHED_DAYS not in world.history(PURCHASES).snapshots[world.head(PURCHASES)].summary
    result = world.gold()
    assert report(result)["gold.fact"] == ["2026-01-31"]
    assert ("e00002",) not in world.rows("gold.fact", "event_id")


def test_a_table_that_nobody_can_tell_about_is_computed_anew(world: World) -> None:
    world.arrive(*ROWS)
    world.silver()
    world.gold()
    for number in range(2):
        world.arrive(event(10 + number, START + number * DAY))
        world.silver()
    world.sql(
        f"CALL lakehouse.system.expire_snapshots(table => '{PURCHASES}', retain_last => 1, "
        "older_than => TIMESTAMP '2100-01-01 00:00:00')"
    )
    result = {model["table"]: model for model in world.gold()["models"]}
    assert result["gold.fact"]["reason"] == "silver.purchases changed, and it is not known on which days"
    world.check_gold(world.check_silver([*ROWS, event(10, START), event(11, START + DAY)]))


def test_gold_before_silver_says_so(world: World) -> None:
    with pytest.raises(Missing, match=r"silver\.purchases does not exist yet"):
        world.gold()


AS_OF = "p.event_time >= d.valid_from AND (d.valid_to IS NULL OR p.event_time < d.valid_to)"
BY_DAY = """SELECT to_date(p.event_time) AS day, {} FROM silver.purchases p
            JOIN (SELECT * FROM silver.dim_people) d ON d.who = p.who AND {}"""
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a command": ({"sql": "DROP TABLE silver.purchases"}, "sql: must be one SELECT, not DropTable"),
    "an insert": ({"sql": "INSERT INTO silver.purchases SELECT 1"}, "sql: must be one SELECT, not InsertInto"),
    "a setting": ({"sql": "SET spark.sql.ansi.enabled = false"}, "sql: must be one SELECT, not SetCommand"),
    "two statements": ({"sql": "SELECT 1 AS a; SELECT 2 AS a"}, "sql: .*[Ss]yntax error"),
    "an injection": ({"sql": "SELECT 1 AS a) UNION ALL SELECT * FROM (SELECT 2 AS a"}, "sql: .*[Ss]yntax error"),
    "no SQL": ({"sql": "hello"}, "sql: .*[Ss]yntax error"),
    "bronze": ({"sql": "SELECT event_id FROM bronze.purchases"}, "sql: reads bronze.purchases, which is neither"),
    "bronze in a subquery": (
        {"sql": "SELECT (SELECT max(event_id) FROM bronze.purchases) AS a"},
        "sql: reads bronze.purchases",
    ),
    "bronze in a CTE": (
        {"sql": "WITH x AS (SELECT * FROM bronze.purchases) SELECT event_id FROM x"},
        "sql: reads bronze",
    ),
    "bronze by a computed name": (
        {"sql": "SELECT event_id FROM identifier('bronze.' || 'purchases')"},
        "sql: reads something that is not a table of the pipeline: bronze.purchases",
    ),
    "another snapshot": (
        {"sql": "SELECT who FROM silver.purchases FOR SYSTEM_TIME AS OF timestamp'2100-01-01'"},
        "sql: reads something that is not a table of the pipeline: silver.purchases",
    ),
    "metadata": (
        {"sql": "SELECT snapshot_id FROM silver.purchases.snapshots"},
        "sql: reads silver.purchases.snapshots",
    ),
    "a file": ({"sql": "SELECT * FROM text.`/etc/passwd`"}, "sql: reads text./etc/passwd"),
    "a model behind it": ({"sql": "SELECT day FROM gold.daily"}, "sql: reads gold.daily, which is neither"),
    "itself": ({"sql": "SELECT person_key FROM gold.person"}, "sql: reads gold.person, which is neither"),
    "an unknown column": ({"sql": "SELECT nope FROM silver.purchases"}, "sql: .*nope.* cannot be resolved"),
    "chance": ({"sql": "SELECT rand() AS a"}, "sql: must give the same value every time"),
    "the clock": ({"sql": "SELECT current_date() AS a"}, "sql: must give the same value every time"),
    "java": ({"sql": "SELECT java_method('java.lang.System', 'getenv', 'PATH') AS a"}, "sql: must give the same value"),
    "a column twice": ({"sql": "SELECT who, plan AS who FROM silver.purchases"}, "sql: gives the column who twice"),
    "a column without a name": ({"sql": "SELECT count(*) FROM silver.purchases"}, 'sql: its column "count\\(1\\)"'),
    "a column of the audit": ({"sql": "SELECT 1 AS _audit_run_id"}, "sql: its column _audit_run_id"),
    "a column of no type": ({"sql": "SELECT NULL AS a"}, "sql: its column a is of type void"),
    "the current version": (
        {"sql": BY_DAY.format("d.plan", "d.is_current"), "kind": "incrementalByDay", "dayColumn": "day"},
        "sql: a model by day must not depend on is_current",
    ),
    "whether a version is current": (
        {"sql": BY_DAY.format("d.is_current AS x", AS_OF), "kind": "incrementalByDay", "dayColumn": "day"},
        "sql: a model by day must not depend on is_current",
    ),
    "the end of a version": (
        {"sql": BY_DAY.format("d.version_id, d.valid_to", AS_OF), "kind": "incrementalByDay", "dayColumn": "day"},
        "sql: a model by day must not give valid_to: ",
    ),
    "what follows from the end of a version": (
        {"sql": BY_DAY.format("year(d.valid_to) AS x", AS_OF), "kind": "incrementalByDay", "dayColumn": "day"},
        "sql: a model by day must not give x",
    ),
    "no day": (
        {"sql": "SELECT who FROM silver.purchases", "kind": "incrementalByDay", "dayColumn": "day"},
        "dayColumn: day: the model's SQL gives no such column",
    ),
    "a day that is no date": (
        {"sql": "SELECT event_time AS day FROM silver.purchases", "kind": "incrementalByDay", "dayColumn": "day"},
        "dayColumn: day: the model's SQL gives it as timestamp",
    ),
}


def test_models_that_can_not_be_computed_are_refused_before_anything_is_written(world: World) -> None:
    world.begin(*ROWS[:1])
    for name, (changes, said) in REFUSED.items():
        model = {"name": "gold.person", "kind": "full", **changes}
        with pytest.raises(SettingsRefused, match=rf"^models\[1\]\.{said}"):
            world.gold(models=[{"name": "gold.first", "kind": "full", "sql": "SELECT 1 AS a"}, model])
        assert world.lakehouse.find("gold.first") is None, name


def test_text_of_the_environment_does_not_reach_a_model(world: World) -> None:
    world.begin(*ROWS[:1])
    world.gold(models=[{"name": "gold.first", "kind": "full", "sql": "SELECT '${env:PATH}' AS a"}])
    assert world.rows("gold.first", "a") == [("${env:PATH}",)]
