"""The failures of the local world that a person can do something about: their message is all there is to show."""

from lakehouse_operator.documents import DocumentsRefused
from lakehouse_operator.local.demo.world import DemoFailed
from lakehouse_operator.local.directory import NameRefused
from lakehouse_operator.local.engines import EngineMissing
from lakehouse_operator.local.flink_rest import FlinkRefused
from lakehouse_operator.local.kafka import BrokerFailed
from lakehouse_operator.local.processes import ProcessFailed
from lakehouse_operator.local.world import WorldFailed
from lakehouse_operator.reference.produce import SendingFailed
from lakehouse_operator.reference.topics import ReadingFailed

EXPECTED = (
    BrokerFailed,
    DemoFailed,
    DocumentsRefused,
    EngineMissing,
    FlinkRefused,
    NameRefused,
    ProcessFailed,
    ReadingFailed,
    SendingFailed,
    WorldFailed,
)
