"""The kit with which users test their own handlers, and drivers are held to their contract."""

from eip.testing.faults import FaultPlan as FaultPlan
from eip.testing.faults import FaultyTransport as FaultyTransport
from eip.testing.time import EPOCH as EPOCH
from eip.testing.time import Deadlock as Deadlock
from eip.testing.time import VirtualTimeLoop as VirtualTimeLoop
from eip.testing.time import run as run

__all__ = ["EPOCH", "Deadlock", "FaultPlan", "FaultyTransport", "VirtualTimeLoop", "run"]
