import deputy

session = deputy.agents.create_session(
    agent_id="support-triage-agent",
    principal_user_id=None,  # autonomous run
    requested_scopes=["zendesk.tickets.read", "zendesk.tickets.assign"],
    trigger_reason="scheduled run at 2026-04-17T08:00Z",
)
# session.access_token is passed to downstream tools
