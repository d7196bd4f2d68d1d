"""A cable between two network interfaces that loses, delays and shuffles frames: what `tc netem` does, in any kernel.

It runs in a network namespace that holds one end of each host's link, and carries frames from one to the other:
``python lossy_link.py IFACE_A IFACE_B --loss 0.05 --delay 0.02 --jitter 0.01 --no-multicast``. SIGUSR1 pulls the
cable, and plugs it in again.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import random
import select
import signal
import socket
import time

ETH_P_ALL = 3
SOL_PACKET = 263
PACKET_VNET_HDR = 15
PACKET_OUTGOING = 4
_HEADER = 10
"""Bytes before the frame that say which checksums are still to be filled in, and how a large frame is to be cut: with
them a frame is handed on as it came (linux/virtio_net.h).
"""


def open_end(interface: str) -> socket.socket:
    """All frames of one interface, in and out."""
    end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    end.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    end.bind((interface, ETH_P_ALL))
    end.setblocking(False)
    return end


def is_multicast(frame: bytes) -> bool:
    """Whether a frame goes to a group; a broadcast, by which hosts learn of each other's address, is none."""
    target = frame[_HEADER : _HEADER + 6]
    return bool(target[0] & 1) and target != b"\xff" * 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("interfaces", nargs=2)
    parser.add_argument("--loss", type=float, default=0.0, help="probability that a frame is lost")
    parser.add_argument("--delay", type=float, default=0.0, help="least time on the way [s]")
    parser.add_argument("--jitter", type=float, default=0.0, help="up to so much more of it [s]")
    parser.add_argument("--no-multicast", action="store_true", help="carry no multicast")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    chance = random.Random(args.seed)
    ends = [open_end(name) for name in args.interfaces]
    other = {ends[0]: ends[1], ends[1]: ends[0]}
    is_plugged_in = True

    def pull(*_: object) -> None:
        nonlocal is_plugged_in
        is_plugged_in = not is_plugged_in

    signal.signal(signal.SIGUSR1, pull)
    print("carrying", flush=True)
    on_the_way: list[tuple[float, int, socket.socket, bytes]] = []
    numbers = itertools.count()
    while True:
        wait = max(0.0, on_the_way[0][0] - time.monotonic()) if on_the_way else None
        for end in select.select(ends, [], [], wait)[0]:
            try:
                frame, address = end.recvfrom(1 << 17)
            except (BlockingIOError, OSError):
                continue
            if address[2] == PACKET_OUTGOING or not is_plugged_in:
                continue
            if (args.no_multicast and is_multicast(frame)) or chance.random() < args.loss:
                continue
            due = time.monotonic() + args.delay + chance.random() * args.jitter
            heapq.heappush(on_the_way, (due, next(numbers), other[end], frame))
        while on_the_way and on_the_way[0][0] <= time.monotonic():
            _, _, end, frame = heapq.heappop(on_the_way)
            try:
                end.send(frame)
            except OSError:  # the queue is full, or the interface is going away: lost
                continue


if __name__ == "__main__":
    main()
