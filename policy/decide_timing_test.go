package policy_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/policy"
)

// One allocation holds the decision, the others spell the handles of the agent and the principal.
func TestDecideAllocatesLittle(t *testing.T) {
	engine := policy.NewEngine()
	for name, tc := range map[string]struct {
		request *policy.Request
		most    float64
	}{
		"autonomous": {autonomous(), 3},
		"delegated":  {delegated(), 5},
		"hop":        {hop(t, delegated()), 5},
	} {
		t.Run(name, func(t *testing.T) {
			require.LessOrEqual(t, testing.AllocsPerRun(100, func() {
				if _, err := engine.Decide(tc.request); err != nil {
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
			b.ReportAllocs()
			for b.Loop() {
				if _, err := engine.Decide(r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
