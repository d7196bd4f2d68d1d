"""Publishers, subscriptions, their quality of service and its events."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from rclpy.duration import Duration
from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
from rclpy.exceptions import InvalidHandle
from rclpy.parameter import Parameter
from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    LivelinessPolicy,
    QoSCompatibility,
    QoSPolicyKind,
    QoSPresetProfiles,
    QoSProfile,
    ReliabilityPolicy,
    qos_check_compatible,
    qos_profile_sensor_data,
)
from rclpy.qos_overriding_options import InvalidQosOverridesError, QosCallbackResult, QoSOverridingOptions
from rclpy.serialization import deserialize_message, serialize_message
from rclpy.wait_for_message import wait_for_message
from std_msgs.msg import Int32, String
from std_srvs.srv import Trigger


def test_a_subscription_gets_what_is_published_in_order(stage: Any, node: Any) -> None:
    got: list[int] = []
    subscription = node.create_subscription(Int32, "numbers", lambda message: got.append(message.data), 10)
    publisher = node.create_publisher(Int32, "numbers", 10)
    assert stage.until(lambda: publisher.get_subscription_count() == 1)
    for number in range(5):
        publisher.publish(Int32(data=number))
    assert stage.until(lambda: len(got) == 5)
    assert got == [0, 1, 2, 3, 4]
    assert subscription.topic_name == publisher.topic_name == f"{stage.namespace}/numbers"
    assert publisher.wait_for_all_acked(Duration(seconds=10))


def test_a_callback_with_two_arguments_gets_message_information(stage: Any, node: Any) -> None:
    got: list[Any] = []
    node.create_subscription(String, "words", lambda message, info: got.append((message, info)), 10)
    publisher = node.create_publisher(String, "words", 10)
    assert stage.until(lambda: publisher.get_subscription_count() == 1)
    before = time.time_ns()
    publisher.publish(String(data="hello"))
    assert stage.until(lambda: got)
    message, info = got[0]
    assert message.data == "hello"
    assert info["source_timestamp"] >= before - 10**9
    assert info["source_timestamp"] <= info["received_timestamp"] <= time.time_ns()
    assert {"publication_sequence_number", "reception_sequence_number"} <= info.keys()


def test_a_callback_that_takes_no_message_is_refused(node: Any) -> None:
    with pytest.raises(RuntimeError):
        node.create_subscription(String, "words", lambda: None, 10)


def test_raw_subscriptions_get_bytes_and_bytes_can_be_published(stage: Any, node: Any) -> None:
    raw: list[bytes] = []
    plain: list[Any] = []
    node.create_subscription(String, "words", raw.append, 10, raw=True)
    node.create_subscription(String, "words", plain.append, 10)
    publisher = node.create_publisher(String, "words", 10)
    assert stage.until(lambda: publisher.get_subscription_count() == 2)
    publisher.publish(serialize_message(String(data="as bytes")))
    assert stage.until(lambda: raw and plain)
    assert isinstance(raw[0], bytes)
    assert deserialize_message(raw[0], String) == plain[0] == String(data="as bytes")


def test_only_messages_of_the_type_are_published(node: Any) -> None:
    publisher = node.create_publisher(String, "words", 10)
    with pytest.raises(TypeError):
        publisher.publish(Int32())
    with pytest.raises(TypeError):
        publisher.publish("words")


def test_what_is_destroyed_is_destroyed_once_and_cannot_be_used(node: Any) -> None:
    publisher = node.create_publisher(String, "words", 10)
    subscription = node.create_subscription(String, "words", lambda message: None, 10)
    assert list(node.subscriptions) == [subscription]
    assert publisher in list(node.publishers)
    assert node.destroy_publisher(publisher)
    assert not node.destroy_publisher(publisher)
    assert node.destroy_subscription(subscription)
    assert not node.destroy_subscription(subscription)
    assert list(node.subscriptions) == []
    with pytest.raises(InvalidHandle):
        publisher.publish(String())


def test_a_late_joiner_gets_the_last_messages_if_both_sides_are_transient_local(stage: Any, node: Any) -> None:
    latched = QoSProfile(depth=2, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    publisher = node.create_publisher(Int32, "latched", latched)
    for number in range(4):
        publisher.publish(Int32(data=number))
    late: list[int] = []
    volatile: list[int] = []
    node.create_subscription(Int32, "latched", lambda message: volatile.append(message.data), 10)
    node.create_subscription(Int32, "latched", lambda message: late.append(message.data), latched)
    assert stage.until(lambda: late == [2, 3])
    assert volatile == []


def test_a_number_as_quality_of_service_is_the_depth(node: Any) -> None:
    profile = node.create_publisher(String, "words", 7).qos_profile
    assert (profile.depth, profile.history) == (7, HistoryPolicy.KEEP_LAST)
    assert (profile.reliability, profile.durability) == (ReliabilityPolicy.RELIABLE, DurabilityPolicy.VOLATILE)
    with pytest.raises(ValueError, match="greater than or equal to zero"):
        node.create_publisher(String, "words", -1)
    with pytest.raises(TypeError):
        node.create_publisher(String, "words", "reliable")


def test_profiles_compare_and_tell_whether_they_fit() -> None:
    reliable, best_effort = QoSProfile(depth=5), QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
    assert best_effort == qos_profile_sensor_data != reliable
    # Both leave the liveliness to the system, which is all that is doubtful.
    doubt = "WARNING: Publisher liveliness is system_default and subscription liveliness is system_default;"
    assert qos_check_compatible(reliable, best_effort) == (QoSCompatibility.WARNING, doubt)
    verdict, reason = qos_check_compatible(best_effort, reliable)
    assert verdict == QoSCompatibility.ERROR
    assert reason
    assert ReliabilityPolicy.short_keys()[:3] == ["system_default", "reliable", "best_effort"]
    assert LivelinessPolicy.get_from_short_key("AUTOMATIC") == LivelinessPolicy.AUTOMATIC
    with pytest.raises(Exception, match="History"):
        QoSProfile()


@pytest.mark.parametrize(
    ("offered", "requested", "verdict", "reason"),
    [
        ({}, {"reliability": "BEST_EFFORT"}, QoSCompatibility.OK, ""),
        (
            {"reliability": "BEST_EFFORT", "durability": "VOLATILE"},
            {"reliability": "RELIABLE", "durability": "TRANSIENT_LOCAL"},
            QoSCompatibility.ERROR,
            "ERROR: Best effort publisher and reliable subscription;"
            "ERROR: Volatile publisher and transient local subscription;",
        ),
        (
            {},
            {"deadline": Duration(seconds=1)},
            QoSCompatibility.ERROR,
            "ERROR: Subscription has a deadline, but publisher does not;",
        ),
        (
            {"liveliness_lease_duration": Duration(seconds=2)},
            {"liveliness_lease_duration": Duration(seconds=1)},
            QoSCompatibility.ERROR,
            "ERROR: Subscription liveliness lease duration is less than publisher;",
        ),
        (
            {"reliability": "SYSTEM_DEFAULT"},
            {"reliability": "RELIABLE"},
            QoSCompatibility.WARNING,
            "WARNING: Reliable subscription, but publisher is system_default;",
        ),
    ],
)
def test_the_reason_names_what_does_not_fit(offered: Any, requested: Any, verdict: Any, reason: str) -> None:
    kinds = {"reliability": ReliabilityPolicy, "durability": DurabilityPolicy}

    def profile(policies: Any) -> QoSProfile:
        named = {name: kinds[name][value] if name in kinds else value for name, value in policies.items()}
        return QoSProfile(depth=1, liveliness=LivelinessPolicy.AUTOMATIC, **named)

    assert qos_check_compatible(profile(offered), profile(requested)) == (verdict, reason)


def test_a_profile_is_printed_by_its_policies() -> None:
    assert str(QoSProfile(depth=5, deadline=Duration(seconds=1))).endswith(
        "lifespan=0 nanoseconds, deadline=1000000000 nanoseconds, liveliness="
        f"{LivelinessPolicy.SYSTEM_DEFAULT!s}, liveliness_lease_duration=0 nanoseconds,"
        " avoid_ros_namespace_conventions=False)"
    )


def test_both_sides_hear_that_their_reliability_does_not_fit(stage: Any, node: Any) -> None:
    offered: list[Any] = []
    requested: list[Any] = []
    got: list[Any] = []
    publisher = node.create_publisher(
        String,
        "words",
        qos_profile_sensor_data,
        event_callbacks=PublisherEventCallbacks(incompatible_qos=offered.append),
    )
    node.create_subscription(
        String,
        "words",
        got.append,
        10,
        event_callbacks=SubscriptionEventCallbacks(incompatible_qos=requested.append),
    )
    assert stage.until(lambda: offered and requested)
    for event in (offered[0], requested[0]):
        assert (event.total_count, event.total_count_change) == (1, 1)
        assert event.last_policy_kind == QoSPolicyKind.RELIABILITY
    publisher.publish(String())
    assert not stage.until(lambda: got, timeout=0.5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_both_sides_hear_of_being_matched_and_left(stage: Any, node: Any) -> None:
    at_publisher: list[tuple[int, int]] = []
    at_subscription: list[tuple[int, int]] = []

    def note(target: list[tuple[int, int]], event: Any) -> None:
        target.append((event.current_count, event.current_count_change))

    node.create_publisher(
        String, "words", 10, event_callbacks=PublisherEventCallbacks(matched=lambda event: note(at_publisher, event))
    )
    subscription = node.create_subscription(
        String,
        "words",
        lambda message: None,
        10,
        event_callbacks=SubscriptionEventCallbacks(matched=lambda event: note(at_subscription, event)),
    )
    assert stage.until(lambda: at_publisher and at_subscription)
    assert at_publisher == at_subscription == [(1, 1)]
    node.destroy_subscription(subscription)
    assert stage.until(lambda: len(at_publisher) == 2)
    assert at_publisher[1] == (0, -1)


def test_missed_deadlines_are_told_to_both_sides(stage: Any, node: Any) -> None:
    offered: list[Any] = []
    requested: list[Any] = []
    profile = QoSProfile(depth=10, deadline=Duration(seconds=0.3))
    publisher = node.create_publisher(
        String, "words", profile, event_callbacks=PublisherEventCallbacks(deadline=offered.append)
    )
    node.create_subscription(
        String,
        "words",
        lambda message: None,
        profile,
        event_callbacks=SubscriptionEventCallbacks(deadline=requested.append),
    )
    assert stage.until(lambda: publisher.get_subscription_count() == 1)
    publisher.publish(String())
    assert stage.until(lambda: offered and requested)
    assert offered[-1].total_count >= 1
    assert requested[-1].total_count >= 1


def test_a_subscription_hears_of_publishers_that_come_to_life(stage: Any, node: Any) -> None:
    events: list[Any] = []
    node.create_subscription(
        String,
        "words",
        lambda message: None,
        10,
        event_callbacks=SubscriptionEventCallbacks(liveliness=events.append),
    )
    publisher = node.create_publisher(String, "words", 10)
    assert stage.until(lambda: any(event.alive_count == 1 for event in events))
    node.destroy_publisher(publisher)
    assert stage.until(lambda: events[-1].alive_count == 0)


def test_parameters_override_the_policies_that_are_named(stage: Any) -> None:
    topic = f"{stage.namespace}/words"
    node = stage.node(
        parameter_overrides=[
            Parameter(f"qos_overrides.{topic}.publisher.depth", value=3),
            Parameter(f"qos_overrides.{topic}.publisher.reliability", value="best_effort"),
            Parameter(f"qos_overrides.{topic}.subscription_second.depth", value=4),
        ]
    )
    publisher = node.create_publisher(
        String, "words", QoSProfile(depth=10), qos_overriding_options=QoSOverridingOptions.with_default_policies()
    )
    assert (publisher.qos_profile.depth, publisher.qos_profile.reliability) == (3, ReliabilityPolicy.BEST_EFFORT)
    subscription = node.create_subscription(
        String,
        "words",
        lambda message: None,
        QoSProfile(depth=10),
        qos_overriding_options=QoSOverridingOptions([QoSPolicyKind.DEPTH], entity_id="second"),
    )
    assert subscription.qos_profile.depth == 4
    assert node.get_parameter(f"qos_overrides.{topic}.publisher.history").value == "keep_last"
    assert not node.has_parameter(f"qos_overrides.{topic}.publisher.durability")
    result = node.set_parameters([Parameter(f"qos_overrides.{topic}.publisher.depth", value=5)])[0]
    assert not result.successful  # read-only


def test_a_callback_may_refuse_overridden_policies(node: Any) -> None:
    def refuse(profile: QoSProfile) -> Any:
        return QosCallbackResult(successful=False, reason="never good enough")

    with pytest.raises(InvalidQosOverridesError, match="never good enough"):
        node.create_publisher(
            String,
            "words",
            QoSProfile(depth=10),
            qos_overriding_options=QoSOverridingOptions.with_default_policies(callback=refuse),
        )


def test_wait_for_message_waits_without_spinning(node: Any) -> None:
    assert wait_for_message(String, node, "silence", time_to_wait=0.2) == (False, None)
    publisher = node.create_publisher(String, "words", 10)
    stop = threading.Event()

    def publish() -> None:
        while not stop.wait(0.05):
            publisher.publish(String(data="here"))

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        found, message = wait_for_message(String, node, "words", time_to_wait=10)
    finally:
        stop.set()
        thread.join()
    assert found
    assert message.data == "here"


def test_a_service_type_is_no_message_type(node: Any) -> None:
    with pytest.raises(Exception):  # noqa: B017, PT011 (which one is not documented)
        node.create_publisher(Trigger, "words", 10)


def test_best_available_follows_the_endpoints_that_are_there(stage: Any, node: Any) -> None:
    best = QoSPresetProfiles.BEST_AVAILABLE.value

    def subscribed(topic: str, *offered: QoSProfile) -> QoSProfile:
        for profile in offered:
            node.create_publisher(String, topic, profile)
        assert stage.until(lambda: node.count_publishers(topic) == len(offered))
        node.create_subscription(String, topic, lambda message: None, best)
        assert stage.until(lambda: node.count_subscribers(topic) == 1)
        return node.get_subscriptions_info_by_topic(topic)[0].qos_profile

    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    hasty = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT, deadline=Duration(seconds=2))
    found = subscribed("latched", latched)
    assert (found.reliability, found.durability) == (ReliabilityPolicy.RELIABLE, DurabilityPolicy.TRANSIENT_LOCAL)
    found = subscribed("mixed", latched, hasty)
    assert (found.reliability, found.durability) == (ReliabilityPolicy.BEST_EFFORT, DurabilityPolicy.VOLATILE)
    assert subscribed("hasty", hasty).deadline == Duration(seconds=2)
    node.create_publisher(String, "offered", best)
    assert stage.until(lambda: node.count_publishers("offered") == 1)
    found = node.get_publishers_info_by_topic("offered")[0].qos_profile
    assert (found.reliability, found.durability) == (ReliabilityPolicy.RELIABLE, DurabilityPolicy.TRANSIENT_LOCAL)


def test_endpoints_listen_for_incompatible_policies_and_types_unless_told_not_to(node: Any) -> None:
    publisher = node.create_publisher(String, "words", 10)
    subscription = node.create_subscription(String, "words", lambda message: None, 10)
    assert [len(endpoint.event_handlers) for endpoint in (publisher, subscription)] == [2, 2]
    silent = PublisherEventCallbacks(use_default_callbacks=False)
    assert not node.create_publisher(String, "words", 10, event_callbacks=silent).event_handlers
    asked = SubscriptionEventCallbacks(incompatible_type=print, use_default_callbacks=False)
    assert len(node.create_subscription(String, "words", print, 10, event_callbacks=asked).event_handlers) == 1


def test_a_warning_of_incompatible_policies_names_the_topic_as_the_program_did(
    stage: Any, node: Any, capfd: Any
) -> None:
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    node.create_publisher(String, "words", 1)
    node.create_subscription(String, "words", lambda message: None, latched)
    said = ""

    def told() -> bool:
        nonlocal said
        said += capfd.readouterr().err
        return said.count("Last incompatible policy: DURABILITY") == 2

    assert stage.until(told)
    assert "New subscription discovered on topic 'words', requesting incompatible QoS." in said
    assert "New publisher discovered on topic 'words', offering incompatible QoS." in said


def test_a_profile_survives_the_extension_module() -> None:
    profile = QoSProfile(
        history=HistoryPolicy.KEEP_ALL,
        depth=12,
        durability=DurabilityPolicy.TRANSIENT_LOCAL,
        lifespan=Duration(nanoseconds=3),
        deadline=Duration(seconds=2, nanoseconds=1),
        liveliness_lease_duration=Duration(seconds=5),
    )
    assert QoSProfile(**profile.get_c_qos_profile().to_dict()) == profile
