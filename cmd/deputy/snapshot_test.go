package main

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/server"
)

// inFolder runs the test in an empty folder and returns what is left there by name.
func inFolder(t *testing.T) (names func() []string) {
	t.Helper()
	t.Chdir(t.TempDir())
	return func() (names []string) {
		entries, err := os.ReadDir(".")
		require.NoError(t, err)
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return names
	}
}

func TestBackupIsRestoredReplayedAndOpened(t *testing.T) {
	inFolder(t)
	end := devNode(t)
	into[wire.Agent](t, triageAgent, "agent", "create", "-f", "-")
	into[wire.Agent](t, inboxAgent, "agent", "create", "-f", "-")
	into[wire.Principal](t, "", "principal", "create", "user@company.com")

	// A backup, which is what it says that it is.
	saved := into[server.BackupInfo](t, "", "cluster", "snapshot", "save", "deputy.backup")
	require.Equal(t, 2, saved.Agents)
	require.Equal(t, saved, into[server.BackupInfo](t, "", "cluster", "snapshot", "inspect", "deputy.backup"))
	info, err := os.Stat("deputy.backup")
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), "it holds hashes of secrets")
	require.Equal(t, saved.Bytes, info.Size())

	// It goes into no cluster that holds something.
	full := deputy(t, "", "cluster", "snapshot", "restore", "deputy.backup")
	require.Equal(t, exitFailed, full.code)
	require.Contains(t, full.err, "hint: restore into a fresh cluster")

	// What is stopped after it is only in the export.
	kill := into[wire.Kill](t, "", "agent", "kill", "support-triage-agent", "--reason", "INC-42")
	exported := deputy(t, "", "revocation", "export", "--since", exactTime(saved.Time))
	require.Equal(t, exitDone, exported.code, exported.err)
	require.Contains(t, exported.out, `{"handle":"`+string(kill.Handles[0])+`","reason":"INC-42"`)
	require.Contains(t, exported.out, `"reason":"the agent is suspended"`)
	require.Equal(t, "1 suspended, deactivated or withdrawn\n"+strconv.Itoa(strings.Count(exported.out, "\n")-1)+" revocations\n"+
		"all deletions since "+saved.Time.Time().Truncate(time.Second).Format("2006-01-02T15:04:05.000Z")+" are among them\n", exported.err)
	require.Zero(t, deputy(t, "", "revocation", "export", "--state=false").code)
	require.Zero(t, end())

	// Another cluster: everything is there, and nothing is minted.
	devNode(t)
	got := deputy(t, "", "cluster", "snapshot", "restore", "deputy.backup")
	require.Equal(t, exitDone, got.code, got.err)
	require.Contains(t, got.out, "Restored      deputy.backup\nTaken         "+exactTime(saved.Time)+"\nAgents        2\nPrincipals    1\n")
	require.Contains(t, got.out, "deputy cluster restore --replay FILE; then: deputy cluster open --yes\n")
	require.NotEmpty(t, into[clusterStatus](t, "", "cluster", "status").MintingClosed)
	require.Contains(t, deputy(t, inboxSession, "session", "create", "-f", "-").err, "no tokens are minted: the cluster was restored from a backup")
	require.Equal(t, identity.StatusActive, into[wire.Agent](t, "", "agent", "get", "support-triage-agent").Status, "it was not stopped yet when the backup was taken")

	// The replay stops it again, and from then on tokens are minted.
	got = deputy(t, exported.out, "cluster", "restore", "--replay", "-")
	require.Equal(t, exitDone, got.code, got.err)
	require.Contains(t, got.out, "deputy cluster open --yes")
	require.Equal(t, identity.StatusSuspended, into[wire.Agent](t, "", "agent", "get", "support-triage-agent").Status)
	require.Equal(t, exitDone, deputy(t, exported.out, "cluster", "restore", "--replay", "-").code, "twice does no harm")
	require.Equal(t, "Minting  open\n", deputy(t, "", "cluster", "open", "--yes").out)
	require.Empty(t, into[clusterStatus](t, "", "cluster", "status").MintingClosed)
	into[wire.Application](t, gmailApplication, "application", "create", "-f", "-")
	require.Equal(t, exitDone, deputy(t, "", "agent", "assign", "inbox-assistant", "gmail").code)
	into[wire.Session](t, inboxSession, "session", "create", "-f", "-")
	require.Contains(t, deputy(t, triageSession, "session", "create", "-f", "-").err, "suspended")
}

func TestSaveKeepsWhatIsThere(t *testing.T) {
	names := inFolder(t)
	n := newFakeNode(t, map[string]http.HandlerFunc{
		"GET /api/v1/cluster/snapshot": answer("this is no backup"),
	})
	require.NoError(t, os.WriteFile("old", []byte("old"), 0o600))
	got := deputy(t, "", "cluster", "snapshot", "save", "old")
	require.Equal(t, exitUsage, got.code)
	require.Equal(t, "error: old is there already; name another file, or give --overwrite\n", got.err)
	require.Empty(t, n.calls)

	for _, args := range []string{"old --overwrite", "new"} {
		got = deputy(t, "", append([]string{"cluster", "snapshot", "save"}, strings.Fields(args)...)...)
		require.Equal(t, exitFailed, got.code)
		require.Contains(t, got.err, "checking what was written: ")
		require.Equal(t, []string{"old"}, names(), "what is no backup gets no name, and no draft is left")
	}
	text, err := os.ReadFile("old")
	require.NoError(t, err)
	require.Equal(t, "old", string(text))
}

func TestBackupThatBreaksOffIsNone(t *testing.T) {
	names := inFolder(t)
	newFakeNode(t, map[string]http.HandlerFunc{
		"GET /api/v1/cluster/snapshot": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, "DEP")
		},
	})
	got := deputy(t, "", "cluster", "snapshot", "save", "new")
	require.Equal(t, exitFailed, got.code)
	require.Contains(t, got.err, "broke off after 3 bytes")
	require.Empty(t, names())
}

func TestForeignFileIsNeverSent(t *testing.T) {
	inFolder(t)
	n := newFakeNode(t, nil)
	require.NoError(t, os.WriteFile("notes.txt", []byte("milk, bread"), 0o600))
	for _, verb := range []string{"inspect", "restore"} {
		got := deputy(t, "", "cluster", "snapshot", verb, "notes.txt")
		require.Equal(t, exitFailed, got.code)
		require.Contains(t, got.err, "error: notes.txt: ")
		require.Contains(t, got.err, "not a backup")
	}
	require.Empty(t, n.calls)
}

func TestReplayIsSentInBatchesThatANodeTakes(t *testing.T) {
	var batches []wire.RevocationRequest
	newFakeNode(t, map[string]http.HandlerFunc{"POST /api/v1/revocations": func(w http.ResponseWriter, r *http.Request) {
		var request wire.RevocationRequest
		if err := json.NewDecoder(r.Body).Decode(&request); err != nil {
			t.Error(err)
		}
		if batches = append(batches, request); len(batches) == 3 {
			problem(http.StatusForbidden, identity.CodeForbidden, "handles of API tokens are an admin's", "")(w, r)
			return
		}
		answer(`{"committed":true}`)(w, r)
	}})
	var lines strings.Builder
	for i := range 2500 {
		lines.WriteString(`{"handle":"agt_a#` + count(i) + `","reason":"r","revoked_at":"2026-04-17T08:00:00.000Z"}` + "\n")
	}
	got := deputy(t, lines.String(), "cluster", "restore", "--replay", "-")
	require.Equal(t, exitFailed, got.code)
	require.Equal(t, "error: after 2000 of 2500 handles; replaying the file again is safe: handles of API tokens are an admin's\n", got.err)
	require.Len(t, batches, 3)
	require.Len(t, batches[0].Handles, wire.MaxHandles)
	require.Len(t, batches[2].Handles, 500)
	require.EqualValues(t, "agt_a#2499", batches[2].Handles[499])
	for _, b := range batches {
		require.True(t, b.Replay)
		require.Equal(t, "replayed after a restore", b.Reason)
	}

	batches = nil
	path := filepath.Join(t.TempDir(), "later.jsonl")
	require.NoError(t, os.WriteFile(path, []byte(" \n"+`{"handles":["agt_a#4","agt_s#1"]}`+"\n\n"+`{"handle":"agt_s#2","handles":["agt_s#3"]}`), 0o600))
	got = deputy(t, "", "cluster", "restore", "--replay", path)
	require.Equal(t, exitDone, got.code, got.err)
	require.Equal(t, "Replayed  4\nNext      deputy cluster open --yes\n", got.out)
	require.Equal(t, []identity.Handle{"agt_a#4", "agt_s#1", "agt_s#3", "agt_s#2"}, batches[0].Handles)
	require.JSONEq(t, `{"replayed":4}`, deputy(t, "", "cluster", "restore", "--replay", path, "-o", "json").out)
}

func TestReplayOfABadFileStopsNothing(t *testing.T) {
	n := newFakeNode(t, nil)
	for text, want := range map[string]string{
		`{"handle":"agt_s#1"}` + "\nnonsense":                                  "-, line 2 is not JSON",
		"\n" + `{"reason":"INC-42"}`:                                           "-, line 2 names no handle",
		`{"handle":"agt_s#1"}` + "\n" + `{"handles":["agt_s#2"," "]}`:          "-, line 2: ",
		`{"handle":"` + strings.Repeat("x", identity.MaxHandleLength+1) + `"}`: "-, line 1: ",
		`{"handle":"agt_s#1"}` + "\n" + strings.Repeat("x", maxReplayLine+1):   "reading - after 1 handles: ",
		"":     "- holds no handles",
		" \n ": "- holds no handles",
	} {
		got := deputy(t, text, "cluster", "restore", "--replay", "-")
		require.Equal(t, exitFailed, got.code, text)
		require.Contains(t, got.err, want)
		require.Empty(t, got.out)
	}
	require.Empty(t, n.calls, "half a replay would look like a whole one")

	got := deputy(t, "", "cluster", "restore")
	require.Equal(t, exitUsage, got.code)
	require.Contains(t, got.err, "deputy cluster snapshot restore FILE")
}

func TestExportIsWholeOrSaysThatItIsNot(t *testing.T) {
	page := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("after") == "" {
			w.Header().Set("Link", `</api/v1/revocations?after=ses_1>; rel="next"`)
			answer(`[{"handle":"agt_a#1","by":"tok_1","revoked_at":"2026-04-17T07:59:59.999Z","expires_at":"2026-04-17T09:00:00.000Z","index":6},
				{"handle":"ses_1","reason":"INC-42","revoked_at":"2026-04-17T08:00:00.000Z","expires_at":"2026-04-17T09:00:00.000Z","index":7}]`)(w, r)
			return
		}
		answer(`[{"handle":"ses_2","revoked_at":"2026-04-17T08:00:01.000Z","expires_at":"2026-04-17T09:00:00.000Z","index":8}]`)(w, r)
	}
	settings := `{}`
	answers := map[string]http.HandlerFunc{
		"GET /api/v1/agents":      answer(`[{"status":"active","handle":"agt_b#2"},{"status":"deactivated","handle":"agt_c#3","updated_at":"2026-04-17T08:30:00.000Z"}]`),
		"GET /api/v1/principals":  answer(`[{"status":"suspended","handle":"usr_u#4","updated_at":"2026-04-10T08:30:00.000Z"}]`),
		"GET /api/v1/delegations": answer(`[]`),
		"GET /api/v1/revocations": page,
		"GET /api/v1/settings":    func(w http.ResponseWriter, r *http.Request) { answer(settings)(w, r) },
	}
	n := newFakeNode(t, answers)
	got := deputy(t, "", "revocation", "export")
	require.Equal(t, exitDone, got.code, got.err)
	require.Equal(t, `{"handle":"agt_c#3","reason":"the agent is deactivated","changed_at":"2026-04-17T08:30:00.000Z"}
{"handle":"usr_u#4","reason":"the principal is suspended","changed_at":"2026-04-10T08:30:00.000Z"}
{"handle":"agt_a#1","by":"tok_1","revoked_at":"2026-04-17T07:59:59.999Z","expires_at":"2026-04-17T09:00:00.000Z","index":6}
{"handle":"ses_1","reason":"INC-42","revoked_at":"2026-04-17T08:00:00.000Z","expires_at":"2026-04-17T09:00:00.000Z","index":7}
{"handle":"ses_2","revoked_at":"2026-04-17T08:00:01.000Z","expires_at":"2026-04-17T09:00:00.000Z","index":8}
`, got.out)
	require.Equal(t, "2 suspended, deactivated or withdrawn\n3 revocations\nall deletions are among them\n", got.err)
	require.Equal(t, "/api/v1/settings", n.last(t).path, "asked last, as revocations may be forgotten on the way")
	require.Equal(t, "after=ses_1&limit=1000", n.calls[len(n.calls)-2].query)

	settings = `{"deletions_known_since":"2026-04-17T07:00:00.001Z"}`
	got = deputy(t, "", "revocation", "export", "--state=false")
	require.Equal(t, 3, strings.Count(got.out, "\n"))
	require.Equal(t, "3 revocations\nall deletions since 2026-04-17T07:00:00.001Z are among them; those before are in earlier exports only, so replay these as well\n", got.err)

	got = deputy(t, "", "revocation", "export", "--since", "2026-04-17T10:00:00+02:00")
	require.Equal(t, 3, strings.Count(got.out, "\n"), "what was revoked at that very time is in")
	require.NotContains(t, got.out, "agt_a#1")
	require.NotContains(t, got.out, "usr_u#4")
	require.Equal(t, "1 suspended, deactivated or withdrawn\n2 revocations\nall deletions since 2026-04-17T08:00:00.000Z are among them\n", got.err)

	refuse := problem(http.StatusForbidden, identity.CodeForbidden, "the token has ended", "")
	answers["GET /api/v1/revocations"] = func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("after") != "" {
			refuse(w, r)
			return
		}
		page(w, r)
	}
	newFakeNode(t, answers)
	got = deputy(t, "", "revocation", "export")
	require.Equal(t, exitFailed, got.code)
	require.Equal(t, "error: after 4 handles, which are not all: the token has ended\n", got.err)
	answers["GET /api/v1/principals"] = refuse
	require.Equal(t, "error: after 1 handles, which are not all: the token has ended\n", deputy(t, "", "revocation", "export").err)
	answers["GET /api/v1/revocations"], answers["GET /api/v1/settings"] = page, refuse
	require.Contains(t, deputy(t, "", "revocation", "export", "--state=false").err, "error: after all 3 handles, asking since when deletions are among them: ")

	got = deputy(t, "", "revocation", "export", "--since", "yesterday")
	require.Equal(t, exitUsage, got.code)
	require.Contains(t, got.err, "it must be a time such as 2026-04-12T08:00:00Z")
}
