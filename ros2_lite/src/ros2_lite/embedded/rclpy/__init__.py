"""rclpy over Cyclone DDS, for machines without ROS 2.

The same names, the same behaviour and the same wire format as ROS 2's own client library; see the README of ros2_lite
for what is covered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rclpy.context import Context as Context
from rclpy.signals import SignalHandlerOptions as SignalHandlerOptions
from rclpy.signals import install_signal_handlers, uninstall_signal_handlers
from rclpy.task import Future
from rclpy.utilities import get_default_context as get_default_context
from rclpy.utilities import get_rmw_implementation_identifier as get_rmw_implementation_identifier
from rclpy.utilities import ok as ok
from rclpy.utilities import shutdown as _shutdown
from rclpy.utilities import try_shutdown as _try_shutdown

if TYPE_CHECKING:
    from rclpy.executors import Executor
    from rclpy.node import Node
    from rclpy.parameter import Parameter

_global_executor: list[Executor] = []


def init(
    *,
    args: list[str] | None = None,
    context: Context | None = None,
    domain_id: int | None = None,
    signal_handler_options: SignalHandlerOptions | None = None,
) -> None:
    """Start communicating: read the arguments (the process's if None), join a domain, handle SIGINT and SIGTERM.

    Signal handlers are installed by default for the default context only.  Raises RuntimeError when the context was
    started before, RCLError for arguments or environment variables that cannot be used.
    """
    default = context is None or context is get_default_context()
    options = signal_handler_options
    if options is None:
        options = SignalHandlerOptions.ALL if default else SignalHandlerOptions.NO
    (get_default_context() if context is None else context).init(args, domain_id=domain_id)
    install_signal_handlers(options)


def get_global_executor() -> Executor:
    """The executor of the module's own spin functions."""
    if not _global_executor:
        from rclpy.executors import SingleThreadedExecutor

        executor = SingleThreadedExecutor()
        _global_executor.append(executor)

        def end() -> None:
            if executor in _global_executor:
                _global_executor.remove(executor)

        get_default_context().on_shutdown(end)
    return _global_executor[0]


def shutdown(*, context: Context | None = None, uninstall_handlers: bool | None = None) -> None:
    """Stop communicating.  RuntimeError when it is stopped already."""
    default = context is None or context is get_default_context()
    _shutdown(context=context)
    if uninstall_handlers or (uninstall_handlers is None and default):
        uninstall_signal_handlers()


def try_shutdown(*, context: Context | None = None, uninstall_handlers: bool | None = None) -> None:
    """Stop communicating, if that is still to be done."""
    default = context is None or context is get_default_context()
    _try_shutdown(context=context)
    if uninstall_handlers or (uninstall_handlers is None and default):
        uninstall_signal_handlers()


def create_node(
    node_name: str,
    *,
    context: Context | None = None,
    cli_args: list[str] | None = None,
    namespace: str | None = None,
    use_global_arguments: bool = True,
    enable_rosout: bool = True,
    start_parameter_services: bool = True,
    parameter_overrides: list[Parameter] | None = None,
    allow_undeclared_parameters: bool = False,
    automatically_declare_parameters_from_overrides: bool = False,
    enable_logger_service: bool = False,
) -> Node:
    """Create a node; see `rclpy.node.Node`."""
    from rclpy.node import Node

    return Node(
        node_name,
        context=context,
        cli_args=cli_args,
        namespace=namespace,
        use_global_arguments=use_global_arguments,
        enable_rosout=enable_rosout,
        start_parameter_services=start_parameter_services,
        parameter_overrides=parameter_overrides,
        allow_undeclared_parameters=allow_undeclared_parameters,
        automatically_declare_parameters_from_overrides=automatically_declare_parameters_from_overrides,
        enable_logger_service=enable_logger_service,
    )


def spin_once(node: Node, *, executor: Executor | None = None, timeout_sec: float | None = None) -> None:
    """Run the node's next callback; waits for it at most `timeout_sec` (None or negative: for ever)."""
    executor = get_global_executor() if executor is None else executor
    added = executor.add_node(node)
    try:
        executor.spin_once(timeout_sec)
    finally:
        if added:
            executor.remove_node(node)


def spin(node: Node, executor: Executor | None = None) -> None:
    """Run the node's callbacks until shutdown.

    Raises KeyboardInterrupt on SIGINT, ExternalShutdownException when the context is shut down (SIGTERM).
    """
    executor = get_global_executor() if executor is None else executor
    added = executor.add_node(node)
    try:
        while executor.context.ok():
            executor.spin_once()
    finally:
        if added:
            executor.remove_node(node)


def spin_until_future_complete(
    node: Node, future: Future, executor: Executor | None = None, timeout_sec: float | None = None
) -> None:
    """Run the node's callbacks until the future is done, the time is over, or shutdown."""
    executor = get_global_executor() if executor is None else executor
    added = executor.add_node(node)
    try:
        executor.spin_until_future_complete(future, timeout_sec)
    finally:
        if added:
            executor.remove_node(node)
