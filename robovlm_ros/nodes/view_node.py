"""What the cameras see, as a web page on this machine: for whoever teleoperates without a display of ROS."""

from __future__ import annotations

import html
import io
import sys
import threading
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from PIL import Image
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy

from robovlm_ros import messages
from robovlm_ros.contract import Camera, Contract
from robovlm_ros.errors import UserError
from robovlm_ros.nodes.entry import spin
from robovlm_ros.nodes.instruction import hear_instructions
from robovlm_ros.nodes.parameters import declare, fixed, limited

NEWEST = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
"""Serves publishers of either reliability; only the newest image is of interest."""
SILENT_S = 1.0
"""A page that gets no new image for so long is asked whether it is still there [s]."""
PAGE = """<!DOCTYPE html><meta charset="utf-8"><title>{name}</title>
<style>body {{ font-family: sans-serif; background: #222; color: #eee }} figure {{ display: inline-block; margin: 1em }}
img {{ height: min(70vh, 480px); image-rendering: pixelated; background: #000 }}</style>
<h1>{name}</h1><p id="said">{instruction}</p>{figures}
<script>setInterval(async () => {{
  document.getElementById("said").textContent = await (await fetch("/instruction")).text() }}, 1000)</script>
"""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Parameters of the view."""

    contract: str = fixed("tabletop")
    """Contract of the robot, a YAML file or a shipped name."""
    port: int = limited(8080, 0, 65535, fixed=True)
    """Port of the page; 0: any that is free."""
    address: str = fixed("127.0.0.1")
    """Address that the page is served at; 0.0.0.0 shows it to the whole network, without any password."""


class ViewNode(Node):  # type: ignore[misc, unused-ignore]
    """Keeps the newest message of each camera; the web server's threads decode it when a page asks."""

    def __init__(self) -> None:
        super().__init__("view_node")
        self.failure: str | None = None
        settings = declare(self, Settings)
        self.contract = contract = Contract.load(settings.contract)
        messages.check_contract(contract)
        self._arrived = threading.Condition()
        self._newest: dict[str, tuple[int, Any]] = {}
        self._closed = False
        self.instruction = ""
        try:
            self._server = ThreadingHTTPServer((settings.address, settings.port), _handler(self))
        except OSError as error:
            raise UserError(
                f"parameter 'port': {settings.address}:{settings.port} cannot be served ({error.strerror}): "
                "choose another, or 0 for any"
            ) from error
        for camera in contract.cameras:
            self._subscribe(camera)
        hear_instructions(self, contract, self._hear)
        self._thread = threading.Thread(target=self._server.serve_forever, name="web", daemon=True)
        self._thread.start()
        self.get_logger().info(f"the cameras of '{contract.name}' are at http://{settings.address}:{self.port}")

    @property
    def port(self) -> int:
        """Port of the page."""
        return int(self._server.server_address[1])

    def jpeg(self, camera: Camera, seen: int) -> tuple[int, bytes] | None:
        """The camera's newest image after number ``seen``, as its number and a JPEG; None when none came for a while.

        UserError if it is not what the contract says.
        """
        with self._arrived:
            self._arrived.wait_for(lambda: self._closed or self._number(camera) > seen, timeout=SILENT_S)
            number, message = self._newest.get(camera.name, (0, None))
        if number <= seen:
            return None
        file = io.BytesIO()
        Image.fromarray(messages.image(message, camera)).save(file, "JPEG", quality=90)
        return number, file.getvalue()

    def close(self) -> None:
        """End the web server."""
        with self._arrived:
            self._closed = True
            self._arrived.notify_all()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def closed(self) -> bool:
        """The node ends."""
        return self._closed

    def _number(self, camera: Camera) -> int:
        return self._newest.get(camera.name, (0, None))[0]

    def _subscribe(self, camera: Camera) -> None:
        def receive(message: Any) -> None:
            with self._arrived:
                self._newest[camera.name] = (self._number(camera) + 1, message)
                self._arrived.notify_all()

        self.create_subscription(messages.message_class(camera.type), camera.topic, receive, NEWEST)

    def _hear(self, message: Any, _latched: bool) -> None:
        self.instruction = messages.instruction(message)


def _handler(node: ViewNode) -> type[BaseHTTPRequestHandler]:
    """Answers the page's requests with what the node has."""
    cameras = {f"/{camera.name}": camera for camera in node.contract.cameras}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path in cameras:
                self._stream(cameras[self.path])
            elif self.path == "/instruction":
                self._answer("text/plain", node.instruction)
            elif self.path == "/":
                name, said = html.escape(node.contract.name), html.escape(node.instruction)
                figures = "".join(
                    f'<figure><img src="{html.escape(path)}"><figcaption>{html.escape(path[1:])}</figcaption></figure>'
                    for path in cameras
                )
                self._answer("text/html", PAGE.format(name=name, instruction=said, figures=figures))
            else:
                self.send_error(HTTPStatus.NOT_FOUND, f"there is: /, /instruction, {', '.join(cameras)}")

        def _answer(self, kind: str, text: str) -> None:
            body = text.encode()
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _stream(self, camera: Camera) -> None:
            """One JPEG after the other, as browsers show them in an image (multipart/x-mixed-replace)."""
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            seen = 0
            try:
                while not node.closed:
                    found = node.jpeg(camera, seen)
                    if found is not None:
                        seen, data = found
                        self.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\n")
                        self.wfile.write(f"Content-Length: {len(data)}\r\n\r\n".encode() + data + b"\r\n")
            except OSError:
                return  # the page was closed
            except UserError as error:
                node.get_logger().error(str(error), throttle_duration_sec=5.0)

        def log_message(self, format: str, *args: Any) -> None:
            """Requests are not worth a line."""

    return Handler


def main() -> int:
    """Entry point of ``ros2 run robovlm_ros view_node``."""
    return spin(ViewNode, threads=2)


if __name__ == "__main__":
    sys.exit(main())
