package policy_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/policy"
)

// The decision lies in room of the caller's. What is left spells the handles of the agent and the principal, and
// for the hop the scopes that are none of the three sets as it stands.
func TestDecideAllocatesLittle(t *testing.T) {
	engine := policy.NewEngine()
	for name, tc := range map[string]struct {
		request *policy.Request
		most    float64
	}{
		"autonomous": {autonomous(), 1},
		"delegated":  {delegated(), 2},
		"hop":        {hop(t, delegated()), 3},
	} {
		t.Run(name, func(t *testing.T) {
			var g policy.Grant
			require.LessOrEqual(t, testing.AllocsPerRun(100, func() {
				if err := engine.Decide(tc.request, &g); err != nil {
					t.Error(err)
				}
			}), tc.most)
		})
	}
}

func BenchmarkDecide(b *testing.B) {
	engine := policy.NewEngine()
	for name, r := range map[string]*policy.Request{
		"autonomous": autonomous(),
		"delegated":  delegated(),
		"hop":        hop(b, delegated()),
	} {
		b.Run(name, func(b *testing.B) {
			var g policy.Grant
			b.ReportAllocs()
			for b.Loop() {
				if err := engine.Decide(r, &g); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
