"""The audit log over HTTP."""

from sequential.runner.audit import AuditEntry
from sequential.web.handlers import TheEngine, get
from sequential.web.records import Page, page_of
from sequential.web.runs import Before, Limit


@get("/audit", role="operate", summary="Who did what, newest first")
async def list_audit(
    engine: TheEngine, limit: Limit = 50, before: Before = None
) -> Page[AuditEntry]:
    """Everything but looking, for as long as the setting `server.audit_days` says."""
    return page_of(await engine.audit.list(limit=limit + 1, before=before), limit, "id")


HANDLERS = [list_audit]
