"""
Receive traces as a collector does.
"""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Queue
from threading import Thread

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

#: Seconds for which a test waits for a trace.
_TIMEOUT = 20.0


class OtlpReceiver:
    """
    Accept OTLP over HTTP on a free port of this machine.

    Attributes:
        url: The URL that traces are sent to.
    """

    def __init__(self) -> None:
        received: Queue[ExportTraceServiceRequest] = Queue()
        self._received = received

        class Handler(BaseHTTPRequestHandler):
            """
            Decode each request.
            """

            def do_POST(self) -> None:
                """
                Accept spans.
                """
                body = self.rfile.read(int(self.headers["Content-Length"]))
                request = ExportTraceServiceRequest()
                if self.path == "/v1/traces":
                    request.ParseFromString(body)
                    received.put(request)
                response = ExportTraceServiceResponse().SerializeToString()
                self.send_response(200 if self.path == "/v1/traces" else 404)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(response)))
                self.end_headers()
                self.wfile.write(response)

            def log_message(self, format: str, *args: object) -> None:
                """
                Print nothing.
                """

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def next(self) -> ExportTraceServiceRequest:
        """
        Return the next request, and wait for it if there is none yet.
        """
        return self._received.get(timeout=_TIMEOUT)

    def is_empty(self) -> bool:
        """
        Return whether no request is left to be returned.
        """
        return self._received.empty()

    def close(self) -> None:
        """
        Close the port.
        """
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
