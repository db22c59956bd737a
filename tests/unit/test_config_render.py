"""The default file that `serve` writes: true to the schema, and valid."""

from __future__ import annotations

import dataclasses

import yaml

from siger_gateway.config.load import Loaded, loads, render_default
from siger_gateway.config.policies import PolicyConfig
from siger_gateway.config.schema import (
    Config,
    HealthCheckConfig,
    JobsConfig,
    MatchConfig,
    OutlierConfig,
    PoolConfig,
    RouteConfig,
    ServiceConfig,
)

DOCUMENTED = (
    Config,
    ServiceConfig,
    HealthCheckConfig,
    OutlierConfig,
    PoolConfig,
    RouteConfig,
    MatchConfig,
    JobsConfig,
)


def test_the_default_file_loads_to_the_defaults_without_warnings() -> None:
    assert loads(render_default(), "c.yaml", {}) == Loaded(Config())


def test_the_default_file_documents_every_key() -> None:
    text = render_default()
    for cls in DOCUMENTED:
        for field in dataclasses.fields(cls):
            assert f"{field.name}:" in text
            assert field.metadata["doc"] in text


def test_the_examples_of_the_default_file_are_yaml_with_the_keys_of_the_schema() -> None:
    blocks: list[str] = [""]
    for line in render_default().splitlines():
        if line.startswith("#   "):
            blocks[-1] += line[4:] + "\n"
        elif blocks[-1]:
            blocks.append("")
    service, route = (yaml.safe_load(block) for block in blocks if block)
    assert list(service["name"]) == [one.name for one in dataclasses.fields(ServiceConfig)]
    names = {one.name for one in dataclasses.fields(RouteConfig)}
    policy = [one.name for one in dataclasses.fields(PolicyConfig)]
    assert list(route[0])[-len(policy) :] == policy
    assert route[0].keys() == names
