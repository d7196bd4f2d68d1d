"""The policy as a ROS 2 lifecycle node: cameras, state and an instruction in; commands at the contract's rate out.

Weights load in ``on_configure``, commands leave only while the node is active, and deactivating holds. What it does
while it is configured is `PolicyRun`.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable

from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from robovlm_ros.errors import UserError
from robovlm_ros.guard import Guard
from robovlm_ros.nodes.emergency import guard_topics
from robovlm_ros.nodes.entry import spin
from robovlm_ros.nodes.overrides import Entities, refusing
from robovlm_ros.nodes.parameters import declare, follow
from robovlm_ros.nodes.policy_run import PolicyRun
from robovlm_ros.nodes.policy_settings import Settings

SIGNALS_S = 0.5
"""How long Ctrl-C may take to be heard [s]."""
SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class PolicyNode(LifecycleNode):  # type: ignore[misc, unused-ignore]
    """Emergency stop and parameters are there in every state."""

    def __init__(self) -> None:
        """With parameter ``autostart`` the node is active behind this, or UserError says why not."""
        super().__init__("policy_node")
        self.failure: str | None = None
        self.policy: PolicyRun | None = None
        """While configured: what runs."""
        self._settings = settings = declare(self, Settings)
        timeout_ns = round(settings.dead_man_timeout_s * 1e9) if settings.dead_man_topic else None
        self._guard = Guard(dead_man_timeout_ns=timeout_ns)
        stops = (settings.emergency_stop_topic, settings.dead_man_topic)
        guard_topics(self, self._obey, stop_topic=stops[0], dead_man_topic=stops[1])
        follow(self, settings, self._change)
        # Python handles signals between two waits only: something must come round also while nothing is configured.
        self.create_timer(SIGNALS_S, lambda: None, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._opened = Entities(self)
        self._refusal = "the policy node cannot start"
        self._starting = settings.autostart
        if settings.autostart and not (self.trigger_configure() == SUCCESS == self.trigger_activate()):
            self.close()
            self.destroy_node()
            raise UserError(self._refusal)
        self._starting = False

    # --- transitions ------------------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the policy and open its topics: all that takes time."""
        try:
            with refusing():
                self.policy = PolicyRun(self, self._settings, self._guard, self._fail)
        except UserError as error:
            self._clean_up()
            self._refusal = str(error)
            if not self._starting:  # otherwise it is the last line of the process
                self.get_logger().error(f"cannot be configured: {error}")
            return FAILURE
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Commands leave from now on."""
        result = super().on_activate(state)  # the publishers first
        if result == SUCCESS:
            self._activate(True)
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Hold: motion is ended, then nothing leaves."""
        self._activate(False)
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Close the topics and forget the policy."""
        self._clean_up()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Hold, and close all."""
        self._activate(False)
        self._clean_up()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """A transition failed for a reason that nobody foresaw: hold, and be unconfigured."""
        self._activate(False)
        self._clean_up()
        self._refusal = "the policy node cannot start: see the error above"
        return SUCCESS

    def _activate(self, active: bool) -> None:
        if self.policy is not None:
            self.policy.activate(active)

    def _clean_up(self) -> None:
        policy, self.policy = self.policy, None
        if policy is not None:
            policy.close()
            gc.unfreeze()  # what was loaded can go
        self._opened.destroy()

    # --- in every state ---------------------------------------------------------------------------------------

    def _change(self, settings: Settings) -> None:
        if self.policy is not None:
            self.policy.change(settings)
        self._settings = settings

    def _obey(self, change: Callable[[Guard], None]) -> None:
        if self.policy is not None:
            self.policy.obey(change)
        else:
            change(self._guard)

    def _fail(self, text: str) -> None:
        """End this node with a reason, and all motion before it."""
        self.failure = self.failure or text
        if self.policy is not None:
            self.policy.end()
        self.context.try_shutdown()

    def close(self) -> None:
        """End all motion, join the inference thread and leave the figures of the whole run."""
        if self.policy is not None:
            self.policy.close()


def main() -> int:
    """Entry point of ``ros2 run robovlm_ros policy_node``."""
    return spin(PolicyNode, threads=4, last_words=True)


if __name__ == "__main__":
    sys.exit(main())
