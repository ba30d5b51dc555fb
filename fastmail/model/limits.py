"""The limits that sessions enforce; values come from the configuration, the meaning of each is told there."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Limits:
    """Sizes in octets, times in seconds. See config.settings.Limits."""

    message_size: int = 50 << 20
    recipients: int = 1000
    connections: int = 10000
    connections_per_ip: int = 1000
    idle_timeout: float = 1800.0
    pop3_timeout: float = 600.0
    command_timeout: float = 300.0
    login_timeout: float = 60.0
    quota_storage: int = 0
    quota_messages: int = 0
    quota_mailboxes: int = 0
    command_line: int = 65536
    shared_mailboxes: int = 200
    staging_account: int = 256 << 20
    staging_memory: int = 64 << 20
    messages_per_command: int = 10_000_000
    background_load: float = 2.0
    errors: int = 20
    auth_failures: int = 3
    auth_failure_delay: float = 1.0
    ban_after: int = 10
    ban_window: float = 600.0
    ban_time: float = 600.0
    ban_exempt: list[str] = field(default_factory=list)
    slow_after: int = 20
