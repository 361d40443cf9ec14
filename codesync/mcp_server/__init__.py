"""The MCP server: five tools, typed and thin, over `client`. Nothing is decided here, and stdout belongs to the protocol.

tools.py     the tools, their arguments and annotations
calls.py     one call: progress, errors in one line, cancellation
schemas.py   what a client reads of a tool, short
server.py    the SDK's server with all that, and stdio
http.py      streamable HTTP: Host, Origin, keys
"""

from codesync.mcp_server.http import serve_http
from codesync.mcp_server.server import build, serve_stdio

__all__ = ["build", "serve_http", "serve_stdio"]
