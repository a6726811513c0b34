"""Pipelines with the same Kafka and catalog share one client of each, and no others do."""

import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from lakehouse_contract.settings import CatalogSettings, KafkaSettings
from lakehouse_operator.handlers.sight import Sight
from lakehouse_operator.observation import clients as module
from lakehouse_operator.observation.clients import REST_SECONDS, SLOW_SECONDS, Clients, Shared, Silent
from lakehouse_operator.observation.kafka import KafkaUnreadable
from lakehouse_operator.observation.observe import Look, Observer
from lakehouse_operator.planning.job_settings import bronze_settings
from planning import examples

KAFKA = {"bootstrap.servers": "kafka:9092", "security.protocol": "SASL_SSL", "sasl.password": "one"}
CATALOG = CatalogSettings(name="lake", type="rest", uri="http://catalog:8181", warehouse="s3://lake")


class Client:
    """Counts how often a client was opened."""

    opened = 0

    def __init__(self, *_: object) -> None:
        type(self).opened += 1


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> Clients:
    Client.opened = 0
    monkeypatch.setattr(module, "KafkaObserver", Client)
    monkeypatch.setattr(module, "open_catalog", Client)
    return Clients()


def test_the_same_connection_is_opened_once(clients: Clients) -> None:
    shared = [clients.kafka(dict(reversed(KAFKA.items()))) for _ in range(3)]
    assert len({id(each.get()) for each in shared}) == 1
    assert Client.opened == 1


@pytest.mark.parametrize("change", [{"sasl.password": "two"}, {"bootstrap.servers": "other:9092"}])
def test_another_address_or_secret_is_another_connection(clients: Clients, change: dict[str, str]) -> None:
    one, other = clients.kafka(KAFKA), clients.kafka({**KAFKA, **change})
    assert one.get() is not other.get()


def test_catalogs_are_told_apart_by_their_settings_and_secrets(clients: Clients) -> None:
    kept = [
        clients.catalog(CATALOG, {"credential": "a"}),
        clients.catalog(CATALOG, {"credential": "a"}),
        clients.catalog(CATALOG, {"credential": "b"}),
        clients.catalog(replace(CATALOG, warehouse="s3://other"), {"credential": "a"}),
    ]
    assert len({id(each.get()) for each in kept}) == 3


def test_a_client_ends_with_the_last_who_uses_it(clients: Clients) -> None:
    first, second = clients.kafka(KAFKA), clients.kafka(KAFKA)
    first.get()
    del first
    gc.collect()
    second.get()
    assert Client.opened == 1
    del second
    gc.collect()
    clients.kafka(KAFKA).get()
    assert Client.opened == 2


def test_what_could_not_be_opened_is_tried_again_by_the_next() -> None:
    answers: list[Exception | str] = [OSError("away"), "there"]

    def make() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    shared = Shared(make)
    with pytest.raises(OSError, match="away"):
        shared.get()
    assert shared.get() == "there"


def test_many_threads_that_ask_at_the_same_moment_open_it_once(clients: Clients) -> None:
    together = threading.Barrier(16)

    def ask(_: int) -> tuple[Shared[object], int]:
        together.wait(10)
        shared: Shared[object] = clients.kafka(KAFKA)  # type: ignore[assignment]
        return shared, id(shared.get())

    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(ask, range(16)))
    assert len({number for _, number in found}) == 1
    assert Client.opened == 1


def test_nothing_of_a_secret_is_kept_in_what_tells_clients_apart(clients: Clients) -> None:
    kept = clients.kafka({**KAFKA, "sasl.password": "very-secret"})
    assert "very-secret" not in str(list(clients._kafka))
    assert kept.get()


async def test_pipelines_that_one_process_looks_at_share_their_connections(
    clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    kafka = KafkaSettings(bootstrap_servers="kafka:9092", topic="clicks", consumer_group="group")
    base = bronze_settings(examples.valid("minimal"))
    sight = Sight(None)  # type: ignore[arg-type]
    found: list[object] = []
    monkeypatch.setattr(Observer, "observe", lambda self, look: found.append(self._shared_kafka(look).get()))
    for name in ("one", "two"):
        group = replace(kafka, consumer_group=name)
        await sight._looked(("data", name), Look(settings=replace(base, kafka=group)))
    assert len(found) == 2
    assert found[0] is found[1]
    assert Client.opened == 1


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_one_waits_for_what_does_not_answer_and_the_others_are_told_at_once() -> None:
    clock, asked = Clock(), []
    shared = Shared(lambda: "client", clock)

    def ask(seconds: float, error: Exception | None) -> str:
        def work(client: str) -> str:
            asked.append(client)
            clock.now += seconds
            if error is not None:
                raise error
            return "answer"

        return shared.ask(work)

    def is_told(seconds: float, error: Exception | None) -> None:
        with pytest.raises(Silent, match="no broker") as told:
            ask(seconds, error)
        assert told.value.kind is TimeoutError

    is_told(SLOW_SECONDS, TimeoutError("no broker"))
    is_told(0, None)
    assert len(asked) == 1
    clock.now += REST_SECONDS
    is_told(SLOW_SECONDS, OSError("still none"))
    is_told(0, None)
    assert len(asked) == 2
    clock.now += REST_SECONDS
    assert ask(SLOW_SECONDS, None) == "answer"
    assert ask(0, None) == "answer"


def test_while_one_tries_again_the_others_are_told_at_once() -> None:
    clock = Clock()
    shared = Shared(lambda: "client", clock)

    def fails(_: str) -> None:
        clock.now += SLOW_SECONDS
        raise OSError("no broker")

    with pytest.raises(Silent, match="no broker"):
        shared.ask(fails)
    clock.now += REST_SECONDS

    def tries(_: str) -> None:
        with pytest.raises(Silent, match="no broker"):
            shared.ask(lambda _: None)

    shared.ask(tries)
    shared.ask(lambda _: None)


def test_an_error_that_comes_at_once_spares_nobody_anything() -> None:
    shared = Shared(lambda: "client", Clock())

    def fails(_: str) -> None:
        raise OSError("no such topic")

    for _ in range(2):
        with pytest.raises(OSError, match="no such topic"):
            shared.ask(fails)


def test_an_error_that_comes_at_once_ends_the_silence() -> None:
    clock = Clock()
    shared = Shared(lambda: "client", clock)

    def fails(seconds: float, text: str) -> None:
        clock.now += seconds
        raise OSError(text)

    with pytest.raises(Silent, match="no broker"):
        shared.ask(lambda _: fails(SLOW_SECONDS, "no broker"))
    clock.now += REST_SECONDS
    for _ in range(2):
        with pytest.raises(OSError, match="not let in"):
            shared.ask(lambda _: fails(0, "not let in"))


def test_pipelines_with_one_broker_that_does_not_answer_say_the_same_of_it_whoever_asks(
    clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    shared: Shared[object] = Shared(Client, clock)
    monkeypatch.setattr(clients, "kafka", lambda _: shared)
    monkeypatch.setattr(clients, "catalog", lambda *_: Shared(lambda: None))
    texts = iter(("timed out after 5001 ms", "timed out after 5002 ms", "timed out after 5003 ms"))

    def progress(*_: object) -> None:
        clock.now += SLOW_SECONDS
        raise KafkaUnreadable(f"Kafka did not answer for the topic: {next(texts)}")

    monkeypatch.setattr(Client, "progress", progress, raising=False)
    base = bronze_settings(examples.valid("minimal"))
    looks = [Look(settings=replace(base, kafka=replace(base.kafka, topic=f"topic-{n}"))) for n in range(3)]
    observers = [Observer(clients) for _ in looks]
    said = set()
    for _ in range(3):
        for observer, look in zip(observers, looks, strict=True):
            said.add(observer.observe(look).problem)
        clock.now += REST_SECONDS
    assert said == {"Kafka did not answer for the topic: timed out after 5001 ms"}
