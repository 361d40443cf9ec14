#!/bin/sh
# An entrypoint for images that contain nothing of codesync. It takes the launcher from the volume, where the sidecar
# puts it, and runs the application under it; where no launcher comes, it runs the application as if it were not there.
#
#   COPY codesync-entrypoint.sh /
#   ENTRYPOINT ["/codesync-entrypoint.sh", "--health", "http://127.0.0.1:8000/", "--"]
#   CMD ["python", "app.py"]
#
# Usage: codesync-entrypoint.sh [LAUNCHER OPTION ...] -- COMMAND [ARGUMENT ...]
# The image needs a POSIX shell, and python3 of version 3.8 or later (without it the command runs unwrapped).
#
# Environment:
#   CODESYNC_FILES_DIR  the volume shared with the sidecar (default /app-files)
#   CODESYNC_WAIT       whole seconds to wait for the launcher (default 10). A sidecar that starts together with this
#                       container needs a moment; 0 asks once. Where no volume is mounted nobody waits.
#   CODESYNC_PYTHON     the python to run the launcher with (default python3)

note() {
    echo "codesync: $*" >&2
}

# Whatever is missing, the application runs: drop the launcher's options and become the command.
unwrapped() {
    note "$1; running the command without codesync"
    shift
    while [ "$1" != -- ]; do shift; done
    shift
    trap - TERM INT
    exec "$@"
}

command_follows=no
for argument in "$@"; do
    if [ "$command_follows" = after ]; then command_follows=yes; fi
    if [ "$argument" = -- ] && [ "$command_follows" = no ]; then command_follows=after; fi
done
if [ "$command_follows" != yes ]; then
    note "usage: $0 [LAUNCHER OPTION ...] -- COMMAND [ARGUMENT ...]"
    exit 2
fi

files=${CODESYNC_FILES_DIR:-${BIFROST_FILES_DIR:-/app-files}}
python=${CODESYNC_PYTHON:-python3}
launcher=$files/.sidecar/launcher.pyz
seconds=${CODESYNC_WAIT:-10}
case $seconds in
    '' | *[!0-9]*)
        note "CODESYNC_WAIT is $seconds, not a whole number of seconds; waiting 10"
        seconds=10
        ;;
esac

[ -d "$files" ] || unwrapped "no volume at $files" "$@"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 8))' 2>/dev/null ||
    unwrapped "$python is missing, or older than 3.8" "$@"

# Process 1 ignores the signals it does not handle; without these a container would not stop while we wait.
trap 'exit 143' TERM
trap 'exit 130' INT
while [ ! -f "$launcher" ] && [ "$seconds" -gt 0 ]; do
    sleep 1
    seconds=$((seconds - 1))
done
[ -f "$launcher" ] || unwrapped "no launcher at $launcher; is the sidecar running?" "$@"

trap - TERM INT
exec "$python" "$launcher" "$@"
