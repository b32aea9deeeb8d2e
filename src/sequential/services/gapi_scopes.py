"""Which permission a call of Google's APIs asks for: the least one that its method accepts.

Google lists for each method the scopes that will do, any one of them, and does not say which is
least. Some narrow ones change what a method does: with `drive.file` a list holds only files that
this client made. So the well-known ones are put in order here, and rules are for the rest.
"""

from collections.abc import Sequence

_ROOT = "https://www.googleapis.com/auth/"
_MAIL = "https://mail.google.com/"
_EVERYTHING = f"{_ROOT}cloud-platform"

# The first one that a method accepts is asked for.
_ORDER = [
    _ROOT + name
    for name in """
        gmail.readonly gmail.send gmail.labels gmail.compose gmail.insert gmail.modify
        gmail.settings.basic gmail.settings.sharing
        admin.directory.domain.readonly admin.directory.domain
        admin.directory.user.readonly admin.directory.user
        admin.directory.group.member.readonly admin.directory.group.member
        admin.directory.group.readonly admin.directory.group
        admin.directory.orgunit.readonly admin.directory.orgunit
        spreadsheets.readonly spreadsheets documents.readonly documents
        presentations.readonly presentations
        calendar.events.readonly calendar.readonly calendar.events calendar
        drive.readonly drive
    """.split()
]
_ORDER.append(_MAIL)


def narrowest(scopes: Sequence[str], http: str, granted: Sequence[str] = ()) -> str | None:
    """The scope to ask for, None if the method needs none.

    `granted` are those that an administrator has granted, if the operator has named them: one of
    them is chosen, and None means that none of them will do.
    """
    if granted:
        scopes = [scope for scope in scopes if scope in granted]
    if not scopes:
        return None
    known = [scope for scope in _ORDER if scope in scopes]
    if known:
        return known[0]
    special = [scope for scope in scopes if scope not in (_EVERYTHING, _MAIL)] or list(scopes)
    readable = [scope for scope in special if "readonly" in scope or "read-only" in scope]
    return min(readable if http == "GET" and readable else special, key=len)
