package interop

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
)

const (
	manualOfClients = "../../docs/clients.md"
	manualOfPython  = sdk + "/README.md"
)

// examples are the fenced blocks of a manual in one language.
func examples(t *testing.T, manual, language string) (blocks []string) {
	t.Helper()
	text, err := os.ReadFile(manual)
	require.NoError(t, err)
	var block []string
	inside := false
	for line := range strings.Lines(string(text)) {
		switch {
		case inside && strings.TrimSpace(line) == "```":
			blocks = append(blocks, strings.Join(block, ""))
			inside, block = false, nil
		case inside:
			block = append(block, line)
		case strings.TrimSpace(line) == "```"+language:
			inside = true
		}
	}
	require.False(t, inside, "a block of %s does not end", manual)
	return blocks
}

func TestGoExamplesOfTheManualAreTheOnesThatRun(t *testing.T) {
	source, err := os.ReadFile("manual_examples_test.go")
	require.NoError(t, err)
	blocks := examples(t, manualOfClients, "go")
	for _, block := range blocks {
		require.Contains(t, string(source), block, "docs/clients.md shows what no test runs")
	}
	require.Len(t, blocks, strings.Count(string(source), "\nfunc "), "an example is missing in docs/clients.md")
}

// preparedNode is a node at which the commands of docs/clients.md were given, word for word. It returns the environment
// that the examples want.
func preparedNode(t *testing.T) []string {
	t.Helper()
	n := startNode(t)
	path, err := workshop.Binary()
	require.NoError(t, err)
	bin := t.TempDir()
	require.NoError(t, os.Symlink(path, filepath.Join(bin, "deputy")))
	environment := append(n.environment(), "PATH="+bin+":"+os.Getenv("PATH"))
	commands := examples(t, manualOfClients, "sh")
	require.Len(t, commands, 1)
	out, stderr, err := run(t, "", environment, commands[0], "bash", "-eu")
	require.NoError(t, err, "%s\n%s", out, stderr)
	require.Equal(t, 5, strings.Count(out, "dps_"), "one secret for each:\n%s", out)

	environment = n.environment()
	for variable, agent := range map[string]string{
		"AGENT_SECRET": "support-triage-agent", "INBOX_SECRET": "inbox-assistant", "WRITER_SECRET": "draft-writer",
	} {
		credential, err := n.CreateAgentCredential(t.Context(), agent, wire.CredentialRequest{})
		require.NoError(t, err)
		environment = append(environment, variable+"="+credential.Secret)
	}
	credential, err := n.CreateApplicationCredential(t.Context(), "zendesk", wire.CredentialRequest{})
	require.NoError(t, err)
	key := newSigningKey(t)
	n.register(t, "support-triage-agent", key)
	keyFile := filepath.Join(bin, "key.pem")
	require.NoError(t, os.WriteFile(keyFile, []byte(key.pem(t)), 0o600))
	return append(environment, "ZENDESK_SECRET="+credential.Secret, "AGENT_KEY_FILE="+keyFile)
}

func TestPythonExamplesOfTheManualsRun(t *testing.T) {
	interpreter := python(t)
	environment := preparedNode(t)
	ran := 0
	for _, manual := range []string{manualOfClients, manualOfPython} {
		for _, block := range examples(t, manual, "python") {
			if strings.Contains(block, "authlib") {
				continue
			}
			if strings.Contains(block, "allowed =") {
				block += "\nassert allowed\n"
			}
			script(t, interpreter, environment, block, "-W", "error", "-")
			ran++
		}
	}
	require.Equal(t, 7, ran)
}

func TestAuthlibExamplesOfTheManualRun(t *testing.T) {
	interpreter := pythonWithAuthlib(t)
	environment := preparedNode(t)
	ran := 0
	for _, block := range examples(t, manualOfClients, "python") {
		if strings.Contains(block, "authlib") {
			script(t, interpreter, environment, block, "-")
			ran++
		}
	}
	require.Equal(t, 2, ran)
}
