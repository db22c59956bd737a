"""sslyze looks at the TLS of a real gateway, and Mozilla's profiles 5.7 are held against it.

What is on offer is written out, so that anything new in it is seen, good or not.
"""

from __future__ import annotations

import asyncio

import pytest
from sslyze import (
    AllScanCommandsAttempts,
    CipherSuitesScanResult,
    RobotScanResultEnum,
    ScanCommand,
    ScanCommandAttemptStatusEnum,
    Scanner,
    ServerNetworkConfiguration,
    ServerNetworkLocation,
    ServerScanRequest,
    ServerScanResult,
)
from sslyze.mozilla_tls_profile.tls_config_checker import (
    MozillaTlsConfiguration,
    ServerNotCompliantWithTlsConfiguration,
    TlsConfigurationEnum,
    check_server_against_tls_configuration,
)
from trustme import KeyType

from tests.certificates import NAME, Authority
from tests.conftest import Serve

SUITES_13 = {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"}
SUITES_12 = {
    key_type: {
        f"TLS_ECDHE_{key_type.name}_WITH_{cipher}"
        for cipher in ("AES_128_GCM_SHA256", "AES_256_GCM_SHA384", "CHACHA20_POLY1305_SHA256")
    }
    for key_type in (KeyType.ECDSA, KeyType.RSA)
}
BEYOND_MOZILLA = {"X448", "secp521r1"}
"""OpenSSL's own choice of groups beside Mozilla's; docs/tls.md says why they stay."""
OF_THE_TEST = {"certificate_path_validation", "maximum_certificate_lifespan"}
"""Findings about the certificates that trustme makes, not about the gateway: a critical
subjectAltName, and a year of validity where "modern" wants 90 days."""

# Of a root in a trust store of sslyze's own.
pytestmark = pytest.mark.filterwarnings("ignore:Parsed a serial number")


@pytest.mark.parametrize("key_type", [KeyType.ECDSA, KeyType.RSA])
@pytest.mark.parametrize("least", ["1.2", "1.3"])
async def test_a_scan_shows_nothing_weak(
    serve: Serve, tmp_path_factory: pytest.TempPathFactory, least: str, key_type: KeyType
) -> None:
    authority = Authority(tmp_path_factory.mktemp("tls"))
    cert, key = authority.issue("server", NAME, key_type=key_type)
    gateway = await serve(
        'consul_address: ""\nnats_address: ""\n'
        f'tls: {{cert: {cert}, key: {key}, min_version: "{least}"}}\n'
    )
    result = await asyncio.to_thread(scan, gateway.port)
    found = scanned(result)
    expected_12 = SUITES_12[key_type] if least == "1.2" else set()
    assert offered(found.tls_1_3_cipher_suites.result) == SUITES_13
    assert offered(found.tls_1_2_cipher_suites.result) == expected_12
    for older in (
        found.ssl_2_0_cipher_suites,
        found.ssl_3_0_cipher_suites,
        found.tls_1_0_cipher_suites,
        found.tls_1_1_cipher_suites,
    ):
        assert offered(older.result) == set()
    assert_forward_secrecy(found)
    assert_no_known_weakness(found)
    profile = TlsConfigurationEnum.MOZILLA_INTERMEDIATE
    if least == "1.3" and key_type is KeyType.ECDSA:
        profile = TlsConfigurationEnum.MOZILLA_MODERN
    assert issues(result, profile) <= OF_THE_TEST


def scan(port: int) -> ServerScanResult:
    """All that sslyze can look for, which takes it half a second."""
    scanner = Scanner()
    location = ServerNetworkLocation(hostname=NAME, port=port, ip_address="127.0.0.1")
    settings = ServerNetworkConfiguration(tls_server_name_indication=NAME)
    scanner.queue_scans([ServerScanRequest(location, settings)])
    (result,) = scanner.get_results()
    return result


def scanned(result: ServerScanResult) -> AllScanCommandsAttempts:
    """What was found; that a check could not be made is no good news."""
    found = result.scan_result
    assert found is not None, result.connectivity_error_trace
    for command in ScanCommand:
        attempt = getattr(found, command.value)
        assert attempt.status is ScanCommandAttemptStatusEnum.COMPLETED, attempt.error_trace
    return found


def offered(result: CipherSuitesScanResult | None) -> set[str]:
    assert result is not None
    return {accepted.cipher_suite.name for accepted in result.accepted_cipher_suites}


def assert_forward_secrecy(found: AllScanCommandsAttempts) -> None:
    for attempt in (found.tls_1_2_cipher_suites, found.tls_1_3_cipher_suites):
        assert attempt.result is not None
        for accepted in attempt.result.accepted_cipher_suites:
            assert not accepted.cipher_suite.is_anonymous
            assert accepted.cipher_suite.key_size >= 128
            assert accepted.ephemeral_key is not None
            assert accepted.ephemeral_key.size >= 253  # X25519 as OpenSSL counts it
    curves = found.elliptic_curves.result
    assert curves is not None
    assert curves.supports_ecdh_key_exchange
    known = {"X25519", "secp256r1", "secp384r1"} | BEYOND_MOZILLA
    assert {curve.name for curve in curves.supported_curves or ()} <= known


def assert_no_known_weakness(found: AllScanCommandsAttempts) -> None:
    assert found.tls_compression.result is not None
    assert not found.tls_compression.result.supports_compression
    assert found.heartbleed.result is not None
    assert not found.heartbleed.result.is_vulnerable_to_heartbleed
    assert found.openssl_ccs_injection.result is not None
    assert not found.openssl_ccs_injection.result.is_vulnerable_to_ccs_injection
    assert found.robot.result is not None
    robot = found.robot.result.robot_result
    assert robot is RobotScanResultEnum.NOT_VULNERABLE_RSA_NOT_SUPPORTED
    renegotiation = found.session_renegotiation.result
    assert renegotiation is not None
    assert renegotiation.supports_secure_renegotiation
    assert renegotiation.client_renegotiations_success_count == 0
    # Data that come with the first packet can be sent again by anybody (RFC 8446 section 8).
    assert found.tls_1_3_early_data.result is not None
    assert not found.tls_1_3_early_data.result.supports_early_data
    assert found.tls_fallback_scsv.result is not None
    assert found.tls_fallback_scsv.result.supports_fallback_scsv
    assert found.tls_extended_master_secret.result is not None
    assert found.tls_extended_master_secret.result.supports_ems_extension


def issues(result: ServerScanResult, profile: TlsConfigurationEnum) -> set[str]:
    """What Mozilla's profile has against the gateway."""
    allowed = MozillaTlsConfiguration.get(profile)
    allowed.tls_curves |= BEYOND_MOZILLA
    try:
        check_server_against_tls_configuration(result, allowed)
    except ServerNotCompliantWithTlsConfiguration as refused:
        return set(refused.issues)
    return set()
