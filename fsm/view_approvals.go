package fsm

import (
	"strings"
	"time"

	"github.com/tidwall/btree"

	"github.com/deputy-id/deputy/identity"
)

const second = time.Second

// ascendApprovals walks those whose key of agent, binding and id begins with prefix.
func ascendApprovals(t *btree.BTreeG[named[*identity.Approval]], prefix string, visit func(*identity.Approval) bool) {
	t.Ascend(named[*identity.Approval]{key: prefix}, func(n named[*identity.Approval]) bool {
		return strings.HasPrefix(n.key, prefix) && visit(n.value)
	})
}

// approvalFor finds the answer that stands: neither expired nor used up, of this generation of the agent. A later one
// counts for more than an earlier one.
func approvalFor(t *btree.BTreeG[named[*identity.Approval]], agent, binding string, generation uint64, now identity.Instant) (found *identity.Approval, ok bool) {
	ascendApprovals(t, agent+"\x00"+binding+"\x00", func(a *identity.Approval) bool {
		if a.Status != identity.ApprovalConsumed && a.Generation == generation && now < a.Expires {
			found = a
		}
		return true
	})
	return found, found != nil
}

// Approval returns an approval by id.
func (v *View) Approval(id string) (*identity.Approval, bool) { return find(v.approvals, id) }

// ApprovalFor returns the approval that answers whoever asks for this at now: pending, approved or denied, and neither
// expired nor used up. One from before the agent was stopped is none.
func (v *View) ApprovalFor(agent, binding string, now identity.Instant) (*identity.Approval, bool) {
	row, ok := v.agentsByName.find(agent)
	if !ok {
		return nil, false
	}
	return approvalFor(v.approvalsByBinding, agent, binding, row.Generation, now)
}

// PendingApprovals counts the agent's approvals that were asked for by the caller first, and that nobody has decided yet
// at now.
func (v *View) PendingApprovals(agent, by string, now identity.Instant) (n int) {
	ascendApprovals(v.approvalsByBinding, agent+"\x00", func(a *identity.Approval) bool {
		if a.Status == identity.ApprovalPending && now < a.Expires && len(a.AskedBy) > 0 && a.AskedBy[0] == by {
			n++
		}
		return true
	})
	return n
}

// Approvals lists those that are wanted by id, and so by age, strictly after the one given.
func (v *View) Approvals(after string, limit int, wanted func(*identity.Approval) bool) []*identity.Approval {
	var out []*identity.Approval
	v.approvals.Ascend(named[*identity.Approval]{key: after}, func(n named[*identity.Approval]) bool {
		if len(out) >= limit {
			return false
		}
		if (n.key != after || after == "") && wanted(n.value) {
			out = append(out, n.value)
		}
		return true
	})
	return out
}

// ApprovalsRevision changes whenever an approval does; a Revision of one that is later is news.
func (v *View) ApprovalsRevision() uint64 { return v.approvalsRevision }
