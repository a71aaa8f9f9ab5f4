"""An HTTP server that answers POST requests by a function, and records them."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

Answer = Callable[[str, bytes], tuple[int, str, bytes]]  # of path and body: status, content type ("" for none), body


@contextmanager
def answering(answer: Answer) -> Iterator[HTTPServer]:
    """Serve on a free port; ``asked`` lists (path, body) of the requests."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            asked.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            status, kind, body = answer(*asked[-1])
            self.send_response(status)
            if kind:
                self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as http:
        http.asked = asked
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield http
        http.shutdown()
        thread.join()
