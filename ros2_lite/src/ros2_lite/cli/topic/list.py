"""`ros2 topic list`."""

from __future__ import annotations

import argparse

from ros2_lite.cli import graph


def add_arguments(parser: argparse.ArgumentParser) -> None:
    graph.add_graph_arguments(parser)
    parser.add_argument("-t", "--show-types", action="store_true", help="Additionally show the topic type")
    parser.add_argument(
        "-c", "--count-topics", action="store_true", help="Only display the number of topics discovered"
    )
    parser.add_argument("--include-hidden-topics", action="store_true", help="Consider hidden topics as well")
    parser.add_argument("-v", "--verbose", action="store_true", help="List full details about each topic")


def main(args: argparse.Namespace) -> None:
    with graph.cli_node() as node:
        graph.discover(node, args.spin_time)
        found = graph.topics(node, args.include_hidden_topics)
        if args.count_topics:
            print(len(found))
        elif args.verbose:
            counts = [(name, types, node.count_publishers(name), node.count_subscribers(name)) for name, types in found]
            _print_side("Published", "publisher", [(n, t, p) for n, t, p, _ in counts])
            _print_side("Subscribed", "subscriber", [(n, t, s) for n, t, _, s in counts])
        else:
            for name, types in found:
                print(f"{name} [{', '.join(types)}]" if args.show_types else name)


def _print_side(title: str, word: str, rows: list[tuple[str, list[str], int]]) -> None:
    print(f"{title} topics:")
    for name, types, count in rows:
        if count:
            print(f" * {name} [{', '.join(types)}] {count} {word}{'s' if count > 1 else ''}")
    print()
