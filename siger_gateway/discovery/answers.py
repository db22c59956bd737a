"""What Consul's answers mean: from JSON to endpoint tables, as pure functions.

An answer that does not have Consul's shape is refused whole (``msgspec`` raises), so that it counts
as an error and the last table stays. A single instance that nobody could connect to is left out
and named in ``Instances.skipped``; the others are used.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from siger_gateway.config.names import TAG_PREFIX, BadText, parse_host_port, parse_service_name
from siger_gateway.config.schema import EndpointSpec

MAX_WEIGHT: Final = 1000
"""``EndpointSpec.weight``'s upper bound; Consul allows 65535."""

UNSPECIFIED: Final = frozenset({"", "0.0.0.0", "::"})
"""Not an address: empty means "the node's" in Consul, and the others are what a service listens
on when its author mistook the two. Connecting to any of them would reach the gateway itself."""


class Node(msgspec.Struct, rename="pascal", frozen=True):
    """The machine that an instance runs on."""

    address: str = ""


class Weights(msgspec.Struct, rename="pascal", frozen=True):
    passing: int = 1


class Service(msgspec.Struct, rename="pascal", frozen=True):
    """An instance as it was registered."""

    id: str = msgspec.field(name="ID", default="")
    address: str = ""
    port: int = 0
    tags: list[str] | None = None
    meta: dict[str, str] | None = None
    weights: Weights | None = None


class Check(msgspec.Struct, rename="pascal", frozen=True):
    status: str


class Entry(msgspec.Struct, rename="pascal", frozen=True):
    """One element of ``/v1/health/service/<name>``."""

    node: Node
    service: Service
    checks: list[Check] | None = None

    @property
    def passing(self) -> bool:
        """All checks of the instance and of its node pass: what ``?passing`` asks for."""
        return all(check.status == "passing" for check in self.checks or ())


class CheckState(msgspec.Struct, rename="pascal", frozen=True):
    """One element of ``/v1/health/state/any``; what else it holds is not even decoded."""

    node: str
    status: str
    check_id: str = msgspec.field(name="CheckID")
    service_name: str = ""
    create_index: int = 0


@dataclass(frozen=True, slots=True)
class Instances:
    """``skipped``: ids of instances that cannot be used, each with why."""

    endpoints: tuple[EndpointSpec, ...]
    skipped: tuple[tuple[str, str], ...] = ()


CheckStates = Mapping[str, frozenset[tuple[str, str, str, int]]]
"""Service name -> the state of all its checks; the checks of nodes stand under ``""``."""


def parse_instances(entries: Iterable[Entry], own: Collection[str] = ()) -> Instances:
    """The endpoints of the entries: sorted, each address once, with its greatest weight.

    :param own: service ids to leave out: the gateway must not send requests to itself.
    """
    weights: dict[str, int] = {}
    secure: set[str] = set()
    skipped = []
    for entry in entries:
        service = entry.service
        if service.id in own:
            continue
        try:
            address = parse_host_port(_host_port(entry))
        except BadText as error:
            skipped.append((service.id, error.why))
            continue
        weight = service.weights.passing if service.weights is not None else 1
        weight = min(max(weight, 1), MAX_WEIGHT)
        weights[address] = max(weight, weights.get(address, 1))
        if _speaks_https(service):
            secure.add(address)
    endpoints = tuple(
        EndpointSpec(address, weight, "https" if address in secure else "")
        for address, weight in sorted(weights.items())
    )
    return Instances(endpoints, tuple(sorted(skipped)))


def _speaks_https(service: Service) -> bool:
    """Meta ``protocol`` says it; without one, a tag ``https`` does."""
    protocol = (service.meta or {}).get("protocol", "")
    return protocol.lower() == "https" if protocol else "https" in (service.tags or ())


def _host_port(entry: Entry) -> str:
    host = entry.service.address.strip("[]")
    if host in UNSPECIFIED:
        host = entry.node.address.strip("[]")
    if host in UNSPECIFIED:
        raise BadText("neither the service nor its node has an address")
    return f"[{host}]:{entry.service.port}" if ":" in host else f"{host}:{entry.service.port}"


def parse_index(text: str) -> int:
    """``X-Consul-Index``. Below 1 it would turn the next blocking query into a busy loop; Consul's
    documentation on blocking queries asks clients to guard against that.

    :raises ValueError: if it is no number.
    """
    return max(int(text), 1)


def next_index(asked: int, answered: int) -> int:
    """The index of the next blocking query; 0 means one that does not block.

    An index that went down comes from another history (a restored or restarted server), in which
    the old number could be waited for in vain.
    """
    return 0 if answered < asked else answered


def may_empty(registered: int, held: float, grace: float) -> bool:
    """Whether a table may become empty because Consul says that no instance passes.

    :param registered: how many instances there are, whatever their checks say. More than none:
        they are all failing, and somebody knows that, so it is true. None: they are gone, or Consul
        has lost them, or the ACL token does not show them any more: these look the same.
    :param held: seconds for which the table has already been kept despite of such answers.
    :param grace: seconds after which nothing registered is believed too.
    """
    return registered > 0 or held >= grace


def check_states(checks: Iterable[CheckState]) -> CheckStates:
    """By service. ``create_index`` tells a check that was removed and made anew in between."""
    states: dict[str, set[tuple[str, str, str, int]]] = {}
    for one in checks:
        state = (one.node, one.check_id, one.status, one.create_index)
        states.setdefault(one.service_name, set()).add(state)
    return {name: frozenset(found) for name, found in states.items()}


def changed_services(before: CheckStates, after: CheckStates) -> set[str]:
    """Names whose checks differ; ``""`` among them means that nodes' checks do."""
    return {name for name in {*before, *after} if before.get(name) != after.get(name)}


def usable_names(names: Iterable[str]) -> frozenset[str]:
    """The names that can stand in a path and a metric label, as the configuration's must."""
    return frozenset(name for name in names if _is_usable(name))


def catalog_of(services: Mapping[str, Iterable[str]]) -> dict[str, tuple[str, ...]]:
    """The usable names, sorted, each with what its tags say about routes.

    :param services: name -> the tags of all its instances.
    """
    return {
        name: tuple(sorted({tag for tag in services[name] if tag.startswith(TAG_PREFIX)}))
        for name in sorted(usable_names(services))
    }


def _is_usable(name: str) -> bool:
    try:
        parse_service_name(name)
    except BadText:
        return False
    return True
