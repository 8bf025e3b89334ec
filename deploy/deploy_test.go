package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
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

// What systemd doesn't understand it passes over with a warning, and the node would be scheduled as usual.
func TestSystemdUnderstandsTheDropIn(t *testing.T) {
	verify, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("needs systemd-analyze")
	}
	unit, err := os.ReadFile("deputy.service")
	require.NoError(t, err)
	dropIn, err := os.ReadFile("deputy-realtime.conf")
	require.NoError(t, err)
	complaints := func(dropIn string) string {
		dir := t.TempDir()
		path := filepath.Join(dir, "deputy.service")
		require.NoError(t, os.WriteFile(path, []byte(strings.ReplaceAll(string(unit), "/usr/local/bin/deputy", "/bin/true")), 0o600))
		require.NoError(t, os.Mkdir(path+".d", 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(path+".d", "realtime.conf"), []byte(dropIn), 0o600))
		// What it says of the drop-in counts, not how it ends: older systemds lack settings of the unit.
		out, _ := exec.CommandContext(t.Context(), verify, "verify", path).CombinedOutput()
		var list []string
		for line := range strings.Lines(string(out)) {
			if strings.Contains(line, "realtime.conf") {
				list = append(list, line)
			}
		}
		return strings.Join(list, "")
	}
	require.Empty(t, complaints(string(dropIn)))
	require.NotEmpty(t, complaints(strings.ReplaceAll(string(dropIn), "=rr", "=round")), "this systemd-analyze finds nothing wrong with anything")
	require.Contains(t, string(dropIn), "\n[Service]\n")
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
