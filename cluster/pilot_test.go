package cluster

import (
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"
)

// TestOnlyRecentAnswersSayThatAllReadSharedEntries: who answered so and is gone may come back as an older build.
func TestOnlyRecentAnswersSayThatAllReadSharedEntries(t *testing.T) {
	t.Parallel()
	reads := func(entries uint64, ago time.Duration) memberReport {
		return memberReport{memberStats: memberStats{entries: entries}, at: time.Now().Add(-ago)}
	}
	config := raft.Configuration{Servers: []raft.Server{{ID: "n1"}, {ID: "n2"}}}
	for _, c := range []struct {
		name   string
		second memberReport
		share  bool
	}{
		{"both have said so", reads(entriesShared, time.Second), true},
		{"one can't", reads(0, time.Second), false},
		{"one has not said so for long", reads(entriesShared, time.Hour), false},
		{"one has never answered", memberReport{}, false},
	} {
		p := &pilot{node: &Node{tuning: Tuning{AutopilotUpdate: 10 * time.Second}}}
		p.members = map[string]memberReport{"n1": reads(entriesShared, 0), "n2": c.second}
		require.Equal(t, c.share, p.allShare(config), c.name)
	}
}
