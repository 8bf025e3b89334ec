package api

import (
	"sync/atomic"

	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
)

// standing is whether a node may mint, as one state of the cluster has it. It is worked out once for each state,
// since to look a member up makes garbage, which no mint shall.
type standing struct {
	view    *fsm.View
	refusal error
}

// standings keep the latest.
type standings struct{ latest atomic.Pointer[standing] }

// mayMint refuses where the cluster mints nothing for now, or this node. To check tokens goes on in either case.
func (a *API) mayMint(view *fsm.View) error {
	if known := a.standings.latest.Load(); known != nil && known.view == view {
		return known.refusal
	}
	found := &standing{view: view, refusal: whyNotMint(view, a.NodeID)}
	a.standings.latest.Store(found)
	return found.refusal
}

func whyNotMint(view *fsm.View, node string) error {
	if reason := view.Closed(); reason != "" {
		return identity.Errorf(identity.CodeMintingClosed, "no tokens are minted: %s", reason).
			WithHint("replay what was revoked since, then run `deputy cluster open`")
	}
	member, known := view.Member(node)
	switch {
	case known && (!member.Barred.IsZero() || !member.Removed.IsZero()):
		return identity.Errorf(identity.CodeNotFresh, "this node is being removed from the cluster").WithHint("ask another node")
	case known && !member.Draining.IsZero():
		return identity.Errorf(identity.CodeDraining, "this node is draining and mints nothing").WithHint("ask another node")
	}
	return nil
}
