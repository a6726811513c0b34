"""Another domain through the same jobs: nothing in them knows of numerals. The example is the test's input."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml
from pyspark.sql import SparkSession

from jobs.spark.lakehouse_world import NOW, catalog_in
from lakehouse_contract import decoding, layout
from lakehouse_contract.settings import GoldSettings, SilverSettings
from lakehouse_contract.tables import spark_schema
from lakehouse_jobs import gold, silver, spark_session
from lakehouse_jobs.iceberg_commits import Lakehouse

EXAMPLE = yaml.safe_load((Path(__file__).parents[3] / "examples/orders.yaml").read_text())["spec"]
DAY = datetime(2026, 1, 31, tzinfo=UTC)


def order(number: int, hours: float, **payload: Any) -> tuple[Any, ...]:
    """A row of bronze, as the stream writes it."""
    at = DAY + timedelta(hours=hours)
    arrived = at + timedelta(seconds=1)
    return (f"o{number}", at, json.dumps(payload), None, 0, number, arrived, False, arrived)


def customer(name: str, tier: str | None = None) -> dict[str, Any]:
    return {"id": name, **({"tier": tier} if tier else {})}


ROWS = [
    order(1, 1, kind="order", customer=customer("ann"), total=10.5, items=[{"sku": "a"}]),
    order(2, 2, kind="order", customer=customer("ann", "gold"), total=20, items=[{"sku": "b"}], gift=True),
    order(3, 3, kind="order", customer=customer("bob"), total=-1, items=[{"sku": "a"}]),
    order(4, 25, kind="order", customer=customer("ann", "gold"), total=0.25),
    order(5, 26, kind="return", customer=customer("ann"), total=20),
    order(6, 27, kind="visit", customer=customer("cy")),
]


def rows(spark: SparkSession, table: str, *columns: str) -> list[tuple[Any, ...]]:
    return sorted(tuple(row) for row in spark.table(table).selectExpr(*columns).collect())


def test_orders_go_through_the_same_jobs(spark: SparkSession, tmp_path: Path) -> None:
    catalog = catalog_in(tmp_path, "shop")
    session = spark_session.open_session(catalog, {}, "orders")
    lakehouse = Lakehouse(session, catalog.name)
    table = layout.bronze(EXAMPLE["bronze"]["table"])
    lakehouse.ensure(table)
    frame = session.createDataFrame(ROWS, spark_schema(table).replace(" NOT NULL", ""))
    frame.writeTo(lakehouse.identifier(table.name)).append()
    common = {"pipeline": "orders", "catalog": decoding.encode(catalog), "run": {"id": "run-1"}}
    wanted = EXAMPLE["silver"]
    silver.run(
        session,
        decoding.decode(
            SilverSettings,
            {**common, "bronzeTable": table.name, **{k: wanted[k] for k in ("columns", "tables", "dimensions")}},
        ),
        NOW,
    )
    sources = [each["name"] for each in (*wanted["tables"], *wanted["dimensions"])]
    gold.run(
        session, decoding.decode(GoldSettings, {**common, "sources": sources, "models": EXAMPLE["gold"]["models"]}), NOW
    )

    assert rows(session, "shop.shop_silver.orders", "event_id", "tier", "total", "is_gift") == [
        ("o1", "basic", Decimal("10.50"), False),
        ("o2", "gold", Decimal("20.00"), True),
        ("o4", "gold", Decimal("0.25"), False),
    ]
    assert rows(session, "shop.shop_silver.orders_quarantine", "event_id", "broken_rules") == [("o3", ["has_total"])]
    assert rows(session, "shop.shop_silver.returns", "event_id", "refund") == [("o5", Decimal("20.00"))]
    assert rows(session, "shop.shop_silver.dim_customers", "customer_id", "tier", "is_current") == [
        ("ann", "basic", False),
        ("ann", "gold", True),
    ]
    assert rows(session, "shop.shop_gold.revenue", "cast(day AS string)", "tier", "orders", "revenue") == [
        ("2026-01-31", "basic", 1, Decimal("10.50")),
        ("2026-01-31", "gold", 1, Decimal("20.00")),
        ("2026-02-01", "gold", 1, Decimal("0.25")),
    ]
    assert rows(session, "shop.shop_gold.refunds", "customer_id", "refunded") == [("ann", Decimal("20.00"))]
