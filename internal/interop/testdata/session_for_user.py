import deputy

session = deputy.agents.create_session(
    agent_id="inbox-assistant",
    principal_user_id="user@company.com",
    requested_scopes=["gmail.read", "gmail.draft"],
    trigger_reason="user clicked 'summarize inbox'",
    max_duration_seconds=14400,
)
