package policy

import "github.com/deputy-id/deputy/identity"

// shortestMillis is the least that a session may have left: a token counts in whole seconds.
const shortestMillis = 1000

// capLifetime: a session ends with the first of the caller's wish, the agent's maximum, the delegation, the
// parent session, and, where somebody in the audience verifies offline and so can't hear of a revocation,
// the short life of such tokens.
func capLifetime(r *Request, g *Grant) *identity.Error {
	seconds, err := cappedSeconds(r, g)
	if err != nil {
		return err
	}
	expires := r.Now + identity.Instant(seconds*1000)
	if d := r.Delegation; d != nil {
		if d.Expires-r.Now < shortestMillis {
			return delegationEnded(d, "has less than a second left")
		}
		expires = min(expires, d.Expires)
	}
	if p := r.Parent; p != nil {
		if p.Expires-r.Now < shortestMillis {
			return identity.Errorf(identity.CodeDelegationExpired, "the parent session %s ends at %s, and a hop can't outlive it", p.ID, p.Expires).
				WithHint("start a new session and exchange its token")
		}
		expires = min(expires, p.Expires)
	}
	s := &g.session
	s.ID = r.SessionID
	s.AgentType = r.Agent.Type
	s.Credential = r.Credential
	s.TriggerReason = r.TriggerReason
	s.Confirmation = r.Confirmation
	s.Issued = r.Now
	s.Expires = expires
	return nil
}

// cappedSeconds is the lifetime before delegation and parent are looked at.
func cappedSeconds(r *Request, g *Grant) (int64, *identity.Error) {
	// The set of revocations forgets entries after MaxSessionSeconds: nothing may be longer, whatever is stored.
	seconds := min(r.Agent.MaxSessionSeconds, identity.MaxSessionSeconds)
	if seconds <= 0 {
		return 0, identity.Errorf(identity.CodeInternal, "BUG: agent %q has a maximum session of %d seconds", r.Agent.Name, r.Agent.MaxSessionSeconds)
	}
	if r.MaxSeconds < 0 {
		return 0, identity.Errorf(identity.CodeInvalid, "a session can't last %d seconds", r.MaxSeconds).
			WithHint("leave max_duration_seconds out for the agent's maximum of %d", seconds)
	}
	if r.MaxSeconds > 0 {
		seconds = min(seconds, r.MaxSeconds)
	}
	if g.offline {
		offline := r.OfflineTTLSeconds
		if offline <= 0 {
			offline = identity.DefaultOfflineTTLSeconds
		}
		seconds = min(seconds, offline)
	}
	return seconds, nil
}
