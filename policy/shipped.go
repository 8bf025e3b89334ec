package policy

import (
	"embed"
	"strings"

	"github.com/deputy-id/deputy/identity"
)

//go:embed shipped/*.cedar
var shippedTexts embed.FS

// Shipped are the policies that a new cluster begins with. They are policies like any other from then on: operators
// change them, turn them off and delete them.
//
// Two of them say what the model itself says. They are there to be read, to be counted by, and to hold should the
// model ever allow more.
func Shipped() []identity.Policy {
	var out []identity.Policy
	for _, p := range []identity.Policy{
		{ID: "corporate-network", Mode: identity.PolicyOff, Description: "Agents act only from within the corporate network. Off until it has your address ranges."},
		{ID: "max-two-hops", Mode: identity.PolicyEnforce, Description: "Chains of delegation have at most two hops: user → agent → sub-agent."},
		{ID: "production-write-needs-approval", Mode: identity.PolicyEnforce, Description: "Autonomous agents reach applications tagged production-write only with a human's approval."},
		{ID: "scopes-within-defaults", Mode: identity.PolicyEnforce, Description: "Agents request no scope that is not in their default list."},
	} {
		text, err := shippedTexts.ReadFile("shipped/" + p.ID + ".cedar")
		if err != nil {
			panic("BUG: " + err.Error())
		}
		p.Text = strings.TrimSuffix(string(text), "\n")
		out = append(out, p)
	}
	return out
}
