"""Settings of the sources that accounts come from: the ``[directory]`` section and ``[[source]]``."""

from dataclasses import dataclass

from fastmail.config.setting import setting as _s


@dataclass(slots=True)
class Directory:
    """Accounts that another program keeps."""

    passwd_file: str = _s(
        "",
        "A passwd-file as Dovecot has it (user:{SCHEME}hash:...), followed while the server runs: its accounts are "
        "this server's, and one that is gone from it is disabled. Empty: only the accounts of `fastmail account`.",
    )
    sql: str = _s(
        "",
        'Or a database: "postgresql://user:password@host/database" (needs asyncpg: pip install "fastmail[postgresql]") '
        '"mysql://user:password@host/database" (pip install "fastmail[mysql]") or "sqlite:file".',
    )
    sql_accounts: str = _s(
        "",
        "A query for address, password ({SCHEME}hash) and perhaps quota in octets: "
        "SELECT username, password, quota FROM mailbox WHERE active. Columns called as fields of `fastmail account "
        "set` (name, forward, suspended ...) set these; what a row does not say is kept here.",
    )
    sql_aliases: str = _s("", "A query for address and targets (commas between several). Empty: aliases are kept here.")
    sql_domains: str = _s(
        "",
        "A query for domains; further columns called as fields of `fastmail domain set` (enabled, description, "
        "quota_storage, alias_of ...), or catch_all, set these. Empty: domains are kept here.",
    )
    sql_lists: str = _s(
        "",
        "A query for the addresses of mailing lists; further columns called as fields of `fastmail list set` (owners, "
        "mode ...) set these. Empty: lists are kept here.",
    )
    sql_members: str = _s("", "A query for the address of a list, that of a member, and perhaps the member's name.")
    sql_password_query: str = _s(
        "",
        "Or, in place of sql_accounts, Dovecot's own queries with its variables (%u, %{user | domain}), asked for each "
        "user who logs in or gets mail: password_query, as in dovecot-sql.conf.ext or in passdb sql. Aliases, domains "
        "and lists come from the queries above all the same.",
    )
    sql_user_query: str = _s("", "user_query: home, mail and quota_rule or quota_storage_size count.")
    sql_iterate_query: str = _s(
        "",
        "iterate_query: names everybody, so that accounts are known, and disabled, before they are asked for. A look "
        "at everybody, and at what the queries above say, comes every five minutes at most then.",
    )
    sql_scheme: str = _s("CRYPT", "default_pass_scheme: of passwords without {SCHEME}.")
    sql_every: float = _s(
        30.0,
        "Time between two looks, at a database or by LDAP, and how long an answer to sql_password_query counts.",
        "time",
    )
    ldap: str = _s(
        "", 'Or an LDAP directory: "ldaps://host" or "ldap://host" with STARTTLS (pip install "fastmail[ldap]").'
    )
    ldap_bind: str = _s("", "DN that asks; it must be allowed to read the password attribute.")
    ldap_password_file: str = _s("", "File with its password.")
    ldap_base: str = _s("", 'Where the accounts are, such as "ou=people,dc=example,dc=org".')
    ldap_filter: str = _s("(mail=*)", "Which entries are accounts.")
    ldap_address: str = _s("mail", "Attribute with the address; further values become aliases.")
    ldap_password: str = _s("userPassword", "Attribute with {SCHEME}hash.")
    ldap_nets: str = _s("", "Attribute with networks to log in from, as Dovecot's allow_nets. Empty: from everywhere.")
    ldap_nologin: str = _s("", "Attribute of accounts that may not log in; FALSE is as if it were not there.")
    ldap_proxy: str = _s(
        "", "Attribute of accounts whose mail is on another server (Dovecot's proxy or host): they may not log in here."
    )
    ldap_quota: str = _s("", "Attribute with the quota in octets. Empty: quotas are kept here.")
    ldap_bind_as_user: bool = _s(
        False,
        "Check passwords by binding as the user, for Active Directory and others whose hashes nobody can read; "
        "ldap_password is not asked for then. The server's certificate is checked. SCRAM does not work with it.",
    )
    ldap_ca: str = _s(
        "",
        "File with the authorities of the LDAP server's certificate. Empty: those of the system with "
        "ldap_bind_as_user, else it is not checked.",
    )
    ldap_groups: str = _s(
        "", 'Which entries are groups, such as "(objectClass=group)": $name in lists of rights. Empty: none.'
    )
    ldap_group_name: str = _s("cn", "Attribute with the name of a group; auth.default_domain completes it.")
    ldap_group_member: str = _s("member", "Attribute with the names (DN) of the entries that are in a group.")
    ldap_nested_groups: str = _s(
        "follow",
        'Groups in groups: "follow" counts the accounts in them, as long as ldap_groups names them too, ten levels '
        'deep; "chain" lets Active Directory find them (LDAP_MATCHING_RULE_IN_CHAIN, one question for each group); '
        '"no" counts direct members only.',
    )
    ldap_fields: list[str] = _s(
        [],
        'Other fields of accounts and the attributes that say them, such as ["name=cn", "forward=mailForward"]. '
        "Fields are those of `fastmail account set`; what an entry does not say is kept here.",
    )
    ldap_domains: str = _s("", 'Which entries are domains, such as "(objectClass=mailDomain)". Empty: kept here.')
    ldap_domain_name: str = _s("dc", "Attribute with the name of a domain.")
    ldap_domain_fields: list[str] = _s(
        [], 'As ldap_fields, with fields of `fastmail domain set`, or catch_all; such as ["description=description"].'
    )
    ldap_lists: str = _s(
        "", 'Which entries are mailing lists, such as "(&(objectClass=groupOfNames)(mail=*))". Empty: kept here.'
    )
    ldap_list_address: str = _s("mail", "Attribute with the address of a list.")
    ldap_list_members: list[str] = _s(
        ["member"], "Attributes with its members: names (DN) of entries that have an ldap_address, or addresses."
    )
    ldap_list_fields: list[str] = _s([], 'As ldap_fields, with fields of `fastmail list set`; such as ["name=cn"].')


@dataclass(slots=True)
class Source(Directory):
    """A source of accounts for the domains that name it (`fastmail domain set DOMAIN --source NAME`), with the settings
    of [directory]. What it says of other domains does not count, and they go on while it is away. A domain that names
    none has its accounts from [directory], or here."""

    name: str = _s("", "What domains call it: a-z, 0-9 and hyphens.")
    domain: str = _s("", "Completes its users, aliases and groups that have no domain. Empty: auth.default_domain.")
