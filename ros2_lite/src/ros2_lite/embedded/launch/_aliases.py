"""The modules of ROS 2's own launch that are not modules here.

There each class has a file, and launch files import from those, too:
``from launch.event_handlers.on_process_exit import OnProcessExit``.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

LAUNCH = {
    "actions": (
        "append_environment_variable", "emit_event", "log_info", "opaque_coroutine", "opaque_function",
        "pop_environment", "pop_launch_configurations", "push_environment", "push_launch_configurations",
        "register_event_handler", "reset_environment", "reset_launch_configurations", "set_environment_variable",
        "set_launch_configuration", "shutdown_action", "timer_action", "unregister_event_handler",
        "unset_environment_variable", "unset_launch_configuration",
    ),
    "conditions": (
        "evaluate_condition_expression_impl", "if_condition", "invalid_condition_expression_error",
        "launch_configuration_equals", "launch_configuration_not_equals", "unless_condition",
    ),
    "event_handlers": (
        "event_named", "on_action_event_base", "on_execution_complete", "on_include_launch_description",
        "on_process_exit", "on_process_io", "on_process_start", "on_shutdown",
    ),
    "events": ("execution_complete", "include_launch_description", "matchers", "shutdown", "timer_event"),
    "launch_description_sources": (
        "any_launch_description_source", "any_launch_file_utilities", "python_launch_description_source",
        "python_launch_file_utilities",
    ),
    "substitutions": (
        "anon_name", "boolean_substitution", "environment_variable", "equals_substitution", "file_content",
        "find_executable", "if_else_substitution", "launch_configuration", "launch_log_dir", "local_substitution",
        "not_equals_substitution", "path_join_substitution", "text_substitution", "this_launch_file",
        "this_launch_file_dir",
    ),
    "utilities": (
        "class_tools_impl", "ensure_argument_type_impl", "normalize_to_list_of_entities_impl",
        "normalize_to_list_of_substitutions_impl", "perform_substitutions_impl", "typing_file_path",
        "visit_all_entities_and_collect_futures_impl",
    ),
}  # fmt: skip
LAUNCH_ROS = {
    "actions": (
        "lifecycle_node", "lifecycle_transition", "push_ros_namespace", "set_parameter", "set_parameters_from_file",
        "set_remap", "set_ros_log_dir", "set_use_sim_time",
    ),
    "event_handlers": ("on_state_transition",),
    "substitutions": ("executable_in_package", "find_package", "parameter"),
}  # fmt: skip


def provide(package: str, names: Mapping[str, Sequence[str]]) -> None:
    """Make each a further name of the module that holds its classes here."""
    for parent, modules in names.items():
        module = sys.modules[f"{package}.{parent}"]
        for name in modules:
            sys.modules.setdefault(f"{package}.{parent}.{name}", module)
            if not hasattr(module, name):
                setattr(module, name, module)
