package fsm

import (
	"slices"

	"github.com/deputy-id/deputy/identity"
)

// bindingKey orders approvals by who wants what. Neither an agent's name nor a binding holds a zero byte.
func bindingKey(agent, binding, id string) string { return agent + "\x00" + binding + "\x00" + id }

func (s *state) requestApproval(b RequestApproval) (*identity.Approval, *identity.Error) {
	a := b.Approval
	if a.ID == "" || a.Agent == "" || a.Binding == "" {
		return nil, invalid("the approval lacks its id, its agent or what it is for")
	}
	agent, ok := s.agents.find(a.Agent)
	if !ok {
		return nil, notFound("agent", a.Agent)
	}
	if open, ok := approvalFor(s.approvalsByBinding.work, a.Agent, a.Binding, agent.Generation, s.time); ok {
		return s.joinApproval(open)
	}
	if _, ok := find(s.approvals.work, a.ID); ok {
		return nil, alreadyExists("approval", a.ID)
	}
	if s.pendingOf(a.Agent) >= identity.MaxPendingApprovals {
		return nil, limitReached("pending approvals of one agent", identity.MaxPendingApprovals)
	}
	if s.approvals.len() >= identity.MaxApprovals && !s.dropFinishedApproval() {
		return nil, limitReached("approvals", identity.MaxApprovals)
	}
	a.Status, a.Created, a.Generation, a.AskedBy = identity.ApprovalPending, s.time, agent.Generation, []string{s.by}
	a.Expires = min(a.Expires, after(s.time, identity.MaxApprovalSeconds*second))
	a.DecidedBy, a.Decided, a.Note, a.UsedBy, a.UsedFor, a.Used = "", 0, "", "", "", 0
	return s.fileApproval(a), nil
}

// joinApproval has the caller be one of those who asked, who can't decide.
func (s *state) joinApproval(open *identity.Approval) (*identity.Approval, *identity.Error) {
	if open.Status != identity.ApprovalPending || open.WasAskedBy(s.by) {
		return open, nil
	}
	if len(open.AskedBy) >= identity.MaxApprovalAskers {
		return nil, limitReached("callers that ask for the same approval", identity.MaxApprovalAskers)
	}
	a := *open
	a.AskedBy = append(slices.Clip(a.AskedBy), s.by)
	return s.fileApproval(a), nil
}

func (s *state) decideApproval(b DecideApproval) (*identity.Approval, *identity.Error) {
	old, ok := find(s.approvals.work, b.ID)
	if !ok {
		return nil, notFound("approval", b.ID)
	}
	takesBack := old.Status == identity.ApprovalApproved && !b.Approve
	switch {
	case b.Approve && old.WasAskedBy(s.by):
		return nil, identity.Errorf(identity.CodeForbidden, "%s has asked for approval %s itself; somebody else has to decide", s.by, old.ID).
			WithHint("have another person approve it, with an API token of their own that has role approver")
	case s.time >= old.Expires && (old.Status == identity.ApprovalPending || takesBack):
		return nil, identity.Errorf(identity.CodeConflict, "approval %s has expired at %s", old.ID, old.Expires).
			WithHint("have the agent ask again")
	case old.Status != identity.ApprovalPending && !takesBack:
		return nil, identity.Errorf(identity.CodeConflict, "approval %s is %s already", old.ID, old.Status)
	}
	a := *old
	a.Status = identity.ApprovalDenied
	if b.Approve {
		a.Status = identity.ApprovalApproved
	}
	a.DecidedBy, a.Decided, a.Note = s.texts.intern(s.by), s.time, b.Note
	return s.fileApproval(a), nil
}

func (s *state) consumeApproval(b ConsumeApproval) (*identity.Approval, *identity.Error) {
	old, ok := find(s.approvals.work, b.ID)
	if !ok || old.Agent != b.Agent {
		return nil, notFound("approval", b.ID)
	}
	agent, ok := s.agents.find(old.Agent)
	switch {
	case !ok || agent.Generation != old.Generation:
		return nil, identity.Errorf(identity.CodeConflict, "agent %q was stopped since approval %s was asked for", old.Agent, old.ID).
			WithHint("ask again")
	case old.Binding != b.Binding:
		return nil, identity.Errorf(identity.CodeConflict, "approval %s is for another request", old.ID).
			WithHint("repeat the request exactly as it was approved, or ask for an approval of this one")
	case old.Status == identity.ApprovalConsumed:
		return nil, identity.Errorf(identity.CodeConflict, "approval %s was used up at %s; it is good for one use", old.ID, old.Used).
			WithHint("ask again")
	case old.Status == identity.ApprovalDenied:
		return nil, identity.Errorf(identity.CodeApprovalDenied, "approval %s was denied by %s", old.ID, old.DecidedBy)
	case old.Status != identity.ApprovalApproved:
		return nil, identity.Errorf(identity.CodeApprovalRequired, "approval %s was not decided yet", old.ID)
	case s.time >= old.Expires:
		return nil, identity.Errorf(identity.CodeConflict, "approval %s has expired at %s", old.ID, old.Expires).WithHint("ask again")
	case old.DecidedBy == s.by:
		return nil, identity.Errorf(identity.CodeForbidden, "%s has given approval %s itself; somebody else has to use it", s.by, old.ID)
	}
	a := *old
	a.Status, a.UsedBy, a.UsedFor, a.Used = identity.ApprovalConsumed, s.texts.intern(s.by), b.For, s.time
	return s.fileApproval(a), nil
}

func (s *state) fileApproval(a identity.Approval) *identity.Approval {
	a.Revision, s.approvalsRevision = s.index, s.index
	s.approvals.set(named[*identity.Approval]{a.ID, &a})
	s.approvalsByBinding.set(named[*identity.Approval]{bindingKey(a.Agent, a.Binding, a.ID), &a})
	return &a
}

func (s *state) dropApproval(a *identity.Approval) {
	s.approvals.delete(named[*identity.Approval]{key: a.ID})
	s.approvalsByBinding.delete(named[*identity.Approval]{key: bindingKey(a.Agent, a.Binding, a.ID)})
	s.approvalsRevision = s.index
}

// pendingOf counts what nobody has decided yet for an agent.
func (s *state) pendingOf(agent string) (n int) {
	ascendApprovals(s.approvalsByBinding.work, agent+"\x00", func(a *identity.Approval) bool {
		if a.Status == identity.ApprovalPending && s.time < a.Expires {
			n++
		}
		return n < identity.MaxPendingApprovals
	})
	return n
}

// dropFinishedApproval makes room where the table is full: the oldest goes of which nothing can come any more. One that
// was denied and has not expired stays, as it still answers whoever asks again.
func (s *state) dropFinishedApproval() bool {
	var finished *identity.Approval
	s.approvals.work.Scan(func(n named[*identity.Approval]) bool {
		if n.value.Status == identity.ApprovalConsumed || s.time >= n.value.Expires {
			finished = n.value
		}
		return finished == nil
	})
	if finished == nil {
		return false
	}
	s.dropApproval(finished)
	return true
}

// purgeApprovals forgets those that have expired a day ago.
func (s *state) purgeApprovals(done *Purged, budget *int) {
	var over []*identity.Approval
	s.approvals.work.Scan(func(n named[*identity.Approval]) bool {
		if len(over) < *budget && after(n.value.Expires, keepExpired) <= s.time {
			over = append(over, n.value)
		}
		return len(over) < *budget
	})
	for _, a := range over {
		s.dropApproval(a)
	}
	done.Approvals = len(over)
	*budget -= len(over)
}

// forgetApprovals drops all of them: what a human said yes to may have been used up, or taken back, where nobody here
// knows of it.
func (s *state) forgetApprovals() {
	if s.approvals.len() > 0 {
		s.approvals, s.approvalsByBinding = newNamed[*identity.Approval](), newNamed[*identity.Approval]()
		s.approvalsRevision = s.index
	}
}
