package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/audit"
)

type signingKey struct{ ed25519.PrivateKey }

func (k signingKey) Sign(message []byte) []byte { return ed25519.Sign(k.PrivateKey, message) }
func (k signingKey) Public() ed25519.PublicKey  { return k.PrivateKey.Public().(ed25519.PublicKey) }

// closedLog is the folder of a node's log that has ended in good order, and the file that it is checked by.
func closedLog(t *testing.T) (dir, witnesses string) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	dir = filepath.Join(t.TempDir(), "audit")
	log, err := audit.Open(audit.Options{Dir: dir, Node: "n1", Signer: signingKey{private}, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	for _, agent := range []string{"inbox-assistant", "support-triage-agent", "inbox-assistant"} {
		require.NoError(t, log.Append(t.Context(), &audit.Record{Kind: audit.KindMint, Agent: agent, Decision: audit.Allowed}))
	}
	require.NoError(t, log.Close(context.Background()))
	text, err := json.Marshal(wire.AuditCheckpoints{
		Checkpoints: []wire.AuditCheckpoint{}, Keys: []wire.AuditKey{{Node: "n1", Key: signingKey{private}.Public()}},
	})
	require.NoError(t, err)
	witnesses = filepath.Join(t.TempDir(), "witnesses.json")
	require.NoError(t, os.WriteFile(witnesses, text, 0o600))
	return dir, witnesses
}

func TestAuditLogIsVerifiedWithoutACluster(t *testing.T) {
	alone(t)
	dir, witnesses := closedLog(t)
	for _, folder := range []string{dir, filepath.Dir(dir)} {
		o := deputy(t, "", "audit", "verify", folder, "--keys", witnesses)
		require.Equal(t, exitDone, o.code, "%s", o.err)
		require.Contains(t, o.out, "The log is whole.")
	}
	segment := filepath.Join(dir, "00000000000000000001.jsonl")
	text, err := os.ReadFile(segment)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(segment, bytes.Replace(text, []byte("support-triage-agent"), []byte("support-triage-tnega"), 1), 0o600))
	o := deputy(t, "", "audit", "verify", dir, "--keys", witnesses)
	require.Equal(t, exitFailed, o.code)
	require.Contains(t, o.err, "00000000000000000001.jsonl line 3, record 3: changed")
	o = deputy(t, "", "audit", "verify", dir, "--keys", witnesses, "-o", "json")
	require.Equal(t, exitFailed, o.code)
	var report audit.Report
	require.NoError(t, json.Unmarshal([]byte(o.out), &report))
	require.Equal(t, uint64(3), report.Problems[0].Sequence)

	require.NoError(t, os.WriteFile(witnesses, []byte(`{"keys":[]}`), 0o600))
	o = deputy(t, "", "audit", "verify", dir, "--keys", witnesses)
	require.Equal(t, exitFailed, o.code)
	require.Contains(t, o.err, "holds no keys")
	o = deputy(t, "", "audit", "verify", dir, "--addr", "http://127.0.0.1:1")
	require.Equal(t, exitUnreachable, o.code, "it is not said to be whole where nobody could say by which keys")
}

const auditRecords = `{"records":[
	{"prev":"00","seq":7,"node":"n1","time":"2026-04-17T08:00:00.000Z","kind":"exchange","agent":"summary-agent","principal":"user@company.com","session":"ses_1","chain":[{"user":"user@company.com"},{"agent":"inbox-assistant","delegation":"dlg_1"},{"agent":"summary-agent"}],"tool":"","scope":"gmail.read","decision":"allowed","outcome":"success","hash":"01"},
	{"prev":"01","seq":9,"node":"n2","time":"2026-04-17T08:00:01.000Z","kind":"tool","agent":"summary-agent","principal":"user@company.com","session":"ses_1","chain":[],"tool":"gmail.search","scope":"","decision":"denied","outcome":"failure","reason":"scope","hash":"02"}],
	"complete":false,"nodes":[{"id":"n1","replied":true},{"id":"n2","replied":true},{"id":"n3","replied":false,"error":"it did not answer"}]}`

func TestAuditTrailIsShownWithItsChains(t *testing.T) {
	n := newFakeNode(t, map[string]http.HandlerFunc{"GET /api/v1/audit": answer(auditRecords)})
	o := deputy(t, "", "audit", "query", "--agent", "summary-agent", "--from", "2h", "--kind", "exchange,tool")
	require.Equal(t, exitDone, o.code, "%s", o.err)
	require.Contains(t, o.out, "user@company.com → inbox-assistant → summary-agent")
	require.Contains(t, o.err, "the records of n3 are missing")
	require.Equal(t, "agent=summary-agent&from=2026-04-17T06%3A00%3A00.000Z&kind=exchange%2Ctool", n.last(t).query)

	o = deputy(t, "", "audit", "query", "-o", "json")
	var records []map[string]any
	require.NoError(t, json.Unmarshal([]byte(o.out), &records))
	require.Equal(t, "02", records[1]["hash"])

	o = deputy(t, "", "audit", "tail", "-n", "2", "-o", "json")
	require.Equal(t, exitDone, o.code, "%s", o.err)
	require.Len(t, strings.Split(strings.TrimSpace(o.out), "\n"), 2, "a record a line")
	require.Equal(t, exitUsage, deputy(t, "", "audit", "tail", "-n", "0").code)
	require.NotEqual(t, exitDone, deputy(t, "", "audit", "query", "--from", "yesterday").code)
}
