package bench

import (
	"context"
	"fmt"
	"time"

	"github.com/deputy-id/deputy/api/wire"
)

// MaxPolicies bounds what a run adds.
const MaxPolicies = 900

// policiesTimeout bounds the adding of all of them.
const policiesTimeout = 2 * time.Minute

// addPolicies makes so many policies beside those that a new cluster comes with, as an organisation would have them: one in
// ten applies to every session and is looked at with each mint; nine name other agents. None of them forbids the run's own.
func (r *run) addPolicies(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, policiesTimeout)
	defer cancel()
	for i := range r.Policies {
		if _, err := r.Client.CreatePolicy(ctx, benchPolicy(i)); err != nil {
			return fmt.Errorf("making policy %d of %d: %w", i+1, r.Policies, err)
		}
	}
	return nil
}

func benchPolicy(i int) wire.PolicyRequest {
	p := wire.PolicyRequest{ID: fmt.Sprintf("bench-%d", i), Description: "of deputy bench"}
	if i%10 == 0 {
		p.Text = fmt.Sprintf(`forbid (principal is Agent, action == Action::"CreateSession", resource)
when { resource.tags.contains("bench-tag-%d") || principal in Group::"bench-group-%d" };`, i, i)
	} else {
		p.Text = fmt.Sprintf(`forbid (principal == Agent::"bench-other-%d", action, resource);`, i)
	}
	return p
}
