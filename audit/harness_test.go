package audit

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/internal/racedetector"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(envChild); dir != "" {
		if n := os.Getenv(envUnsealed); n != "" {
			os.Exit(appendAndWait(dir, n))
		}
		os.Exit(appendUntilKilled(dir))
	}
	if dir := os.Getenv(envCrash); dir != "" {
		os.Exit(crashAndRecover(dir))
	}
	racedetector.DrawFewer()
	goleak.VerifyTestMain(m)
}

// testKey is a node's key that is the same in every run.
type testKey struct{ private ed25519.PrivateKey }

func keyOfNode(node string) testKey {
	seed := make([]byte, ed25519.SeedSize)
	copy(seed, node)
	return testKey{ed25519.NewKeyFromSeed(seed)}
}

func (k testKey) Sign(message []byte) []byte { return ed25519.Sign(k.private, message) }
func (k testKey) Public() ed25519.PublicKey  { return k.private.Public().(ed25519.PublicKey) }

func keysOf(nodes ...string) map[string]ed25519.PublicKey {
	keys := map[string]ed25519.PublicKey{}
	for _, n := range nodes {
		keys[n] = keyOfNode(n).Public()
	}
	return keys
}

// testOptions are those of node n1, with a log that says nothing.
func testOptions(dir string) Options {
	return Options{Dir: dir, Node: "n1", Signer: keyOfNode("n1"), Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}
}

func openLog(t testing.TB, o Options) *Log {
	t.Helper()
	l, err := Open(o)
	require.NoError(t, err)
	t.Cleanup(func() { closeLog(t, l) })
	return l
}

func closeLog(t testing.TB, l *Log) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	require.NoError(t, l.Close(ctx))
}

// sample is a record of a mint as a handler makes it.
func sample() Record {
	return Record{
		Time: identity.InstantOf(time.Date(2026, 11, 28, 20, 25, 0, 123e6, time.UTC)), Kind: KindMint,
		Agent: "inbox-assistant", AgentType: identity.AgentUserDelegated, Principal: "user@example.com",
		Session: "ses_01kb4q7m2vf5drs9w8x3n6y0ha",
		Chain:   []Link{{User: "user@example.com"}, {Agent: "inbox-assistant", Delegation: "dlg_01kb4q7m2vf5drs9w8x3n6y0hb"}},
		Scope:   "gmail.draft gmail.read", Decision: Allowed, Policies: []string{"default-scopes", "chain-length"},
		Monitored: []string{"corporate-network"}, Delegation: "dlg_01kb4q7m2vf5drs9w8x3n6y0hb", Credential: "crd_01kb4q7m2vf5drs9w8x3n6y0hc",
		Action: "CreateSession", Audience: []string{"https://gmail.example.com"}, SourceIP: netip.MustParseAddr("192.0.2.7"),
		RequestID: "req_01kb4q7m2vf5drs9w8x3n6y0hd", TraceID: "4bf92f3577b34da6a3ce929d0e0e4736", SpanID: "00f067aa0ba902b7",
		Expires: identity.InstantOf(time.Date(2026, 11, 29, 0, 25, 0, 123e6, time.UTC)), Detail: "user clicked 'summarize inbox'",
	}
}

// numbered is a small record that can be told from others.
func numbered(i int) *Record {
	return &Record{
		Kind: KindTool, Agent: fmt.Sprintf("agent-%d", i%7), Session: fmt.Sprintf("ses_%05d", i%50), Tool: "zendesk.assign",
		Decision: []Decision{Allowed, Denied}[i%2], RequestID: fmt.Sprintf("req_%08d", i),
	}
}

func appendAll(t testing.TB, l *Log, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		require.NoError(t, l.Append(context.Background(), numbered(i)))
	}
}

// linesOf reads all lines of a folder's segments, oldest first.
func linesOf(t testing.TB, dir string) [][]byte {
	t.Helper()
	firsts, _, err := segmentNames(os.DirFS(dir))
	require.NoError(t, err)
	var all [][]byte
	for _, first := range firsts {
		text, err := os.ReadFile(filepath.Join(dir, segmentName(first)))
		require.NoError(t, err)
		for line := range bytes.Lines(text) {
			all = append(all, line)
		}
	}
	return all
}

// requireWhole wants a log without a flaw.
func requireWhole(t testing.TB, dir string, witnesses ...Checkpoint) *Report {
	t.Helper()
	r, err := Verify(context.Background(), dir, VerifyOptions{Keys: keysOf("n1", "n2", "n3"), Checkpoints: witnesses})
	require.NoError(t, err)
	for _, p := range r.Problems {
		t.Error(p.String())
	}
	require.True(t, r.OK())
	return r
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	require.Eventually(t, condition, 20*time.Second, time.Millisecond, what)
}

// leaveHead writes the head that the node n1 would have sealed at record n of the log in these lines; 0 is before the
// first.
func leaveHead(t testing.TB, dir string, lines [][]byte, n int, closed bool) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(dir, headFile), headAt(t, lines, n, closed), 0o600))
}

func headAt(t testing.TB, lines [][]byte, n int, closed bool) []byte {
	t.Helper()
	_, _, f, err := cutLine(lines[0])
	require.NoError(t, err)
	first, err := readHeader(bytes.TrimSpace(lines[0]), &f)
	require.NoError(t, err)
	h := &sealedHead{Node: "n1", Log: first.Log, Closed: closed, Time: f.instant()}
	if n > 0 {
		_, _, f, err := cutLine(lines[n-1])
		require.NoError(t, err)
		h.Through, h.Head = f.sequence, f.hash
	}
	h.Signature = keyOfNode("n1").Sign(h.appendMessage(nil))
	return h.appendFile(nil)
}

// headOf reads the head in a folder.
func headOf(t testing.TB, dir string) *sealedHead {
	t.Helper()
	h, err := readHead(os.DirFS(dir), headFile)
	require.NoError(t, err)
	require.NotNil(t, h)
	require.NoError(t, h.verify(keyOfNode("n1").Public()))
	return h
}

// copyFolder copies the files of a log.
func copyFolder(t testing.TB, from string) (to string) {
	t.Helper()
	to = t.TempDir()
	entries, err := os.ReadDir(from)
	require.NoError(t, err)
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		text, err := os.ReadFile(filepath.Join(from, e.Name()))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(to, e.Name()), text, 0o600))
	}
	return to
}

// problemsOf verifies a folder.
func problemsOf(t testing.TB, dir string, witnesses ...Checkpoint) []Problem {
	t.Helper()
	r, err := Verify(context.Background(), dir, VerifyOptions{Keys: keysOf("n1"), Checkpoints: witnesses})
	require.NoError(t, err)
	return r.Problems
}
