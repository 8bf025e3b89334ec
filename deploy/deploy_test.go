package deploy

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/server"
)

func TestSampleConfigurationLoads(t *testing.T) {
	c, err := server.LoadConfig("deputy.yaml")
	require.NoError(t, err)
	require.Equal(t, "n1", c.NodeID)
	require.True(t, c.Bootstrap)
	require.NotEmpty(t, c.RootTokenFile, "a sample that loses the first token is of no use")
	require.Empty(t, c.JoinToken)
}

// What the sample shows in comments must be true as well: an operator takes the marks away and starts.
func TestSampleConfigurationLoadsWithEveryCommentedKey(t *testing.T) {
	text, err := os.ReadFile("deputy.yaml")
	require.NoError(t, err)
	var lines []string
	for line := range strings.Lines(string(text)) {
		indent := line[:len(line)-len(strings.TrimLeft(line, " "))]
		key, commented := strings.CutPrefix(strings.TrimLeft(line, " "), "# ")
		word, _, isKey := strings.Cut(key, ": ")
		if commented && isKey && !strings.ContainsAny(word, " `") && strings.ToLower(word) == word {
			line = indent + key
		}
		lines = append(lines, line)
	}
	c, err := server.ParseConfig([]byte(strings.Join(lines, "")))
	require.NoError(t, err)
	require.Equal(t, "https://deputy.example.com", c.Issuer)
	require.Equal(t, "/var/lib/deputy/join-token", c.JoinTokenFile)
	require.Equal(t, "10.0.0.1:8411", c.Cluster.Advertise)
	require.Equal(t, "/etc/deputy/tls.key", c.Public.TLSKey)
}

// The drop-in asks systemd alone: the unit goes on to keep the server from asking the kernel for more.
func TestTheDropInOnlySchedules(t *testing.T) {
	text, err := os.ReadFile("deputy-ahead.conf")
	require.NoError(t, err)
	var settings []string
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			settings = append(settings, line)
		}
	}
	require.Equal(t, []string{"[Service]", "CPUSchedulingPolicy=rr", "CPUSchedulingPriority=1"}, settings)
	unit, err := os.ReadFile("deputy.service")
	require.NoError(t, err)
	require.Contains(t, string(unit), "RestrictRealtime=yes\n")
	require.Contains(t, string(unit), "CapabilityBoundingSet=\n")
}

func TestUnitStartsTheServerWithTheSample(t *testing.T) {
	unit, err := os.ReadFile("deputy.service")
	require.NoError(t, err)
	require.Contains(t, string(unit), "ExecStart=/usr/local/bin/deputy server --config /etc/deputy/deputy.yaml")
	c, err := server.LoadConfig("deputy.yaml")
	require.NoError(t, err)
	// DynamicUser makes the state folder the only place that the server may write to.
	require.Contains(t, string(unit), "StateDirectory=deputy\n")
	for _, path := range []string{c.DataDir, c.RootTokenFile} {
		require.True(t, strings.HasPrefix(path, "/var/lib/deputy/"), path)
	}
}
