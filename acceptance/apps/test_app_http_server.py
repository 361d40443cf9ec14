"""A Node.js server: npm's http-server is itself the code that is pushed, its dependencies are the image's."""

from pathlib import Path

from acceptance.apps import packages
from acceptance.apps.app import App, running_app
from acceptance.apps.fivepushes import Broken, Change, Five, Good, push_five

SERVER = "lib/http-server.js"
STRICT = "'use strict';\n"
CORE = "  before.push(httpServerCore({\n"
GREETER = "  before.push((req, res) => req.url === '/' ? res.end('first greeting') : res.emit('next'));\n"
FIVE = Five(
    image="<h1>a page</h1>",
    good=Good(Change(SERVER, CORE, GREETER + CORE), "first greeting"),
    raises=Broken(
        Change(SERVER, STRICT, STRICT + "throw new TypeError('not today');\n"),
        says="TypeError: not today",
        exit_code=1,
    ),
    unhealthy=Broken(
        Change(
            SERVER,
            "res.end('first greeting')",
            "(console.error(new Error('full')), res.statusCode = 503, res.end())",
        ),
        says="Error: full",
        heard="HTTP status 503",
    ),
    hangs=Broken(
        Change(SERVER, STRICT, STRICT + "Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);\n"),
        heard="Connection refused",
    ),
    repaired=Good(Change(SERVER, "first greeting", "second greeting"), "second greeting"),
)


def test_a_node_server(http_server_image: Path, tmp_path: Path) -> None:
    command = (str(packages.node()), "bin/http-server", "-a", "127.0.0.1", "-p", "{port}")
    app = App(command, health="/", kept=frozenset({"node_modules"}))
    with running_app(tmp_path, http_server_image, app) as chain:
        push_five(chain, FIVE)
