"""A web server on loopback that can break off, forget and lie."""

import hashlib
import http.server
import threading


class Server:
    """Serves ``files``; ``breaks_after``: bytes after which the next answer ends early; ``ranges``:
    whether it can continue; ``asked``: the Range headers."""

    def __init__(self):
        self.files, self.breaks_after, self.ranges, self.asked = {}, None, True, []
        self.tags, self.shift = True, 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                content = outer.files.get(self.path.lstrip("/"))
                wanted = self.headers.get("Range")
                outer.asked.append(wanted)
                if content is None:
                    return self.send_error(404)
                tag = f'"{hashlib.md5(content).hexdigest()}"'
                honoured = wanted and outer.ranges and self.headers.get("If-Range") in (None, tag)
                first = int(wanted.removeprefix("bytes=").rstrip("-")) if honoured else 0
                if honoured and first >= len(content):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(content)}")
                    self.send_header("Content-Length", "0")
                    return self.end_headers()
                part = content[first:]
                self.send_response(206 if honoured else 200)
                self.send_header("Content-Length", str(len(part)))
                if outer.tags:
                    self.send_header("ETag", tag)
                if honoured:
                    self.send_header(
                        "Content-Range",
                        f"bytes {first + outer.shift}-{len(content) - 1}/{len(content)}",
                    )
                self.end_headers()
                stop, outer.breaks_after = outer.breaks_after, None
                self.wfile.write(part[:stop])
                if stop is not None:
                    self.close_connection = True

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def url(self, name):
        return f"http://127.0.0.1:{self.server.server_port}/{name}"
