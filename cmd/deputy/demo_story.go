package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/client"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/internal/privatefile"
)

// What the example sends, as anybody may send it with curl.
const (
	triageAgent = `{
  "profile": {
    "name": "support-triage-agent",
    "description": "Classifies Zendesk tickets and assigns to queues",
    "owner_group": "ai-engineering",
    "agent_type": "autonomous"
  },
  "default_scopes": ["zendesk.tickets.read", "zendesk.tickets.assign"],
  "max_session_duration_seconds": 3600
}`
	inboxAgent = `{
  "profile": {
    "name": "inbox-assistant",
    "description": "Reviews an inbox and drafts replies",
    "owner_group": "productivity",
    "agent_type": "user-delegated"
  },
  "default_scopes": ["gmail.read", "gmail.draft"],
  "max_session_duration_seconds": 14400
}`
	zendeskApplication = `{"name": "zendesk", "description": "Tickets of the support team", "audience": "https://company.zendesk.com",
  "scopes": ["zendesk.tickets.read", "zendesk.tickets.assign"]}`
	gmailApplication = `{"name": "gmail", "description": "Mailboxes of the company", "audience": "https://gmail.googleapis.com",
  "scopes": ["gmail.read", "gmail.draft"]}`
	triageSession = `{"agent_id": "support-triage-agent", "principal_user_id": null,
  "requested_scopes": ["zendesk.tickets.read", "zendesk.tickets.assign"],
  "trigger_reason": "scheduled run at 2026-04-17T08:00Z"}`
	inboxSession = `{"agent_id": "inbox-assistant", "principal_user_id": "user@company.com",
  "requested_scopes": ["gmail.read", "gmail.draft"],
  "trigger_reason": "user clicked 'summarize inbox'", "max_duration_seconds": 14400}`
)

// story is the example, told at the three nodes of a demo.
type story struct {
	*demo
	at      []*client.Client // one for each node, which asks no other
	step    int
	secrets map[string]client.Credentials // of the applications
}

func (d *demo) tell(ctx context.Context) error {
	s := &story{demo: d}
	for _, n := range d.nodes {
		c, err := d.client(n)
		if err != nil {
			return err
		}
		s.at = append(s.at, c)
	}
	if err := s.readSecrets(); err != nil {
		return err
	}
	for _, chapter := range []func(context.Context) error{s.agents, s.applications, s.triage, s.inbox} {
		if err := chapter(ctx); err != nil {
			return fmt.Errorf("step %d of the example: %w", s.step, err)
		}
	}
	return nil
}

func (s *story) say(format string, args ...any) {
	s.step++
	fmt.Fprintf(s.out, "%2d  %s\n", s.step, printable(fmt.Sprintf(format, args...)))
}

func (s *story) also(format string, args ...any) {
	fmt.Fprintf(s.out, "    %s\n", printable(fmt.Sprintf(format, args...)))
}

// caughtUp has every node serve what was written at any of them.
func (s *story) caughtUp() {
	for _, c := range s.at {
		for _, other := range s.at {
			c.Observe(other.Index())
		}
	}
}

func (s *story) agents(ctx context.Context) error {
	for _, agent := range []struct{ name, body string }{
		{"support-triage-agent", triageAgent}, {"inbox-assistant", inboxAgent},
	} {
		_, err := s.at[0].CreateAgent(ctx, json.RawMessage(agent.body), false)
		switch identity.CodeOf(err) {
		case "":
			s.say("agent %s is made at n1: POST /api/v1/agents", agent.name)
		case identity.CodeAlreadyExists:
			if err := s.found(ctx, agent.name); err != nil {
				return err
			}
		default:
			return err
		}
	}
	s.caughtUp()
	return nil
}

// found says that an agent is there from an earlier run, and lets it work where somebody has stopped it since.
func (s *story) found(ctx context.Context, name string) error {
	agent, err := s.at[0].Agent(ctx, name)
	if err != nil {
		return err
	}
	s.say("agent %s is there from an earlier run", name)
	if agent.Status == identity.StatusActive {
		return nil
	}
	s.also("it is %s, so it is activated again", agent.Status)
	_, err = s.at[0].AgentLifecycle(ctx, name, client.Activate, "the demo needs it")
	return err
}

func (s *story) applications(ctx context.Context) error {
	for _, application := range []struct{ name, body, agent string }{
		{"zendesk", zendeskApplication, "support-triage-agent"}, {"gmail", gmailApplication, "inbox-assistant"},
	} {
		made, err := s.at[1].CreateApplication(ctx, json.RawMessage(application.body), true)
		switch identity.CodeOf(err) {
		case "":
			s.say("application %s, owner of those scopes, is made at n2 and %s assigned to it", application.name, application.agent)
			if made.Credential != nil && made.Credential.Secret != "" {
				s.secrets[application.name] = client.Credentials{ID: made.Credential.ClientID, Secret: made.Credential.Secret}
			}
		case identity.CodeAlreadyExists:
			s.say("application %s is there from an earlier run", application.name)
		default:
			return err
		}
		if _, err := assign(ctx, s.at[1], application.agent, []string{application.name}, false); err != nil {
			return fmt.Errorf("assigning %s to %s: %w", application.agent, application.name, err)
		}
		if err := s.ensureSecret(ctx, application.name); err != nil {
			return fmt.Errorf("getting a credential for %s: %w", application.name, err)
		}
	}
	s.caughtUp()
	return s.writeSecrets()
}

func (s *story) secretsPath() string { return filepath.Join(s.dir, "applications.json") }

// readSecrets finds the credentials of the applications that an earlier run has left.
func (s *story) readSecrets() error {
	s.secrets = map[string]client.Credentials{}
	text, err := os.ReadFile(s.secretsPath())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if json.Unmarshal(text, &s.secrets) != nil || s.secrets == nil {
		s.secrets = map[string]client.Credentials{} // damaged: others are made
	}
	return nil
}

func (s *story) writeSecrets() error {
	text, err := json.MarshalIndent(s.secrets, "", "  ")
	if err != nil {
		return err
	}
	return privatefile.Replace(s.secretsPath(), append(text, '\n'))
}

// ensureSecret checks that the credential at hand still opens, and makes another where it doesn't.
func (s *story) ensureSecret(ctx context.Context, name string) error {
	c := s.at[1]
	if known, ok := s.secrets[name]; ok {
		_, err := c.Introspect(ctx, known, "is this credential good?")
		var refused *client.Error
		if !errors.As(err, &refused) || refused.Status != http.StatusUnauthorized {
			return err
		}
	}
	made, err := c.CreateApplicationCredential(ctx, name, wire.CredentialRequest{})
	if identity.CodeOf(err) == identity.CodeLimitReached {
		// Earlier runs have left as many as there may be: the oldest makes room.
		list, listErr := c.ApplicationCredentials(ctx, name)
		if listErr != nil || len(list.Items) == 0 {
			return errors.Join(err, listErr)
		}
		oldest := slices.MinFunc(list.Items, func(a, b wire.Credential) int { return int(a.CreatedAt - b.CreatedAt) })
		if _, err := c.RevokeApplicationCredential(ctx, name, oldest.ID, "replaced by the demo"); err != nil {
			return err
		}
		made, err = c.CreateApplicationCredential(ctx, name, wire.CredentialRequest{})
	}
	if err != nil {
		return err
	}
	s.secrets[name] = client.Credentials{ID: made.ClientID, Secret: made.Secret}
	return nil
}

// triage is the life of an autonomous session: minted at one node, good at the second, revoked at the third, and
// once that is fenced dead at all.
func (s *story) triage(ctx context.Context) error {
	zendesk := s.secrets["zendesk"]
	session, err := s.at[0].CreateSession(ctx, json.RawMessage(triageSession), nil)
	if err != nil {
		return err
	}
	s.say("session %s is minted at n1 for support-triage-agent (autonomous)", session.SessionID)
	s.also("scope %q, for %s", session.Scope, secondsText(session.ExpiresIn))

	answer, err := s.at[1].Introspect(ctx, zendesk, session.AccessToken)
	if err != nil {
		return err
	}
	if !answer.Active {
		return fmt.Errorf("n2 says that the token is not active")
	}
	s.say("introspected at n2 by zendesk: active, sub=%s scope=%q", answer.Subject, answer.Scope)

	revocation, err := s.at[2].Revoke(ctx, wire.RevocationRequest{SessionID: session.SessionID, Reason: "the demo shows how to stop a session"},
		client.Fenced(defaultFenceWait))
	if err != nil {
		return err
	}
	if !revocation.Fenced {
		return errNotFenced(&revocation.Stop)
	}
	s.say("revoked at n3: %s", fenceLine(&revocation.Stop))
	return s.dead(ctx, zendesk, session.AccessToken)
}

// dead asks every node once: after a fence none may take the token for good.
func (s *story) dead(ctx context.Context, application client.Credentials, token string) error {
	for i, c := range s.at {
		answer, err := c.Introspect(ctx, application, token)
		if err != nil {
			return err
		}
		if answer.Active {
			return fmt.Errorf("%s takes a token for good that was fenced", s.nodes[i].id)
		}
	}
	s.say("introspected at n1, n2 and n3: inactive")
	return nil
}

// inbox is a session on behalf of a person: four hours, two scopes, and a delegation to take back. An admin's
// request makes the delegation where there is none, also after an earlier one was withdrawn.
func (s *story) inbox(ctx context.Context) error {
	if err := s.principal(ctx, "user@company.com"); err != nil {
		return err
	}
	session, err := s.at[0].CreateSession(ctx, json.RawMessage(inboxSession), nil)
	if err != nil {
		return err
	}
	s.say("session %s is minted at n1 for inbox-assistant on behalf of user@company.com", session.SessionID)
	s.also("scope %q, for %s, resting on delegation %s", session.Scope, secondsText(session.ExpiresIn), session.DelegationID)
	s.caughtUp()
	answer, err := s.at[2].Introspect(ctx, s.secrets["gmail"], session.AccessToken)
	if err != nil {
		return err
	}
	if !answer.Active {
		return fmt.Errorf("n3 says that the token is not active")
	}
	s.say("introspected at n3 by gmail: active, sub=%s act=%s scope=%q", answer.Subject, actors(answer.Actor), answer.Scope)
	return s.kill(ctx, session.AccessToken)
}

// principal lets agents act for a person again whom somebody has stopped in an earlier run.
func (s *story) principal(ctx context.Context, id string) error {
	principal, err := s.at[0].Principal(ctx, id)
	if identity.CodeOf(err) == identity.CodeNotFound {
		return nil // the first session makes them
	}
	if err != nil || principal.Status == identity.StatusActive {
		return err
	}
	if _, err := s.at[0].PatchPrincipal(ctx, id, wire.PrincipalUpdate{Status: identity.StatusActive}); err != nil {
		return err
	}
	s.also("%s is %s from an earlier run, so they are activated again", id, principal.Status)
	return nil
}

// kill is the kill switch, asked at a node that minted nothing. Then the agent may work again, under another
// generation: what was killed stays dead.
func (s *story) kill(ctx context.Context, token string) error {
	const agent = "inbox-assistant"
	kill, err := s.at[1].KillAgent(ctx, agent, wire.KillRequest{Reason: "the demo shows the kill switch"}, false, client.Fenced(defaultFenceWait))
	if err != nil {
		return err
	}
	if !kill.Fenced {
		return errNotFenced(&kill.Stop)
	}
	s.killed = fenceLine(&kill.Stop)
	s.say("agent %s is killed at n2: %s", agent, s.killed)
	if err := s.dead(ctx, s.secrets["gmail"], token); err != nil {
		return err
	}
	if _, err := s.at[1].AgentLifecycle(ctx, agent, client.Activate, "the demo is over"); err != nil {
		return err
	}
	s.also("and %s is activated again: what was killed stays dead, new sessions may start", agent)
	return nil
}

// whatNext prints the commands to go on with.
func (d *demo) whatNext() {
	self := os.Args[0]
	fmt.Fprintf(d.out, `
The cluster stays up. Go on from another terminal:

  . %[1]s
  %[2]s cluster status
  %[2]s agent list
  %[2]s session create --agent support-triage-agent
  %[2]s delegation list --principal user@company.com
  %[2]s agent kill inbox-assistant --reason INC-42
      # in the example above: %[7]s
  curl -X POST %[3]s/api/v1/sessions -H "Authorization: SSWS $%[4]s" \
    -H "Content-Type: application/json" -d '{"agent_id": "support-triage-agent"}'

Logs are in %[5]s, metrics at http://%[6]s/metrics.
Ctrl-C stops the nodes; their data stays, and another run finds it.
`, filepath.Join(d.dir, "env"), self, d.nodes[0].url(), envToken, filepath.Join(d.dir, "n*", "log"), d.nodes[0].ops(), d.killed)
}
