package api

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
)

const snapshots = "/api/v1/cluster/snapshot"

func octets(r *http.Request) { r.Header.Set("Content-Type", mediaBinary) }

// chunked hides how long a body is.
func chunked(r *http.Request) { r.ContentLength = -1 }

func TestBackupIsRestoredAtAnotherCluster(t *testing.T) {
	t.Parallel()
	g, _, _ := newInbox(t, 2)
	n := g.nodes[1]
	ok[wire.Delegation](n.send("POST", "/api/v1/delegations?ensure_principal=true", `{"principal_id":"a@x","agent_id":"inbox-assistant","scopes":["gmail.read"],"duration_seconds":3600}`), 201)
	ok[wire.Kill](n.send("POST", "/api/v1/agents/inbox-assistant/revoke", `{"keep_active":true}`), 200)
	// The other cluster's root token has the id of this one's.
	g.addToken(t, "dpt_second", identity.APIToken{Name: "second", Roles: []identity.Role{identity.RoleAdmin}})
	first, _ := n.fsm.View().APITokenByHash(identity.HashSecret(n.root))
	g.setUp(t, fsm.DeleteAPIToken{ID: first.ID})
	a := n.send("GET", snapshots, nil, token("dpt_second"))
	require.Equal(t, 200, a.Status, "%s", a.Body)
	require.Equal(t, mediaBinary, a.Header.Get("Content-Type"))
	require.Equal(t, "no-store", a.Header.Get("Cache-Control"))
	require.NotEmpty(t, a.Header.Get(wire.HeaderIndex))
	info, err := fsm.InspectBackup(bytes.NewReader(a.Body))
	require.NoError(t, err)
	require.Equal(t, n.fsm.Applied(), info.Index)
	require.Zero(t, n.api.backups.n.Load())

	for name, how := range map[string]option{"of a known length": octets, "in chunks": func(r *http.Request) { octets(r); chunked(r) }} {
		t.Run(name, func(t *testing.T) {
			to := newGroup(t, 2)
			to.allMembers(t)
			to.nodes[1].cluster.servers = []Server{{ID: "n1", Leader: true}, {ID: "n2"}}
			p := to.nodes[1].send("POST", snapshots, a.Body, how).refused(identity.CodeNotLeader)
			require.Contains(t, p.Hint, "ask ")
			leader := to.nodes[0]
			r := ok[wire.Restored](leader.send("POST", snapshots, a.Body, how), 200)
			require.Equal(t, info.SHA256, r.BackupID)
			require.Equal(t, info.Index, r.Index)
			require.Equal(t, [4]int64{1, 1, 1, 1}, [4]int64{r.Agents, r.Principals, r.Applications, r.Delegations})
			require.NotEmpty(t, r.MintingClosed)
			require.Len(t, ok[[]wire.APIToken](leader.send("GET", "/api/v1/api-tokens", nil), 200), 3)
			leader.send("GET", "/api/v1/api-tokens", nil, token("dpt_second")).refused(identity.CodeUnauthenticated) // perhaps deleted since
			require.Equal(t, "inbox-assistant", ok[wire.Agent](leader.send("GET", "/api/v1/agents/inbox-assistant", nil), 200).ID)
			leader.send("POST", "/api/v1/sessions", `{"agent_id":"inbox-assistant"}`).refused(identity.CodeMintingClosed)
			require.Zero(t, leader.api.restores.n.Load())
		})
	}
}

func TestRestoreIsRefusedForWhatIsNoBackup(t *testing.T) {
	t.Parallel()
	g := newGroup(t, 1)
	n := g.nodes[0]
	n.send("POST", snapshots, "not a backup", octets).refused(identity.CodeInvalid)
	n.send("POST", snapshots, "{}").refused(identity.CodeUnsupportedMedia)
	g.addToken(t, "dpt_op", identity.APIToken{Name: "o", Roles: []identity.Role{identity.RoleOperator}})
	n.send("POST", snapshots, "x", octets, token("dpt_op")).refused(identity.CodeForbidden)
	n.send("GET", snapshots, nil, token("dpt_op")).refused(identity.CodeForbidden)
	g.lead(-1)
	n.send("POST", snapshots, "x", octets).refused(identity.CodeNoLeader)
}

func TestOneRestoreAtATime(t *testing.T) {
	t.Parallel()
	n := newGroup(t, 1).nodes[0]
	n.api.restores.n.Store(1)
	n.send("POST", snapshots, "x", octets).refused(identity.CodeConflict)
	n.api.backups.n.Store(maxBackups)
	n.send("GET", snapshots, nil).refused(identity.CodeOverloaded)
}

// A stale node may be the only one that is left.
func TestStaleNodeIsBackedUpWithAMark(t *testing.T) {
	t.Parallel()
	n := newGroup(t, 1).nodes[0]
	n.stale = true
	a := n.send("GET", snapshots, nil)
	require.Equal(t, 200, a.Status)
	require.Equal(t, "false", a.Header.Get(wire.HeaderFresh))
}

func TestBackupThatNobodyReadsEnds(t *testing.T) {
	t.Parallel()
	n := newGroup(t, 1).nodes[0]
	for range 3 * maxBackups {
		require.Equal(t, 200, n.send("HEAD", snapshots, nil).Status)
		require.Eventually(t, func() bool { return n.api.backups.n.Load() == 0 }, 5*time.Second, time.Millisecond)
	}
}

func TestBackupThatBreaksOffIsNotTakenForWhole(t *testing.T) {
	t.Parallel()
	n := newGroup(t, 1).nodes[0]
	broken := errors.New("the disk is gone")
	n.server.http.Handler = func(ctx *fasthttp.RequestCtx) {
		stream, err := n.api.backUp(ctx.Conn(), func(w io.Writer) (fsm.BackupInfo, error) {
			_, err := w.Write(make([]byte, 3*backupPiece))
			return fsm.BackupInfo{}, errors.Join(err, broken)
		})
		if err != nil {
			t.Error(err)
			return
		}
		ctx.SetBodyStream(stream, -1)
	}
	n.api.backups.enter(1)
	response, err := n.client.Get("http://deputy.test/")
	require.NoError(t, err)
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	require.Error(t, err)
	require.Eventually(t, func() bool { return n.api.backups.n.Load() == 0 }, 5*time.Second, time.Millisecond)
	require.Contains(t, n.logs.String(), "the disk is gone")
}

func TestClientThatGoesAwayEndsItsBackup(t *testing.T) {
	t.Parallel()
	n := newGroup(t, 1).nodes[0]
	ended := make(chan error, 1)
	n.server.http.Handler = func(ctx *fasthttp.RequestCtx) {
		stream, err := n.api.backUp(ctx.Conn(), func(w io.Writer) (fsm.BackupInfo, error) {
			var err error
			for err == nil {
				_, err = w.Write(make([]byte, backupPiece))
			}
			ended <- err
			return fsm.BackupInfo{}, err
		})
		if err != nil {
			t.Error(err)
			return
		}
		ctx.SetBodyStream(stream, -1)
	}
	n.api.backups.enter(1)
	response, err := n.client.Get("http://deputy.test/")
	require.NoError(t, err)
	_, err = io.ReadFull(response.Body, make([]byte, backupPiece))
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.ErrorIs(t, <-ended, io.ErrClosedPipe)
	require.Eventually(t, func() bool { return n.api.backups.n.Load() == 0 }, 5*time.Second, time.Millisecond)
	require.NotContains(t, n.logs.String(), "taking a backup")
}

// answersRaw sends a request byte for byte and wants an answer with the status.
func (n *node) answersRaw(text string, status int) {
	n.t.Helper()
	conn, err := n.listener.Dial()
	require.NoError(n.t, err)
	defer conn.Close()
	go func() { _, _ = io.WriteString(conn, text) }() // the answer may come before all of it is taken
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(n.t, err, "%.60s", text)
	require.Equal(n.t, status, response.StatusCode, "%.60s", text)
	require.NotEmpty(n.t, response.Header.Get(wire.HeaderRequestID))
	require.True(n.t, response.Close)
}

// What comes behind a hidden body is never taken for a request.
func TestHiddenBodyIsNoRequest(t *testing.T) {
	t.Parallel()
	n := newGroup(t, 1).nodes[0]
	head := "POST " + snapshots + " HTTP/1.1\r\nHost: x\r\nContent-Type: application/octet-stream\r\n"
	second := "GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
	auth := "Authorization: SSWS " + n.root + "\r\n"
	for name, request := range map[string]struct {
		text   string
		status int
	}{
		"refused before it is read": {head + "Content-Length: " + strconv.Itoa(len(second)) + "\r\n\r\n" + second, 401},
		"pipelined":                 {head + auth + "Content-Length: 1\r\n\r\nx" + second, 400},
		"of two lengths":            {head + auth + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + second, 400},
		"with a forged mark":        {head + auth + headerHidden + ": 7\r\nContent-Length: 0\r\n\r\n" + second, 400},
		"marked at another route":   {"POST /api/v1/agents HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + auth + headerHidden + ": 7\r\n\r\n" + second, 415},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // each waits for the server to hang up
			conn, err := n.listener.Dial()
			require.NoError(t, err)
			defer conn.Close()
			_, err = io.WriteString(conn, request.text)
			require.NoError(t, err)
			r := bufio.NewReader(conn)
			response, err := http.ReadResponse(r, nil)
			require.NoError(t, err)
			body, err := io.ReadAll(response.Body)
			require.NoError(t, err)
			require.Equal(t, request.status, response.StatusCode, "%s", body)
			rest, _ := io.ReadAll(r)
			require.Empty(t, rest)
		})
	}
}

// Only a backup may be larger than every other body.
func TestBodiesAreBoundedHoweverTheyAreSent(t *testing.T) {
	t.Parallel()
	n := newGroup(t, 1).nodes[0]
	fits := `{"profile":{"name":"large","agent_type":"autonomous"}}` + strings.Repeat(" ", 1<<20-54)
	require.Len(t, fits, wire.MaxBodyBytes)
	n.t = t
	for name, o := range map[string]option{"of a known length": func(*http.Request) {}, "in chunks": chunked} {
		t.Run(name, func(t *testing.T) {
			ok[wire.Agent](n.send("POST", "/api/v1/agents", fits, o, idempotencyKey("k")), 201)
		})
	}
	chunk := "100001\r\n" + fits + " \r\n0\r\n\r\n"
	for _, path := range []string{"POST /api/v1/agents", "POST /oauth2/token", "PUT " + snapshots, "POST " + snapshots + "/", "GET /openapi.json"} {
		for _, rest := range []string{"Content-Length: 1048577\r\n\r\n" + fits[:8<<10], "Transfer-Encoding: chunked\r\n\r\n" + chunk} {
			n.answersRaw(path+" HTTP/1.1\r\nHost: x\r\nAuthorization: SSWS "+n.root+"\r\n"+rest, 413)
		}
	}
	n.answersRaw("POST /api/v1/agents HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400)
	n.answersRaw("POST "+snapshots+" HTTP/1.1\r\nHost: x\r\nContent-Type: application/octet-stream\r\nAuthorization: SSWS "+n.root+"\r\nContent-Length: 68719476737\r\n\r\n"+fits[:8<<10], 413)
	ok[[]wire.Agent](n.send("GET", "/api/v1/agents", nil), 200)
}
