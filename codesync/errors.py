"""The root of every error that is meant for a person: one line that says what to do next.

    UserError
     ├─ config.ConfigError         a setting is missing or malformed
     ├─ plan.GuardError            a push that looks like an accident; an argument overrides it
     ├─ connection.ConnectError    no proxy answers, or it refuses us
     ├─ connection.Disconnected    an open connection ended too early
     ├─ sidecar.StoreError         the volume cannot be used
     └─ client.ClientError         the proxy, a replica or the network said no

The engine's errors (`codesync.delta.errors`) and `transaction.TransactionError` stand apart: those rooms know no user.
"""


class UserError(Exception):
    """`str(error)` is one line, complete in itself, and names the next step."""
