"""What a change of the spec does: said by the fields, and true of what is built."""

import pytest

from lakehouse_operator.planning.change import classify, worst
from lakehouse_operator.planning.child import wanted_revision
from lakehouse_operator.planning.explain import explain_change
from planning.examples import raw, valid


def changes(**how):
    return {
        each.path: (each.effect, each.renews)
        for each in classify(valid("roman-numerals"), valid("roman-numerals", **how))
    }


@pytest.mark.parametrize(
    ("how", "path", "effect", "renews"),
    [
        ({"spec__bronze__image": "x:2"}, "spec.bronze.image", "restart", ()),
        ({"spec__bronze__watermarkDelay": "7m"}, "spec.bronze.watermarkDelay", "restart", ()),
        ({"spec__bronze__restart__attempts": 5}, "spec.bronze.restart.attempts", "restart", ()),
        ({"spec__bronze__restart__recovery": {"retries": 9}}, "spec.bronze.restart.recovery.retries", "hot", ()),
        ({"spec__bronze__upgrade": {"rollback": "manual"}}, "spec.bronze.upgrade.rollback", "hot", ()),
        ({"spec__bronze__deletion": {"policy": "Block"}}, "spec.bronze.deletion.policy", "hot", ()),
        ({"spec__source__topic": "other"}, "spec.source.topic", "newState", ()),
        ({"spec__source__event__idField": "id"}, "spec.source.event.idField", "newState", ()),
        ({"spec__catalog__name": "other"}, "spec.catalog.name", "newState", ()),
        ({"spec__bronze__table": "bronze.other"}, "spec.bronze.table", "newState", ()),
        ({"spec__storage__region": "eu-west-1"}, "spec.storage.region", "restart", ()),
        ({"spec__silver__schedule": "5 * * * *"}, "spec.silver.schedule", "hot", ()),
        ({"spec__gold__models__2__kind": "full"}, "", "none", ()),
        ({"spec__suspend": True}, "spec.suspend", "restart", ()),
    ],
)
def test_the_effect_of_a_change(how, path, effect, renews):
    if not path:
        assert changes(**how) == {}
    else:
        assert changes(**how) == {path: (effect, renews)}


def test_a_rule_is_named_by_its_key_and_renews_what_was_computed_with_it():
    found = changes(spec__silver__tables__0__rules__8__severity="warn")
    assert found == {
        "spec.silver.tables[silver.conversions].rules[duration_not_negative].severity": ("hot", ("silver", "gold"))
    }


def test_a_new_column_and_a_dropped_model_are_single_changes():
    column = {"name": "referrer", "type": "string", "path": "$.referrer"}
    assert changes(spec__silver__columns__13=column) == {"spec.silver.columns[referrer]": ("hot", ("silver", "gold"))}
    assert list(changes(spec__gold__models__8=...)) == ["spec.gold.models[gold.popular_numbers]"]


TABLE = "spec__silver__tables__0__columns"


@pytest.mark.parametrize(
    ("how", "path", "says"),
    [
        (
            {f"{TABLE}__7": ...},
            "tables[silver.conversions].columns[error_code]",
            "can't be dropped or renamed: old rows",
        ),
        (
            {f"{TABLE}__7__name": "code"},
            "tables[silver.conversions].columns[error_code]",
            "Keep it, with the expression",
        ),
        (
            {f"{TABLE}__4__type": "int"},
            "tables[silver.conversions].columns[input_number]",
            "as long, which can't become",
        ),
        (
            {f"{TABLE}__8__type": "string"},
            "tables[silver.conversions].columns[duration_ms]",
            "which can't become string",
        ),
        (
            {"spec__silver__dimensions__0__tracked": ["user_plan", "user_country"]},
            "dimensions[silver.dim_users].tracked[user_email_domain]",
            "declare a table of another name",
        ),
    ],
)
def test_columns_that_a_table_can_not_follow_are_refused_with_the_plan_that_works(how, path, says):
    before, after = valid("roman-numerals"), valid("roman-numerals", spec__gold=..., **how)
    (refused,) = [each for each in classify(before, after) if each.is_refused]
    assert refused.path == f"spec.silver.{path}"
    assert says in refused.refused
    *lines, whole = explain_change(before, after)
    assert whole == "In all: it is refused, because a table that is there can't follow it."
    assert any(refused.refused in line for line in lines)


@pytest.mark.parametrize(
    "how",
    [
        {f"{TABLE}__12": {"name": "referrer", "type": "string", "expression": "event_type"}},
        {f"{TABLE}__11__type": "long"},
        {f"{TABLE}__7__expression": "cast(null as string)"},
        {"spec__silver__columns__12__type": "string", f"{TABLE}__11__expression": "1"},
        {"spec__silver__columns__6__required": True},
        {"spec__silver__tables__0__name": "silver.other", "spec__silver__dimensions__0__source": "silver.other"},
    ],
    ids=["a new column", "a wider one", "one no longer filled", "another reading", "required", "another table"],
)
def test_columns_that_a_table_can_follow_are_accepted(how):
    changed = classify(valid("roman-numerals"), valid("roman-numerals", spec__gold=..., **how))
    assert changed
    assert not any(each.is_refused for each in changed)


def test_what_is_equal_to_a_default_is_no_change():
    pipeline = raw("minimal")
    pipeline["spec"]["bronze"].update({"table": "bronze.clicks", "watermarkDelay": "5m", "parallelism": 1})
    assert classify(valid("minimal"), valid(pipeline)) == ()


def test_the_worst_of_several_counts():
    found = classify(
        valid("roman-numerals"),
        valid("roman-numerals", spec__bronze__image="x:2", spec__silver__schedule="5 * * * *"),
    )
    assert worst(found) == "restart"
    assert worst(()) == "none"


_RESTARTS = {
    "spec__bronze__image": "x:2",
    "spec__bronze__flinkVersion": "v2_0",
    "spec__bronze__parallelism": 3,
    "spec__bronze__writeParallelism": 2,
    "spec__bronze__watermarkDelay": "7m",
    "spec__bronze__allowedLateness": "2h",
    "spec__bronze__tooLate": "keep",
    "spec__bronze__dedupTtl": "12h",
    "spec__bronze__compression": "zstd",
    "spec__bronze__deadLetterTopic": "other-dlq",
    "spec__bronze__serviceAccount": "other",
    "spec__bronze__checkpoint__interval": "30s",
    "spec__bronze__restart__delay": "10s",
    "spec__bronze__taskManager": {"memory": "3Gi"},
    "spec__bronze__pod": {"labels": {"team": "a"}},
    "spec__bronze__flinkConfiguration": {"taskmanager.network.detailed-metrics": "true"},
    "spec__source__bootstrapServers": "other:9092",
    "spec__source__consumerGroup": "other",
    "spec__catalog__uri": "jdbc:postgresql://other/catalog",
}
_HOT = {
    "spec__bronze__upgrade": {"savepointTimeout": "5m", "maxRecoveryPointAge": "1h"},
    "spec__bronze__deletion": {"policy": "Block"},
    "spec__bronze__recoveryPoints": {"interval": "1h"},
    "spec__bronze__restart__recovery": {"retries": 1},
    "spec__silver__schedule": "5 * * * *",
    "spec__gold__schedule": "5 1 * * *",
}


@pytest.mark.parametrize("field", _RESTARTS)
def test_what_is_said_to_restart_the_stream_is_another_revision(field):
    change = {field: _RESTARTS[field]}
    assert worst(classify(valid("roman-numerals"), valid("roman-numerals", **change))) == "restart"
    assert wanted_revision(valid("roman-numerals", **change)) != wanted_revision(valid("roman-numerals"))


@pytest.mark.parametrize("field", _HOT)
def test_what_is_said_to_be_hot_is_the_same_revision(field):
    change = {field: _HOT[field]}
    assert worst(classify(valid("roman-numerals"), valid("roman-numerals", **change))) == "hot"
    assert wanted_revision(valid("roman-numerals", **change)) == wanted_revision(valid("roman-numerals"))
