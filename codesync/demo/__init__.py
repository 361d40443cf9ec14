"""`codesync demo`: all parts on this machine, a real MCP client, seven pushes, each outcome checked.

demo-app/      the application, copied as image and as source
processes.py   starting, logs, an end for every process
world.py       directories, keys, ports; proxy, sidecar, launcher
scenario.py    the pushes and what is expected of them
main.py        all of it, in order
"""
